from django.db import models

from annotate.jobs import Job

from .projects import Project
from .users import User


class QualityReport(Job):
    """What a project's rankings say about annotators, tasks and sources, computed in the background as of one moment."""

    class Kind(models.TextChoices):
        QUALITY = "quality"
        LEADERBOARD = "leaderboard"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="quality_reports")
    kind = models.CharField(max_length=11, choices=Kind)
    filters = models.JSONField(default=dict, help_text="since, until, annotators, criterion, tag")
    as_of = models.DateTimeField(help_text="Rankings submitted later are not in it")
    results = models.JSONField(default=dict)
    created_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        indexes = [models.Index(fields=["project", "kind", "-id"], name="report_latest")]
