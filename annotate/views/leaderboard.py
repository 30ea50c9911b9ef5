"""Which source people prefer, with how much certainty."""

from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods, require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.figures import Links
from annotate.figures.leaderboard import all_figures, in_words, unconnected
from annotate.forms.quality import LeaderboardForm
from annotate.models import QualityReport

from .quality import chosen_report, figure_file, file_language, show_report

KIND = QualityReport.Kind.LEADERBOARD


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.RESEARCHER, Role.ADMIN)
def leaderboard(request: ProjectRequest) -> HttpResponse:
    return show_report(request, KIND, _form(request), "annotate/leaderboard.html", _sections)


def _form(request: ProjectRequest) -> LeaderboardForm:
    return LeaderboardForm(request.GET, project=request.membership.project)


def _sections(request: ProjectRequest, report: QualityReport) -> dict[str, Any]:
    results = report.results
    # The English sentences are marked where they are made.
    return {
        "files": Links(report).files("leaderboard_table"),
        "figures": {figure.key: figure for figure in all_figures(results)},
        "groups": unconnected(results),
        "said": in_words(results),
        "criterion": report.filters.get("criterion", ""),
        "why": gettext(results["why"]) if results["why"] else "",
        "note": gettext(results["note"]) if results["note"] else "",
    }


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def leaderboard_table(request: ProjectRequest) -> HttpResponse | StreamingHttpResponse:
    """One figure of a leaderboard as a file: its filters, `&table=standings` and, for the drawing, `&format=svg`."""
    report = chosen_report(request, KIND, _form(request))
    with file_language(request):
        return figure_file(request, report, all_figures(report.results))
