"""Write a dataset version in a shape that trainers and other tools read.

manage.py export_dataset tides 3 --shape preference --format jsonl --split train train.jsonl
manage.py export_dataset tides 3 --format parquet --shard-rows 100000 shards/
manage.py export_dataset tides 3 --format folder --license cc-by-4.0 tides-v3/
"""

import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.formats.exporting import (
    DESIRABLE,
    FORMATS,
    REASONING,
    SHAPES,
    SPLITS,
    Export,
    InvalidExport,
    stream_export,
)
from annotate.models import DatasetVersion


class Command(BaseCommand):
    # They load every page of the site, which an export has no use for.
    requires_system_checks = ()
    help = "Export a dataset version in a shape that trainers and other tools read."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="The project's short name, as in its address")
        parser.add_argument("number", type=int, help="The version's number")
        parser.add_argument("--shape", choices=SHAPES, default="preference")
        parser.add_argument("--format", choices=FORMATS, default="jsonl")
        parser.add_argument("--split", choices=SPLITS, default="", help="train if it is not given; a folder has both")
        parser.add_argument("--reasoning", choices=REASONING, default="auto")
        parser.add_argument(
            "--desirable", choices=DESIRABLE, default="middle", help="Which completions are good, for unpaired"
        )
        parser.add_argument(
            "--shard-rows", type=int, default=0, help="Parquet in files of so many rows, in a folder; 0 is one file"
        )
        parser.add_argument("--license", default="", help="For a folder's card, as the hub names it: cc-by-4.0")
        parser.add_argument(
            "out",
            help="Where to write; - is standard output. A folder where there are several files, unless it ends with .zip",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        version = (
            DatasetVersion.objects.select_related("project", "parent")
            .filter(project__slug=options["project"], number=options["number"], state=DatasetVersion.State.SUCCEEDED)
            .first()
        )
        if version is None:
            raise CommandError(f"Project “{options['project']}” has no finished dataset version {options['number']}.")
        names = ("shape", "format", "split", "reasoning", "desirable", "shard_rows", "license")
        try:
            export = Export(**{name: options[name] for name in names})
        except InvalidExport as error:
            raise CommandError(str(error)) from error
        out = Path(options["out"])
        try:
            if options["out"] == "-":
                for part in stream_export(version, export):
                    sys.stdout.buffer.write(part)
            elif export.is_zip and out.suffix != ".zip":
                _write_folder(version, export, out)
            else:
                with out.open("xb") as stream:
                    stream.writelines(stream_export(version, export))
        except FileExistsError as error:
            raise CommandError(f"{options['out']} exists already.") from error
        except FileNotFoundError as error:
            raise CommandError(f"{error.filename} is missing.") from error


def _write_folder(version: DatasetVersion, export: Export, out: Path) -> None:
    """Whole or not at all."""
    from annotate.formats.exporting.folder import write_folder

    if out.exists():
        raise FileExistsError(out)
    part = out.with_name(f".{out.name}.part")
    try:
        write_folder(version, export, part)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
