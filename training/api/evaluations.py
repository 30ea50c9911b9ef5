"""Evaluations by the REST API: what runs of the method `evaluate` have found."""

from datetime import datetime
from typing import Annotated, Any

from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema
from pydantic import Field

from annotate.api.base import (
    ERRORS,
    READERS,
    ApiRequest,
    Page,
    PageQuery,
    ProblemOut,
    Scope,
    Token,
    membership_of,
    page_of,
)
from annotate.jobs import Job
from annotate.models import Project
from training.models import Run
from training.recipes.arguments import METHODS

router = Router(tags=["training"], auth=Token(Scope.READ))
EVALUATING = [name for name, method in METHODS.items() if method.makes == "evaluation"]


class EvaluationOut(Schema):
    id: int = Field(description="The run's")
    checkpoints: dict[str, str] = Field(description="Role → name: policy, baseline, reward_model")
    dataset: int | None = Field(description="Number of the dataset version")
    metrics: dict[str, Any] = Field(description="Its main figures; `…_low` and `…_high` bound a 95 % interval")
    note: str
    finished_at: datetime


class EvaluationDetail(EvaluationOut):
    evaluation: dict[str, Any] = Field(description="Its tables, as the page draws them; docs/training.md, 'Evaluation'")


def _evaluations(project: Project) -> Any:
    rows = Run.objects.filter(project=project, method__in=EVALUATING, state=Job.State.SUCCEEDED)
    return rows.select_related("dataset_version").prefetch_related("run_inputs__checkpoint")


def _told(run: Run) -> dict[str, Any]:
    return {
        "id": run.pk,
        "checkpoints": {item.role: item.checkpoint.name for item in run.run_inputs.all()},
        "dataset": run.dataset_version.number if run.dataset_version else None,
        "metrics": run.result.get("metrics") or {},
        "note": run.note,
        "finished_at": run.finished_at,
    }


@router.get(
    "/projects/{slug}/evaluations",
    response={200: Page[EvaluationOut], ERRORS: ProblemOut},
    operation_id="list_evaluations",
    summary="Evaluations that have ended well, newest first",
)
def list_evaluations(request: ApiRequest, slug: str, query: Annotated[PageQuery, Query()]) -> dict[str, Any]:
    page = page_of(_evaluations(membership_of(request, slug, *READERS).project), query)
    return {**page, "items": [_told(run) for run in page["items"]]}


@router.get(
    "/projects/{slug}/evaluations/{int:id}",
    response={200: EvaluationDetail, ERRORS: ProblemOut},
    operation_id="get_evaluation",
    summary="An evaluation with its tables",
)
def get_evaluation(request: ApiRequest, slug: str, id: int) -> dict[str, Any]:
    run = get_object_or_404(_evaluations(membership_of(request, slug, *READERS).project), pk=id)
    return {**_told(run), "evaluation": run.result.get("evaluation") or {}}
