"""Projects, and who one is."""

from datetime import datetime
from typing import Annotated, Any

from ninja import Query, Router, Schema
from pydantic import Field

from annotate.services.overview import measure_progress

from .base import ERRORS, ApiRequest, Page, PageQuery, ProblemOut, Scope, Token, membership_of, page_of, projects_of

router = Router(tags=["projects"], auth=Token(Scope.READ))


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
def get_project(request: ApiRequest, slug: str) -> dict[str, Any]:
    membership = membership_of(request, slug)
    project, progress = membership.project, measure_progress(membership.project)
    return {
        **{name: getattr(project, name) for name in ProjectOut.model_fields},
        "role": membership.role,
        "rankings_done": progress.done,
        "rankings_asked": progress.asked,
        "is_exact": progress.is_exact,
    }
