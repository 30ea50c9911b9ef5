"""How far a person and a project have come."""

from dataclasses import dataclass

from django.db import connection
from django.utils import timezone

from annotate.models import Membership

BOUND = 1000


@dataclass(frozen=True)
class Numbers:
    """What the page says of progress: my rankings today, and the project's open places (at most BOUND, `more` beyond)."""

    today: int
    remaining: int
    more: bool


def count_progress(*, membership: Membership) -> Numbers:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT
                (SELECT count(*) FROM annotate_ranking
                 WHERE project_id = %(project)s AND annotator_id = %(annotator)s AND is_current AND created_at >= %(midnight)s),
                (SELECT coalesce(sum(free), 0) FROM (
                    SELECT overlap - leased - submitted AS free FROM annotate_rankingtask
                    WHERE project_id = %(project)s AND state = 'open' AND purpose = 'ranking'
                        AND overlap > leased + submitted
                    LIMIT %(bound)s) open)
            """,
            {
                "project": membership.project_id,
                "annotator": membership.user_id,
                "midnight": timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0),
                "bound": BOUND + 1,
            },
        )
        today, remaining = cursor.fetchone()
    return Numbers(today, min(remaining, BOUND), remaining > BOUND)
