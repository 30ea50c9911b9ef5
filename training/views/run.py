"""One run: its page, live while it goes on, and what can be done with it."""

import json
from itertools import chain
from typing import Any

from django.contrib import messages
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.spreadsheets import csv_file
from training.charts import charts_of
from training.metrics import final_figures
from training.models import Run
from training.recipes.arguments import METHODS, InvalidArguments
from training.services.events import all_rows, metric_series, newest_rows
from training.services.failures import TITLES, advice_for
from training.services.folders import log_path, log_tail
from training.services.runs import cancel_run, retry_run
from training.views.evaluation import evaluation_context
from training.watching import charts, looks_of, watched

TABLE_ROWS = 100
SAMPLES = 6
NOTES = 20


def _run(request: ProjectRequest, pk: int) -> Run:
    rows = Run.objects.select_related("dataset_version", "made_version", "created_by", "retry_of")
    run: Run = get_object_or_404(rows, project=request.membership.project, pk=pk)
    return run


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def run(request: ProjectRequest, pk: int) -> HttpResponse:
    """The page, and its parts for polling: `?part=live`, `table` or `log`."""
    found = _run(request, pk)
    part = request.GET.get("part") if request.htmx else None
    if part == "log":
        return render(request, "training/run.html#log", {"run": found, "log": log_tail(found)})
    if part == "table":
        return render(request, "training/run.html#table", _table(found))
    mark = _mark(found)
    if part == "live":
        if not found.is_active:
            return HttpResponse(headers={"HX-Refresh": "true"})
        if request.GET.get("seen") == mark:
            return HttpResponse(status=204)
    series = metric_series(found)
    watch = watched(found, series)
    context = {"run": found, "mark": mark, "charts": charts_of(series), "watch": watch, **_events(found)}
    if watch and watch.texts:
        context["samples"] = []
    if part == "live":
        return render(request, "training/run.html#live", context)
    context |= {
        **_table(found),
        "method": METHODS.get(found.method),
        "log": log_tail(found) or found.log_tail,
        "configuration": json.dumps(found.arguments, indent=2),
        "inputs": found.run_inputs.select_related("checkpoint"),
        "dataset": found.dataset_version,
        "checkpoint": found.checkpoint,
        "checkpoints": found.checkpoints.order_by("pk"),
        "retries": found.retries.order_by("pk"),
        "failure_title": TITLES.get(found.cause, TITLES["crash"]),
        "advice": advice_for(found.cause, found.arguments),
        "figures": final_figures(found.result.get("metrics") or {}),
        "outputs": [(made, final_figures(made.metrics)) for made in found.checkpoints.order_by("pk") if made.output],
        "completions": found.result.get("completions"),
        "method_template": _method_template(found.method),
    }
    if found.method == "evaluate":
        context |= evaluation_context(found)
    return render(request, "training/run.html", context)


def _method_template(method: str) -> str:
    """What the page shows of this method alone, if there is such a template."""
    name = f"training/methods/{method}.html"
    try:
        get_template(name)
    except TemplateDoesNotExist:
        return ""
    return name


def _mark(found: Run) -> str:
    """Changes whenever the live part of the page does."""
    newest = found.events.order_by("-offset").values_list("offset", flat=True).first()
    return f"{found.state}-{found.attempt}-{found.step}-{newest}-{found.cancel_requested}-{found.progress_note}"


def _events(found: Run) -> dict[str, Any]:
    samples = found.events.filter(kind="sample").order_by("-step", "-offset")
    seen: dict[str, Any] = {}
    for event in samples[: SAMPLES * 4]:
        seen.setdefault(json.dumps(event.data.get("prompt")), event)
    notes = found.events.filter(kind="note").order_by("-offset").values_list("data__message", flat=True)
    return {"samples": list(seen.values())[:SAMPLES], "notes": list(dict.fromkeys(notes[:NOTES]))}


def _table(found: Run) -> dict[str, Any]:
    """The figures behind the charts, newest step first."""
    rows, left_out = newest_rows(found, TABLE_ROWS)
    names = list(dict.fromkeys(name for _step, values in reversed(rows) for name in values))
    return {
        "names": names,
        "rows": [(step, [values.get(name) for name in names]) for step, values in rows],
        "left_out": left_out,
    }


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def run_metrics(request: ProjectRequest, pk: int) -> StreamingHttpResponse:
    found = _run(request, pk)
    names, rows = all_rows(found)
    figures = ([step, *(values.get(name) for name in names)] for step, values in rows)
    return csv_file(f"run-{found.pk}-metrics", chain([["step", *names]], figures))


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def run_chart(request: ProjectRequest, pk: int, key: str) -> HttpResponse:
    found = _run(request, pk)
    series = metric_series(found)
    drawn = [*charts(looks_of(series)), *charts_of(series)]
    chart = next((chart for chart in drawn if chart.key == key), None)
    if chart is None:
        raise Http404
    response = HttpResponse(chart.draw(standalone=True), content_type="image/svg+xml")
    response["Content-Disposition"] = f'attachment; filename="run-{found.pk}-{chart.key}.svg"'
    return response


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def run_log(request: ProjectRequest, pk: int) -> FileResponse:
    found = _run(request, pk)
    try:
        file = log_path(found).open("rb")
    except FileNotFoundError as error:
        raise Http404(_("This run has no log yet.")) from error
    return FileResponse(
        file, as_attachment=True, filename=f"run-{found.pk}.log", content_type="text/plain; charset=utf-8"
    )


@require_POST
@member_required(Role.ADMIN)
def run_cancel(request: ProjectRequest, pk: int) -> HttpResponse:
    found = _run(request, pk)
    if found.is_active:
        cancel_run(run=found, user=request.user)
        messages.success(request, _("The run is being stopped."))
    else:
        messages.info(request, _("The run had ended already."))
    return redirect("run", request.membership.project.slug, found.pk)


@require_POST
@member_required(Role.ADMIN)
def run_retry(request: ProjectRequest, pk: int) -> HttpResponse:
    found = _run(request, pk)
    try:
        again = retry_run(run=found, user=request.user)
    except InvalidArguments as error:
        messages.error(request, _("It cannot be started again: %(why)s") % {"why": " ".join(error.errors.values())})
        return redirect("run", request.membership.project.slug, found.pk)
    messages.success(request, _("A new run with the same arguments is queued."))
    return redirect("run", request.membership.project.slug, again.pk)
