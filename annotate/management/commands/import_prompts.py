"""Import a file of prompts, with or without completions, into a project.

manage.py import_prompts tides prompts.jsonl.gz
manage.py import_prompts maths solutions.jsonl --prompt-column question --completion-column a.text --completion-column b.text
"""

import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate import jobs
from annotate.formats.errors import FileError
from annotate.formats.mapping import Mapping
from annotate.formats.reading import kind_of
from annotate.models import Import, Project, record
from annotate.services.imports import clean_name, run_import


class Command(BaseCommand):
    help = "Import prompts, with or without completions, from JSONL, CSV (either may be gzip-compressed) or Parquet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="The project's short name, as in its address")
        parser.add_argument("file", type=Path)
        parser.add_argument("--prompt-column", default="", help="Where the prompt stands; a dot reaches into an object")
        parser.add_argument(
            "--completion-column", action="append", default=[], help="Where a completion stands; may be repeated"
        )
        parser.add_argument("--reference-column", default="", help="Where the reference answer stands")
        parser.add_argument("--source-column", default="", help="Where the name of the completions' source stands")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project “{options['project']}”.")
        path: Path = options["file"]
        mapping = Mapping(
            prompt=options["prompt_column"],
            completions=tuple(options["completion_column"]),
            reference_answer=options["reference_column"],
            source=options["source_column"],
        )
        try:
            kind_of(path.name)
            with path.open("rb") as stream:
                job = Import.objects.create(
                    project=project,
                    created_by=project.created_by,
                    file_name=clean_name(path.name),
                    size=path.stat().st_size,
                    mapping=mapping.to_json(),
                    # Nobody else can read this file, so nobody else may take the job up.
                    max_attempts=1,
                )
                record(None, "import.started", f"import:{job.pk}", project=project, file=job.file_name)
                self.run(job.pk, stream)
        except FileError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        job.refresh_from_db()
        self.report(job)

    def run(self, pk: int, stream: Any) -> None:
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
            self.stderr.write(f"\r{share}  {job.rows_read:,} rows", ending="")
            self.stderr.flush()
        self.stderr.write("\r", ending="\n")

    def report(self, job: Import) -> None:
        self.stdout.write(
            f"{job.rows_read:,} rows read: {job.prompts_added:,} prompts, {job.completions_added:,} completions and "
            f"{job.tasks_added:,} tasks added, {job.duplicates:,} rows were there already, {job.rows_refused:,} refused."
        )
        for row in job.refused.order_by("line")[:20]:
            self.stdout.write(f"line {row.line}: {row.field + ': ' if row.field else ''}{row.reason}")
        if job.rows_refused > 20:
            self.stdout.write("The project's import page lists the others.")
        if job.notes.get("single"):
            self.stdout.write(f"{job.notes['single']:,} rows had one completion: kept, but nothing to rank.")
        if job.state != Import.State.SUCCEEDED:
            raise CommandError(job.error)
