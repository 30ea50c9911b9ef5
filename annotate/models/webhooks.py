"""What happened in a project, told to other programs."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .projects import Project
from .users import User


class Webhook(models.Model):
    """An address that is told what happens in a project. `Project.announced` holds what any of a project's webhooks wants."""

    class Event(models.TextChoices):
        RANKING_SUBMITTED = "ranking.submitted", _("A ranking was submitted")
        RANKING_WITHDRAWN = "ranking.withdrawn", _("A ranking was taken back")
        IMPORT_ENDED = "import.ended", _("An import ended")
        DATASET_ENDED = "dataset.ended", _("A dataset version was built, or failed")
        RUN_STARTED = "run.started", _("A run started")
        RUN_ENDED = "run.ended", _("A run ended")
        CHECKPOINT_PROMOTED = "checkpoint.promoted", _("A checkpoint was promoted")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="webhooks")
    url = models.URLField(max_length=500)
    events = ArrayField(models.CharField(max_length=30, choices=Event))
    secret = models.CharField(max_length=64, help_text="What the signing key is made of, together with SECRET_KEY")
    former_secret = models.CharField(
        max_length=64, blank=True, help_text="The one before; it signs, too, for a day after the rotation"
    )
    rotated_at = models.DateTimeField(null=True)
    note = models.CharField(max_length=120, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    failing_since = models.DateTimeField(null=True, help_text="When the first of the latest failures in a row was")
    paused_at = models.DateTimeField(
        null=True, help_text="From then on it is told nothing: by an admin, or after failing for days"
    )
    removed_at = models.DateTimeField(null=True)


class OutboxEvent(models.Model):
    """Something that happened, written in the transaction in which it did."""

    uid = models.UUIDField(
        default=uuid.uuid4, unique=True, editable=False, help_text="The same in every delivery of it"
    )
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=30)
    payload = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now)


class Delivery(models.Model):
    """An event on its way to a webhook. It is sent until the other side has said that it has it, or hope is given up."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DELIVERED = "delivered", _("Delivered")
        GIVEN_UP = "given_up", _("Given up")

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    event = models.ForeignKey(OutboxEvent, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=9, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(
        default=timezone.now, help_text="When it may be tried again; in the future while a worker has it"
    )
    status = models.PositiveSmallIntegerField(null=True, help_text="HTTP status of the latest answer")
    answer = models.CharField(max_length=500, blank=True, help_text="The beginning of the latest answer")
    error = models.CharField(max_length=300, blank=True)
    seconds = models.FloatField(null=True, help_text="How long the latest try took")
    tried_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["webhook", "event"], name="delivery_unique")]
        indexes = [
            models.Index(fields=["webhook", "next_at"], name="delivery_due", condition=Q(state="waiting")),
            models.Index(fields=["webhook", "-id"], name="delivery_by_webhook"),
        ]
