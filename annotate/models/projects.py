import secrets

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .users import User

K_MIN, K_MAX = 2, 9
RATING_MAX = 5
DEFAULT_CRITERIA = [_("Quality"), _("Clarity"), _("Helpfulness"), _("Alignment")]


class ProjectQuerySet(models.QuerySet["Project"]):
    def of(self, user: User) -> "ProjectQuerySet":
        return self.filter(memberships__user=user, memberships__left_at=None)


class Project(models.Model):
    class State(models.TextChoices):
        ACTIVE = "active", _("Active")
        PAUSED = "paused", _("Paused")
        ARCHIVED = "archived", _("Archived")

    slug = models.SlugField(unique=True, max_length=60)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    guidelines = models.TextField(blank=True, help_text=_("Markdown. Annotators open it with G while they rank."))
    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE)
    overlap = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(50)],
        help_text=_("How many people rank each task. Holds for the tasks that are there already, too."),
    )
    completions_per_task = models.PositiveSmallIntegerField(
        default=4,
        validators=[MinValueValidator(K_MIN), MaxValueValidator(K_MAX)],
        help_text=_("How many completions the policy writes for each prompt, 2 to 9."),
    )
    lease_minutes = models.PositiveSmallIntegerField(
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(1440)],
        help_text=_("How long a task is kept for the person who opened it."),
    )
    allow_ties = models.BooleanField(default=True, help_text=_("Two completions may share a place."))
    allow_all_bad = models.BooleanField(default=True, help_text=_("“All bad” may be answered instead of a ranking."))
    ask_comment = models.BooleanField(default=False, help_text=_("Show a comment field after the ranking."))
    reasons = models.JSONField(default=list, blank=True, help_text=_("Reasons that can be ticked after the ranking."))
    criteria = models.JSONField(
        default=list, blank=True, help_text=_("Each answer is rated from 1 to 5 by each of these, after the ranking.")
    )
    require_ratings = models.BooleanField(
        default=False, help_text=_("A ranking is submitted only when each answer is rated by each criterion.")
    )
    ideal_on_top = models.BooleanField(
        default=False, help_text=_("An ideal answer counts as better than all the answers that its author ranked.")
    )
    shared_percent = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(100)],
        help_text=_(
            "How many of a hundred tasks are ranked by more people, to measure agreement. A task keeps its lot: a larger share adds to a smaller one."
        ),
    )
    shared_overlap = models.PositiveSmallIntegerField(
        default=3,
        validators=[MinValueValidator(1), MaxValueValidator(50)],
        help_text=_("How many people rank each of those tasks."),
    )
    daily_limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text=_(
            "How many rankings one person may submit a day, gold tasks among them. Empty: as many as they like."
        ),
    )
    total_limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text=_(
            "How many rankings one person may submit in all, gold tasks among them. Empty: as many as they like."
        ),
    )
    practice_tasks = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(50)],
        help_text=_("How many practice tasks, with known answers, come before somebody’s first real task."),
    )
    practice_threshold = models.PositiveSmallIntegerField(
        default=70,
        validators=[MaxValueValidator(100)],
        help_text=_("Percent of the practice tasks’ pairs that must be ordered as known."),
    )
    gold_percent = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(50)],
        help_text=_(
            "How many of a hundred tasks are gold: their order is known, and annotators are not told which they are."
        ),
    )
    gold_window = models.PositiveSmallIntegerField(
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text=_("Over how many of somebody’s last gold tasks their accuracy is taken."),
    )
    gold_threshold = models.PositiveSmallIntegerField(
        default=60,
        validators=[MaxValueValidator(100)],
        help_text=_("An annotator whose accuracy falls below this percentage is paused. 0: nobody is."),
    )
    adjudicate_below = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(-1), MaxValueValidator(1)],
        help_text=_(
            "Tasks whose rankings agree less than this (mean Kendall’s τ-b, from −1 to 1) go to adjudication. Empty: none do."
        ),
    )
    announced = ArrayField(
        models.CharField(max_length=30),
        default=list,
        db_default=[],
        editable=False,
        help_text="Events that a webhook of the project wants: whatever does them need not look",
    )
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    members = models.ManyToManyField(User, through="Membership", related_name="projects")

    objects = ProjectQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(overlap__gte=1), name="project_overlap_positive"),
            models.CheckConstraint(
                condition=Q(completions_per_task__range=(K_MIN, K_MAX)), name="project_completions_per_task_range"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("project", args=[self.slug])


def new_pseudonym() -> str:
    return f"annotator-{secrets.token_hex(4)}"


class MembershipQuerySet(models.QuerySet["Membership"]):
    def present(self) -> "MembershipQuerySet":
        return self.filter(left_at=None)


class Membership(models.Model):
    """A person's role in a project, and the name they bear in its exports.

    Whoever leaves keeps the row, so that their rankings keep their pseudonym and a dataset built again is the same.
    """

    class Role(models.TextChoices):
        ANNOTATOR = "annotator", pgettext_lazy("role", "Annotator")
        RESEARCHER = "researcher", pgettext_lazy("role", "Researcher")
        ADMIN = "admin", _("Admin")

    class PauseReason(models.TextChoices):
        GOLD = "gold", _("Too few gold tasks as known")
        PRACTICE = "practice", _("Practice not passed")
        ADMIN = "admin", _("By an admin")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    pseudonym = models.CharField(max_length=40, default=new_pseudonym, editable=False)
    joined_at = models.DateTimeField(auto_now_add=True)
    left_at = models.DateTimeField(null=True, editable=False)
    qualified_at = models.DateTimeField(null=True, editable=False, help_text="When practice was passed")
    paused_at = models.DateTimeField(null=True, editable=False, help_text="From then on they are given no tasks")
    pause_reason = models.CharField(max_length=10, choices=PauseReason, blank=True, default="", db_default="")
    resumed_at = models.DateTimeField(
        null=True, editable=False, help_text="When their last pause ended: gold is judged anew from then on"
    )
    served = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="How many tasks they were given; sets the turns of gold"
    )
    queue_place = models.JSONField(
        null=True, editable=False, help_text="How far this person is in the queue, as annotate.services.queue keeps it"
    )

    objects = MembershipQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="membership_unique"),
            models.UniqueConstraint(fields=["project", "pseudonym"], name="membership_pseudonym_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.role} of {self.project}"

    @property
    def is_admin(self) -> bool:
        return self.role == self.Role.ADMIN

    @property
    def may_rank(self) -> bool:
        return self.role in (self.Role.ANNOTATOR, self.Role.ADMIN)

    @property
    def may_read_data(self) -> bool:
        return self.role in (self.Role.RESEARCHER, self.Role.ADMIN)


class Invitation(models.Model):
    """A link by which people join a project in a role, until it expires, is used up or revoked."""

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        USED_UP = "used_up", _("Used up")
        EXPIRED = "expired", _("Expired")
        REVOKED = "revoked", _("Revoked")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="invitations")
    role = models.CharField(max_length=10, choices=Membership.Role)
    token_hash = models.CharField(
        max_length=64, unique=True, help_text="SHA-256 of the link's token; the token is shown once"
    )
    note = models.CharField(max_length=120, blank=True)
    uses = models.PositiveIntegerField(default=0)
    max_uses = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1), MaxValueValidator(1000)])
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(max_uses__gte=F("uses")), name="invitation_never_beyond_max_uses")
        ]
        indexes = [models.Index(fields=["project", "-id"], name="invitation_by_project")]

    @property
    def state(self) -> "Invitation.State":
        if self.revoked_at:
            return self.State.REVOKED
        if self.uses >= self.max_uses:
            return self.State.USED_UP
        return self.State.EXPIRED if self.expires_at <= timezone.now() else self.State.OPEN
