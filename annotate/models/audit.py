from django.db import models
from django.db.models import Q

from .projects import Project
from .users import User


class AuditEvent(models.Model):
    """Who did what, when. Rows are only ever added: a trigger in the database refuses to change or delete one."""

    # Whatever the log speaks of stays: deleting or blanking the reference would change the log.
    project = models.ForeignKey(
        Project, null=True, on_delete=models.PROTECT, related_name="audit_events", db_index=False
    )
    actor = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    verb = models.CharField(max_length=40, help_text="ranking.submitted, member.added, run.started, …")
    target = models.CharField(max_length=80, blank=True, help_text="ranking:12, run:3, …")
    details = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            models.Index(fields=["project", "-at", "-id"], name="audit_by_project"),
            models.Index(fields=["project", "actor", "-at", "-id"], name="audit_by_actor"),
            models.Index(fields=["project", "target"], name="audit_by_target"),
            # Nearly all events are rankings; the others are found without stepping over those.
            models.Index(
                fields=["project", "-at", "-id"], name="audit_but_rankings", condition=~Q(verb__startswith="ranking.")
            ),
        ]


def record(
    actor: User | None, verb: str, target: str = "", *, project: Project | None = None, **details: object
) -> None:
    AuditEvent.objects.create(project=project, actor=actor, verb=verb, target=target, details=details)
