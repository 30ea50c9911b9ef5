"""The list of runs, and starting one."""

from dataclasses import fields
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.jobs import Job
from annotate.models import DatasetVersion, Project
from training.forms import RunFilterForm, RunForm
from training.models import Run
from training.recipes.arguments import FAMILIES, METHODS, InvalidArguments, Method
from training.services.checkpoints import promoted_checkpoint, watchdog_of
from training.services.estimates import estimate_run
from training.services.runs import start_run

PER_PAGE = 50
COMPARED = 5
COMPARED_FIRST = ("eval_accuracy", "eval_loss", "accuracy", "loss", "train_loss")


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def runs(request: ProjectRequest) -> HttpResponse:
    project = request.membership.project
    form = RunFilterForm(request.GET)
    rows = project.runs.select_related("dataset_version", "created_by").prefetch_related("checkpoints").order_by("-id")
    if form.is_valid():
        rows = rows.filter(**{name: value for name, value in form.cleaned_data.items() if value})
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "form": form,
        "page": page,
        "columns": compared_metrics(list(page)),
        "families": FAMILIES,
        "anything_moves": any(run.is_active for run in page),
        "filtered": bool(form.is_valid() and any(form.cleaned_data.values())),
        "page_query": "".join(f"{name}={value}&" for name, value in form.cleaned_data.items() if value)
        if form.is_valid()
        else "",
    }
    return render(request, "training/runs.html#table" if request.htmx else "training/runs.html", context)


def compared_metrics(shown: list[Run]) -> list[str]:
    """The final metrics that most of these runs have."""
    counts: dict[str, int] = {}
    for run in shown:
        for name, value in (run.result.get("metrics") or {}).items():
            if isinstance(value, int | float):
                counts[name] = counts.get(name, 0) + 1

    def place(name: str) -> tuple[int, int, str]:
        return COMPARED_FIRST.index(name) if name in COMPARED_FIRST else len(COMPARED_FIRST), -counts[name], name

    return sorted(counts, key=place)[:COMPARED]


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.ADMIN)
def run_new(request: ProjectRequest, method: str) -> HttpResponse:
    if method not in METHODS:
        raise Http404
    project = request.membership.project
    promoted = promoted_checkpoint(project)
    form = RunForm(
        project,
        method,
        promoted,
        request.POST if request.method == "POST" else None,
        initial=_initial(request, project, method, promoted),
    )
    if request.method == "POST" and form.is_valid():
        try:
            run = start_run(
                project=project,
                method=method,
                arguments=form.arguments(),
                inputs=form.inputs(),
                dataset_version=form.cleaned_data.get("dataset_version"),
                user=request.user,
                note=form.cleaned_data["note"],
            )
        except InvalidArguments as error:
            for name, message in error.errors.items():
                form.add_error(name if name in form.fields else None, message)
        else:
            messages.success(request, _("The run is queued."))
            return redirect("run", project.slug, run.pk)
    if request.htmx:
        form = RunForm(project, method, promoted, request.GET)
        form.is_valid()
        if request.GET.get("part") == "watchdog":
            return render(request, "training/run_new.html#watchdog", {"form": _with_sibling(form, project, promoted)})
    context = {
        "method": METHODS[method],
        "form": form,
        "estimate": _estimate(project, form),
        "lacking": _lacking(project, METHODS[method]),
        "has_datasets": project.dataset_versions.filter(state=Job.State.SUCCEEDED).exists(),
    }
    if request.htmx:
        return render(request, "training/run_new.html#estimate", context)
    return render(request, "training/run_new.html", context, status=422 if form.errors else 200)


def _with_sibling(form: RunForm, project: Project, promoted: Any) -> RunForm:
    """The form with the watchdog that belongs to the reward model just chosen, if there is one."""
    sibling = watchdog_of(form.cleaned_data.get("reward_model"))
    chosen = sibling or form.cleaned_data.get("watchdog")
    return RunForm(project, form.method.name, promoted, initial={"watchdog": chosen})


def _lacking(project: Project, method: Method) -> set[str]:
    """The kinds of checkpoint that the method cannot do without, and of which the project has none."""
    wanted: set[str] = {item.kind for item in method.inputs.values() if item.required}
    return wanted - set(project.checkpoints.filter(kind__in=wanted).values_list("kind", flat=True))


def _initial(request: HttpRequest, project: Project, method: str, promoted: Any) -> dict[str, Any]:
    """What the form starts from: `?from=12` another run's choices, otherwise the promoted checkpoint and the newest dataset."""
    if (origin := request.GET.get("from", "")).isdecimal():
        run = get_object_or_404(Run, project=project, pk=int(origin), method=method)
        roles = {item.role: item.checkpoint_id for item in run.run_inputs.all()}
        return {**run.arguments, **roles, "dataset_version": run.dataset_version_id, "note": run.note}
    initial: dict[str, Any] = {}
    for role, wanted in METHODS[method].inputs.items():
        asked = request.GET.get(role, "")
        if asked.isdecimal():
            initial[role] = int(asked)
        elif role == "watchdog" and "reward_model" in initial:
            initial[role] = watchdog_of(project.checkpoints.filter(pk=initial["reward_model"]).first())
        elif wanted.required:
            newest = project.checkpoints.filter(kind=wanted.kind).order_by("-pk").first()
            initial[role] = promoted if promoted and promoted.kind == wanted.kind else newest
    for item in fields(METHODS[method].arguments):
        if item.default is False and request.GET.get(item.name) == "on":
            initial[item.name] = True
    versions = DatasetVersion.objects.filter(project=project, state=Job.State.SUCCEEDED)
    number = request.GET.get("dataset", "")
    chosen = versions.filter(number=int(number)).first() if number.isdecimal() else None
    if METHODS[method].dataset == "needed" or chosen:
        initial["dataset_version"] = chosen or versions.order_by("-number").first()
    if METHODS[method].makes == "completions":
        initial["num_generations"] = project.completions_per_task
    return initial


def _estimate(project: Project, form: RunForm) -> Any:
    if form.is_bound:
        values: dict[str, Any] = getattr(form, "cleaned_data", {})
        arguments, inputs, version = form.arguments(), form.inputs(), values.get("dataset_version")
    else:
        values = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
        arguments, inputs = values, {}
        version = values.get("dataset_version")
        if isinstance(version, int):
            version = DatasetVersion.objects.filter(project=project, pk=version).first()
    return estimate_run(
        project=project, method=form.method.name, arguments=arguments, inputs=inputs, dataset_version=version
    )
