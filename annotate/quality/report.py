"""Computes a queued QualityReport: reads the rankings once, asks every module of this package, stores plain JSON.

docs/quality.md says what each key of `results` means.
"""

import logging
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate import jobs
from annotate.models import QualityReport

from .intervals import Beat, unheard
from .leaders import leaderboard
from .overview import overview
from .reading import Filters, read_rankings

logger = logging.getLogger("podium.quality")

# Reading and resampling a large project are long between two beats.
LEASE = timedelta(minutes=5)
# The share of the time that reading takes, by measurement.
READING = 0.4
KEPT = timedelta(days=30)


def build_report(report: QualityReport) -> None:
    """Compute a claimed report and end the job.

    Raises OperationalError when the database is away: the job is taken up again once its lease ends.
    """
    try:
        jobs.beat(report, lease=LEASE)
        results = compute(report, beat=lambda share: jobs.beat(report, lease=LEASE, progress=share))
        jobs.finish(report, QualityReport.State.SUCCEEDED, results=results)
        _forget_earlier(report)
    except jobs.Fenced:
        logger.warning("report %s was taken over by another worker", report.pk)
    except jobs.Cancelled:
        _end(report, QualityReport.State.CANCELLED)
    except OperationalError:
        raise
    except Exception:
        reference = uuid.uuid4().hex[:8]
        logger.exception("report %s failed, reference %s", report.pk, reference)
        reason = _("Something went wrong on our side; the log has it as %s.") % reference
        _end(report, QualityReport.State.FAILED, error=reason)


def _forget_earlier(report: QualityReport) -> None:
    """Each question keeps its newest report, and no report is kept for longer than KEPT."""
    done = QualityReport.objects.filter(project_id=report.project_id, pk__lt=report.pk)
    done = done.exclude(state__in=QualityReport.ACTIVE)
    same = Q(kind=report.kind, filters=report.filters)
    done.filter(same | Q(finished_at__lt=timezone.now() - KEPT)).delete()


def _end(report: QualityReport, state: jobs.Job.State, **changes: Any) -> None:
    try:
        jobs.finish(report, state, **changes)
    except jobs.Fenced:
        logger.warning("report %s was taken over by another worker", report.pk)


def compute(report: QualityReport, *, beat: Beat = unheard) -> dict[str, Any]:
    """What `results` will hold."""
    filters = filters_of(report.filters)

    def computed(share: float) -> None:
        beat(READING + (1 - READING) * share)

    rankings = read_rankings(
        project=report.project_id,
        as_of=report.as_of,
        filters=filters,
        criteria=criteria_of(report, filters),
        beat=lambda share: beat(READING * share),
    )
    if report.kind == QualityReport.Kind.LEADERBOARD:
        return leaderboard(rankings, filters.criterion, computed)
    return overview(rankings, project=report.project_id, as_of=report.as_of, filters=filters, beat=computed)


def criteria_of(report: QualityReport, filters: Filters) -> list[str]:
    if report.kind == QualityReport.Kind.LEADERBOARD:
        return [filters.criterion] if filters.criterion else []
    return [str(name) for name in report.project.criteria]


def filters_of(value: dict[str, Any]) -> Filters:
    """The filters as `services.reports` stored them."""
    return Filters(
        since=datetime.fromisoformat(value["since"]) if value.get("since") else None,
        until=datetime.fromisoformat(value["until"]) if value.get("until") else None,
        annotators=tuple(value.get("annotators", ())),
        criterion=value.get("criterion", ""),
        tag=value.get("tag", ""),
    )
