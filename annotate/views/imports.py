"""Files on their way in: a draft with its preview, then a job to look on at."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotate import jobs
from annotate.access import ProjectRequest, Role, member_required
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.public import SHAPES
from annotate.formats.importing.shapes import Row
from annotate.forms.imports import ImportForm, MappingForm
from annotate.models import Import, Ranking
from annotate.services.imports import (
    cancel_import,
    create_import,
    discard_import,
    may_start,
    seconds_left,
    start_import,
)
from annotate.services.previews import preview_import
from annotate.services.refused import read_refused
from annotate.spreadsheets import csv_file
from annotate.tasks import run_import
from annotate.text import render_markdown

from .prompts import ROLE_NAMES

SHOWN = 100
ROWS_SHOWN = 3
CHARACTERS_SHOWN = 1500


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.ADMIN)
def imports(request: ProjectRequest) -> HttpResponseBase:
    project = request.membership.project
    form = ImportForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        upload = form.cleaned_data["file"]
        try:
            job = create_import(project=project, user=request.user, upload=upload, name=upload.name)
        except OSError as error:
            form.add_error("file", _("The file could not be stored: %(error)s.") % {"error": error.strerror or error})
        else:
            return redirect("import", project.slug, job.pk)
    page = Paginator(project.imports.select_related("created_by").order_by("-pk"), 50).get_page(request.GET.get("page"))
    return render(
        request,
        "annotate/imports.html",
        {"project": project, "form": form, "page": page},
        status=422 if form.errors else 200,
    )


@require_safe
@member_required(Role.ADMIN)
def import_(request: ProjectRequest, pk: int) -> HttpResponseBase:
    project = request.membership.project
    job = get_object_or_404(project.imports.select_related("created_by"), pk=pk)
    is_fragment = bool(getattr(request, "htmx", False))
    refused = job.refused.order_by("line", "pk")[:SHOWN]
    context: dict[str, Any] = {"project": project, "job": job, "refused": refused}
    if may_start(job):
        if is_fragment:
            # What was polled has ended: the draft's page is another one.
            return HttpResponse(headers={"HX-Refresh": "true"})
        mapping = Mapping.from_json(job.mapping)
        context |= {"form": MappingForm.of(mapping), **describe_draft(job, mapping)}
        return render(request, "annotate/import_draft.html", context)
    context |= {"time_left": time_left(job), "pace": pace_of(job), "shape": shape_label(job.shape)}
    return render(request, "annotate/import.html#state" if is_fragment else "annotate/import.html", context)


@require_POST
@member_required(Role.ADMIN)
def import_preview(request: ProjectRequest, pk: int) -> HttpResponseBase:
    """The draft's first rows as the unsaved form would read them."""
    job = get_object_or_404(request.membership.project.imports, pk=pk)
    if not may_start(job):
        raise Http404
    form = MappingForm(request.POST)
    context: dict[str, Any] = {"project": request.membership.project, "job": job, "form": form}
    if form.is_valid():
        context |= describe_draft(job, form.mapping())
    return render(request, "annotate/import_draft.html#preview", context)


@require_POST
@member_required(Role.ADMIN)
def import_start(request: ProjectRequest, pk: int) -> HttpResponseBase:
    """Import a draft, or with `action=count` count what that would do. The second of two clicks finds it started."""
    project = request.membership.project
    job = get_object_or_404(project.imports, pk=pk)
    form = MappingForm(request.POST)
    if not form.is_valid():
        if not may_start(job):
            return redirect("import", project.slug, job.pk)
        context = {"project": project, "job": job, "form": form, "refused": job.refused.none()}
        context |= describe_draft(job, Mapping.from_json(job.mapping))
        return render(request, "annotate/import_draft.html", context, status=422)
    is_dry_run = request.POST.get("action") == "count"
    if start_import(user=request.user, job=job, mapping=form.mapping(), is_dry_run=is_dry_run):
        jobs.wake(run_import, job.pk)
    return redirect("import", project.slug, job.pk)


@require_POST
@member_required(Role.ADMIN)
def import_discard(request: ProjectRequest, pk: int) -> HttpResponseBase:
    project = request.membership.project
    # The second of two clicks finds it gone, which is what was asked for.
    job = project.imports.filter(pk=pk).first()
    if job is not None and not discard_import(job=job):
        messages.error(request, _("The import was started meanwhile. Cancel it instead."))
        return redirect("import", project.slug, pk)
    messages.success(request, _("The file was discarded. Nothing of it was imported."))
    return redirect("imports", project.slug)


@require_POST
@member_required(Role.ADMIN)
def import_cancel(request: ProjectRequest, pk: int) -> HttpResponseBase:
    project = request.membership.project
    job = get_object_or_404(project.imports, pk=pk)
    cancel_import(user=request.user, job=job)
    return redirect("import", project.slug, job.pk)


@require_safe
@member_required(Role.ADMIN)
def import_refused(request: ProjectRequest, pk: int) -> HttpResponseBase:
    """Every refused row with its original text, as CSV."""
    job = get_object_or_404(request.membership.project.imports, pk=pk)
    return csv_file(f"import-{job.pk}-refused", _refused_cells(job))


def _refused_cells(job: Import) -> Iterator[Iterable[Any]]:
    names = ("line", "member", "field", "reason", "original")
    yield names
    for line in read_refused(job):
        row = json.loads(line)
        yield [row[name] for name in names]


@require_safe
@member_required(Role.ADMIN)
def import_refused_lines(request: ProjectRequest, pk: int) -> HttpResponseBase:
    """Every refused row with its original text, as JSON Lines."""
    job = get_object_or_404(request.membership.project.imports, pk=pk)
    return refused_file(job)


def refused_file(job: Import) -> StreamingHttpResponse:
    response = StreamingHttpResponse(read_refused(job), content_type="application/x-ndjson")
    response["Content-Disposition"] = f'attachment; filename="import-{job.pk}-refused.jsonl"'
    return response


def pace_of(job: Import) -> float:
    """Rows a second so far."""
    if job.started_at is None or not job.rows_read:
        return 0.0
    return float(job.rows_read / max(((job.finished_at or timezone.now()) - job.started_at).total_seconds(), 0.1))


def time_left(job: Import) -> str:
    seconds = seconds_left(job)
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if minutes < 1:
        return _("less than a minute left")
    return ngettext("about %(count)d minute left", "about %(count)d minutes left", minutes) % {"count": minutes}


def shape_label(name: str) -> str:
    return str(SHAPES[name].label) if name in SHAPES else name


def describe_draft(job: Import, mapping: Mapping) -> dict[str, Any]:
    preview = preview_import(job, mapping)
    return {
        "preview": preview,
        "shape": shape_label(preview.shape),
        "rows": [describe_row(line, row, mapping) for line, row in preview.rows[:ROWS_SHOWN]],
        "has_preferences": preview.rankings > 0,
        "forecast": job.forecast,
        "forecast_is_old": bool(job.forecast) and Mapping.from_json(job.forecast["mapping"]) != mapping,
    }


def describe_row(line: int, row: Row, mapping: Mapping) -> dict[str, Any]:
    """A checked row as people will see it; where it brings preferences, its answers in the order of the first."""
    ranking = row.rankings[0] if row.rankings and mapping.preferences != "ignore" else None
    is_ranked = ranking is not None and ranking.verdict == Ranking.Verdict.RANKED
    ranks = ranking.ranks if ranking and is_ranked else (0,) * len(row.answers)
    answers = [
        {
            "source": answer.source,
            "place": rank,
            "is_tie": rank > 0 and ranks.count(rank) > 1,
            "has_reasoning": bool(answer.reasoning),
            **_shown(answer.text),
        }
        for answer, rank in sorted(zip(row.answers, ranks, strict=True), key=lambda one: one[1])
    ]
    turns = [
        {"role": one["role"], "name": ROLE_NAMES.get(one["role"], one["role"]), **_shown(one["content"])}
        for one in row.messages
    ]
    return {
        "line": line,
        "turns": turns,
        "answers": answers,
        "is_all_bad": ranking is not None and not is_ranked,
        "others": len(row.rankings) - 1 if ranking else 0,
        "tags": row.tags,
        "row": row,
    }


def _shown(text: str) -> dict[str, Any]:
    return {"html": render_markdown(text[:CHARACTERS_SHOWN]), "cut": max(len(text) - CHARACTERS_SHOWN, 0)}
