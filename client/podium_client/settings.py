"""Which Podium, and with which token: given, from the environment, or as `podium login` kept them."""

import contextlib
import ipaddress
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .errors import SettingsError


@dataclass(frozen=True)
class Settings:
    url: str
    token: str = field(repr=False)


def settings_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "podium" / "client.json"


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "podium"


def find_settings(url: str = "", token: str = "", *, allow_insecure: bool = False) -> Settings:
    """What is given, else PODIUM_URL and PODIUM_TOKEN, else what was kept. A kept token goes to its own address alone."""
    kept = _read()
    url = url or os.environ.get("PODIUM_URL", "") or (kept.url if kept else "")
    if not url:
        raise SettingsError("Which Podium? Give its address, set PODIUM_URL, or run “podium login”.")
    url = check_url(url, allow_insecure=allow_insecure)
    token = token or os.environ.get("PODIUM_TOKEN", "")
    if not token and kept and kept.url == url:
        token = kept.token
    if not token:
        raise SettingsError(f"There is no token for {url}. Give one, set PODIUM_TOKEN, or run “podium login {url}”.")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError("That is no token: it holds characters that no token has.")
    return Settings(url, token)


def check_url(url: str, *, allow_insecure: bool = False) -> str:
    """The address without what follows it. Over plain http a token could be read on its way, so only this machine is spoken to."""
    try:
        parts = urlsplit(url.strip())
        host, _port = parts.hostname or "", parts.port
    except ValueError as error:
        raise SettingsError(f"“{url}” is no address: {error}.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise SettingsError(f"“{url}” is no address: one starts with https://.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError("An address has neither a name with a password, nor “?”, nor “#”.")
    if parts.scheme == "http" and not allow_insecure and not _is_this_machine(host):
        raise SettingsError(
            f"{url} is not encrypted: whoever is on the way could read the token. Use https://, or allow_insecure=True."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/api/v1')}"


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def keep(settings: Settings) -> Path:
    """Writes the file that only its owner can read."""
    file = settings_file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=file.parent)  # 0600 from the start
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as output:
            json.dump({"url": settings.url, "token": settings.token}, output)
        Path(name).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    return file


def forget() -> bool:
    try:
        settings_file().unlink()
    except FileNotFoundError:
        return False
    return True


def _read() -> Settings | None:
    file = settings_file()
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return Settings(str(said["url"]), str(said["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{file} cannot be read ({error}). Run “podium login” anew.") from error
