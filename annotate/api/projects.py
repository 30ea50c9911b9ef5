"""Projects, and who one is."""

from datetime import datetime
from typing import Annotated, Any

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router, Schema, Status
from pydantic import Field

from annotate.forms.projects import ProjectForm
from annotate.models import K_MAX, K_MIN, Membership
from annotate.services.moments import Moments
from annotate.services.overview import Progress, measure_progress
from annotate.services.projects import create_project

from .base import (
    ERRORS,
    ApiRequest,
    Asked,
    Page,
    PageQuery,
    Problem,
    ProblemOut,
    Scope,
    Token,
    idempotent,
    membership_of,
    page_of,
    projects_of,
)
from .rows import answer_json

router = Router(tags=["projects"], auth=Token(Scope.READ))


_progress: Moments[Progress] = Moments()


class ProjectIn(Asked):
    slug: str = Field(min_length=1, max_length=60, pattern=r"^[a-z0-9_-]+$", description="The last part of its address")
    name: str = Field(min_length=1, max_length=120)
    description: str = Field("", max_length=10_000)
    overlap: int = Field(1, ge=1, le=50, description="How many people rank each task")
    completions_per_task: int = Field(4, ge=K_MIN, le=K_MAX)


class MeOut(Schema):
    username: str
    token: str = Field(description="The token's name")
    scopes: list[str]
    expires_at: datetime


class ProjectOut(Schema):
    slug: str
    name: str
    description: str
    state: str
    overlap: int = Field(description="How many people rank each task")
    completions_per_task: int
    created_at: datetime


class ProjectDetail(ProjectOut):
    role: str = Field(description="What you are in it: annotator, researcher or admin")
    rankings_done: int = Field(description="Of those asked for in ordinary tasks")
    rankings_asked: int
    is_exact: bool = Field(description="False where these two are estimated from a sample")


@router.get("/me", response={200: MeOut, ERRORS: ProblemOut}, operation_id="me", summary="Who the token acts as")
def me(request: ApiRequest) -> dict[str, Any]:
    token = request.auth
    return {
        "username": request.user.username,
        "token": token.name,
        "scopes": token.scopes,
        "expires_at": token.expires_at,
    }


@router.get(
    "/projects",
    response={200: Page[ProjectOut], ERRORS: ProblemOut},
    operation_id="list_projects",
    summary="Your projects",
)
def list_projects(request: ApiRequest, query: Annotated[PageQuery, Query()]) -> dict[str, Any]:
    return page_of(projects_of(request), query)


@router.get(
    "/projects/{slug}",
    response={200: ProjectDetail, ERRORS: ProblemOut},
    operation_id="get_project",
    summary="A project and how far it is",
)
def get_project(request: ApiRequest, slug: str) -> HttpResponse:
    return answer_json(project_out(membership_of(request, slug)).model_dump_json())


def _allow_making(request: ApiRequest, **_others: Any) -> None:
    if not request.user.is_staff:
        raise Problem(403, _("Only staff make projects. Ask whoever runs this server."))
    if request.auth.project_id:
        raise Problem(403, _("This token is for one project alone."))


@router.post(
    "/projects",
    response={201: ProjectDetail, ERRORS: ProblemOut},
    auth=Token(Scope.WRITE),
    operation_id="create_project",
    summary="Make a project; you are its admin",
)
@idempotent(_allow_making)
def create(request: ApiRequest, body: ProjectIn) -> Status[ProjectDetail]:
    _allow_making(request)
    form = ProjectForm(body.model_dump())
    if not form.is_valid():
        raise Problem(
            422,
            _("Some fields are wrong."),
            {name: [str(text) for text in texts] for name, texts in form.errors.items()},
        )
    try:
        with transaction.atomic():
            made = create_project(project=form.save(commit=False), creator=request.user)
    except IntegrityError as error:
        raise Problem(409, _("Another project has this address by now.")) from error
    return Status(201, project_out(made.memberships.select_related("project").get()))


def project_out(membership: Membership) -> ProjectDetail:
    project = membership.project
    progress = _progress.get_or_find(project.pk, lambda: measure_progress(project))
    return ProjectDetail(
        **{name: getattr(project, name) for name in ProjectOut.model_fields},
        role=membership.role,
        rankings_done=progress.done,
        rankings_asked=progress.asked,
        is_exact=progress.is_exact,
    )
