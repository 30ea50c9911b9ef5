"""Freeze a project's rankings into its next dataset version.

manage.py build_dataset tides --note "First hundred" --test-fraction 0.1
"""

from argparse import ArgumentParser
from dataclasses import fields
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from annotate import jobs
from annotate.models import DatasetVersion, Project
from annotate.services.datasets import CHOICES, ROLES, Filters, build_version, create_version

# Options that may be repeated, by the filter that they make.
REPEATED = {
    "exclude_annotators": "exclude_annotator",
    "tags": "tag",
    "roles": "role",
    "sources": "source",
    "languages": "language",
}


def moment(text: str) -> datetime:
    """A time with a zone; without one it is UTC."""
    value = datetime.fromisoformat(text)
    return value if timezone.is_aware(value) else timezone.make_aware(value)


class Command(BaseCommand):
    # They load every page of the site, which a build has no use for.
    requires_system_checks = ()
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
        parser.add_argument("--role", action="append", default=[], choices=ROLES, help="Only these; may be repeated")
        parser.add_argument("--source", action="append", default=[], help="Only rankings with a completion of it")
        parser.add_argument("--language", action="append", default=[], help="Of the last turn: en, de, …")
        parser.add_argument("--criterion", default="", help="Only rankings that rate something by it")
        parser.add_argument("--min-rating", type=int, default=0, help="What one of its completions must have, 1 to 5")
        parser.add_argument("--min-agreement", type=float, help="Kendall's tau of a task's rankings, -1 to 1")
        parser.add_argument("--min-gold-accuracy", type=float, default=0, help="Of an annotator, 0 to 1")
        parser.add_argument("--min-length", type=int, default=0, help="Characters of the shortest completion")
        parser.add_argument("--max-length", type=int, default=0, help="Characters of the longest completion")
        parser.add_argument("--drop-duplicates", action="store_true", help="Of nearly equal prompts one stays")
        parser.add_argument(
            "--held-out", default="", help="version:NUMBER or tag:NAME, whose prompts must not leak into training"
        )
        parser.add_argument("--version-tag", default="", help="A name for this version; another one loses it")
        parser.add_argument("--parent", type=int, help="Number of the version whose prompts keep their side")
        parser.add_argument(
            "--stratify-by", choices=DatasetVersion.Stratum.values, default="", help="Both sides have the same share"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project “{options['project']}”.")
        parent = None
        if options["parent"] is not None:
            parent = project.dataset_versions.filter(number=options["parent"]).first()
            if parent is None:
                raise CommandError(f"{project.slug} has no version {options['parent']}.")
        try:
            names = [one.name for one in fields(Filters)]
            filters = Filters.from_json({name: options[REPEATED.get(name, name)] for name in names})
            version = create_version(
                project=project,
                user=project.created_by,
                note=options["note"][:200],
                tag=options["version_tag"],
                parent=parent,
                test_fraction=options["test_fraction"],
                stratify_by=options["stratify_by"],
                as_of=options["as_of"],
                filters=filters,
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
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
        for step in counts["steps"]:
            if step["dropped"]:
                self.stdout.write(f"dropped by {step['step']}: {step['dropped']:,}, {step['left']:,} left")
        self.stdout.write(version.content_hash)
