"""podium import, start-import, imports."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from podium_client.client import Podium
from podium_client.errors import PodiumError
from podium_client.imports import Import

from .output import Json, hint, settings, show, table
from .projects import Slug, Timeout

app = typer.Typer()
DryRun = Annotated[bool, typer.Option("--dry-run", help="Store nothing; say what would happen.")]
Map = Annotated[
    list[str] | None, typer.Option("--map", help="What a column is called in the file: prompt=question. docs/data.md.")
]
RefusedFile = Annotated[Path | None, typer.Option("--refused", help="Where to write the rows that were not taken.")]
SHOWN = ("id", "state", "shape", "rows_read", "prompts_added", "completions_added", "tasks_added", "rankings_added")
COUNTS = (*SHOWN, "duplicates", "rows_refused", "forecast")


@app.command("import")
def import_(
    project: Slug,
    file: Annotated[str, typer.Argument(help="JSONL, CSV, Parquet, compressed or zipped; - reads JSON lines of rows.")],
    dry_run: DryRun = False,
    map: Map = None,
    preferences: Annotated[str, typer.Option(help="keep, ask or ignore those that the file has.")] = "",
    refused: RefusedFile = None,
    wait: Annotated[bool, typer.Option(help="Until it has ended.")] = True,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Import prompts, completions and preferences."""
    mapping = settings(map or [])
    if preferences:
        mapping["preferences"] = preferences
    with Podium() as podium:
        place = podium.project(project)
        if file == "-":
            if dry_run or refused or mapping.keys() - {"preferences"}:
                raise PodiumError("Rows from the standard input take neither --dry-run nor --map nor --refused.")
            added = place.import_rows(_rows(), preferences=mapping.get("preferences", "keep"))
            show(added, as_json, "prompts", "completions", "tasks", "rankings", "duplicates")
            for row in added.refused if not as_json else ():
                hint(f"row {row.row}: {row.field_name}: {row.reason}")
            return
        made = place.import_file(file, mapping=mapping or None, dry_run=dry_run, wait=wait, timeout=timeout)
        _tell(made, refused, as_json)
        if made.is_dry_run and not as_json:
            hint(f"Nothing was stored. To import it: podium start-import {project} {made.id}")


@app.command("start-import")
def start_import(
    project: Slug, id: int, refused: RefusedFile = None, timeout: Timeout = None, as_json: Json = False
) -> None:
    """Import what a dry run has tried."""
    with Podium() as podium:
        _tell(podium.project(project).get_import(id).start(timeout=timeout), refused, as_json)


@app.command()
def imports(project: Slug, as_json: Json = False) -> None:
    """What was imported, newest first."""
    with Podium() as podium:
        table(podium.project(project).imports(), as_json, "id", "file_name", "state", "tasks_added", "rows_refused")


def _tell(made: Import, refused: Path | None, as_json: bool) -> None:
    show(made, as_json, *COUNTS)
    if refused is not None:
        made.save_refused(refused)
        hint(f"{made.rows_refused:,} rows were not taken; they are in {refused}.")


def _rows() -> Iterator[dict[str, Any]]:
    for number, line in enumerate(sys.stdin, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise PodiumError(f"Line {number} is no JSON: {error}.") from error
            if not isinstance(row, dict):
                raise PodiumError(f"Line {number} is no JSON object.")
            yield row
