"""`manage.py create_demo`: a project to rank in within a minute, with an account for each role."""

import json
import os
import secrets
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from annotate.models import Membership, Project, Prompt, Source, User, content_hash
from annotate.services.completions import Generated, add_completions
from training.models import Checkpoint, Promotion
from training.recipes.arguments import SMOLLM2

DEMO = Path(__file__).resolve().parents[2] / "demo"
ROLES = {
    "admin": Membership.Role.ADMIN,
    "annotator": Membership.Role.ANNOTATOR,
    "researcher": Membership.Role.RESEARCHER,
}
BASE_MODEL = "SmolLM2-135M-Instruct"
BASE_LOCATION = f"pypi:{SMOLLM2}"
# Without 0, O, 1, l and I: people type these from a terminal.
ALPHABET = "23456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"


class Command(BaseCommand):
    help = "Create the demo project, its three accounts and the base model. What exists already is left as it is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--accounts", type=Path, help="file that keeps the accounts' passwords, one a line")

    def handle(self, *, accounts: Path | None, **options: Any) -> None:
        with transaction.atomic():
            made = create_accounts(accounts)
            project = create_project()
            base = create_base_checkpoint(project)
            tasks = create_tasks(project, base)
        if made:
            self.stdout.write("\nAccounts" + (f" (kept in {accounts}):" if accounts else ":"))
            for username, password in made.items():
                self.stdout.write(f"  {username:<12}{password}")
        if tasks:
            self.stdout.write(f"The demo project has {tasks} new tasks to rank.")


def create_accounts(file: Path | None) -> dict[str, str]:
    """Make the accounts that are missing, with the file's passwords or new ones; gives the name and password of each."""
    kept = read_accounts(file)
    made: dict[str, str] = {}
    for username in ROLES:
        if User.objects.filter(username=username).exists():
            continue
        password = kept.get(username) or "".join(secrets.choice(ALPHABET) for _ in range(14))
        User.objects.create_user(username, password=password, is_staff=username == "admin")
        made[username] = password
    if file and made:
        write_accounts(file, kept | made)
    return made


def read_accounts(file: Path | None) -> dict[str, str]:
    if file is None or not file.exists():
        return {}
    return dict(line.split(maxsplit=1) for line in file.read_text().splitlines() if len(line.split()) == 2)


def write_accounts(file: Path, accounts: dict[str, str]) -> None:
    partial = file.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.writelines(f"{username:<12}{password}\n" for username, password in accounts.items())
    partial.rename(file)


def create_project() -> Project:
    project, _ = Project.objects.get_or_create(
        slug="demo",
        defaults={
            "name": "Demo",
            "description": "Everyday questions, each answered four times by a small model. Rank the answers.",
            "guidelines": (DEMO / "guidelines.md").read_text(),
            "completions_per_task": 4,
            "reasons": ["Wrong fact", "Does not follow the instruction", "Unclear", "Too long", "Unsafe"],
            "created_by": User.objects.get(username="admin"),
        },
    )
    for username, role in ROLES.items():
        user = User.objects.get(username=username)
        Membership.objects.get_or_create(project=project, user=user, defaults={"role": role})
    return project


def create_base_checkpoint(project: Project) -> Checkpoint:
    """The model that the demo's completions come from; it answers new prompts until another is promoted."""
    source, _ = Source.objects.get_or_create(
        project=project, name=BASE_MODEL, defaults={"kind": Source.Kind.CHECKPOINT}
    )
    checkpoint, _ = Checkpoint.objects.get_or_create(
        project=project,
        name=BASE_MODEL,
        defaults={"kind": Checkpoint.Kind.CAUSAL_LM, "location": BASE_LOCATION, "source": source},
    )
    if not project.promotions.exists():
        Promotion.objects.create(project=project, checkpoint=checkpoint, note="The model to start from")
    return checkpoint


def read_demo() -> Iterator[dict[str, Any]]:
    """Lines of `{"prompt": [messages], "tags": […], "completions": [{"completion": str, "sampling": {…}}, …]}`."""
    with (DEMO / "prompts.jsonl").open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def create_tasks(project: Project, base: Checkpoint) -> int:
    """A ranking task per prompt, with every completion that the file has for it; gives how many are new."""
    source = Source.objects.get(checkpoint=base)
    generated = []
    for row in read_demo():
        prompt, _ = Prompt.objects.get_or_create(
            project=project,
            content_hash=content_hash(row["prompt"]),
            defaults={"messages": row["prompt"], "tags": row.get("tags", [])},
        )
        generated += [
            Generated(prompt.pk, each["completion"], sampling=each.get("sampling", {})) for each in row["completions"]
        ]
    return add_completions(project=project, source=source, generated=generated)["tasks"]
