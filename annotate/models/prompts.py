import hashlib
import json
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .projects import Project
from .users import User

# Made once: imports take a hash of every text, and making an encoder costs as much as using it.
CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def content_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, as 64 hex digits."""
    return hashlib.sha256(CANONICAL.encode(value).encode()).hexdigest()


def completion_hash(text: str, reasoning: str = "") -> str:
    """What `Completion.content_hash` holds."""
    return content_hash([reasoning, text] if reasoning else text)


def split_of(prompt_hash: str, test_fraction: float) -> str:
    """A prompt's side: the same in every version with the same fraction, and never both."""
    share = int(hashlib.sha256(prompt_hash.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if share < test_fraction else "train"


class Prompt(models.Model):
    """The conversation that a model answers. Never changed after it was stored."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="prompts", db_index=False)
    messages = models.JSONField(help_text='[{"role": "system" | "user" | "assistant", "content": str}, …]')
    content_hash = models.CharField(max_length=64, editable=False)
    reference_answer = models.TextField(blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    tags = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "content_hash"], name="prompt_unique")]
        indexes = [models.Index(fields=["project", "id"], name="prompt_by_project")]

    def __str__(self) -> str:
        return str(self.messages[-1]["content"])[:80]


class Source(models.Model):
    """Where completions come from: a checkpoint, an import, or a person."""

    class Kind(models.TextChoices):
        CHECKPOINT = "checkpoint", _("Checkpoint")
        IMPORT = "import", _("Import")
        PERSON = "person", _("Person")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="sources")
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=10, choices=Kind)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="source_unique")]

    def __str__(self) -> str:
        return self.name


class Completion(models.Model):
    """One answer of a model or a person to a prompt. Never changed after it was stored."""

    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="completions")
    source = models.ForeignKey(Source, on_delete=models.PROTECT, related_name="completions", db_index=False)
    text = models.TextField()
    reasoning = models.TextField(blank=True, help_text="What stood between <think> and </think>, kept apart")
    sampling = models.JSONField(default=dict, blank=True, help_text="temperature, top_p, max_new_tokens, seed, …")
    content_hash = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["prompt", "source", "content_hash"], name="completion_unique"),
            models.CheckConstraint(condition=~Q(text=""), name="completion_not_empty"),
        ]
        indexes = [models.Index(fields=["source", "id"], name="completion_by_source")]

    def __str__(self) -> str:
        return self.text[:80]


class Demonstration(models.Model):
    """An ideal answer, written or edited by a person; supervised fine-tuning learns from it."""

    completion = models.OneToOneField(Completion, on_delete=models.CASCADE, related_name="demonstration")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="demonstrations")
    author = models.ForeignKey(User, on_delete=models.PROTECT, related_name="demonstrations")
    edited_from = models.ForeignKey(Completion, null=True, on_delete=models.SET_NULL, related_name="edits")
    created_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["project", "id"], name="demonstration_current", condition=Q(withdrawn_at__isnull=True))
        ]
