from typing import Any

from django.db import models

from annotate.jobs import Job

from .projects import Project
from .rankings import Ranking
from .users import User
from .webhooks import Webhook


class Import(Job):
    """A file of prompts, with or without completions and preferences, on its way into a project.

    An uploaded file is a draft until somebody has looked at its preview. A dry run counts what would happen into `forecast`
    and leaves the import a draft.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="imports")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    file_name = models.CharField(max_length=255)
    file = models.CharField(max_length=300, help_text="Name on the storage")
    size = models.BigIntegerField(default=0, help_text="Bytes")
    mapping = models.JSONField(
        default=dict,
        blank=True,
        help_text="The fields of annotate.formats.importing.mapping.Mapping: how the rows are read",
    )
    is_dry_run = models.BooleanField(default=False)
    forecast = models.JSONField(
        default=dict, help_text="What the latest dry run counted, by the names of the fields below"
    )
    shape = models.CharField(max_length=40, blank=True, help_text="What the rows were recognised as")
    rows_read = models.BigIntegerField(default=0)
    prompts_added = models.BigIntegerField(default=0)
    completions_added = models.BigIntegerField(default=0)
    tasks_added = models.BigIntegerField(default=0)
    rankings_added = models.BigIntegerField(default=0, db_default=0)
    duplicates = models.BigIntegerField(default=0)
    rows_refused = models.BigIntegerField(default=0)
    refused_bytes = models.BigIntegerField(
        default=0,
        db_default=0,
        help_text="How far the file of refused rows is written; whatever is behind that does not count",
    )
    notes = models.JSONField(default=dict, help_text="Counts of what was taken but makes no task; other columns found")

    class Meta:
        indexes = [models.Index(fields=["project", "-id"], name="import_by_project")]

    def announcement(self) -> tuple[str, dict[str, Any]] | None:
        if self.is_dry_run:
            return None
        counts = ("rows_read", "prompts_added", "completions_added", "tasks_added", "rankings_added", "duplicates")
        return Webhook.Event.IMPORT_ENDED, {
            "import": self.pk,
            **{name: getattr(self, name) for name in (*counts, "rows_refused")},
            "api": f"imports/{self.pk}",
        }


class RefusedRow(models.Model):
    """A row that an import did not take, and why. The first ones, for the page; the file of refused rows has all, whole."""

    job = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="refused")
    line = models.BigIntegerField(help_text="From 1; for Parquet the row number")
    field = models.CharField(max_length=80, blank=True)
    reason = models.CharField(max_length=300)
    excerpt = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [models.Index(fields=["job", "line"], name="refused_row_by_line")]


class ImportedRanking(models.Model):
    """Where an imported ranking comes from. The ranking's annotator is `annotate.models.imported_user()`."""

    ranking = models.OneToOneField(Ranking, on_delete=models.CASCADE, primary_key=True, related_name="imported")
    job = models.ForeignKey(Import, null=True, on_delete=models.SET_NULL, related_name="rankings")
    line = models.BigIntegerField(default=0)
    annotator = models.CharField(
        max_length=60, blank=True, help_text="Who made it, under a pseudonym; empty if the file does not say"
    )
    original = models.CharField(max_length=64, blank=True, help_text="What the file calls it")
