"""Methods, runs and checkpoints by the REST API."""

from dataclasses import MISSING, fields
from datetime import datetime
from typing import Annotated, Any, get_args, get_type_hints

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from ninja import Query, Router, Schema, Status
from pydantic import Field

from annotate.api.base import (
    ERRORS,
    ID_MAX,
    READERS,
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
from annotate.api.rows import answer_json, fetch, time_json
from annotate.jobs import Job
from annotate.models import Project
from training.models import Checkpoint, Run
from training.recipes.arguments import METHODS, InvalidArguments, Method
from training.services.checkpoints import promote, promoted_checkpoint
from training.services.events import some_rows
from training.services.runs import cancel_run, retry_run, start_run

router = Router(tags=["training"], auth=Token(Scope.READ))
TRAIN = Token(Scope.TRAIN)
METRICS_LIMIT = 5000
INTEGER_MAX = 2**31 - 1


class ArgumentOut(Schema):
    name: str
    label: str
    help: str
    type: str
    default: Any
    choices: list[str] = []
    minimum: float | None
    maximum: float | None


class InputOut(Schema):
    role: str
    kind: str
    required: bool
    help: str


class MethodOut(Schema):
    name: str
    title: str
    summary: str
    makes: str
    dataset: str = Field(description="needed, optional or none")
    inputs: list[InputOut]
    arguments: list[ArgumentOut]


class RunIn(Asked):
    method: str = Field(description="A name of /methods")
    arguments: dict[str, Any] = Field({}, description="Those that differ from their defaults")
    inputs: dict[str, str] = Field(
        {}, description="Role → name of a checkpoint; policy is the promoted one where it is left out"
    )
    dataset: int | None = Field(None, description="Number of a dataset version")
    note: str = Field("", max_length=200)


class RunOut(Schema):
    id: int
    method: str
    state: str
    step: int
    total_steps: int
    seconds_left: float | None
    arguments: dict[str, Any]
    inputs: dict[str, str]
    dataset: int | None
    note: str
    error: str
    cause: str
    metrics: dict[str, Any] = Field(description="The figures that it ended with")
    checkpoints: list[str] = Field(description="Names of what it made, the main one first")
    retry_of: int | None
    created_by: str | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RunQuery(PageQuery):
    method: str = ""
    state: str = ""


class MetricsOut(Schema):
    names: list[str]
    rows: list[list[float | None]] = Field(description="The step, then a value for each name")
    next: int | None = Field(description="Where there are more: ask for them with `after` this step")


class MetricsQuery(Asked):
    after: int = Field(-1, ge=-1, le=INTEGER_MAX, description="Steps behind this one")
    limit: int = Field(METRICS_LIMIT, ge=1, le=METRICS_LIMIT, description="How many steps")


class CheckpointOut(Schema):
    id: int
    name: str
    kind: str
    is_adapter: bool
    is_promoted: bool
    parent: str | None
    run: int | None
    output: str = Field(description="Which of its run's results it is; empty for the main one")
    metrics: dict[str, Any]
    sha256: str
    size: int = Field(description="Bytes")
    created_at: datetime


class PromotionIn(Asked):
    note: str = Field("", max_length=200)


def _method(method: Method) -> dict[str, Any]:
    hints = get_type_hints(method.arguments)
    return {
        **{name: getattr(method, name) for name in ("name", "title", "summary", "makes", "dataset")},
        "inputs": [
            {"role": role, "kind": item.kind, "required": item.required, "help": item.help}
            for role, item in method.inputs.items()
        ],
        "arguments": [
            {
                "name": item.name,
                "label": item.metadata["label"],
                "help": item.metadata["help"],
                "type": getattr(hints[item.name], "__name__", "text").replace("Literal", "str"),
                "default": item.default if item.default_factory is MISSING else item.default_factory(),
                "choices": [str(choice) for choice in get_args(hints[item.name]) if isinstance(choice, str)],
                "minimum": item.metadata["minimum"],
                "maximum": item.metadata["maximum"],
            }
            for item in fields(method.arguments)
        ],
    }


# What `run_out` says, in one statement: whoever waits for a run asks for it again and again.
ONE_RUN = f"""
    SELECT row_to_json(told)::text FROM (
        SELECT r.id, r.method, r.state, r.step, r.total_steps, r.seconds_left, r.arguments, (
                SELECT coalesce(json_object_agg(i.role, c.name), '{{}}') FROM training_runinput i
                JOIN training_checkpoint c ON c.id = i.checkpoint_id WHERE i.run_id = r.id
            ) AS inputs,
            v.number AS dataset, r.note, r.error, r.cause,
            CASE jsonb_typeof(r.result -> 'metrics') WHEN 'object' THEN r.result -> 'metrics' ELSE '{{}}' END AS metrics, (
                SELECT coalesce(json_agg(name ORDER BY output, id), '[]') FROM training_checkpoint WHERE run_id = r.id
            ) AS checkpoints,
            r.retry_of_id AS retry_of, u.username AS created_by, {time_json("r.queued_at")} AS queued_at,
            {time_json("r.started_at")} AS started_at, {time_json("r.finished_at")} AS finished_at
        FROM training_run r
        LEFT JOIN annotate_datasetversion v ON v.id = r.dataset_version_id
        LEFT JOIN annotate_user u ON u.id = r.created_by_id
        WHERE r.project_id = %(project)s AND r.id = %(id)s
    ) told
"""  # noqa: S608 - built of constants


def run_out(run: Run) -> RunOut:
    made = sorted(run.checkpoints.all(), key=lambda one: (one.output, one.pk))
    return RunOut(
        inputs={item.role: item.checkpoint.name for item in run.run_inputs.all()},
        dataset=run.dataset_version.number if run.dataset_version else None,
        metrics=run.result.get("metrics") or {},
        checkpoints=[one.name for one in made],
        retry_of=run.retry_of_id,
        created_by=run.created_by.username if run.created_by else None,
        **{
            name: getattr(run, name)
            for name in (
                *(
                    "id",
                    "method",
                    "state",
                    "step",
                    "total_steps",
                    "seconds_left",
                    "arguments",
                    "note",
                    "error",
                    "cause",
                ),
                *("queued_at", "started_at", "finished_at"),
            )
        },
    )


def _runs(project: Project) -> Any:
    rows = project.runs.select_related("dataset_version", "created_by")
    return rows.prefetch_related("checkpoints", "run_inputs__checkpoint")


def _checkpoints(project: Project) -> Any:
    return project.checkpoints.select_related("parent")


def _checkpoint(checkpoint: Checkpoint, promoted: Checkpoint | None) -> dict[str, Any]:
    return {
        **{
            name: getattr(checkpoint, name)
            for name in ("id", "name", "kind", "is_adapter", "output", "metrics", "sha256", "size")
        },
        "is_promoted": checkpoint == promoted,
        "parent": checkpoint.parent.name if checkpoint.parent else None,
        "run": checkpoint.run_id,
        "created_at": checkpoint.created_at,
    }


@router.get(
    "/methods",
    response={200: list[MethodOut], ERRORS: ProblemOut},
    operation_id="list_methods",
    summary="What can be run",
)
def list_methods(request: ApiRequest) -> list[dict[str, Any]]:
    return [_method(method) for method in METHODS.values()]


@router.get(
    "/projects/{slug}/runs",
    response={200: Page[RunOut], ERRORS: ProblemOut},
    operation_id="list_runs",
    summary="Runs, newest first",
)
def list_runs(request: ApiRequest, slug: str, query: Annotated[RunQuery, Query()]) -> dict[str, Any]:
    rows = _runs(membership_of(request, slug, *READERS).project)
    if query.state and query.state not in Job.State.values:
        raise Problem(422, _("Some fields are wrong."), {"state": [", ".join(Job.State.values)]})
    wanted = {name: value for name, value in (("method", query.method), ("state", query.state)) if value}
    page = page_of(rows.filter(**wanted), query)
    return {**page, "items": [run_out(run) for run in page["items"]]}


@router.post(
    "/projects/{slug}/runs",
    response={201: RunOut, ERRORS: ProblemOut},
    auth=TRAIN,
    operation_id="start_run",
    summary="Queue a run",
)
@idempotent(members(Role.ADMIN))
def create_run(request: ApiRequest, slug: str, body: RunIn) -> Status[RunOut]:
    project = membership_of(request, slug, Role.ADMIN).project
    version = None
    if body.dataset is not None:
        version = project.dataset_versions.filter(number=body.dataset).first()
        if version is None:
            raise Problem(
                422, _("Some fields are wrong."), {"dataset": [_("The project has no such dataset version.")]}
            )
    try:
        run = start_run(
            project=project,
            method=body.method,
            arguments=body.arguments,
            inputs=_named_inputs(project, body),
            dataset_version=version,
            user=request.user,
            note=body.note,
        )
    except InvalidArguments as error:
        errors = {"dataset" if name == "dataset_version" else name: [text] for name, text in error.errors.items()}
        raise Problem(422, _("Some fields are wrong."), errors) from error
    return Status(201, run_out(_runs(project).get(pk=run.pk)))


def _named_inputs(project: Project, body: RunIn) -> dict[str, Checkpoint]:
    found = {one.name: one for one in project.checkpoints.filter(name__in=body.inputs.values())}
    missing = {
        f"inputs.{role}": [_("The project has no checkpoint “%(name)s”.") % {"name": name}]
        for role, name in body.inputs.items()
        if name not in found
    }
    if missing:
        raise Problem(422, _("Some fields are wrong."), missing)
    inputs = {role: found[name] for role, name in body.inputs.items()}
    promoted = promoted_checkpoint(project)
    takes_policy = body.method in METHODS and "policy" in METHODS[body.method].inputs
    return {"policy": promoted, **inputs} if promoted and takes_policy else inputs


@router.get(
    "/projects/{slug}/runs/{int:id}",
    response={200: RunOut, ERRORS: ProblemOut},
    operation_id="get_run",
    summary="A run",
)
def get_run(request: ApiRequest, slug: str, id: int) -> HttpResponse:
    project = membership_of(request, slug, *READERS).project_id
    found = fetch(ONE_RUN, {"project": project, "id": min(id, ID_MAX)})
    if not found:
        raise Http404
    return answer_json(found[0][0])


@router.get(
    "/projects/{slug}/runs/{int:id}/metrics",
    response={200: MetricsOut, ERRORS: ProblemOut},
    operation_id="get_run_metrics",
    summary="A run's curves, in order of the step",
    description="`names` are those of the metrics on this page, in the order in which they first came.",
)
def get_run_metrics(request: ApiRequest, slug: str, id: int, query: Annotated[MetricsQuery, Query()]) -> dict[str, Any]:
    run = get_object_or_404(_runs(membership_of(request, slug, *READERS).project), pk=id)
    found, more = some_rows(run, after=query.after, limit=query.limit)
    names = list(dict.fromkeys(name for _step, values in found for name in values))
    rows = [[step, *(values.get(name) for name in names)] for step, values in found]
    return {"names": names, "rows": rows, "next": found[-1][0] if more else None}


@router.post(
    "/projects/{slug}/runs/{int:id}/cancel",
    response={200: RunOut, ERRORS: ProblemOut},
    auth=TRAIN,
    operation_id="cancel_run",
    summary="Stop a run; one that has ended stays as it is",
)
def cancel(request: ApiRequest, slug: str, id: int) -> RunOut:
    project = membership_of(request, slug, Role.ADMIN).project
    cancel_run(run=get_object_or_404(_runs(project), pk=id), user=request.user)
    return run_out(_runs(project).get(pk=id))


@router.post(
    "/projects/{slug}/runs/{int:id}/retry",
    response={201: RunOut, ERRORS: ProblemOut},
    auth=TRAIN,
    operation_id="retry_run",
    summary="Queue the same again",
)
@idempotent(members(Role.ADMIN))
def retry(request: ApiRequest, slug: str, id: int) -> Status[RunOut]:
    project = membership_of(request, slug, Role.ADMIN).project
    try:
        again = retry_run(run=get_object_or_404(_runs(project), pk=id), user=request.user)
    except InvalidArguments as error:
        raise Problem(409, " ".join(error.errors.values())) from error
    return Status(201, run_out(_runs(project).get(pk=again.pk)))


@router.get(
    "/projects/{slug}/checkpoints",
    response={200: Page[CheckpointOut], ERRORS: ProblemOut},
    operation_id="list_checkpoints",
    summary="Checkpoints, newest first",
)
def list_checkpoints(request: ApiRequest, slug: str, query: Annotated[PageQuery, Query()]) -> dict[str, Any]:
    project = membership_of(request, slug, *READERS).project
    page, promoted = page_of(_checkpoints(project), query), promoted_checkpoint(project)
    return {**page, "items": [_checkpoint(one, promoted) for one in page["items"]]}


@router.post(
    "/projects/{slug}/checkpoints/{int:id}/promote",
    response={200: CheckpointOut, ERRORS: ProblemOut},
    auth=TRAIN,
    operation_id="promote_checkpoint",
    summary="From here on it answers the project's prompts",
)
def promote_checkpoint(request: ApiRequest, slug: str, id: int, body: PromotionIn) -> dict[str, Any]:
    project = membership_of(request, slug, Role.ADMIN).project
    found = get_object_or_404(_checkpoints(project), pk=id)
    promote(checkpoint=found, user=request.user, note=body.note)
    return _checkpoint(found, found)
