"""Import a file of prompts, with or without completions and preferences, into a project.

manage.py import_prompts tides prompts.jsonl.gz
manage.py import_prompts maths solutions.jsonl --prompt-column question --completion-column a.text --completion-column b.text
manage.py import_prompts tides votes.zip --preferences ask --dry-run --refused refused.jsonl
"""

import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError

from annotate import jobs
from annotate.formats.importing.errors import FileError
from annotate.formats.importing.mapping import PREFERENCES, Mapping
from annotate.formats.importing.public import SHAPES
from annotate.formats.importing.reading import kind_of
from annotate.models import Import, Project, record
from annotate.services.imports import clean_name, discard_import, run_import, seconds_left
from annotate.services.refused import read_refused


class Command(BaseCommand):
    # They load every page of the site, which an import has no use for.
    requires_system_checks = ()
    help = (
        "Import prompts, with or without completions and preferences, from JSONL, CSV (either may be gzip-compressed), "
        "Parquet, or a zip file of them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="The project's short name, as in its address")
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--shape", default="", choices=["", *SHAPES], help="The public shape of the rows; recognised unless told"
        )
        parser.add_argument("--prompt-column", default="", help="Where the prompt stands; a dot reaches into an object")
        parser.add_argument(
            "--completion-column", action="append", default=[], help="Where a completion stands; may be repeated"
        )
        parser.add_argument("--chosen-column", default="", help="Where the better of two completions stands")
        parser.add_argument("--rejected-column", default="", help="Where the worse of two completions stands")
        parser.add_argument(
            "--score-column",
            action="append",
            default=[],
            help="Where a completion's score stands, higher is better; repeated in the order of the completions",
        )
        parser.add_argument("--reference-column", default="", help="Where the reference answer stands")
        parser.add_argument("--source-column", default="", help="Where the name of the completions' source stands")
        parser.add_argument("--tags-column", default="", help="Where the prompt's tags stand")
        parser.add_argument("--annotator-column", default="", help="Where it stands who made the rankings")
        parser.add_argument(
            "--preferences",
            default=PREFERENCES[0],
            choices=PREFERENCES,
            help="keep: as imported rankings, and nobody is asked; ask: as imported rankings, and people are asked as well; "
            "ignore: leave them out and ask people",
        )
        parser.add_argument("--dry-run", action="store_true", help="Count what would happen, and write nothing")
        parser.add_argument(
            "--refused", type=Path, metavar="FILE", help="Write the refused rows there, whole, as JSON Lines"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project “{options['project']}”.")
        if bool(options["chosen_column"]) != bool(options["rejected_column"]):
            raise CommandError("--chosen-column and --rejected-column are named together.")
        path: Path = options["file"]
        try:
            kind_of(path.name)
            with path.open("rb") as stream:
                job = Import.objects.create(
                    project=project,
                    created_by=project.created_by,
                    file_name=clean_name(path.name),
                    size=path.stat().st_size,
                    mapping=mapping_of(options).to_json(),
                    is_dry_run=options["dry_run"],
                    # Nobody else can read this file, so nobody else may take the job up.
                    max_attempts=1,
                )
                if not job.is_dry_run:
                    record(None, "import.started", f"import:{job.pk}", project=project, file=job.file_name)
                self.run(job.pk, stream)
        except FileError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        job.refresh_from_db()
        try:
            self.report(job, options["refused"])
        finally:
            if job.is_dry_run:
                discard_import(job=job)

    def run(self, pk: int, stream: BinaryIO) -> None:
        job = jobs.claim(Import, pk)
        if job is None:
            raise CommandError("A worker took this import at the same moment. Start it again.")
        done = threading.Event()
        shown = threading.Thread(target=self.show_progress, args=(job, done), daemon=True)
        if self.stderr.isatty():
            shown.start()
        try:
            run_import(job, stream)
        finally:
            done.set()

    def show_progress(self, job: Import, done: threading.Event) -> None:
        while not done.wait(0.5):
            share = f"{job.progress:.0%}" if job.progress else "…"
            seconds = seconds_left(job)
            left = f", {seconds:,.0f} s left" if seconds is not None else ""
            self.stderr.write(f"\r{share}  {job.rows_read:,} rows{left}      ", ending="")
            self.stderr.flush()
        self.stderr.write("\r", ending="\n")

    def report(self, job: Import, refused: Path | None) -> None:
        counts = job.forecast if job.is_dry_run and job.forecast else vars(job)
        self.stdout.write(
            "{rows_read:,} rows read: {prompts_added:,} prompts, {completions_added:,} completions, {tasks_added:,} tasks and "
            "{rankings_added:,} rankings {verb}, {duplicates:,} rows {were} there already, {rows_refused:,} refused.".format(
                **{name: value for name, value in counts.items() if name.endswith(("_added", "_read", "_refused"))},
                duplicates=counts["duplicates"],
                verb="would be added" if job.is_dry_run else "added",
                were="are" if job.is_dry_run else "were",
            )
        )
        for row in job.refused.order_by("line")[:20]:
            self.stdout.write(f"line {row.line}: {row.field + ': ' if row.field else ''}{row.reason}")
        if refused:
            with refused.open("wb") as file:
                file.writelines(read_refused(job))
        elif job.rows_refused > 20:
            self.stdout.write("--refused FILE writes the others to a file; the project's import page lists them, too.")
        notes = counts.get("notes", job.notes)
        if notes.get("single"):
            self.stdout.write(f"{notes['single']:,} rows had one completion: kept, but nothing to rank.")
        if job.error:
            raise CommandError(job.error)


def mapping_of(options: dict[str, Any]) -> Mapping:
    return Mapping(
        shape=options["shape"],
        prompt=options["prompt_column"],
        completions=tuple(options["completion_column"]),
        chosen=options["chosen_column"],
        rejected=options["rejected_column"],
        scores=tuple(options["score_column"]),
        reference_answer=options["reference_column"],
        source=options["source_column"],
        tags=options["tags_column"],
        annotator=options["annotator_column"],
        preferences=options["preferences"],
    )
