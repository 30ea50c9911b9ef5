import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .projects import Project
from .prompts import Completion
from .tasks import Assignment, RankingTask
from .users import User


class RankingQuerySet(models.QuerySet["Ranking"]):
    def current(self) -> "RankingQuerySet":
        """The latest revision of each ranking that was not taken back."""
        return self.filter(is_current=True)


class Ranking(models.Model):
    """One annotator's order of the shown completions, ties allowed: the stored fact, never overwritten.

    Undo and revision leave the row, clear `is_current` and set `withdrawn_at`.
    """

    class Verdict(models.TextChoices):
        RANKED = "ranked", _("Ranked")
        ALL_BAD = "all_bad", _("All bad")

    class Role(models.TextChoices):
        ANNOTATOR = "annotator", pgettext_lazy("role", "Annotator")
        ADJUDICATOR = "adjudicator", _("Adjudicator")
        IMPORTED = "imported", _("Imported")

    uid = models.UUIDField(default=uuid.uuid4, editable=False, unique=True)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="rankings")
    task = models.ForeignKey(RankingTask, on_delete=models.PROTECT, related_name="rankings")
    assignment = models.ForeignKey(
        Assignment, null=True, on_delete=models.PROTECT, related_name="rankings", help_text="None unless an annotator's"
    )
    annotator = models.ForeignKey(User, on_delete=models.PROTECT, related_name="rankings")
    role = models.CharField(max_length=11, choices=Role, default=Role.ANNOTATOR, db_default=Role.ANNOTATOR)
    token = models.UUIDField(unique=True, help_text="The opening that was submitted: a repeated request is one ranking")
    revision = models.PositiveSmallIntegerField(default=1)
    is_current = models.BooleanField(default=True)
    verdict = models.CharField(max_length=8, choices=Verdict, default=Verdict.RANKED)
    reasons = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    comment = models.TextField(blank=True)
    accuracy = models.FloatField(
        null=True,
        help_text="On a gold or practice task: the share of the known order's pairs that are ordered alike, 0 to 1",
    )
    seconds = models.FloatField(help_text="From the opening of the task to the submission")
    created_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(
        null=True,
        help_text="When undo or a revision took its place; a dataset version as of an earlier time still has it",
    )

    objects = RankingQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["assignment", "revision"], name="ranking_revision_unique"),
            models.UniqueConstraint(fields=["assignment"], name="ranking_one_current", condition=Q(is_current=True)),
            models.UniqueConstraint(
                fields=["task"], name="ranking_one_decision", condition=Q(is_current=True, role="adjudicator")
            ),
            models.CheckConstraint(
                condition=~Q(role="annotator") | Q(assignment__isnull=False), name="ranking_of_an_assignment"
            ),
            models.CheckConstraint(
                condition=Q(is_current=True, withdrawn_at=None) | Q(is_current=False, withdrawn_at__isnull=False),
                name="ranking_current_until_withdrawn",
            ),
        ]
        indexes = [
            models.Index(fields=["project", "id"], name="ranking_current", condition=Q(is_current=True)),
            models.Index(
                fields=["project", "annotator", "created_at"], name="ranking_by_annotator", condition=Q(is_current=True)
            ),
            models.Index(
                fields=["project", "annotator", "created_at"],
                name="ranking_on_known_order",
                condition=Q(is_current=True, accuracy__isnull=False),
            ),
        ]


class RankedCompletion(models.Model):
    """The place of one completion in a ranking: 1 is best, equal ranks are a tie, no rank is left out."""

    ranking = models.ForeignKey(Ranking, on_delete=models.CASCADE, related_name="ranked_completions", db_index=False)
    completion = models.ForeignKey(Completion, on_delete=models.PROTECT, related_name="ranked")
    rank = models.PositiveSmallIntegerField()
    ratings = models.JSONField(default=dict, db_default={}, help_text="{criterion: 1 to 5}, what was rated")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["ranking", "completion"], name="ranked_completion_unique"),
            models.CheckConstraint(condition=Q(rank__gte=1), name="rank_from_one"),
        ]
