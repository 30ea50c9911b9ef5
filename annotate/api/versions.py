"""Dataset versions as they are read by the REST API: which there are, what they hold, what they have otherwise than others."""

from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal, NoReturn

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from ninja import Query, Schema
from pydantic import Field

from annotate.downloads import has_files
from annotate.formats.versions.frozen import Row, frozen
from annotate.models import DatasetVersion, Project
from annotate.services.comparisons import (
    check_comparable,
    comparison_rows,
    differing_settings,
    is_small,
    load_comparison,
    request_comparison,
    store_comparison,
)
from annotate.services.datasets import cancel_version
from annotate.services.version_names import name_version

from .base import (
    ERRORS,
    READERS,
    ApiRequest,
    Asked,
    Page,
    PageQuery,
    Problem,
    ProblemOut,
    Scope,
    Token,
    cursor_of,
    membership_of,
    page_of,
    read_cursor,
)
from .datasets import DatasetOut, dataset_out, router

# One address is one router's, whatever the method: these operations are on that of annotate.api.datasets.
__all__ = ["router"]

VERSION = "/projects/{slug}/datasets/{int:number}"
# A page of rows ends before its texts pass this, though it may have one row that does.
PAGE_CHARACTERS = 4 * 1024**2
SECONDS_TO_WAIT = 5


class DatasetsQuery(PageQuery):
    tag: str = Field("", max_length=60, description="Only the version that bears it")


class DatasetChange(Asked):
    note: str | None = Field(None, max_length=200)
    tag: str | None = Field(
        None, max_length=60, description="Empty takes it away. A version that bears it already loses it"
    )


class RowsQuery(PageQuery):
    split: Literal["", "all", "train", "test"] = ""


class MessageOut(Schema):
    role: str
    content: str


class RowCompletion(Schema):
    completion: str
    reasoning: str
    source: str


class RatingOut(Schema):
    criterion: str
    rating: int


class RowOut(Schema):
    """A row of rankings.parquet."""

    ranking: str
    prompt_id: str = Field(description="The prompt's content hash")
    prompt: list[MessageOut]
    completions: list[RowCompletion]
    ranks: list[int] = Field(
        description="Of each completion: 1 is best, equal is a tie; all 1 when the verdict is all_bad"
    )
    ratings: list[list[RatingOut]]
    verdict: str
    annotator: str = Field(description="Pseudonym")
    role: str
    weight: float
    reasons: list[str]
    comment: str
    seconds: float
    created: datetime
    split: str


class Changed(Schema):
    """Rankings that differ in one way."""

    count: int
    reasons: dict[str, int] = Field(
        description="For removed and added: later, withdrawn, deleted, consensus, merged, unknown, or the filter that drops it in the version "
        "that lacks it. For changed: the columns"
    )


class ChangedRow(Schema):
    ranking: str
    change: Literal["added", "removed", "changed"]
    reasons: list[str]


class DiffQuery(PageQuery):
    other: int = Field(alias="with", ge=1, le=2**31 - 1, description="Number of the version to compare with")


class DiffOut(Schema):
    base: int = Field(description="The version of the address")
    other: int = Field(description="The one that is asked for; what it alone has was added")
    counts: dict[str, int] = Field(description="same, added, removed, changed; and …_demonstrations, of ideal answers")
    added: Changed
    removed: Changed
    changed: Changed
    settings: dict[str, list[Any]] = Field(description="[in base, in other] of each that was chosen differently")
    items: list[ChangedRow] = Field(description="By ascending uid")
    next: str | None


def _version(request: ApiRequest, slug: str, number: int) -> DatasetVersion:
    version: DatasetVersion = get_object_or_404(
        _versions(membership_of(request, slug, *READERS).project), number=number
    )
    return version


def _versions(project: Project) -> Any:
    return project.dataset_versions.select_related("project", "parent", "created_by")


@router.get(
    "/projects/{slug}/datasets",
    response={200: Page[DatasetOut], ERRORS: ProblemOut},
    operation_id="list_datasets",
    summary="Dataset versions, newest first",
)
def list_datasets(request: ApiRequest, slug: str, query: Annotated[DatasetsQuery, Query()]) -> dict[str, Any]:
    rows = _versions(membership_of(request, slug, *READERS).project)
    page = page_of(rows.filter(tag=query.tag) if query.tag else rows, query)
    return {**page, "items": [dataset_out(version) for version in page["items"]]}


@router.get(
    VERSION,
    response={200: DatasetOut, ERRORS: ProblemOut},
    operation_id="get_dataset",
    summary="A dataset version",
)
def get_dataset(request: ApiRequest, slug: str, number: int) -> DatasetOut:
    return dataset_out(_version(request, slug, number))


@router.patch(
    VERSION,
    response={200: DatasetOut, ERRORS: ProblemOut},
    auth=Token(Scope.WRITE),
    operation_id="update_dataset",
    summary="Give a dataset version another note or tag",
)
def update_dataset(request: ApiRequest, slug: str, number: int, body: DatasetChange) -> DatasetOut:
    version = _version(request, slug, number)
    name_version(version=version, user=request.user, note=body.note, tag=body.tag, moves=True)
    return dataset_out(version)


@router.post(
    f"{VERSION}/cancel",
    response={200: DatasetOut, ERRORS: ProblemOut},
    auth=Token(Scope.WRITE),
    operation_id="cancel_dataset",
    summary="Stop building a dataset version; one that has ended stays as it is",
)
def cancel_dataset(request: ApiRequest, slug: str, number: int) -> DatasetOut:
    version = _version(request, slug, number)
    cancel_version(user=request.user, version=version)
    version.refresh_from_db()
    return dataset_out(version)


@router.get(
    f"{VERSION}/rows",
    response={200: Page[RowOut], ERRORS: ProblemOut},
    operation_id="list_dataset_rows",
    summary="A dataset version's rankings, whole, in the order of its file",
)
def list_dataset_rows(
    request: ApiRequest, slug: str, number: int, query: Annotated[RowsQuery, Query()]
) -> dict[str, Any]:
    version = _finished(_version(request, slug, number))
    begin = read_cursor(query.cursor) if query.cursor else 0
    items: list[Row] = []
    with frozen(version, "rankings.parquet") as file:
        places = file.places(query.split or "all", 0, query.limit + 1, begin=min(begin, file.rows))
        held = 0
        for place, row in zip(places, file.at(places), strict=True):
            held += _characters(row)
            if len(items) == query.limit or (items and held > PAGE_CHARACTERS):
                return {"items": items, "next": cursor_of(place)}
            items.append(row)
    return {"items": items, "next": None}


def _characters(row: Row) -> int:
    texts = sum(len(one["completion"]) + len(one["reasoning"]) for one in row["completions"])
    return texts + sum(len(message["content"]) for message in row["prompt"])


def _finished(version: DatasetVersion) -> DatasetVersion:
    if version.state != DatasetVersion.State.SUCCEEDED:
        raise Problem(409, _("Version %(number)s is not finished.") % {"number": version.number})
    if not has_files(version):
        raise Problem(409, _("The version's files are not on the storage."))
    return version


@router.get(
    f"{VERSION}/diff",
    response={200: DiffOut, ERRORS: ProblemOut, 503: ProblemOut},
    operation_id="compare_datasets",
    summary="What another dataset version has otherwise than this one, and why",
    description="Large versions are compared by a worker: 503 with Retry-After until it has found everything, then the answer is kept.",
)
def compare_datasets(
    request: ApiRequest, slug: str, number: int, query: Annotated[DiffQuery, Query()]
) -> dict[str, Any]:
    base = _version(request, slug, number)
    other = _versions(base.project).filter(number=query.other).first()
    if other is None:
        raise Problem(422, _("Some fields are wrong."), {"with": [_("There is no such version.")]})
    check_comparable(other, base)
    for version in (base, other):
        _finished(version)
    summary = load_comparison(other, base)
    if summary is None and is_small(other, base):
        summary = store_comparison(other, base)
    if summary is None:
        _ask_to_wait(request_comparison(other, base))
    kinds = ("added", "removed", "changed")
    offset = read_cursor(query.cursor) if query.cursor else 0
    try:
        found = list(islice(comparison_rows(other, base, offset), query.limit + 1))
    except ValueError as error:
        raise Problem(422, _("The cursor is none of ours."), {"cursor": [str(error)]}) from error
    return {
        "base": base.number,
        "other": other.number,
        "counts": {
            "same": summary["same"],
            **{kind: summary[kind]["count"] for kind in kinds},
            **{f"{kind}_demonstrations": count for kind, count in summary["demonstrations"].items()},
        },
        **{
            kind: {
                "count": summary[kind]["count"],
                "reasons": {reason: one["count"] for reason, one in summary[kind]["reasons"].items()},
            }
            for kind in kinds
        },
        "settings": {name: list(pair) for name, pair in differing_settings(other, base).items()},
        "items": [row for row, _offset in found[: query.limit]],
        "next": cursor_of(found[query.limit - 1][1]) if len(found) > query.limit else None,
    }


def _ask_to_wait(is_working: bool) -> NoReturn:
    if not is_working:
        raise Problem(409, _("The comparison could not be worked out. Try again in five minutes."))
    raise Problem(
        503,
        _("The comparison is being worked out."),
        headers={"Retry-After": str(SECONDS_TO_WAIT)},
        title=_("Not worked out yet"),
    )
