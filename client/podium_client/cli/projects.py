"""podium projects, project …, prompts, rankings, wait."""

from typing import Annotated

import typer

from podium_client.client import Podium

from .output import Json, hint, show, table

app, one = typer.Typer(), typer.Typer()
Slug = Annotated[str, typer.Argument(metavar="PROJECT", help="Its short name, as in its address.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds to wait at most.")]
SHOWN = (
    "slug",
    "name",
    "description",
    "state",
    "role",
    "overlap",
    "completions_per_task",
    "rankings_done",
    "rankings_asked",
)


@app.command()
def projects(as_json: Json = False) -> None:
    """Your projects."""
    with Podium() as podium:
        table(podium.projects(), as_json, "slug", "name", "state")


@one.command("create")
def create(
    slug: Slug,
    name: Annotated[str, typer.Option(help="As people see it.")] = "",
    description: str = "",
    overlap: Annotated[int | None, typer.Option(help="How many people rank each task.")] = None,
    completions_per_task: int | None = None,
    as_json: Json = False,
) -> None:
    """Make a project."""
    with Podium() as podium:
        made = podium.create_project(
            slug, name, description=description, overlap=overlap, completions_per_task=completions_per_task
        )
        show(made, as_json, *SHOWN)


@one.command("show")
def show_one(project: Slug, as_json: Json = False) -> None:
    """A project, and how far it is."""
    with Podium() as podium:
        show(podium.project(project), as_json, *SHOWN)


@app.command()
def prompts(project: Slug, tag: str = "") -> None:
    """Prompts as JSON lines."""
    with Podium() as podium:
        table(podium.project(project).prompts(tag=tag), True)


@app.command()
def rankings(
    project: Slug,
    since: Annotated[str, typer.Option(help="Made then or later: 2026-01-31T00:00:00Z.")] = "",
    until: Annotated[str, typer.Option(help="Made before.")] = "",
    role: Annotated[str, typer.Option(help="annotator, adjudicator or imported.")] = "",
    prompt: int | None = None,
) -> None:
    """The rankings that hold, as JSON lines, oldest first."""
    with Podium() as podium:
        found = podium.project(project).rankings(since=since, until=until, role=role, prompt=prompt)
        table(found, True)


@app.command()
def wait(
    project: Slug,
    rankings: Annotated[int, typer.Option(help="How many there should be.")],
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Wait until people have made so many rankings."""
    with Podium() as podium:
        seen = podium.project(project).wait_for_rankings(rankings, timeout)
        show(seen, as_json, "slug", "rankings_done", "rankings_asked")
        if not seen.is_exact:
            hint("Estimated from a sample of the tasks.")
