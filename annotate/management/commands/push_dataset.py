"""Push a dataset version to a Hugging Face hub as a private data set, and wait until it is there.

HF_TOKEN=… manage.py push_dataset tides 3 our-group/tides-preferences --shape preference --license cc-by-4.0
"""

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from annotate import jobs
from annotate.formats.exporting import SHAPES
from annotate.models import DatasetVersion, Publication, User
from annotate.services.assignments import Refused
from annotate.services.publications import publish, start_publication


class Command(BaseCommand):
    help = "Push a dataset version to a Hugging Face hub."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="The project's short name, as in its address")
        parser.add_argument("number", type=int, help="The version's number")
        parser.add_argument("repository", help="OWNER/NAME on the hub; it is made if it is not there")
        parser.add_argument("--shape", choices=SHAPES, default="preference")
        parser.add_argument("--license", default="", help="As the hub names it: cc-by-4.0")
        parser.add_argument("--public", action="store_true", help="A new repository is open to everybody")
        parser.add_argument("--user", default="", help="On whose behalf; the project's maker if it is not given")

    def handle(self, *args: Any, **options: Any) -> None:
        version = (
            DatasetVersion.objects.select_related("project", "parent")
            .filter(project__slug=options["project"], number=options["number"], state=DatasetVersion.State.SUCCEEDED)
            .first()
        )
        if version is None:
            raise CommandError(f"Project “{options['project']}” has no finished dataset version {options['number']}.")
        user = version.project.created_by
        if options["user"]:
            found = User.objects.filter(username=options["user"]).first()
            if found is None:
                raise CommandError(f"There is no user “{options['user']}”.")
            user = found
        try:
            publication = start_publication(
                version=version,
                user=user,
                repository=options["repository"],
                shape=options["shape"],
                is_private=not options["public"],
                license=options["license"],
            )
        except Refused as refused:
            raise CommandError(refused.message) from refused
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        claimed = jobs.claim(Publication, publication.pk)
        if claimed is None:
            raise CommandError("A worker pushes it already; its page says how far it is.")
        publish(claimed)
        claimed.refresh_from_db()
        if claimed.state != Publication.State.SUCCEEDED:
            raise CommandError(claimed.error or claimed.get_state_display())
        self.stdout.write(f"{version} of {version.project.slug} is at {claimed.url} ({claimed.revision})")
