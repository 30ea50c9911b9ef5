"""Queue a run, with the same checks as the page.

manage.py start_run tides dpo --dataset 3 --policy smollm2 --set learning_rate=1e-6 --set use_peft=true --wait
"""

import json
import time
from argparse import ArgumentParser
from dataclasses import fields
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotate.jobs import Job
from annotate.models import Project, User
from training.models import Checkpoint, Run
from training.recipes.arguments import METHODS, InvalidArguments
from training.services.checkpoints import promoted_checkpoint
from training.services.runs import start_run


class Command(BaseCommand):
    help = "Queue a training or a generation."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="The project's short name, as in its address")
        parser.add_argument("method", choices=list(METHODS))
        parser.add_argument("--dataset", type=int, help="Number of a dataset version")
        parser.add_argument("--policy", help="Name of a checkpoint (default: the promoted one)")
        parser.add_argument(
            "--input",
            action="append",
            default=[],
            metavar="ROLE=NAME",
            help="A checkpoint in another role: reward_model=…",
        )
        parser.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="An argument of the method"
        )
        parser.add_argument("--user", help="Who starts it (default: whoever made the project)")
        parser.add_argument("--note", default="")
        parser.add_argument("--wait", action="store_true", help="Wait for its end; the exit code says how it ended")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project “{options['project']}”.")
        version = None
        if options["dataset"] is not None:
            version = project.dataset_versions.filter(number=options["dataset"]).first()
            if version is None:
                raise CommandError(f"The project has no dataset version {options['dataset']}.")
        user: User | None = project.created_by
        if options["user"] and (user := User.objects.filter(username=options["user"]).first()) is None:
            raise CommandError(f"There is no user “{options['user']}”.")
        try:
            run = start_run(
                project=project,
                method=options["method"],
                arguments=read_values(options["method"], options["set"]),
                inputs=find_inputs(project, options["method"], options["policy"], options["input"]),
                dataset_version=version,
                user=user,
                note=options["note"][:200],
            )
        except InvalidArguments as error:
            raise CommandError("\n".join(f"{name}: {reason}" for name, reason in error.errors.items())) from error
        self.stdout.write(f"run {run.pk} is queued")
        if options["wait"]:
            self.wait_for(run)

    def wait_for(self, run: Run) -> None:
        shown = ""
        while run.is_active:
            time.sleep(0.5)
            run.refresh_from_db()
            line = f"{run.state}, step {run.step} of {run.total_steps}"
            if line != shown:
                self.stdout.write(line)
                shown = line
        if run.state != Job.State.SUCCEEDED:
            raise CommandError(f"run {run.pk} {run.state}: {run.error}" if run.error else f"run {run.pk} {run.state}")
        made = run.made_version or Checkpoint.objects.filter(run=run).first()
        self.stdout.write(
            f"made {made}" if made else json.dumps(run.result.get("completions") or run.result.get("metrics") or {})
        )


def find_inputs(project: Project, method: str, policy: str | None, pairs: list[str]) -> dict[str, Checkpoint]:
    wanted = METHODS[method].inputs.get("policy")
    promoted = promoted_checkpoint(project) if wanted and wanted.required and policy is None else None
    inputs = {"policy": promoted} if promoted else {}
    for pair in [f"policy={policy}", *pairs] if policy is not None else pairs:
        role, equals, name = pair.partition("=")
        if not equals:
            raise CommandError(f"--input wants ROLE=NAME, not “{pair}”.")
        found = project.checkpoints.filter(name=name).first()
        if found is None:
            raise CommandError(f"The project has no checkpoint “{name}”.")
        inputs[role] = found
    return inputs


def read_values(method: str, pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; a value of a text argument stays text, the others are JSON (`1e-6`, `true`, `{"accuracy": 1}`)."""
    texts = {item.name for item in fields(METHODS[method].arguments) if isinstance(item.default, str)}
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise CommandError(f"--set wants NAME=VALUE, not “{pair}”.")
        try:
            values[name] = text if name in texts else json.loads(text)
        except ValueError as error:
            raise CommandError(
                f'{name}: “{text}” is neither a number, nor true or false, nor JSON such as {{"accuracy": 1}}.'
            ) from error
    return values
