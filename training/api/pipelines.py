"""Pipelines by the REST API: kept, started, followed, stopped, resumed."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from ninja import Query, Router, Schema, Status
from pydantic import Field

from annotate.api.base import (
    ERRORS,
    ApiRequest,
    Asked,
    Page,
    PageQuery,
    Problem,
    ProblemOut,
    Role,
    Scope,
    Token,
    idempotent,
    members,
    membership_of,
    page_of,
)
from annotate.models import Project
from training.definitions import InvalidPipeline
from training.models import Pipeline, PipelineRun, StageRun
from training.services.pipelines import (
    PipelineBusy,
    cancel_pipeline_run,
    create_pipeline,
    made_version,
    resume_pipeline_run,
    start_pipeline,
)

router = Router(tags=["pipelines"], auth=Token(Scope.READ))
READERS = (Role.RESEARCHER, Role.ADMIN)
TRAIN = Token(Scope.TRAIN)


class PipelineIn(Asked):
    name: str = Field(min_length=1, max_length=80)
    definition: str = Field(max_length=100_000, description="The TOML text; docs/pipelines.md describes it")


class PipelineOut(Schema):
    id: int
    name: str
    definition: str
    revision: int
    created_at: datetime
    archived_at: datetime | None


class StageOut(Schema):
    name: str
    state: str
    run: int | None
    dataset: int | None = Field(description="Number of the dataset version that it made")
    error: str


class PipelineRunOut(Schema):
    id: int
    pipeline: str
    revision: int
    state: str
    started_because: str = Field(
        description="What triggered it: schedule or rankings; empty where a person or script did"
    )
    stages: list[StageOut]
    created_by: str | None
    created_at: datetime
    finished_at: datetime | None


def _pipeline_run(row: PipelineRun) -> PipelineRunOut:
    return PipelineRunOut(
        id=row.pk,
        pipeline=row.pipeline.name,
        created_by=row.created_by.username if row.created_by else None,
        stages=[_stage(stage) for stage in sorted(row.stages.all(), key=lambda one: one.position)],
        **{name: getattr(row, name) for name in ("revision", "state", "started_because", "created_at", "finished_at")},
    )


def _stage(stage: StageRun) -> StageOut:
    version = made_version(stage)
    return StageOut(
        name=stage.name,
        state=stage.state,
        run=stage.run.pk if stage.run else None,
        dataset=version.number if version else None,
        error=stage.error,
    )


def _runs(project: Project) -> Any:
    rows = project.pipeline_runs.select_related("pipeline", "created_by")
    return rows.prefetch_related("stages__dataset_version", "stages__runs__made_version")


@contextmanager
def told_as_problems() -> Iterator[None]:
    try:
        yield
    except InvalidPipeline as error:
        errors: dict[str, list[str]] = {}
        for one in error.problems:
            errors.setdefault(".".join(filter(None, (one.stage, one.field))) or "definition", []).append(one.message)
        raise Problem(422, _("The pipeline cannot run as it is."), errors) from error
    except PipelineBusy as error:
        raise Problem(409, str(error)) from error


@router.get(
    "/projects/{slug}/pipelines",
    response={200: Page[PipelineOut], ERRORS: ProblemOut},
    operation_id="list_pipelines",
    summary="Pipelines, newest first",
)
def list_pipelines(request: ApiRequest, slug: str, query: Annotated[PageQuery, Query()]) -> dict[str, Any]:
    return page_of(Pipeline.objects.filter(project=membership_of(request, slug, *READERS).project), query)


@router.post(
    "/projects/{slug}/pipelines",
    response={201: PipelineOut, ERRORS: ProblemOut},
    auth=TRAIN,
    operation_id="create_pipeline",
    summary="Keep a pipeline",
)
@idempotent(members(Role.ADMIN))
def create(request: ApiRequest, slug: str, body: PipelineIn) -> Status[PipelineOut]:
    project = membership_of(request, slug, Role.ADMIN).project
    with told_as_problems():
        made = create_pipeline(project=project, name=body.name, definition=body.definition, user=request.user)
    return Status(201, PipelineOut.from_orm(made))


@router.post(
    "/projects/{slug}/pipelines/{int:id}/start",
    response={201: PipelineRunOut, ERRORS: ProblemOut},
    auth=TRAIN,
    operation_id="start_pipeline",
    summary="Run a pipeline; 409 while one of the project runs",
)
@idempotent(members(Role.ADMIN))
def start(request: ApiRequest, slug: str, id: int) -> Status[PipelineRunOut]:
    project = membership_of(request, slug, Role.ADMIN).project
    pipeline = get_object_or_404(Pipeline, project=project, pk=id)
    with told_as_problems():
        started = start_pipeline(pipeline=pipeline, user=request.user)
    return Status(201, _pipeline_run(_runs(project).get(pk=started.pk)))


@router.get(
    "/projects/{slug}/pipeline-runs",
    response={200: Page[PipelineRunOut], ERRORS: ProblemOut},
    operation_id="list_pipeline_runs",
    summary="Runs of pipelines, newest first",
)
def list_pipeline_runs(request: ApiRequest, slug: str, query: Annotated[PageQuery, Query()]) -> dict[str, Any]:
    page = page_of(_runs(membership_of(request, slug, *READERS).project), query)
    return {**page, "items": [_pipeline_run(row) for row in page["items"]]}


@router.get(
    "/projects/{slug}/pipeline-runs/{int:id}",
    response={200: PipelineRunOut, ERRORS: ProblemOut},
    operation_id="get_pipeline_run",
    summary="A run of a pipeline with its stages",
)
def get_pipeline_run(request: ApiRequest, slug: str, id: int) -> PipelineRunOut:
    return _pipeline_run(get_object_or_404(_runs(membership_of(request, slug, *READERS).project), pk=id))


@router.post(
    "/projects/{slug}/pipeline-runs/{int:id}/cancel",
    response={200: PipelineRunOut, ERRORS: ProblemOut},
    auth=TRAIN,
    operation_id="cancel_pipeline_run",
    summary="Stop it; one that has ended stays as it is",
)
def cancel(request: ApiRequest, slug: str, id: int) -> PipelineRunOut:
    project = membership_of(request, slug, Role.ADMIN).project
    cancel_pipeline_run(pipeline_run=get_object_or_404(_runs(project), pk=id), user=request.user)
    return _pipeline_run(_runs(project).get(pk=id))


@router.post(
    "/projects/{slug}/pipeline-runs/{int:id}/resume",
    response={200: PipelineRunOut, ERRORS: ProblemOut},
    auth=TRAIN,
    operation_id="resume_pipeline_run",
    summary="Go on at the stages that failed or were cancelled",
)
def resume(request: ApiRequest, slug: str, id: int) -> PipelineRunOut:
    project = membership_of(request, slug, Role.ADMIN).project
    with told_as_problems():
        resume_pipeline_run(pipeline_run=get_object_or_404(_runs(project), pk=id), user=request.user)
    return _pipeline_run(_runs(project).get(pk=id))
