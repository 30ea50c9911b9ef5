"""podium webhooks …"""

from typing import Annotated

import typer

from podium_client.client import Podium
from podium_client.errors import NotFound
from podium_client.webhooks import Webhook

from .output import Json, hint, say, show, table
from .projects import Slug

app = typer.Typer()
Id = Annotated[int, typer.Argument(metavar="WEBHOOK", help="Its number.")]
SHOWN = ("id", "url", "events", "note", "paused_at", "failing_since")


@app.command("list")
def list_(project: Slug, as_json: Json = False) -> None:
    """The webhooks of a project."""
    with Podium() as podium:
        table(podium.project(project).webhooks(), as_json, *SHOWN)


@app.command()
def add(
    project: Slug,
    url: str,
    event: Annotated[list[str], typer.Option(help="ranking.submitted, run.ended, …: docs/webhooks.md.")],
    note: str = "",
    as_json: Json = False,
) -> None:
    """Tell an address what happens. Prints the secret that signs what is sent, this once."""
    with Podium() as podium:
        made = podium.project(project).create_webhook(url, event, note=note)
        if as_json:
            show(made, True)
        else:
            hint(f"Webhook {made.id}. This secret is shown once:")
            say(made.secret)


@app.command()
def pause(project: Slug, id: Id) -> None:
    """Tell it nothing until it is resumed."""
    with Podium() as podium:
        _find(podium, project, id).update(paused=True)


@app.command()
def resume(project: Slug, id: Id) -> None:
    with Podium() as podium:
        _find(podium, project, id).update(paused=False)


@app.command()
def test(project: Slug, id: Id) -> None:
    """Send it an event that says nothing but that it arrives."""
    with Podium() as podium:
        _find(podium, project, id).test()
        hint("It is on its way: podium webhooks deliveries says how it went.")


@app.command()
def deliveries(project: Slug, id: Id, as_json: Json = False) -> None:
    """What was sent or is about to be, newest first."""
    with Podium() as podium:
        found = _find(podium, project, id).deliveries()
        table(found, as_json, "id", "kind", "state", "attempts", "status", "error", "tried_at")


@app.command()
def remove(project: Slug, id: Id) -> None:
    with Podium() as podium:
        _find(podium, project, id).delete()


def _find(podium: Podium, project: str, id: int) -> Webhook:
    for one in podium.project(project).webhooks():
        if one.id == id:
            return one
    raise NotFound(404, "Not found", f"The project {project} has no webhook {id}.")
