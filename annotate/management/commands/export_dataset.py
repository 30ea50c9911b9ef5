"""Write a dataset version as TRL reads it.

manage.py export_dataset tides 3 --shape preference --format jsonl --split train train.jsonl
"""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.formats.exporting import FORMATS, SHAPES, SPLITS, stream_export
from annotate.models import DatasetVersion


class Command(BaseCommand):
    help = "Export a dataset version for TRL."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="The project's short name, as in its address")
        parser.add_argument("number", type=int, help="The version's number")
        parser.add_argument("--shape", choices=SHAPES, default="preference")
        parser.add_argument("--format", choices=FORMATS, default="jsonl")
        parser.add_argument("--split", choices=SPLITS, default="train")
        parser.add_argument("out", help="Where to write; - is standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        version = (
            DatasetVersion.objects.select_related("project")
            .filter(project__slug=options["project"], number=options["number"], state=DatasetVersion.State.SUCCEEDED)
            .first()
        )
        if version is None:
            raise CommandError(f"Project “{options['project']}” has no finished dataset version {options['number']}.")
        parts = stream_export(version, shape=options["shape"], format=options["format"], split=options["split"])
        try:
            if options["out"] == "-":
                for part in parts:
                    sys.stdout.buffer.write(part)
            else:
                with open(options["out"], "xb") as out:
                    out.writelines(parts)
        except FileExistsError as error:
            raise CommandError(f"{options['out']} exists already.") from error
        except FileNotFoundError as error:
            raise CommandError(f"{error.filename} is missing.") from error
