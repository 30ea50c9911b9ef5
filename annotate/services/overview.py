"""How a project as a whole is doing: how far it is, how fast it goes, who works. Every figure costs the same at any size,
or grows with two weeks of work alone.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from django.db import connection
from django.utils import timezone

from annotate.models import Membership, Project, Ranking

from .progress import last_midnight

SAMPLE = 4_000
PACE_OF = 500
# Behind those may be imported rankings and decisions, of which a file brings any number at once.
PACE_AMONG = 5_000
DAYS = 14
WEEK = 7


@dataclass(frozen=True)
class Progress:
    """Rankings done of those asked for, in a project's ordinary tasks. Not exact: estimated from a sample."""

    done: int
    asked: int
    is_exact: bool

    @property
    def left(self) -> int:
        return max(0, self.asked - self.done)

    @property
    def percent(self) -> int:
        """Whole percents; 100 only when nothing is left."""
        return 100 * self.done // self.asked if self.asked else 0


def measure_progress(project: Project, *, sample: int = SAMPLE) -> Progress:
    """Counts up to `sample` tasks; of more, it takes those with the smallest hashes, which are as good as drawn at random.

    Hashes are spread evenly, so the largest of the n smallest says how many there are in all: (n - 1) / h, where h is that hash
    as a share of the range (Bar-Yossef et al. 2002, "Counting distinct elements in a data stream"), to within some 1/√n.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*), max(content_hash),
                coalesce(sum(submitted) FILTER (WHERE purpose = 'ranking'), 0),
                coalesce(sum(CASE state WHEN 'closed' THEN submitted ELSE overlap END)
                    FILTER (WHERE purpose = 'ranking'), 0)
            FROM (
                SELECT content_hash, purpose, state, overlap, submitted FROM annotate_rankingtask
                WHERE project_id = %s ORDER BY content_hash LIMIT %s
            ) smallest
            """,
            [project.pk, sample],
        )
        count, largest, done, asked = cursor.fetchone()
    if count < sample:
        return Progress(done, asked, True)
    share = (int(largest[:15], 16) + 1) / 16**15
    times = (count - 1) / share / count
    return Progress(round(done * times), round(asked * times), False)


def median_seconds(project: Project) -> float | None:
    """How long people's last rankings took, PACE_OF at most; None if none of them is among the last PACE_AMONG of all."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM (
                SELECT seconds FROM (
                    SELECT id, seconds, role FROM annotate_ranking WHERE project_id = %s AND is_current
                    ORDER BY id DESC LIMIT %s
                ) latest WHERE role = 'annotator' ORDER BY id DESC LIMIT %s
            ) by_people
            """,
            [project.pk, PACE_AMONG, PACE_OF],
        )
        median: float | None = cursor.fetchone()[0]
    return median


@dataclass
class Work:
    """What one member ranked lately, and when they last did."""

    last: datetime
    today: int = 0
    week: int = 0


@dataclass
class Activity:
    """Rankings per day, the last DAYS days in order, today last; and per membership id."""

    days: dict[date, int]
    members: dict[int, Work] = field(default_factory=dict)


def recent_activity(project: Project, *, member: Membership | None = None) -> Activity:
    """Of everybody, also of those who have left; or of one `member`."""
    today = last_midnight()
    since = today - timedelta(days=DAYS - 1)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT m.id, r.day, count(*), max(r.created_at)
            FROM annotate_membership m CROSS JOIN LATERAL (
                SELECT (created_at AT TIME ZONE %(zone)s)::date AS day, created_at FROM annotate_ranking
                WHERE project_id = m.project_id AND annotator_id = m.user_id AND is_current
                    AND created_at >= %(since)s AND role <> 'imported'
            ) r
            WHERE m.project_id = %(project)s AND (%(member)s::bigint IS NULL OR m.id = %(member)s)
            GROUP BY m.id, r.day
            """,
            {
                "zone": timezone.get_current_timezone_name(),
                "since": since,
                "project": project.pk,
                "member": member.pk if member else None,
            },
        )
        rows = cursor.fetchall()
    activity = Activity({(since + timedelta(days=number)).date(): 0 for number in range(DAYS)})
    week_from = (today - timedelta(days=WEEK - 1)).date()
    for member_id, day, count, last in rows:
        activity.days[day] = activity.days.get(day, 0) + count
        work = activity.members.setdefault(member_id, Work(last))
        work.today += count if day == today.date() else 0
        work.week += count if day >= week_from else 0
        work.last = max(work.last, last)
    return activity


def count_roles(project: Project) -> Counter[str]:
    return Counter(project.memberships.present().values_list("role", flat=True))


def has_rankings_since(project: Project, when: datetime, count: int) -> bool:
    """Whether `count` rankings or more are newer: looks at no more than those."""
    times = Ranking.objects.current().filter(project=project).order_by("-pk").values_list("created_at", flat=True)
    newest = list(times[count - 1 : count])
    return bool(newest and newest[0] > when)
