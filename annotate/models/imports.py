from django.db import models

from annotate.jobs import Job

from .projects import Project
from .users import User


class Import(Job):
    """A file of prompts, with or without completions, on its way into a project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="imports")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    file_name = models.CharField(max_length=255)
    file = models.CharField(max_length=300, help_text="Name on the storage")
    size = models.BigIntegerField(default=0, help_text="Bytes")
    columns = models.JSONField(
        default=dict, blank=True, help_text="The fields of annotate.formats.shapes.Columns: the file's own column names"
    )
    shape = models.CharField(max_length=40, blank=True, help_text="What the rows were recognised as")
    rows_read = models.BigIntegerField(default=0)
    prompts_added = models.BigIntegerField(default=0)
    completions_added = models.BigIntegerField(default=0)
    tasks_added = models.BigIntegerField(default=0)
    duplicates = models.BigIntegerField(default=0)
    rows_refused = models.BigIntegerField(default=0)
    notes = models.JSONField(default=dict, help_text="Counts of what was taken but makes no task; other columns found")

    class Meta:
        indexes = [models.Index(fields=["project", "-id"], name="import_by_project")]


class RefusedRow(models.Model):
    """A row that an import did not take, and why."""

    job = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="refused")
    line = models.BigIntegerField(help_text="From 1; for Parquet the row number")
    field = models.CharField(max_length=80, blank=True)
    reason = models.CharField(max_length=300)
    excerpt = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [models.Index(fields=["job", "line"], name="refused_row_by_line")]
