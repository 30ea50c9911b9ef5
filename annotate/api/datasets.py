"""Dataset versions by the REST API: built, read, compared."""

from datetime import datetime
from typing import Any, Literal

from django.utils.translation import gettext as _
from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field

from annotate.jobs import wake
from annotate.models import DatasetVersion
from annotate.services.datasets import Filters, create_version
from annotate.tasks import build_dataset_version

from .base import (
    ERRORS,
    ApiRequest,
    Asked,
    Moment,
    Problem,
    ProblemOut,
    Role,
    Scope,
    Token,
    idempotent,
    members,
    membership_of,
)

router = Router(tags=["datasets"], auth=Token(Scope.READ))
READERS = (Role.RESEARCHER, Role.ADMIN)
WRITE = Token(Scope.WRITE)


class FiltersIn(Asked):
    """As docs/researchers.md describes them; what is not sent leaves nothing out."""

    model_config = ConfigDict(extra="forbid")

    since: Moment | None = None
    until: Moment | None = None
    exclude_annotators: list[str] = Field([], max_length=1000)
    min_seconds: float = Field(0, ge=0, le=1e9)
    exclude_all_bad: bool = False
    tags: list[str] = Field([], max_length=100)
    min_rankings: int = Field(1, ge=1, le=1000)
    decisions: Literal["raw", "decided", "consensus"] = "raw"
    weights: Literal["equal", "reliability"] = "equal"
    ideal_on_top: bool = False
    known_tasks: bool = False
    roles: list[Literal["annotator", "adjudicator", "imported"]] = []
    sources: list[str] = Field([], max_length=1000)
    languages: list[str] = Field([], max_length=100, description="ISO codes of the prompt's last turn")
    criterion: str = Field("", max_length=60)
    min_rating: int = Field(0, ge=0, le=5)
    min_agreement: float | None = Field(None, ge=-1, le=1)
    min_gold_accuracy: float = Field(0, ge=0, le=1)
    min_length: int = Field(0, ge=0, le=10**9, description="Characters of the shortest completion")
    max_length: int = Field(0, ge=0, le=10**9, description="Characters of the longest completion; 0: no limit")
    drop_duplicates: bool = False
    held_out: str = Field("", max_length=80, description="version:NUMBER or tag:NAME")


class DatasetIn(Asked):
    note: str = Field("", max_length=200)
    tag: str = Field("", max_length=60, description="A version that bears it already loses it")
    parent: int | None = Field(None, ge=1, le=2**31 - 1, description="Number of the version whose splits stay")
    test_fraction: float = Field(0.1, ge=0, le=0.5)
    stratify_by: Literal["", "tag", "source"] = ""
    as_of: Moment | None = Field(None, description="Now, if it is not sent")
    filters: FiltersIn = Field(default_factory=lambda: FiltersIn.model_validate({}))


class DatasetOut(Schema):
    number: int
    tag: str
    note: str
    parent: int | None
    state: str
    progress: float
    error: str
    as_of: datetime
    filters: dict[str, Any]
    test_fraction: float
    stratify_by: str
    content_hash: str
    counts: dict[str, Any]
    statistics: dict[str, Any]
    size: int = Field(description="Bytes of its files")
    origin: str = Field(description="What made it, where it is not frozen from rankings: run:12")
    created_by: str
    queued_at: datetime
    finished_at: datetime | None


def dataset_out(version: DatasetVersion) -> DatasetOut:
    named = {"parent", "created_by"}
    return DatasetOut(
        parent=version.parent.number if version.parent else None,
        created_by=version.created_by.username,
        **{name: getattr(version, name) for name in DatasetOut.model_fields if name not in named},
    )


@router.post(
    "/projects/{slug}/datasets",
    response={201: DatasetOut, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="create_dataset",
    summary="Build a dataset version",
)
@idempotent(members(*READERS))
def create_dataset(request: ApiRequest, slug: str, body: DatasetIn) -> Status[DatasetOut]:
    project = membership_of(request, slug, *READERS).project
    parent = None
    if body.parent is not None:
        parent = project.dataset_versions.filter(number=body.parent).first()
        if parent is None:
            raise Problem(422, _("Some fields are wrong."), {"parent": [_("There is no such version.")]})
    try:
        filters = Filters.from_json(body.filters.model_dump())
        version = create_version(
            project=project,
            user=request.user,
            parent=parent,
            filters=filters,
            **body.model_dump(include={"note", "tag", "test_fraction", "stratify_by", "as_of"}),
        )
    except ValueError as error:
        raise Problem(422, str(error)) from error
    wake(build_dataset_version, version.pk)
    return Status(201, dataset_out(version))
