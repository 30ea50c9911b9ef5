"""What a dataset version holds, as people saw it."""

from contextlib import suppress
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.formats.versions.frozen import FrozenFile, Row, frozen
from annotate.models import DatasetVersion, Project
from annotate.text import render_markdown

from .prompts import ROLE_NAMES

ROWS = 10
SEARCHED_VERSIONS, SEARCHED_RANKINGS = 20, 50
# Of one text; who wants the rest has it in the downloads.
SHOWN_LENGTH = 20_000
KINDS = {"rankings": "rankings.parquet", "answers": "demonstrations.parquet"}
SPLITS = ("all", "train", "test")


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_rows(request: ProjectRequest, number: int) -> HttpResponse:
    project = request.membership.project
    version = finished_version(project, number)
    kind = request.GET.get("kind", "")
    if kind not in KINDS:
        kind = "rankings" if version.counts["rankings"] else "answers"
    split = request.GET.get("split", "")
    split = split if split in SPLITS else "all"
    context: dict[str, Any] = {"project": project, "version": version, "kind": kind, "split": split, "splits": SPLITS}
    describe = describe_ranking if kind == "rankings" else describe_example
    try:
        with frozen(version, KINDS[kind]) as file:
            page = Paginator(range(_count(version, file, kind, split)), ROWS).get_page(request.GET.get("page"))
            rows = [describe(row) for row in file.at(file.places(split, max(page.start_index() - 1, 0), ROWS))]
    except FileNotFoundError:
        return render(request, "annotate/dataset_rows.html", context | {"is_lost": True})
    return render(request, "annotate/dataset_rows.html", context | {"page": page, "rows": rows})


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def task_versions(request: ProjectRequest, pk: int) -> HttpResponse:
    """A fragment: the newest versions that hold the task's rankings, and how many each. Their files are searched."""
    project = request.membership.project
    task = get_object_or_404(project.tasks, pk=pk)
    uids = [uid.hex for uid in task.rankings.order_by("uid").values_list("uid", flat=True)[:SEARCHED_RANKINGS]]
    versions = project.dataset_versions.filter(state=DatasetVersion.State.SUCCEEDED, origin="").order_by("-number")
    found = []
    for version in versions[:SEARCHED_VERSIONS] if uids else ():
        with suppress(FileNotFoundError), frozen(version, "rankings.parquet") as file:
            found.append((version, len(file.find(uids))))
    holding = [(version, count) for version, count in found if count]
    context = {"project": project, "holding": holding, "searched": len(found), "limit": SEARCHED_VERSIONS}
    return render(request, "annotate/parts/task_versions.html", context)


def finished_version(project: Project, number: int) -> DatasetVersion:
    """The version, if it has files. Http404 otherwise."""
    state = DatasetVersion.State.SUCCEEDED
    return get_object_or_404(project.dataset_versions.select_related("project"), number=number, state=state)


def _count(version: DatasetVersion, file: FrozenFile, kind: str, split: str) -> int:
    counted = split if kind == "rankings" else f"{split}_demonstrations"
    return file.rows if split == "all" else int(version.counts[counted])


def describe_ranking(row: Row) -> dict[str, Any]:
    """A row of rankings.parquet as its annotator saw it, the best answers first."""
    is_all_bad = row["verdict"] == "all_bad"
    ratings = row["ratings"] or [[]] * len(row["ranks"])
    answers = sorted(zip(row["ranks"], row["completions"], ratings, strict=True), key=lambda one: one[0])
    return {
        **row,
        "key": row["ranking"],
        "conversation": _conversation(row["prompt"]),
        "is_all_bad": is_all_bad,
        "weight": None if row["weight"] == 1 else row["weight"],
        "answers": [
            {
                "place": None if is_all_bad else rank,
                "is_tie": not is_all_bad and row["ranks"].count(rank) > 1,
                "ratings": rated,
                "source": one["source"],
                **_text(one["completion"], one["reasoning"]),
            }
            for rank, one, rated in answers
        ],
    }


def describe_example(row: Row) -> dict[str, Any]:
    """A row of demonstrations.parquet."""
    return {
        **row,
        "key": row["demonstration"],
        "weight": None,
        "conversation": _conversation(row["prompt"]),
        "answers": [{"source": row["annotator"], **_text(row["completion"], row["reasoning"])}],
    }


def _conversation(messages: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "role": message["role"],
            "name": ROLE_NAMES.get(message["role"], message["role"]),
            "html": render_markdown(message["content"][:SHOWN_LENGTH]),
            "cut": max(0, len(message["content"]) - SHOWN_LENGTH),
        }
        for message in messages
    ]


def _text(text: str, reasoning: str) -> dict[str, Any]:
    return {
        "html": render_markdown(text[:SHOWN_LENGTH]),
        "words": len(text.split()),
        "reasoning_html": render_markdown(reasoning[:SHOWN_LENGTH]) if reasoning else "",
        "cut": max(0, len(text) - SHOWN_LENGTH),
    }
