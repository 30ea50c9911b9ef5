"""A dataset version's files, and its publications on a hub, by the REST API."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from django.http import Http404, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from ninja import Query, Router, Schema, Status
from pydantic import Field, StrictBool

from annotate import jobs
from annotate.downloads import download_export, has_files
from annotate.formats.exporting import (
    CONTENT_TYPES,
    DESIRABLE,
    FORMATS,
    REASONING,
    SHAPES,
    SPLITS,
    Export,
    InvalidExport,
)
from annotate.formats.exporting.options import SHARD_ROWS_MAX, SHARD_ROWS_MIN
from annotate.models import DatasetVersion, Publication
from annotate.services.publications import start_publication

from .base import (
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

router = Router(tags=["datasets"], auth=Token(Scope.READ))
READERS = (Role.RESEARCHER, Role.ADMIN)
FILE = "/projects/{slug}/datasets/{number}/download"
PUBLICATIONS = "/projects/{slug}/datasets/{number}/publications"


FILES = {
    "responses": {
        "200": {"description": "The file", "content": {kind: {} for kind in sorted(set(CONTENT_TYPES.values()))}},
        "206": {"description": "The part that Range asks for"},
        "304": {"description": "The file is the one that If-None-Match names"},
        "416": {"description": "The file is shorter; Content-Range says how long it is"},
    }
}


def _one_of(values: Sequence[str], description: str = "", default: str | None = None) -> Any:
    first = values[0] if default is None else default
    return Field(first, description=description, json_schema_extra={"enum": [*values, *({first} - {*values})]})


class ExportQuery(Asked):
    shape: str = _one_of(SHAPES)
    format: str = _one_of(FORMATS)
    split: str = _one_of(SPLITS, "Empty: train, of a folder both", "")
    reasoning: str = _one_of(REASONING, "Whether thoughts stand before an answer; auto: in what a run made")
    desirable: str = _one_of(DESIRABLE, "Which completions are good, for unpaired")
    shard_rows: int = Field(
        0,
        ge=0,
        le=SHARD_ROWS_MAX,
        description=f"Parquet in a zip of files of so many rows, {SHARD_ROWS_MIN} or more; 0: one file",
    )
    license: str = Field("", max_length=60, description="For a folder's card, as the hub names it: cc-by-4.0")


class PublicationIn(Asked):
    repository: str = Field(max_length=200, description="OWNER/NAME on the hub")
    shape: str = _one_of(SHAPES)
    is_private: StrictBool = True
    license: str = Field("", max_length=60, description="As the hub names it: cc-by-4.0")


class PublicationOut(Schema):
    id: int
    repository: str
    shape: str
    is_private: bool
    license: str
    state: str
    progress: float
    error: str
    url: str
    revision: str = Field(description="The hub's commit")
    created_by: str
    queued_at: datetime
    finished_at: datetime | None


def _out(publication: Publication) -> PublicationOut:
    named = {name: getattr(publication, name) for name in PublicationOut.model_fields if name != "created_by"}
    return PublicationOut(created_by=publication.created_by.username, **named)


def _version(request: ApiRequest, slug: str, number: int, *roles: Role) -> DatasetVersion:
    versions = membership_of(request, slug, *roles).project.dataset_versions
    if number >= 2**31:
        raise Http404
    rows = versions.select_related("project", "parent")
    return get_object_or_404(rows, number=number, state=DatasetVersion.State.SUCCEEDED)


def _download(request: ApiRequest, slug: str, number: int, query: ExportQuery) -> HttpResponseBase:
    version = _version(request, slug, number, *READERS)
    try:
        export = Export(**query.model_dump())
    except InvalidExport as error:
        raise Problem(422, _("Some fields are wrong."), {error.field: [str(error)]}) from error
    if not has_files(version):
        raise Problem(404, _("The version's files are not on the storage."))
    return download_export(request, version, export)


@router.get(
    FILE,
    response={ERRORS: ProblemOut},
    operation_id="download_dataset",
    summary="A version's rows as a file; it has an entity tag and can be resumed by Range",
    openapi_extra=FILES,
)
def download_dataset(request: ApiRequest, slug: str, number: int, query: Annotated[ExportQuery, Query()]) -> Any:
    return _download(request, slug, number, query)


@router.api_operation(
    ["HEAD"],
    FILE,
    response={ERRORS: ProblemOut},
    operation_id="describe_download",
    summary="The file's entity tag, and its length once it was made",
    openapi_extra=FILES,
)
def describe_download(request: ApiRequest, slug: str, number: int, query: Annotated[ExportQuery, Query()]) -> Any:
    return _download(request, slug, number, query)


@router.get(
    PUBLICATIONS,
    response={200: Page[PublicationOut], ERRORS: ProblemOut},
    operation_id="list_publications",
    summary="Where a version was published",
)
def list_publications(
    request: ApiRequest, slug: str, number: int, query: Annotated[PageQuery, Query()]
) -> dict[str, Any]:
    rows = _version(request, slug, number, *READERS).publications.select_related("created_by")
    page = page_of(rows, query)
    return {**page, "items": [_out(row) for row in page["items"]]}


@router.post(
    PUBLICATIONS,
    auth=Token(Scope.WRITE),
    response={201: PublicationOut, ERRORS: ProblemOut},
    operation_id="publish_dataset",
    summary="Push a version to the hub that this server has a token for",
)
@idempotent(members(Role.ADMIN))
def publish_dataset(request: ApiRequest, slug: str, number: int, values: PublicationIn) -> Status[Any]:
    from annotate.tasks import publish_dataset as task

    version = _version(request, slug, number, Role.ADMIN)
    publication = start_publication(version=version, user=request.user, **values.model_dump())
    jobs.wake(task, publication.pk)
    return Status(201, _out(publication))
