"""Start a pipeline, with the same checks as the page.

manage.py start_pipeline tides nightly --wait
manage.py start_pipeline tides rlhf --file rlhf.toml     adds the pipeline, or changes it, first
"""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from annotate.models import Project, User
from training.definitions import InvalidPipeline
from training.models import Pipeline, PipelineRun
from training.services.pipelines import PipelineBusy, change_pipeline, create_pipeline, start_pipeline


class Command(BaseCommand):
    help = "Start a pipeline of a project."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="The project's short name, as in its address")
        parser.add_argument("name", help="The pipeline's name")
        parser.add_argument(
            "--file", type=Path, help="A definition: the pipeline is added, or changed, before it starts"
        )
        parser.add_argument("--user", help="Who starts it (default: whoever made the project)")
        parser.add_argument("--wait", action="store_true", help="Wait for its end; the exit code says how it ended")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project “{options['project']}”.")
        named = User.objects.filter(username=options["user"]).first() if options["user"] else project.created_by
        if named is None:
            raise CommandError(f"There is no user “{options['user']}”.")
        try:
            with transaction.atomic():
                pipeline = self.find(project, options["name"], options["file"], named)
                started = start_pipeline(pipeline=pipeline, user=named)
        except (InvalidPipeline, PipelineBusy) as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"pipeline run {started.pk} has started")
        if options["wait"]:
            self.wait_for(started)

    def find(self, project: Project, name: str, file: Path | None, user: User) -> Pipeline:
        found = Pipeline.objects.filter(project=project, name=name).first()
        if file is None:
            if found is None:
                names = ", ".join(project.pipelines.order_by("name").values_list("name", flat=True)) or "none"
                raise CommandError(f"The project has no pipeline “{name}”. It has: {names}.")
            return found
        try:
            definition = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} cannot be read: {error}") from error
        if found:
            return change_pipeline(pipeline=found, name=name, definition=definition, user=user)
        return create_pipeline(project=project, name=name[:80], definition=definition, user=user)

    def wait_for(self, started: PipelineRun) -> None:
        shown = ""
        while True:
            started.refresh_from_db()
            stages = started.stages.order_by("position")
            line = ", ".join(f"{stage.name} {stage.state}" for stage in stages)
            if line != shown:
                self.stdout.write(line)
                shown = line
            if not started.is_active:
                break
            time.sleep(0.5)
        if started.state != PipelineRun.State.SUCCEEDED:
            errors = [f"{stage.name}: {stage.error}" for stage in stages if stage.error]
            raise CommandError("\n".join([f"pipeline run {started.pk} {started.state}", *errors]))
