"""Freeze a project's rankings into its next dataset version.

manage.py build_dataset tides --note "First hundred" --test-fraction 0.1
"""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from annotate import jobs
from annotate.models import DatasetVersion, Project
from annotate.services.datasets import CHOICES, Filters, build_version, create_version


def moment(text: str) -> datetime:
    """A time with a zone; without one it is UTC."""
    value = datetime.fromisoformat(text)
    return value if timezone.is_aware(value) else timezone.make_aware(value)


class Command(BaseCommand):
    help = "Freeze a project's rankings and demonstrations into a new dataset version."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="The project's short name, as in its address")
        parser.add_argument("--note", default="")
        parser.add_argument("--test-fraction", type=float, default=0.1, help="Share of the prompts kept for testing")
        parser.add_argument("--as-of", type=moment, help="Take what was current at this time (default: now)")
        parser.add_argument("--since", type=moment, help="Only rankings from this time on")
        parser.add_argument("--until", type=moment, help="Only rankings before this time")
        parser.add_argument("--exclude-annotator", action="append", default=[], help="A pseudonym; may be repeated")
        parser.add_argument("--min-seconds", type=float, default=0, help="Drop rankings made faster than this")
        parser.add_argument("--exclude-all-bad", action="store_true")
        parser.add_argument("--min-rankings", type=int, default=1, help="Only prompts with at least so many rankings")
        parser.add_argument(
            "--decisions", choices=CHOICES["decisions"], default="raw", help="What a decided task gives"
        )
        parser.add_argument("--weights", choices=CHOICES["weights"], default="equal")
        parser.add_argument("--ideal-on-top", action="store_true", help="Annotators' ideal answers lead their rankings")
        parser.add_argument("--known-tasks", action="store_true", help="Gold and practice tasks too")
        parser.add_argument("--tag", action="append", default=[], help="Only prompts with one of these tags")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project “{options['project']}”.")
        filters = Filters(
            since=options["since"],
            until=options["until"],
            exclude_annotators=tuple(options["exclude_annotator"]),
            min_seconds=options["min_seconds"],
            exclude_all_bad=options["exclude_all_bad"],
            tags=tuple(options["tag"]),
            min_rankings=options["min_rankings"],
            decisions=options["decisions"],
            weights=options["weights"],
            ideal_on_top=options["ideal_on_top"],
            known_tasks=options["known_tasks"],
        )
        try:
            version = create_version(
                project=project,
                user=project.created_by,
                note=options["note"][:200],
                test_fraction=options["test_fraction"],
                as_of=options["as_of"],
                filters=filters,
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        claimed = jobs.claim(DatasetVersion, version.pk)
        if claimed:
            build_version(claimed)
        version.refresh_from_db()
        if version.state != DatasetVersion.State.SUCCEEDED:
            raise CommandError(
                version.error or "A worker took this version at the same moment; see the project's page."
            )
        counts = version.counts
        self.stdout.write(
            f"{version} of {project.slug}: {counts['rankings']:,} rankings ({counts['train']:,} train, "
            f"{counts['test']:,} test), {counts['pairs']:,} pairs, {counts['demonstrations']:,} demonstrations"
        )
        for name, count in counts["dropped"].items():
            self.stdout.write(f"dropped by {name}: {count:,}")
        self.stdout.write(version.content_hash)
