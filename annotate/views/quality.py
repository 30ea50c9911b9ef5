"""How good the rankings are: the report's page, its figures as files, and the rankings behind each number."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override
from django.views.decorators.http import require_http_methods, require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.figures import Figure, Links, People, biases, number
from annotate.figures import agreement as agreed
from annotate.figures import annotators as annotating
from annotate.forms.quality import FilterForm, QualityForm
from annotate.models import Project, QualityReport, RankingTask
from annotate.services.reports import latest_report, request_report
from annotate.spreadsheets import csv_file

from .quality_tasks import LISTS

Kind = QualityReport.Kind
COUNTED_SINCE = 1000


Sections = Callable[[ProjectRequest, QualityReport], dict[str, Any]]


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.RESEARCHER, Role.ADMIN)
def quality(request: ProjectRequest) -> HttpResponse:
    return show_report(request, Kind.QUALITY, quality_form(request), "annotate/quality.html", _sections)


def quality_form(request: ProjectRequest) -> QualityForm:
    membership = request.membership
    return QualityForm(request.GET, project=membership.project, is_admin=membership.is_admin)


def show_report(
    request: ProjectRequest, kind: QualityReport.Kind, form: FilterForm, template: str, sections: Sections
) -> HttpResponse:
    """The page of the newest report for the filters in the address, which is made if there is none; POST asks for a newer one."""
    project = request.membership.project
    context: dict[str, Any] = {"project": project, "form": form, "is_filtered": bool(request.GET)}
    if not form.is_valid():
        return render(request, template, context, status=422)
    if not project.rankings.current().exists():
        return render(request, template, context | {"is_empty": True})
    wanted: dict[str, Any] = {"project": project, "kind": kind, "filters": form.filters()}
    newest = request_report(**wanted, user=request.user, refresh=request.method == "POST")
    if request.method == "POST":
        return redirect(request.get_full_path())
    report = latest_report(**wanted)
    context |= {"newest": newest, "report": report}
    if request.htmx:
        response = render(request, f"{template}#state", context)
        if not newest.is_active:
            # Now there are numbers to look at: load the whole page.
            response["HX-Refresh"] = "true"
        return response
    if report:
        report.project = project
        context |= {"since": changed_since(project, report), "counted_since": COUNTED_SINCE, "about": about(report)}
        context |= sections(request, report)
    return render(request, template, context)


def changed_since(project: Project, report: QualityReport) -> int:
    """How many of the newest thousand rankings the report does not have. Ids grow with time: the index is read from its end."""
    newest = project.rankings.current().order_by("-pk").values_list("created_at", flat=True)[:COUNTED_SINCE]
    return sum(created_at > report.as_of for created_at in newest)


def about(report: QualityReport) -> str:
    """“576 rankings · 150 tasks · 12 annotators”."""
    counts = report.results["counts"]
    said = (
        ("rankings", ngettext("%(count)s ranking", "%(count)s rankings", counts["rankings"])),
        ("tasks", ngettext("%(count)s task", "%(count)s tasks", counts.get("tasks", 0))),
        ("annotators", ngettext("%(count)s annotator", "%(count)s annotators", counts.get("annotators", 0))),
        ("comparisons", ngettext("%(count)s comparison", "%(count)s comparisons", counts.get("comparisons", 0))),
    )
    return " · ".join(words % {"count": number(counts[name], 0)} for name, words in said if name in counts)


def _sections(request: ProjectRequest, report: QualityReport) -> dict[str, Any]:
    project, results = request.membership.project, report.results
    links = Links(report)
    rows = annotating.annotators(results, people_of(request), links, project)
    figures = {figure.key: figure for figure in _figures(request, report, rows)}
    columns = (("position", "pace"), ("length", "straight"))
    return {
        "files": links.files("quality_table"),
        "alpha": agreed.alpha_text(results["alpha"]),
        "verdict": agreed.verdict(results["alpha"]),
        "is_alone": not results["counts"]["compared_tasks"],
        "annotators": rows,
        "remarkable": [row for row in rows if row.remarks],
        "headings": annotating.headings(),
        "meanings": annotating.meanings(),
        "figures": figures,
        "biases": [[figures[key] for key in column if key in figures] for column in columns],
        "lists": [(LISTS[name], links.rankings(name), count) for name, count in _counts(results) if count],
    }


def _counts(results: dict[str, Any]) -> list[tuple[str, int]]:
    """How many rankings each list of everybody holds."""
    return [
        ("too_fast", len(results["task_lists"]["too_fast"])),
        ("straight", len(results["task_lists"]["straight"])),
        ("all_bad", results["counts"]["all_bad"]),
        ("gold", sum(one["gold"]["seen"] for one in results["annotators"])),
    ]


def people_of(request: ProjectRequest) -> People:
    return People(request.membership.project, by_name=request.membership.is_admin)


def _figures(request: ProjectRequest, report: QualityReport, rows: list[annotating.Annotator]) -> list[Figure]:
    results, people, links = report.results, people_of(request), Links(report)
    found = (
        agreed.over_time(results),
        agreed.criteria(results),
        annotating.annotators_figure(rows),
        agreed.pairs(results, people, links),
        biases.position(results),
        biases.length(results, rows),
        biases.pace(results),
        biases.straight_lining(results, rows),
        agreed.disagreement(results, _prompts(report), links),
    )
    return [figure for figure in found if figure]


def _prompts(report: QualityReport) -> dict[int, str]:
    tasks = RankingTask.objects.filter(
        project_id=report.project_id, pk__in=[one["task"] for one in report.results["disagreement"]]
    )
    return {task.pk: str(task.prompt) for task in tasks.select_related("prompt")}


def chosen_report(request: ProjectRequest, kind: QualityReport.Kind, form: FilterForm) -> QualityReport:
    """The finished report for the filters in the address; 404 where there is none."""
    project = request.membership.project
    report = latest_report(project=project, kind=kind, filters=form.filters()) if form.is_valid() else None
    if report is None:
        raise Http404(_("There is no report for these filters yet. Open its page first."))
    report.project = project
    return report


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def quality_table(request: ProjectRequest) -> HttpResponse | StreamingHttpResponse:
    """One figure of a report as a file: its filters, `&table=position` and, for the drawing, `&format=svg`."""
    report = chosen_report(request, Kind.QUALITY, quality_form(request))
    with file_language(request):
        rows = annotating.annotators(report.results, people_of(request), Links(report), report.project)
        return figure_file(request, report, _figures(request, report, rows))


def file_language(request: ProjectRequest) -> AbstractContextManager[None]:
    """A CSV file reads the same for everybody, in English; a drawing is in its reader's language."""
    return nullcontext() if request.GET.get("format") == "svg" else override("en")


def figure_file(
    request: ProjectRequest, report: QualityReport, figures: Iterable[Figure]
) -> HttpResponse | StreamingHttpResponse:
    figure = next((one for one in figures if one.key == request.GET.get("table")), None)
    if figure is None:
        raise Http404(_("This report has no such table."))
    name = f"{report.project.slug}-{report.kind}-{figure.key}"
    if request.GET.get("format", "csv") == "svg":
        if figure.chart is None:
            raise Http404(_("This table has no drawing."))
        drawn = HttpResponse(figure.chart.draw(standalone=True), content_type="image/svg+xml")
        drawn["Content-Disposition"] = f'attachment; filename="{name}.svg"'
        return drawn
    return csv_file(name, figure.table())
