"""One run of a pipeline, live while it goes on; and the triggers that start runs."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotate.access import ProjectRequest, Role, member_required
from training.models import PipelineRun, Trigger
from training.pipeline_forms import TRIGGER_FORMS
from training.services.pipelines import PipelineBusy, cancel_pipeline_run, resume_pipeline_run
from training.services.triggers import add_trigger, delete_trigger, pause_trigger, resume_trigger
from training.stage_lines import Line, graph_of, lines_of
from training.views.pipelines import find_pipeline, read_definition


def _run(request: ProjectRequest, pk: int) -> PipelineRun:
    rows = PipelineRun.objects.select_related("pipeline", "created_by", "trigger")
    found: PipelineRun = get_object_or_404(rows, project=request.membership.project, pk=pk)
    return found


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def pipeline_run(request: ProjectRequest, run_pk: int) -> HttpResponse:
    """The page; with htmx the part that moves, or nothing while nothing has moved since the mark `seen`."""
    found = _run(request, run_pk)
    definition, _problems = read_definition(found.definition)
    lines = lines_of(request.membership.project.slug, definition, found) if definition else []
    mark = _mark(found, lines)
    if request.htmx:
        if not found.is_active:
            return HttpResponse(headers={"HX-Refresh": "true"})
        if request.GET.get("seen") == mark:
            return HttpResponse(status=204)
    context = {
        "pipeline_run": found,
        "lines": lines,
        "mark": mark,
        "graph": graph_of(definition, lines) if definition else "",
    }
    return render(request, "training/pipeline_run.html#live" if request.htmx else "training/pipeline_run.html", context)


def _mark(found: PipelineRun, lines: list[Line]) -> str:
    """Changes whenever the page does."""
    parts = [found.state, str(found.cancel_requested)]
    for line in lines:
        job = line.row.job if line.row else None
        parts.append(f"{line.row.state if line.row else ''}{job and f'{job.pk}.{job.state}.{job.progress:.2f}'}")
    return "-".join(parts)


@require_POST
@member_required(Role.ADMIN)
def pipeline_run_cancel(request: ProjectRequest, run_pk: int) -> HttpResponse:
    found = _run(request, run_pk)
    if found.is_active:
        cancel_pipeline_run(pipeline_run=found, user=request.user)
        messages.success(request, _("The pipeline is being stopped."))
    else:
        messages.info(request, _("It had ended already."))
    return redirect("pipeline_run", request.membership.project.slug, found.pk)


@require_POST
@member_required(Role.ADMIN)
def pipeline_run_resume(request: ProjectRequest, run_pk: int) -> HttpResponse:
    found = _run(request, run_pk)
    try:
        resume_pipeline_run(pipeline_run=found, user=request.user)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    except PipelineBusy as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("It goes on where it stopped."))
    return redirect("pipeline_run", request.membership.project.slug, found.pk)


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.ADMIN)
def pipeline_trigger_new(request: ProjectRequest, pk: int, kind: str) -> HttpResponse:
    if kind not in TRIGGER_FORMS:
        raise Http404
    found = find_pipeline(request, pk)
    bound = request.POST if request.method == "POST" else request.GET if request.htmx else None
    form = TRIGGER_FORMS[kind](bound)
    if request.method == "POST" and form.is_valid():
        try:
            add_trigger(pipeline=found, kind=kind, user=request.user, **form.values())
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, _("The trigger is added."))
            return redirect("pipeline", request.membership.project.slug, found.pk)
    if request.htmx:
        form.is_valid()
        return render(request, "training/trigger_new.html#times", {"form": form})
    context = {"pipeline": found, "form": form, "kind": kind}
    return render(request, "training/trigger_new.html", context, status=422 if form.errors else 200)


@require_POST
@member_required(Role.ADMIN)
def trigger(request: ProjectRequest, pk: int) -> HttpResponse:
    """POST `action`: pause, resume or delete."""
    project = request.membership.project
    found = get_object_or_404(Trigger.objects.select_related("pipeline__project"), pipeline__project=project, pk=pk)
    acts = {
        "pause": (pause_trigger, _("The trigger is paused.")),
        "resume": (resume_trigger, _("The trigger works again.")),
        "delete": (delete_trigger, _("The trigger is deleted. The runs that it started stay.")),
    }
    act = acts.get(request.POST.get("action", ""))
    if act:
        act[0](trigger=found, user=request.user)
        messages.success(request, act[1])
    return redirect("pipeline", project.slug, found.pipeline_id)
