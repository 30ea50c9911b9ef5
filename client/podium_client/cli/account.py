"""podium login, logout, whoami."""

import getpass
import sys
from typing import Annotated

import typer

from podium_client.client import Podium
from podium_client.errors import SettingsError
from podium_client.settings import Settings, check_url, find_settings, forget, keep

from .output import Json, hint, say, show

app = typer.Typer()
Insecure = Annotated[bool, typer.Option("--allow-insecure", help="Send the token over http:// to another machine.")]


@app.command()
def login(url: str = typer.Argument(help="https://podium.example"), allow_insecure: Insecure = False) -> None:
    """Keep an address and a token, in a file that you alone can read.

    The token is asked for, or read from the standard input where that is no terminal. It is made on the page “Tokens for scripts”.
    """
    url = check_url(url, allow_insecure=allow_insecure)
    token = (getpass.getpass(f"Token for {url}: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not token:
        raise SettingsError("No token was given.")
    with Podium(url, token, allow_insecure=allow_insecure) as podium:
        me = podium.me()
    file = keep(Settings(url, token))
    say(f"Signed in as {me.username}, with the permissions {', '.join(me.scopes)}. Kept in {file}.")


@app.command()
def logout() -> None:
    """Forget what login kept. The token holds until it is revoked on the page “Tokens for scripts”."""
    hint("Forgotten." if forget() else "There was nothing to forget.")


@app.command()
def whoami(as_json: Json = False) -> None:
    """Who the token acts as, and what it may."""
    with Podium() as podium:
        me = podium.me()
        show(me, as_json, "username", "token", "scopes", "expires_at")
        if not as_json:
            say(f"server    {find_settings().url}")
