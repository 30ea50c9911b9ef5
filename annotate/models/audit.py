from django.db import models

from .projects import Project
from .users import User


class AuditEvent(models.Model):
    """Who did what, when. Rows are only ever added."""

    project = models.ForeignKey(Project, null=True, on_delete=models.CASCADE, related_name="audit_events")
    actor = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    verb = models.CharField(max_length=40, help_text="ranking.submitted, member.added, run.started, …")
    target = models.CharField(max_length=80, blank=True, help_text="ranking:12, run:3, …")
    details = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["project", "-id"], name="audit_by_project")]


def record(
    actor: User | None, verb: str, target: str = "", *, project: Project | None = None, **details: object
) -> None:
    AuditEvent.objects.create(project=project, actor=actor, verb=verb, target=target, details=details)
