from django.db import models

from annotate.jobs import Job

from .projects import Project
from .users import User


class DatasetVersion(Job):
    """A project's rankings and demonstrations, frozen, or examples that something else made. Once it has succeeded nothing
    about it changes."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="dataset_versions")
    number = models.PositiveIntegerField()
    note = models.CharField(max_length=200, blank=True)
    as_of = models.DateTimeField(help_text="Rankings submitted later are not in it")
    filters = models.JSONField(default=dict, help_text="The fields of annotate.services.datasets.Filters")
    test_fraction = models.FloatField(default=0.1)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    content_hash = models.CharField(max_length=64, blank=True, help_text="SHA-256 over the hashes of its files")
    counts = models.JSONField(
        default=dict, help_text="rankings, train, test, demonstrations, dropped by each filter, …"
    )
    size = models.BigIntegerField(default=0, help_text="Bytes")
    origin = models.CharField(
        max_length=200, blank=True, help_text="What made it, where it is not frozen from rankings: `run:12`"
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "number"], name="dataset_version_unique")]

    def __str__(self) -> str:
        return f"v{self.number}"

    @property
    def folder(self) -> str:
        """Its folder on the storage; it holds rankings.parquet and demonstrations.parquet."""
        return f"datasets/{self.content_hash}"
