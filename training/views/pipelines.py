"""Pipelines: the list, one of them, and writing one."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotate.access import ProjectRequest, Role, member_required
from training.definitions import Definition, InvalidPipeline, Problem, parse_definition
from training.models import Pipeline, PipelineRun, Trigger
from training.pipeline_forms import PipelineForm
from training.services.given import find_given
from training.services.pipelines import (
    PipelineBusy,
    archive_pipeline,
    change_pipeline,
    create_pipeline,
    shipped_definitions,
    start_pipeline,
)
from training.services.triggers import standing
from training.stage_lines import graph_of, lines_of

PER_PAGE = 30


@dataclass(frozen=True)
class Listed:
    """A row of the list."""

    pipeline: Pipeline
    title: str
    last: PipelineRun | None
    triggers: list[Trigger]


def find_pipeline(request: ProjectRequest, pk: int) -> Pipeline:
    rows = Pipeline.objects.select_related("project", "created_by")
    found: Pipeline = get_object_or_404(rows, project=request.membership.project, pk=pk)
    return found


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def pipelines(request: ProjectRequest) -> HttpResponse:
    project = request.membership.project
    rows = project.pipelines.order_by("name").prefetch_related("triggers")
    listed = [
        Listed(pipeline, _title(pipeline), pipeline.runs.order_by("-pk").first(), list(pipeline.triggers.all()))
        for pipeline in rows
    ]
    context = {
        "listed": [one for one in listed if not one.pipeline.archived_at],
        "archived": [one for one in listed if one.pipeline.archived_at],
        "shipped": _shipped(),
        "anything_moves": project.pipeline_runs.filter(state=PipelineRun.State.RUNNING).exists(),
    }
    return render(request, "training/pipelines.html#table" if request.htmx else "training/pipelines.html", context)


def _title(pipeline: Pipeline) -> str:
    try:
        return parse_definition(pipeline.definition).title
    except InvalidPipeline as error:
        return error.definition.title if error.definition else ""


def _shipped() -> list[dict[str, str]]:
    read = {name: read_definition(text) for name, text in shipped_definitions().items()}
    return [
        {"name": name, "title": _(found.title), "description": _(found.description)}
        for name, (found, problems) in read.items()
        if found and not problems
    ]


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def pipeline(request: ProjectRequest, pk: int) -> HttpResponse:
    """The page; with htmx the part that moves while a run does."""
    found = find_pipeline(request, pk)
    slug = request.membership.project.slug
    runs = Paginator(found.runs.select_related("created_by").order_by("-pk"), PER_PAGE).get_page(
        request.GET.get("page")
    )
    latest = found.runs.order_by("-pk").first()
    shown = latest if latest and latest.is_active else None
    definition, problems = read_definition(shown.definition if shown else found.definition)
    context: dict[str, Any] = {
        "pipeline": found,
        "latest": latest,
        "runs": runs,
        "graph": graph_of(definition, lines_of(slug, definition, shown)) if definition else "",
    }
    if request.htmx:
        response = render(request, "training/pipeline.html#live", context)
        if shown is None:
            response["HX-Refresh"] = "true"
        return response
    if definition and not problems:
        problems = missing_in(found, definition)
    lines = lines_of(slug, definition, None) if definition else []
    context |= {
        "description": _(definition.description) if definition and definition.description else "",
        "lines": lines,
        "problems": problems,
        "busy": request.membership.project.pipeline_runs.filter(state=PipelineRun.State.RUNNING).first(),
        "standings": [
            standing(trigger) for trigger in found.triggers.select_related("pipeline__project").order_by("pk")
        ],
    }
    return render(request, "training/pipeline.html", context)


def read_definition(text: str) -> tuple[Definition | None, list[Problem]]:
    """What can be read of it, and what is wrong."""
    try:
        return parse_definition(text), []
    except InvalidPipeline as error:
        return error.definition, error.problems


def missing_in(found: Pipeline, definition: Definition) -> list[Problem]:
    try:
        find_given(found.project, definition)
    except InvalidPipeline as error:
        return error.problems
    return []


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.ADMIN)
def pipeline_new(request: ProjectRequest) -> HttpResponse:
    """`?from=rlhf` starts from one that comes with Podium, `?from=12` from one of the project."""
    initial = {"definition": STARTER}
    origin = request.GET.get("from", "")
    shipped = shipped_definitions()
    if origin in shipped:
        initial = {"name": _(parse_definition(shipped[origin]).title), "definition": shipped[origin]}
    elif origin.isascii() and origin.isdecimal() and len(origin) < 19:
        initial = {"definition": find_pipeline(request, int(origin)).definition}
    return _edit(request, None, initial)


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.ADMIN)
def pipeline_edit(request: ProjectRequest, pk: int) -> HttpResponse:
    found = find_pipeline(request, pk)
    return _edit(request, found, {"name": found.name, "definition": found.definition})


def _edit(request: ProjectRequest, found: Pipeline | None, initial: dict[str, str]) -> HttpResponse:
    """Shows the form, saves it, or (by htmx) draws what it says without saving."""
    project = request.membership.project
    form = PipelineForm(request.POST if request.method == "POST" else None, initial=initial)
    problems: list[Problem] = []
    if request.method == "POST" and not request.htmx and form.is_valid():
        values: dict[str, Any] = {**form.cleaned_data, "user": request.user}
        try:
            saved = change_pipeline(pipeline=found, **values) if found else create_pipeline(project=project, **values)
        except InvalidPipeline:
            form.add_error("definition", _("It is not saved yet: see below what is wrong."))
        except ValidationError as error:
            form.add_error("name", error)
        else:
            messages.success(request, _("The pipeline is saved."))
            return redirect("pipeline", project.slug, saved.pk)
    text = form.data.get("definition", "") if form.is_bound else initial["definition"]
    definition, problems = read_definition(str(text).replace("\0", "") or STARTER)
    missing = missing_in(found or Pipeline(project=project), definition) if definition and not problems else []
    context = {
        "form": form,
        "pipeline": found,
        "problems": problems,
        "missing": missing,
        "graph": graph_of(definition, lines_of(project.slug, definition, None)) if definition else "",
    }
    if request.htmx:
        return render(request, "training/pipeline_form.html#preview", context)
    return render(request, "training/pipeline_form.html", context, status=422 if form.errors else 200)


STARTER = """title = ""

[stages.rankings]
method = "dataset"

[stages.sft]
method = "sft"
policy = "promoted"
dataset = "rankings"
"""


@require_POST
@member_required(Role.ADMIN)
def pipeline_start(request: ProjectRequest, pk: int) -> HttpResponse:
    found = find_pipeline(request, pk)
    try:
        started = start_pipeline(pipeline=found, user=request.user)
    except (InvalidPipeline, PipelineBusy) as error:
        messages.error(request, _("It did not start. %(why)s") % {"why": error})
        return redirect("pipeline", request.membership.project.slug, found.pk)
    messages.success(request, _("The pipeline has started."))
    return redirect("pipeline_run", request.membership.project.slug, started.pk)


@require_POST
@member_required(Role.ADMIN)
def pipeline_archive(request: ProjectRequest, pk: int) -> HttpResponse:
    """POST `action`: archive or restore."""
    found = find_pipeline(request, pk)
    archived = request.POST.get("action") != "restore"
    archive_pipeline(pipeline=found, archived=archived, user=request.user)
    done = _("The pipeline is archived: nothing starts it.") if archived else _("The pipeline is back.")
    messages.success(request, done)
    return redirect("pipeline", request.membership.project.slug, found.pk)
