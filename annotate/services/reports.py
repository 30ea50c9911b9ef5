"""Quality reports: found, or queued for the worker."""

from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from annotate import jobs
from annotate.models import Project, QualityReport, User

# A report is computed anew when it is older than this and people have ranked since.
FRESH = timedelta(minutes=10)


def clean_filters(filters: dict[str, Any]) -> dict[str, Any]:
    """The filters in one spelling, so that equal ones are found again; empty ones left out.

    `since` and `until`: aware datetimes or ISO strings; `annotators`: membership ids; `criterion`, `tag`: strings.
    ValueError for an unknown filter, or a value that cannot be read.
    """
    unknown = set(filters) - {"since", "until", "annotators", "criterion", "tag"}
    if unknown:
        raise ValueError(f"unknown filters: {', '.join(sorted(unknown))}")
    clean: dict[str, Any] = {}
    for name in ("since", "until"):
        if value := filters.get(name):
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            clean[name] = (moment if timezone.is_aware(moment) else timezone.make_aware(moment)).isoformat()
    if annotators := filters.get("annotators"):
        clean["annotators"] = sorted({int(one) for one in annotators})
    for name in ("criterion", "tag"):
        if value := str(filters.get(name) or ""):
            clean[name] = value
    return clean


def latest_report(*, project: Project, kind: str, filters: dict[str, Any] | None = None) -> QualityReport | None:
    """The newest finished report, to show while a newer one is computed. ValueError as in `clean_filters`."""
    return _reports(project, kind, clean_filters(filters or {})).filter(state=QualityReport.State.SUCCEEDED).first()


@transaction.atomic
def request_report(
    *,
    project: Project,
    kind: str,
    filters: dict[str, Any] | None = None,
    user: User | None = None,
    refresh: bool = False,
) -> QualityReport:
    """The report that is being computed or still holds; else a new one, queued.

    One holds for FRESH, and longer while nobody has ranked since; with `refresh` only one being computed does. After a failure
    only `refresh` tries again. ValueError as in `clean_filters`, or for an unknown kind.
    """
    from annotate.tasks import build_quality_report

    kind = QualityReport.Kind(kind)
    wanted = clean_filters(filters or {})
    # Imports hold the project's row while they write: whoever only looks, or polls, does not wait for them.
    if standing := _standing(project, kind, wanted, refresh):
        return standing
    # Two people who open the page at once ask for one report.
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    if standing := _standing(project, kind, wanted, refresh):
        return standing
    report = QualityReport.objects.create(
        project=project, kind=kind, filters=wanted, as_of=timezone.now(), created_by=user
    )
    jobs.wake(build_quality_report, report.pk)
    return report


def _reports(project: Project, kind: str, filters: dict[str, Any]) -> models.QuerySet[QualityReport]:
    return QualityReport.objects.filter(project=project, kind=kind, filters=filters).order_by("-pk")


def _standing(project: Project, kind: str, filters: dict[str, Any], refresh: bool) -> QualityReport | None:
    newest = _reports(project, kind, filters).first()
    stands = newest is not None and (newest.is_active or (not refresh and _holds(newest)))
    return newest if stands else None


def _holds(report: QualityReport) -> bool:
    if report.state != QualityReport.State.SUCCEEDED:
        return report.state == QualityReport.State.FAILED
    if report.as_of > timezone.now() - FRESH:
        return True
    newest = report.project.rankings.current().order_by("-pk").values_list("created_at", flat=True).first()
    return newest is None or newest <= report.as_of
