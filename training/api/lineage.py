"""Where a dataset version comes from and what came of it, by the REST API."""

from typing import Any, Literal

from django.shortcuts import get_object_or_404
from ninja import Router, Schema
from pydantic import Field

from annotate.api.base import ERRORS, READERS, ApiRequest, ProblemOut, Scope, Token, membership_of
from training.services.lineage import trained_on

router = Router(tags=["datasets"], auth=Token(Scope.READ))


class AnnotatorPart(Schema):
    annotator: str = Field(description="Pseudonym")
    role: str
    rankings: int


class SourcePart(Schema):
    source: str
    rankings: int


class ImportPart(Schema):
    id: int | None = Field(description="null: by the API, not by a file")
    file_name: str
    rankings: int


class MadeOut(Schema):
    id: int
    name: str
    promoted: Literal["", "once", "now"] = Field(description="now: it answers the project's prompts")


class TrainedOut(Schema):
    run: int
    method: str
    state: str
    checkpoints: list[MadeOut]


class LineageOut(Schema):
    number: int
    parent: int | None
    children: list[int]
    origin: str = Field(description="What made it, where it is not frozen from rankings: run:12")
    prompts: int | None = Field(description="null: built before this was counted; the lists below are empty then")
    annotators: list[AnnotatorPart]
    sources: list[SourcePart]
    imports: list[ImportPart]
    runs: list[TrainedOut] = Field(description="That trained on it, newest first, 50 at most")


@router.get(
    "/projects/{slug}/datasets/{int:number}/lineage",
    response={200: LineageOut, ERRORS: ProblemOut},
    operation_id="get_dataset_lineage",
    summary="Whose rankings a dataset version holds, and what was trained on it",
)
def get_dataset_lineage(request: ApiRequest, slug: str, number: int) -> dict[str, Any]:
    versions = membership_of(request, slug, *READERS).project.dataset_versions.select_related("project", "parent")
    version = get_object_or_404(versions, number=number)
    known = version.statistics
    return {
        "number": version.number,
        "parent": version.parent.number if version.parent else None,
        "children": sorted(version.children.values_list("number", flat=True)),
        "origin": version.origin,
        "prompts": known.get("prompts"),
        "annotators": known.get("annotators", []),
        "sources": [{name: one[name] for name in ("source", "rankings")} for one in known.get("sources", [])],
        "imports": [{**one, "id": one["import"]} for one in known.get("imports", [])],
        "runs": [
            {
                "run": trained.run.pk,
                "method": trained.run.method,
                "state": trained.run.state,
                "checkpoints": [
                    {"id": made.checkpoint.pk, "name": made.checkpoint.name, "promoted": made.promoted}
                    for made in trained.made
                ],
            }
            for trained in trained_on(version)
        ],
    }
