"""podium dataset …"""

from pathlib import Path
from typing import Annotated

import typer

from podium_client.client import Podium

from .output import Json, hint, say, settings, show, table
from .projects import Slug, Timeout

app = typer.Typer()
Which = Annotated[str, typer.Argument(metavar="VERSION", help="Its number or its tag.")]
SHOWN = ("number", "state", "tag", "note", "parent", "as_of", "filters", "counts", "size", "content_hash", "error")


def version(which: str) -> int | str:
    return int(which) if which.isdecimal() else which


@app.command()
def build(
    project: Slug,
    note: str = "",
    tag: str = "",
    parent: Annotated[int | None, typer.Option(help="The version that it follows.")] = None,
    test_fraction: float = 0.1,
    stratify_by: Annotated[str, typer.Option(help="tag or source.")] = "",
    as_of: Annotated[str, typer.Option(help="The rankings as they were then: 2026-01-31T00:00:00Z.")] = "",
    filter: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, as in docs/api.md: min_rankings=2.")] = None,
    wait: bool = True,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Freeze the rankings into a version."""
    with Podium() as podium:
        made = podium.project(project).build_dataset(
            note=note,
            tag=tag,
            parent=parent,
            test_fraction=test_fraction,
            stratify_by=stratify_by,
            as_of=as_of or None,
            filters=settings(filter or []),
            wait=wait,
            timeout=timeout,
        )
        show(made, as_json, *SHOWN)


@app.command("list")
def list_(project: Slug, tag: str = "", as_json: Json = False) -> None:
    """The versions, newest first."""
    with Podium() as podium:
        table(
            podium.project(project).datasets(tag=tag), as_json, "number", "state", "tag", "note", "size", "content_hash"
        )


@app.command("show")
def show_one(project: Slug, which: Which, as_json: Json = False) -> None:
    """A version, with what each filter dropped."""
    with Podium() as podium:
        show(podium.project(project).dataset(version(which)), as_json, *SHOWN)


@app.command()
def diff(project: Slug, first: Which, second: Which) -> None:
    """What is other in the second of two versions, as JSON."""
    with Podium() as podium:
        place = podium.project(project)
        show(place.dataset(version(first)).diff(place.dataset(version(second))), True)


@app.command()
def rows(project: Slug, which: Which, split: str = "") -> None:
    """Its rankings, whole, as JSON lines."""
    import json

    with Podium() as podium:
        for row in podium.project(project).dataset(version(which)).rows(split):
            print(json.dumps(row))


@app.command()
def download(
    project: Slug,
    which: Which,
    target: Annotated[Path, typer.Argument(help="A file, whose ending says the format, or a folder.")] = Path("."),
    shape: Annotated[str, typer.Option(help="preference, ranking, …: docs/data.md.")] = "preference",
    format: Annotated[str, typer.Option(help="jsonl, jsonl.gz, csv, parquet or folder (a zip).")] = "",
    split: Annotated[str, typer.Option(help="train, test or all; train where it is left out, of a zip all.")] = "",
) -> None:
    """Download it. What was interrupted goes on where it broke off."""
    with Podium() as podium:
        found = podium.project(project).dataset(version(which))
        say(str(found.download(target, shape=shape, format=format, split=split)))


@app.command()
def tag(project: Slug, which: Which, name: Annotated[str, typer.Argument(help="Empty to take it away.")]) -> None:
    """Let a name point at a version; another that bore it loses it."""
    with Podium() as podium:
        podium.project(project).dataset(version(which)).update(tag=name)
        hint("Done.")
