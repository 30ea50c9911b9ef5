"""The figures of an evaluation as files. Its page is the run's."""

from contextlib import nullcontext
from typing import Any

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.utils.translation import override
from django.views.decorators.http import require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.spreadsheets import csv_file
from training.evaluation import figures, sections
from training.models import Run


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def run_evaluation(request: ProjectRequest, pk: int) -> HttpResponse | StreamingHttpResponse:
    """One figure: `?table=calibration`, as CSV in English or, with `&format=svg`, drawn in the reader's language."""
    run: Run = get_object_or_404(Run, project=request.membership.project, pk=pk)
    drawn = request.GET.get("format") == "svg"
    with nullcontext() if drawn else override("en"):
        made = figures(run.result.get("evaluation") or {})
        figure = next((one for one in made if one.key == request.GET.get("table")), None)
        if figure is None or (drawn and figure.chart is None):
            raise Http404(_("This evaluation has no such figure."))
        name = f"run-{run.pk}-{figure.key}"
        if not drawn or figure.chart is None:
            return csv_file(name, figure.table())
        response = HttpResponse(figure.chart.draw(standalone=True), content_type="image/svg+xml")
        response["Content-Disposition"] = f'attachment; filename="{name}.svg"'
        return response


def evaluation_context(run: Run) -> dict[str, Any]:
    """What templates/training/methods/evaluate.html shows."""
    evaluation = run.result.get("evaluation") or {}
    names = {item.role: item.checkpoint for item in run.run_inputs.select_related("checkpoint")}
    return {"evaluation": evaluation, "sections": sections(evaluation), "models": names}
