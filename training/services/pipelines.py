"""Pipelines: kept, started, and brought from stage to stage.

The rows are the truth. `advance` looks at them and starts what is ready; it may be called by anybody at any time, twice at once
or not for a while, and each stage is still started exactly once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, override

from annotate.jobs import wake
from annotate.models import DatasetVersion, Project, Ranking, User, record
from annotate.services.datasets import Filters, cancel_version, create_version
from annotate.tasks import build_dataset_version
from training.definitions import (
    DATASET,
    PROMOTE,
    InvalidPipeline,
    Problem,
    Stage,
    is_given,
    parse_definition,
    stage_and_output,
)
from training.models import Checkpoint, Pipeline, PipelineRun, Run, StageRun, Trigger
from training.recipes.arguments import InvalidArguments
from training.tasks import advance_pipeline

from .checkpoints import promote, promoted_checkpoint
from .given import find_given
from .runs import cancel_run, retry_run, start_run

SHIPPED = Path(__file__).parent.parent / "pipelines"
# What those files say of themselves, for the translators, who read no TOML.
SHIPPED_WORDS = (
    gettext_noop("Direct"),
    gettext_noop(
        "Imitate the best answers, then prefer as people preferred. The shortest way from rankings to a better model."
    ),
    gettext_noop("DeepSeek-R1"),
    gettext_noop(
        "Learn to reason from rules: a cold start, reinforcement by verified answers, the best samples imitated, and reinforcement again, by rules and people's preferences. The prompts need reference answers."
    ),
    gettext_noop("Classic RLHF"),
    gettext_noop(
        "Imitate the best answers, learn a reward from the rankings, then optimise the policy against it while a watchdog looks on."
    ),
)
ENDED_BADLY = (StageRun.State.FAILED, StageRun.State.CANCELLED)


class PipelineBusy(Exception):
    """A pipeline of the project is running already, and two never run at once."""

    def __str__(self) -> str:
        return _("A pipeline of this project is running already. It has to end, or be cancelled, first.")


class StageRefused(Exception):
    """A stage cannot start; the message says why."""


def shipped_definitions() -> dict[str, str]:
    """The definitions that come with Podium, by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(SHIPPED.glob("*.toml"))}


@transaction.atomic
def create_pipeline(*, project: Project, name: str, definition: str, user: User) -> Pipeline:
    """Raises InvalidPipeline, or ValidationError for a name that is taken."""
    parse_definition(definition)
    with _refused_if_taken():
        pipeline = Pipeline.objects.create(project=project, name=name, definition=definition, created_by=user)
    record(user, "pipeline.added", f"pipeline:{pipeline.pk}", project=project, name=name)
    return pipeline


@transaction.atomic
def change_pipeline(*, pipeline: Pipeline, name: str, definition: str, user: User) -> Pipeline:
    """Runs that are under way keep the definition that they started with. Raises as `create_pipeline` does."""
    parse_definition(definition)
    locked = _locked_pipeline(pipeline.pk)
    if (locked.name, locked.definition) == (name, definition):
        return locked
    locked.revision += locked.definition != definition
    locked.name, locked.definition = name, definition
    with _refused_if_taken():
        locked.save(update_fields=["name", "definition", "revision"])
    record(user, "pipeline.changed", f"pipeline:{locked.pk}", project=locked.project, name=name)
    return locked


@contextmanager
def _refused_if_taken() -> Iterator[None]:
    """The database says so, which knows of names that are being taken at the same time."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        raise ValidationError(_("There is a pipeline of this name already.")) from error


@transaction.atomic
def archive_pipeline(*, pipeline: Pipeline, archived: bool, user: User) -> None:
    """Put it away, so that nothing starts it any more, or bring it back. A run under way goes on. Twice is once."""
    locked = _locked_pipeline(pipeline.pk)
    if bool(locked.archived_at) == archived:
        return
    locked.archived_at = timezone.now() if archived else None
    locked.save(update_fields=["archived_at"])
    verb = "pipeline.archived" if archived else "pipeline.restored"
    record(user, verb, f"pipeline:{locked.pk}", project=locked.project, name=locked.name)


def _locked_pipeline(pk: int) -> Pipeline:
    rows = Pipeline.objects.select_for_update(of=("self",), no_key=True).select_related("project")
    return rows.get(pk=pk)


@transaction.atomic
def start_pipeline(*, pipeline: Pipeline, user: User | None, trigger: Trigger | None = None) -> PipelineRun:
    """Freeze the definition and start the stages that wait for nothing.

    Raises InvalidPipeline for what does not hold (any more), PipelineBusy while another one of the project runs.
    """
    pipeline = _locked_pipeline(pipeline.pk)
    project = pipeline.project
    if pipeline.archived_at:
        raise InvalidPipeline([Problem("", "", _("The pipeline is archived. Bring it back first."))])
    definition = parse_definition(pipeline.definition)
    given = find_given(project, definition)
    try:
        with transaction.atomic():
            pipeline_run = PipelineRun.objects.create(
                project=project,
                pipeline=pipeline,
                definition=pipeline.definition,
                revision=pipeline.revision,
                given=given,
                rankings_until=newest_ranking(project),
                trigger=trigger,
                started_because=trigger.kind if trigger else "",
                created_by=user,
            )
    except IntegrityError as error:
        raise PipelineBusy from error
    StageRun.objects.bulk_create(
        StageRun(pipeline_run=pipeline_run, name=stage.name, position=position)
        for position, stage in enumerate(definition.stages)
    )
    record(
        user,
        "pipeline.started",
        f"pipeline_run:{pipeline_run.pk}",
        project=project,
        name=pipeline.name,
        trigger=trigger and trigger.pk,
    )
    _advance(pipeline_run, user)
    return pipeline_run


def newest_ranking(project: Project) -> int:
    newest: int | None = Ranking.objects.current().filter(project=project).aggregate(newest=Max("pk"))["newest"]
    return newest or 0


@transaction.atomic
def advance(*, pk: int) -> None:
    """Note which stages of the run have ended, start those that are ready, and end the run when nothing is left."""
    pipeline_run = _locked_run(pk)
    _advance(pipeline_run, pipeline_run.created_by)


def _locked_run(pk: int) -> PipelineRun:
    rows = PipelineRun.objects.select_for_update(of=("self",), no_key=True)
    return rows.select_related("project", "pipeline", "created_by").get(pk=pk)


def _advance(pipeline_run: PipelineRun, user: User | None) -> None:
    if not pipeline_run.is_active:
        return
    rows = pipeline_run.stages.select_related("dataset_version").prefetch_related("runs").order_by("position")
    stages = {row.name: row for row in rows}
    for row in stages.values():
        _note_end(row)
    while ready := [] if pipeline_run.cancel_requested else _ready(pipeline_run, stages):
        for stage in ready:
            _start_stage(pipeline_run, stage, stages, user)
    _note_end_of_all(pipeline_run, stages)


def _note_end(row: StageRun) -> None:
    job = row.job
    if row.state != StageRun.State.RUNNING or job is None or job.is_active:
        return
    row.state, row.error = StageRun.State(job.state), job.error
    row.save(update_fields=["state", "error"])


def _ready(pipeline_run: PipelineRun, stages: dict[str, StageRun]) -> list[Stage]:
    """The stages to start now. Once one has ended badly none is: what is under way goes on, and then a person decides."""
    waiting = [row for row in stages.values() if row.state == StageRun.State.WAITING]
    if not waiting or any(row.state in ENDED_BADLY for row in stages.values()):
        return []
    try:
        definition = parse_definition(pipeline_run.definition)
    except InvalidPipeline as error:  # what it names is gone from Podium since the start
        for row in waiting:
            row.state, row.error = StageRun.State.FAILED, str(error)
            row.save(update_fields=["state", "error"])
        return []
    return [
        stage
        for stage in definition.stages
        if stages[stage.name].state == StageRun.State.WAITING
        and all(stages[name].state == StageRun.State.SUCCEEDED for name in stage.waits_for)
    ]


def _start_stage(pipeline_run: PipelineRun, stage: Stage, stages: dict[str, StageRun], user: User | None) -> None:
    row = stages[stage.name]
    row.state, row.error = StageRun.State.RUNNING, ""
    try:
        # What is stored is stored in English, whoever's page this happens on.
        with transaction.atomic(), override("en"):
            if stage.method == DATASET:
                row.dataset_version = _freeze(pipeline_run, stage, user)
            elif stage.method == PROMOTE:
                _promote(pipeline_run, stage, stages, user)
                row.state = StageRun.State.SUCCEEDED
            else:
                run = _start_run(pipeline_run, stage, stages, user)
                Run.objects.filter(pk=run.pk).update(stage=row)
    except InvalidArguments as error:
        row.state = StageRun.State.FAILED
        row.error = " ".join(f"{name}: {reason}" for name, reason in error.errors.items())
    except (StageRefused, ValidationError) as error:
        row.state = StageRun.State.FAILED
        row.error = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
    row.save(update_fields=["state", "error", "dataset_version"])


def _freeze(pipeline_run: PipelineRun, stage: Stage, user: User | None) -> DatasetVersion:
    try:
        version = create_version(
            project=pipeline_run.project,
            user=user,
            note=stage.note,
            test_fraction=stage.arguments["test_fraction"],
            filters=Filters.from_json(stage.arguments["filters"]),
        )
    except ValueError as error:
        raise StageRefused(str(error)) from error
    wake(build_dataset_version, version.pk, link=advance_pipeline.si(pipeline_run.pk))
    return version


def _promote(pipeline_run: PipelineRun, stage: Stage, stages: dict[str, StageRun], user: User | None) -> None:
    checkpoint = _checkpoint(pipeline_run, stage.inputs["policy"], stages)
    if promoted_checkpoint(pipeline_run.project) != checkpoint:
        promote(checkpoint=checkpoint, user=user, note=stage.note)


def _start_run(pipeline_run: PipelineRun, stage: Stage, stages: dict[str, StageRun], user: User | None) -> Run:
    """A stage that is resumed repeats its newest run, which then goes on from what that one has saved."""
    if earlier := stages[stage.name].run:
        return retry_run(run=earlier, user=user)
    return start_run(
        project=pipeline_run.project,
        method=stage.method,
        arguments=stage.arguments,
        inputs={role: _checkpoint(pipeline_run, text, stages) for role, text in stage.inputs.items()},
        dataset_version=_version(pipeline_run, stage.dataset, stages) if stage.dataset else None,
        user=user,
        note=stage.note or f"{pipeline_run.pipeline.name}: {stage.name}"[:200],
    )


def _checkpoint(pipeline_run: PipelineRun, reference: str, stages: dict[str, StageRun]) -> Checkpoint:
    if is_given(reference):
        found = Checkpoint.objects.filter(pk=pipeline_run.given[reference]).first()
    else:
        name, output = stage_and_output(reference)
        run = stages[name].run
        found = run.checkpoints.filter(output=output).first() if run else None
    if found is None:
        raise StageRefused(_("There is no checkpoint “%(reference)s”.") % {"reference": reference})
    return found


def _version(pipeline_run: PipelineRun, reference: str, stages: dict[str, StageRun]) -> DatasetVersion:
    found: DatasetVersion | None
    if is_given(reference):
        found = DatasetVersion.objects.filter(pk=pipeline_run.given[reference]).first()
    else:
        found = made_version(stages[stage_and_output(reference)[0]])
    if found is None:
        raise StageRefused(_("There is no dataset “%(reference)s”.") % {"reference": reference})
    return found


def made_version(row: StageRun) -> DatasetVersion | None:
    """The dataset version that the stage froze, or that its run made."""
    return row.dataset_version or (row.run.made_version if row.run else None)


def _note_end_of_all(pipeline_run: PipelineRun, stages: dict[str, StageRun]) -> None:
    states = {row.state for row in stages.values()}
    if StageRun.State.RUNNING in states:
        return
    if states == {StageRun.State.SUCCEEDED}:
        pipeline_run.state = PipelineRun.State.SUCCEEDED
    elif pipeline_run.cancel_requested or StageRun.State.FAILED not in states:
        pipeline_run.state = PipelineRun.State.CANCELLED
    else:
        pipeline_run.state = PipelineRun.State.FAILED
    pipeline_run.finished_at = timezone.now()
    pipeline_run.save(update_fields=["state", "finished_at"])


@transaction.atomic
def cancel_pipeline_run(*, pipeline_run: PipelineRun, user: User) -> None:
    """Nothing more starts; what is under way stops within seconds. Twice is once."""
    locked = _locked_run(pipeline_run.pk)
    if not locked.is_active or locked.cancel_requested:
        return
    locked.cancel_requested = True
    locked.save(update_fields=["cancel_requested"])
    record(
        user,
        "pipeline.cancelled",
        f"pipeline_run:{locked.pk}",
        project=locked.project,
        name=locked.pipeline.name,
    )
    for row in locked.stages.select_related("dataset_version").prefetch_related("runs"):
        if row.state == StageRun.State.RUNNING and row.run:
            cancel_run(run=row.run, user=user)
        elif row.state == StageRun.State.RUNNING and row.dataset_version:
            cancel_version(version=row.dataset_version, user=user)
    _advance(locked, user)


@transaction.atomic
def resume_pipeline_run(*, pipeline_run: PipelineRun, user: User) -> None:
    """Repeat the stages that failed or were cancelled and go on from there; what has succeeded stays.

    Raises ValidationError for a run that has nothing to resume, PipelineBusy while another one of the project runs.
    """
    locked = _locked_run(pipeline_run.pk)
    if locked.state not in (PipelineRun.State.FAILED, PipelineRun.State.CANCELLED):
        raise ValidationError(_("Only a run that failed or was cancelled can be resumed."))
    if locked.pipeline.archived_at:
        raise ValidationError(_("The pipeline is archived. Bring it back first."))
    locked.state, locked.cancel_requested, locked.finished_at = PipelineRun.State.RUNNING, False, None
    try:
        with transaction.atomic():
            locked.save(update_fields=["state", "cancel_requested", "finished_at"])
    except IntegrityError as error:
        raise PipelineBusy from error
    locked.stages.filter(state__in=ENDED_BADLY).update(state=StageRun.State.WAITING, error="")
    record(
        user,
        "pipeline.resumed",
        f"pipeline_run:{locked.pk}",
        project=locked.project,
        name=locked.pipeline.name,
    )
    _advance(locked, user)


def runs_to_advance() -> list[int]:
    return list(PipelineRun.objects.filter(state=PipelineRun.State.RUNNING).order_by("pk").values_list("pk", flat=True))
