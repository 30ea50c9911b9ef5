from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from annotate.jobs import Job

from .projects import Project
from .users import User
from .webhooks import Webhook


class DatasetVersion(Job):
    """A project's rankings and demonstrations, frozen, or examples that something else made. Once it has succeeded nothing
    about it changes."""

    class Stratum(models.TextChoices):
        TAG = "tag", _("Tag")
        SOURCE = "source", _("Source")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="dataset_versions")
    number = models.PositiveIntegerField()
    note = models.CharField(max_length=200, blank=True)
    tag = models.CharField(max_length=60, blank=True, help_text="A name that points at it and may be moved to another")
    parent = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.RESTRICT,
        related_name="children",
        help_text="The version that it follows: its prompts keep their split",
    )
    as_of = models.DateTimeField(help_text="Rankings submitted later are not in it")
    filters = models.JSONField(default=dict, help_text="The fields of annotate.services.datasets.Filters")
    test_fraction = models.FloatField(default=0.1)
    stratify_by = models.CharField(
        max_length=10, blank=True, choices=Stratum, help_text="Both sides hold the same share of each"
    )
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    content_hash = models.CharField(max_length=64, blank=True, help_text="SHA-256 over the hashes of its files")
    counts = models.JSONField(
        default=dict, help_text="rankings, train, test, demonstrations, dropped by each filter, …"
    )
    statistics = models.JSONField(
        default=dict,
        help_text="Histograms and rates that its page draws; how many rows come from each annotator, source and import",
    )
    size = models.BigIntegerField(default=0, help_text="Bytes")
    origin = models.CharField(
        max_length=200, blank=True, help_text="What made it, where it is not frozen from rankings: `run:12`"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="dataset_version_unique"),
            models.UniqueConstraint(fields=["project", "tag"], condition=~Q(tag=""), name="dataset_tag_unique"),
        ]

    def __str__(self) -> str:
        return f"v{self.number}"

    def announcement(self) -> tuple[str, dict[str, Any]]:
        return Webhook.Event.DATASET_ENDED, {
            "dataset": self.number,
            "content_hash": self.content_hash,
            **{name: self.counts.get(name, 0) for name in ("rankings", "demonstrations")},
            "api": f"datasets/{self.number}",
        }

    @property
    def folder(self) -> str:
        """Its folder on the storage; it holds rankings.parquet and demonstrations.parquet."""
        return f"datasets/{self.content_hash}"

    @cached_property
    def recent_publications(self) -> dict[str, Any]:
        """The latest ones, newest first, and whether one of them is on its way."""
        rows = list(self.publications.select_related("created_by").order_by("-pk")[:10])
        return {"rows": rows, "is_moving": any(row.is_active for row in rows)}


class Publication(Job):
    """A dataset version on its way to a hub."""

    version = models.ForeignKey(DatasetVersion, on_delete=models.CASCADE, related_name="publications")
    repository = models.CharField(max_length=200, help_text="OWNER/NAME on the hub")
    shape = models.CharField(max_length=30)
    is_private = models.BooleanField(default=True)
    license = models.CharField(max_length=60, blank=True, help_text="As the hub names it: `cc-by-4.0`")
    url = models.URLField(max_length=400, blank=True)
    revision = models.CharField(max_length=64, blank=True, help_text="The hub's commit")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
