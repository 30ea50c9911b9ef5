"""What a script signs in with, and what it has asked for already."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .projects import Project
from .users import User


class ApiToken(models.Model):
    """Lets a script act as its owner, as far as its scopes go, until it expires or is revoked."""

    class Scope(models.TextChoices):
        READ = "read", _("Read")
        WRITE = "write", _("Change prompts, rankings and datasets")
        TRAIN = "train", _("Start and stop training, promote checkpoints")

    class State(models.TextChoices):
        WORKS = "open", _("Works")
        EXPIRED = "expired", _("Expired")
        REVOKED = "revoked", _("Revoked")

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    token_hash = models.CharField(max_length=64, unique=True, help_text="SHA-256; the token itself is shown once")
    hint = models.CharField(max_length=8, help_text="Its last characters, by which its owner tells it")
    scopes = ArrayField(models.CharField(max_length=10, choices=Scope))
    project = models.ForeignKey(Project, null=True, on_delete=models.CASCADE, related_name="+", help_text="Null: all")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    minute = models.DateTimeField(null=True, editable=False, help_text="The minute that `requests` counts")
    requests = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        indexes = [models.Index(fields=["user", "-id"], name="api_token_by_user")]

    @property
    def state(self) -> "ApiToken.State":
        if self.revoked_at:
            return self.State.REVOKED
        return self.State.EXPIRED if self.expires_at <= timezone.now() else self.State.WORKS


class StoredResponse(models.Model):
    """What a request with an Idempotency-Key was answered. The same request again is given the same answer, and does nothing."""

    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="responses", db_index=False)
    key = models.CharField(max_length=100)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body")
    status = models.PositiveSmallIntegerField(default=0)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["token", "key"], name="stored_response_unique")]
        indexes = [models.Index(fields=["created_at"], name="stored_response_age")]
