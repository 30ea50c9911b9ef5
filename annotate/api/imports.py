"""Rows and files on their way in, by the REST API."""

from datetime import datetime
from typing import Annotated, Any, Literal

from django.core.files.uploadedfile import UploadedFile as Upload
from django.http import HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext as _
from ninja import File, Form, Query, Router, Schema, Status
from ninja.files import UploadedFile
from pydantic import ConfigDict, Field, ValidationError

from annotate import jobs
from annotate.formats.importing.errors import RowError, printable
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.public import SHAPES
from annotate.formats.importing.shapes import Row, to_row
from annotate.forms.imports import ImportForm
from annotate.models import Import
from annotate.services.checking import Sources
from annotate.services.imports import cancel_import, create_import, seconds_left, start_import
from annotate.services.intake import Origin, add_rows
from annotate.services.refused import read_refused
from annotate.tasks import run_import

from .base import (
    ERRORS,
    ID_MAX,
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

router = Router(tags=["data"], auth=Token(Scope.READ))
WRITE = Token(Scope.WRITE)
ROWS_MAX = 1000
NAME_MAX = 200
Preferences = Literal["keep", "ask", "ignore"]
PREFERENCES = (
    "What becomes of the rankings that rows have. keep: imported rankings, and nobody is asked; ask: imported rankings, "
    "and people are asked as well; ignore: left out, and people are asked"
)
Column = Annotated[str, Field(max_length=NAME_MAX)]
Columns = Annotated[list[Column], Field(max_length=20)]


class RowsIn(Schema):
    rows: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=ROWS_MAX,
        description="Podium's own rows, as docs/data.md describes them: a prompt, its completions, rankings of them",
        examples=[[{"prompt": "Why?", "completions": ["So.", "Because."], "rankings": [{"ranks": [2, 1]}]}]],
    )
    preferences: Preferences = Field("keep", description=PREFERENCES)


class RefusedOut(Schema):
    row: int = Field(description="Its place in the request, from 0")
    field: str
    reason: str


class RowsOut(Schema):
    prompts: int = Field(description="New ones; so are completions, tasks and rankings")
    completions: int
    tasks: int
    rankings: int
    duplicates: int = Field(description="Rows that added nothing")
    refused: list[RefusedOut]


class MappingIn(Asked):
    """What the file's columns are called, where Podium does not know their names. A dot reaches into an object."""

    model_config = ConfigDict(extra="forbid")

    shape: str = Field(
        "", description="A public shape; empty: recognised", json_schema_extra={"enum": ["", *sorted(SHAPES)]}
    )
    prompt: Column = ""
    completions: Columns = []
    chosen: Column = ""
    rejected: Column = ""
    scores: Columns = Field([], description="A score for each completion, higher is better")
    reference_answer: Column = ""
    source: Column = ""
    tags: Column = ""
    annotator: Column = ""
    preferences: Preferences = Field("keep", description=PREFERENCES)

    def to_mapping(self) -> Mapping:
        if self.shape and self.shape not in SHAPES:
            raise Problem(422, _("Some fields are wrong."), {"shape": [_("There is no shape of this name.")]})
        if bool(self.chosen) != bool(self.rejected):
            raise Problem(
                422, _("Some fields are wrong."), {"rejected": [_("chosen and rejected are named together.")]}
            )
        return Mapping.from_json(self.model_dump())


class ImportIn(Schema):
    mapping: str = Field("", max_length=10_000, description="JSON: the fields of MappingIn; empty: recognised")
    dry_run: bool = Field(False, description="Count what would happen, into `forecast`, and add nothing")
    start: bool = Field(True, description="False: the file waits as a draft until it is started, a week at most")


class StartIn(Asked):
    mapping: MappingIn | None = Field(None, description="In place of the one that the file was uploaded with")
    dry_run: bool = False


class ImportOut(Schema):
    id: int
    file_name: str
    size: int = Field(description="Bytes")
    state: str = Field(description="draft, queued, running, succeeded, failed or cancelled; a dry run ends as a draft")
    is_dry_run: bool
    mapping: dict[str, Any]
    shape: str = Field(description="What the rows were recognised as")
    rows_read: int
    prompts_added: int
    completions_added: int
    tasks_added: int
    rankings_added: int
    duplicates: int = Field(description="Rows that added nothing")
    rows_refused: int
    forecast: dict[str, Any] | None = Field(
        description="What the latest dry run has counted, by the names of these fields"
    )
    progress: float = Field(description="Share of the file that was read, 0 to 1")
    seconds_left: float | None
    error: str
    created_by: str
    queued_at: datetime
    finished_at: datetime | None

    @staticmethod
    def resolve_forecast(job: Import) -> dict[str, Any] | None:
        return job.forecast or None

    @staticmethod
    def resolve_seconds_left(job: Import) -> float | None:
        return seconds_left(job)

    @staticmethod
    def resolve_created_by(job: Import) -> str:
        return job.created_by.username


def import_of(request: ApiRequest, slug: str, pk: int) -> Import:
    project = membership_of(request, slug, Role.ADMIN).project
    return get_object_or_404(project.imports.select_related("created_by", "project"), pk=min(pk, ID_MAX))


@router.post(
    "/projects/{slug}/rows",
    response={201: RowsOut, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="add_rows",
    summary="Add rows at once: prompts, completions, rankings",
)
@idempotent(members(Role.ADMIN))
def add(request: ApiRequest, slug: str, body: RowsIn) -> Status[RowsOut]:
    """For some rows; files of many are imported. What is there already is left as it is. Rows that are refused do not stop the others."""
    project = membership_of(request, slug, Role.ADMIN).project
    sources = Sources(project)
    rows: list[Row] = []
    refused = []
    for number, value in enumerate(body.rows):
        try:
            row = to_row(value, Mapping())
            sources.check(row)
        except RowError as error:
            refused.append(
                RefusedOut(row=number, field=printable(error.field, 80), reason=printable(error.reason, 300))
            )
        else:
            rows.append(row)
    added = add_rows(project=project, rows=rows, origin=Origin(preferences=body.preferences))
    return Status(
        201,
        RowsOut(
            prompts=added.prompts,
            completions=added.completions,
            tasks=added.tasks,
            rankings=added.rankings,
            duplicates=added.duplicates,
            refused=refused,
        ),
    )


@router.post(
    "/projects/{slug}/imports",
    response={201: ImportOut, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="create_import",
    summary="Import a file",
)
@idempotent(members(Role.ADMIN))
def create(request: ApiRequest, slug: str, file: File[UploadedFile], body: Form[ImportIn]) -> Status[ImportOut]:
    """JSON Lines, CSV (either may be gzip-compressed), Parquet, or a zip file of them."""
    project = membership_of(request, slug, Role.ADMIN).project
    mapping = read_mapping(body.mapping)
    form = ImportForm(None, MultiValueDict({"file": [file]}))
    if not form.is_valid():
        raise Problem(
            422,
            _("Some fields are wrong."),
            {name: [str(text) for text in texts] for name, texts in form.errors.items()},
        )
    upload: Upload[bytes] = form.cleaned_data["file"]
    job = create_import(project=project, user=request.user, upload=upload, name=upload.name or "", mapping=mapping)
    if body.start:
        start_import(user=request.user, job=job, is_dry_run=body.dry_run)
        jobs.wake(run_import, job.pk)
    return Status(201, ImportOut.from_orm(job))


def read_mapping(text: str) -> Mapping:
    if not text:
        return Mapping()
    try:
        return MappingIn.model_validate_json(text).to_mapping()
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}".removeprefix(": ") for one in error.errors()]
        raise Problem(422, _("Some fields are wrong."), {"mapping": reasons}) from error


@router.get(
    "/projects/{slug}/imports",
    response={200: Page[ImportOut], ERRORS: ProblemOut},
    operation_id="list_imports",
    summary="Files that were imported, newest first",
)
def list_imports(request: ApiRequest, slug: str, query: Annotated[PageQuery, Query()]) -> dict[str, Any]:
    project = membership_of(request, slug, Role.ADMIN).project
    return page_of(project.imports.select_related("created_by"), query)


@router.get(
    "/projects/{slug}/imports/{id}",
    response={200: ImportOut, ERRORS: ProblemOut},
    operation_id="get_import",
    summary="An import, how far it is, and what it added",
)
def get(request: ApiRequest, slug: str, id: int) -> Import:
    return import_of(request, slug, id)


@router.post(
    "/projects/{slug}/imports/{id}/start",
    response={200: ImportOut, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="start_import",
    summary="Import a draft, or count what that would do",
)
@idempotent(members(Role.ADMIN))
def start(request: ApiRequest, slug: str, id: int, body: StartIn) -> Status[ImportOut]:
    job = import_of(request, slug, id)
    mapping = body.mapping.to_mapping() if body.mapping else None
    if not start_import(user=request.user, job=job, mapping=mapping, is_dry_run=body.dry_run):
        raise Problem(409, _("This import was started already."))
    jobs.wake(run_import, job.pk)
    return Status(200, ImportOut.from_orm(job))


@router.post(
    "/projects/{slug}/imports/{id}/cancel",
    response={200: ImportOut, ERRORS: ProblemOut},
    auth=WRITE,
    operation_id="cancel_import",
    summary="Stop an import; what it has added stays",
)
def cancel(request: ApiRequest, slug: str, id: int) -> Import:
    """Cancelling twice is cancelling once; one that has ended stays as it is."""
    job = import_of(request, slug, id)
    cancel_import(user=request.user, job=job)
    return job


@router.get(
    "/projects/{slug}/imports/{id}/refused",
    response={ERRORS: ProblemOut},
    operation_id="get_refused_rows",
    summary="All rows that an import refused, whole",
    openapi_extra={
        "responses": {
            "200": {
                "description": "An object a line: line, member (of a zip file), field, reason, original",
                "content": {"application/x-ndjson": {}},
            }
        }
    },
)
def refused(request: ApiRequest, slug: str, id: int) -> HttpResponseBase:
    return StreamingHttpResponse(read_refused(import_of(request, slug, id)), content_type="application/x-ndjson")
