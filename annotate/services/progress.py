"""How far a person and a project have come, and how far one person may go."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from annotate.models import Membership

from .serving import gets_gold, gold_to_come

BOUND = 1000

# Gold counts like any other ranking, lest somebody tell it from the rest; practice and adjudication do not.
MINE = """FROM annotate_ranking r WHERE r.project_id = %(project)s AND r.annotator_id = %(annotator)s AND r.is_current
    AND r.role = 'annotator' AND (r.accuracy IS NULL OR NOT EXISTS (
        SELECT 1 FROM annotate_rankingtask t WHERE t.id = r.task_id AND t.purpose = 'practice'))"""


@dataclass(frozen=True)
class Numbers:
    """What the page says of progress: my rankings today, and the project's open places (at most BOUND, `more` beyond).

    The gold tasks that will come among them are counted in, so that no number tells gold from the rest.
    """

    today: int
    remaining: int
    more: bool


def last_midnight() -> datetime:
    """When today began in the current time zone."""
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)


def next_midnight() -> datetime:
    return last_midnight() + timedelta(days=1)


def count_progress(*, membership: Membership) -> Numbers:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT
                (SELECT count(*) {MINE} AND r.created_at >= %(midnight)s),
                (SELECT coalesce(sum(free), 0) FROM (
                    SELECT overlap - leased - submitted AS free FROM annotate_rankingtask
                    WHERE project_id = %(project)s AND state = 'open' AND purpose = 'ranking'
                        AND overlap > leased + submitted
                    LIMIT %(bound)s) open),
                (SELECT count(*) FROM annotate_rankingtask t
                 WHERE %(gold)s AND t.project_id = %(project)s AND t.purpose = 'gold' AND t.state = 'open'
                    AND NOT EXISTS (SELECT 1 FROM annotate_assignment a WHERE a.task_id = t.id
                        AND a.annotator_id = %(annotator)s AND a.state <> 'expired'))
            """,  # noqa: S608  # constants of this file
            {**_of(membership), "bound": BOUND + 1, "gold": gets_gold(membership)},
        )
        today, remaining, gold = cursor.fetchone()
    remaining += gold_to_come(membership=membership, ordinary=min(remaining, BOUND), available=gold)
    return Numbers(today, min(remaining, BOUND), remaining > BOUND)


def reached_limit(*, membership: Membership) -> str:
    """Which of the project's limits this person has reached: "total_limit", "daily_limit" or "". Costs nothing without limits.

    The task that they are ranking now counts as if it were submitted.
    """
    project = membership.project
    daily, total = project.daily_limit, project.total_limit
    if daily is None and total is None:
        return ""
    with connection.cursor() as cursor:
        # Neither count goes further than its limit.
        cursor.execute(
            f"""
            SELECT (SELECT count(*) FROM (SELECT {MINE} LIMIT %(total)s) mine),
                (SELECT count(*) FROM (SELECT {MINE} AND r.created_at >= %(midnight)s LIMIT %(daily)s) mine),
                (SELECT count(*) FROM annotate_assignment
                 WHERE annotator_id = %(annotator)s AND project_id = %(project)s AND state = 'leased')
            """,  # noqa: S608  # constants of this file
            {**_of(membership), "total": total or 0, "daily": daily or 0},
        )
        ever, today, held = cursor.fetchone()
    if total is not None and ever + held >= total:
        return "total_limit"
    return "daily_limit" if daily is not None and today + held >= daily else ""


def _of(membership: Membership) -> dict[str, Any]:
    return {
        "project": membership.project_id,
        "annotator": membership.user_id,
        "midnight": last_midnight(),
    }
