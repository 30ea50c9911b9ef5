import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from .projects import Project
from .prompts import Completion, Prompt
from .users import User

PRIORITY_MAX = 1000
# In which free tasks are handed out. Each part ascends, so that whatever comes after a place is one range of the index.
QUEUE_ORDER = (F("priority") * -1, F("disagreement") * -1.0, F("leased") + F("submitted"), F("id"))


class RankingTask(models.Model):
    """A prompt with the completions that people are asked to rank.

    `leased` and `submitted` count its assignments, so that the next task is found by one index; a task is free while
    leased + submitted < overlap. Every change of an assignment's state changes the counts in the same transaction, under the
    task's row lock.
    """

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        FLAGGED = "flagged", _("Flagged")
        CLOSED = "closed", _("Closed")

    class Purpose(models.TextChoices):
        RANKING = "ranking", _("Ranking")
        GOLD = "gold", _("Gold: a known order, hidden among the others")
        PRACTICE = "practice", _("Practice: a known order, explained afterwards")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tasks")
    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="tasks")
    completions = models.ManyToManyField(Completion, through="TaskCompletion", related_name="tasks")
    content_hash = models.CharField(max_length=64, editable=False, help_text="Of the sorted completion ids")
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    purpose = models.CharField(max_length=8, choices=Purpose, default=Purpose.RANKING, db_default=Purpose.RANKING)
    priority = models.IntegerField(default=0, help_text="Higher is asked first")
    disagreement = models.FloatField(
        default=0.0,
        db_default=0.0,
        help_text="How much reward models disagree about it; among tasks of one priority more is asked first",
    )
    overlap = models.PositiveSmallIntegerField(default=1)
    leased = models.PositiveSmallIntegerField(default=0)
    submitted = models.PositiveSmallIntegerField(default=0)
    agreement = models.FloatField(
        null=True,
        help_text="Mean Kendall's τ-b over the pairs of its rankings, once as many are there as were asked for",
    )
    compared_at = models.DateTimeField(
        null=True, help_text="When `agreement` was computed; it stays null where no pair of the rankings has a τ-b"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "content_hash"], name="task_unique"),
            models.CheckConstraint(condition=Q(overlap__gte=1), name="task_overlap_positive"),
            models.CheckConstraint(
                condition=Q(overlap__gte=F("leased") + F("submitted")), name="task_never_beyond_overlap"
            ),
        ]
        indexes = [
            models.Index(
                F("project"),
                *QUEUE_ORDER,
                name="task_next",
                condition=Q(state="open", purpose="ranking", overlap__gt=F("leased") + F("submitted")),
            ),
            models.Index(fields=["project", "purpose"], name="task_known", condition=~Q(purpose="ranking")),
            models.Index(fields=["project", "agreement"], name="task_agreement", condition=Q(agreement__isnull=False)),
            models.Index(
                fields=["project", "id"],
                name="task_to_compare",
                condition=Q(compared_at__isnull=True, purpose="ranking", overlap__gte=2, submitted=F("overlap")),
            ),
        ]


class TaskCompletion(models.Model):
    task = models.ForeignKey(RankingTask, on_delete=models.CASCADE, related_name="task_completions", db_index=False)
    completion = models.ForeignKey(Completion, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "completion"], name="task_completion_unique")]


class KnownOrder(models.Model):
    """The order that a gold or practice task is known to have, and why."""

    task = models.OneToOneField(RankingTask, on_delete=models.CASCADE, related_name="known_order")
    ranks = models.JSONField(help_text='{"completion id": rank}, 1 is best, equal ranks are a tie')
    explanation = models.TextField(blank=True, help_text="Markdown, shown after a practice task")
    created_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)


class Assignment(models.Model):
    """A task handed to one annotator, for the time of its lease."""

    class State(models.TextChoices):
        LEASED = "leased", _("Being ranked")
        SUBMITTED = "submitted", _("Ranked")
        SKIPPED = "skipped", _("Skipped")
        FLAGGED = "flagged", _("Flagged")
        EXPIRED = "expired", _("Expired")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    task = models.ForeignKey(RankingTask, on_delete=models.CASCADE, related_name="assignments", db_index=False)
    annotator = models.ForeignKey(User, on_delete=models.PROTECT, related_name="assignments")
    state = models.CharField(max_length=9, choices=State, default=State.LEASED)
    lease_until = models.DateTimeField()
    shown_order = ArrayField(
        models.BigIntegerField(), help_text="Completion ids as shown: the first is A, the second B, …"
    )
    token = models.UUIDField(
        default=uuid.uuid4, help_text="Names one opening of the task; a submission carries it, undo changes it"
    )
    draft = models.JSONField(null=True)
    draft_saved_at = models.DateTimeField(null=True)
    opened_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["task", "annotator"], name="assignment_unique"),
            models.UniqueConstraint(
                fields=["annotator", "project"], name="assignment_one_held", condition=Q(state="leased")
            ),
        ]
        indexes = [
            models.Index(fields=["lease_until"], name="assignment_expiry", condition=Q(state="leased")),
            models.Index(fields=["annotator", "project"], name="assignment_lapsed", condition=Q(state="expired")),
        ]


class Flag(models.Model):
    """Something is wrong with a task; it leaves the queue until an admin has settled it."""

    class Reason(models.TextChoices):
        NO_SENSE = "no_sense", _("The prompt makes no sense")
        HARMFUL = "harmful", _("Harmful or private content")
        SHOWN_WRONGLY = "shown_wrongly", _("It is shown wrongly")
        NO_JUDGING = "no_judging", _("Nobody could judge this")
        OTHER = "other", _("Something else")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="flags")
    task = models.ForeignKey(RankingTask, on_delete=models.CASCADE, related_name="flags")
    raised_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=60, choices=Reason)
    comment = models.TextField(blank=True)
    raised_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True)
    settled_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    resolution = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [models.Index(fields=["project", "-id"], name="flag_open", condition=Q(settled_at__isnull=True))]
