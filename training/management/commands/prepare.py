"""`manage.py prepare`: what has to be done before a new version's processes start. Run again, it changes nothing."""

import hashlib
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError


class Command(BaseCommand):
    help = "Migrate the database, make the cache table, collect the static files; with --demo also create the demo project."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--demo", action="store_true", help="create the demo project and its accounts")
        parser.add_argument("--accounts", type=Path, help="file that keeps the demo accounts' passwords")

    def handle(self, *, demo: bool, accounts: Path | None, **options: Any) -> None:
        try:
            call_command("migrate", interactive=False, verbosity=0)
            call_command("createcachetable", verbosity=0)
        except OperationalError as error:
            raise CommandError(f"The database does not answer: {str(error).strip()}") from None
        Path(settings.MEDIA_ROOT).mkdir(parents=True, exist_ok=True)
        self.collect_static()
        if demo:
            call_command("create_demo", accounts=accounts, stdout=self.stdout)

    def collect_static(self) -> None:
        """Hashing and compressing takes a second, so it is left out while no file has changed."""
        mark = Path(settings.STATIC_ROOT) / ".collected"
        found = fingerprint_static()
        if not mark.exists() or mark.read_text() != found:
            call_command("collectstatic", interactive=False, clear=True, verbosity=0)
            mark.write_text(found)


def fingerprint_static() -> str:
    digest = hashlib.sha256()
    for finder in get_finders():
        for name, storage in finder.list([]):
            status = Path(storage.path(name)).stat()
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
