"""The order in which tasks are handed out, and the one statement that takes the next.

Tasks of higher priority come first; among equals those about which reward models disagree more, then those that fewer people
have ranked or are ranking, then the older. The index `task_next` holds the free tasks in this order.
"""

from datetime import datetime
from typing import Any

from django.utils import timezone

from annotate.models import Assignment, Membership

# How many free tasks are looked at from the top of the queue, and from one's own place in it.
HEAD, AHEAD = 32, 64
# After so many tasks taken at one's own place the queue is looked through from the top again.
STEPS = 50
# So many of one's own tasks are hashed to step over them; few enough that Postgres always does it in memory.
HASHED = 50_000

ORDER = "t.priority * -1, t.disagreement * -1.0, t.leased + t.submitted, t.id"
FREE = """t.project_id = %(project)s AND t.state = 'open' AND t.purpose = 'ranking' AND t.overlap > t.leased + t.submitted"""
# OFFSET 0 keeps the planner from joining with all that they ever ranked, where one look per candidate is enough.
NEW_TO_THEM = """NOT EXISTS (
            SELECT 1 FROM annotate_assignment a
            WHERE a.task_id = t.id AND a.annotator_id = %(annotator)s AND a.state <> 'expired' OFFSET 0)"""

# The free task that comes next for one person. Parts are tried in this order, and only until one yields a row:
#   0  a task they held before and lost to the clock, so that its draft is not wasted;
#   1  the first few of the queue;
#   2  the next few after their own place in it, which is where they were last given a task by this part or the next;
#   3  the whole queue.
# Without the place, whoever has ranked 20,000 tasks that still wait for others would step over all of them at every request.
LEASE_NEXT = f"""
WITH taken AS MATERIALIZED (
    SELECT * FROM (
        SELECT t.id, t.priority, t.disagreement, t.leased + t.submitted AS ranked, 0 AS part
        FROM annotate_assignment a JOIN annotate_rankingtask t ON t.id = a.task_id
        WHERE a.annotator_id = %(annotator)s AND a.project_id = %(project)s AND a.state = 'expired'
          AND t.state = 'open' AND t.purpose <> 'practice' AND t.overlap > t.leased + t.submitted
        ORDER BY a.draft IS NULL, a.ended_at DESC LIMIT 1 FOR UPDATE OF t SKIP LOCKED
    ) lapsed
    UNION ALL SELECT * FROM (
        SELECT t.id, t.priority, t.disagreement, t.leased + t.submitted, 1
        FROM (SELECT id FROM annotate_rankingtask t WHERE {FREE} ORDER BY {ORDER} LIMIT {HEAD}) head
            JOIN annotate_rankingtask t ON t.id = head.id
        WHERE {FREE} AND {NEW_TO_THEM}
        ORDER BY {ORDER} LIMIT 1 FOR UPDATE OF t SKIP LOCKED
    ) head
    UNION ALL SELECT * FROM (
        SELECT t.id, t.priority, t.disagreement, t.leased + t.submitted, 2
        FROM (
            SELECT id FROM annotate_rankingtask t
            WHERE {FREE} AND %(has_place)s AND ({ORDER}) > (%(priority)s, %(disagreement)s, %(ranked)s, %(task)s)
            ORDER BY {ORDER} LIMIT {AHEAD}
        ) ahead JOIN annotate_rankingtask t ON t.id = ahead.id
        WHERE {FREE} AND {NEW_TO_THEM}
        ORDER BY {ORDER} LIMIT 1 FOR UPDATE OF t SKIP LOCKED
    ) ahead
    UNION ALL SELECT * FROM (
        SELECT t.id, t.priority, t.disagreement, t.leased + t.submitted, 3 FROM annotate_rankingtask t
        WHERE {FREE} AND {NEW_TO_THEM} AND t.id NOT IN (
            SELECT a.task_id FROM annotate_assignment a
            WHERE a.annotator_id = %(annotator)s AND a.project_id = %(project)s AND a.state <> 'expired' LIMIT {HASHED})
        ORDER BY {ORDER} LIMIT 1 FOR UPDATE OF t SKIP LOCKED
    ) anywhere
    LIMIT 1
), counted AS (
    UPDATE annotate_rankingtask t SET leased = t.leased + 1 FROM taken WHERE t.id = taken.id RETURNING t.id
), moved AS (
    UPDATE annotate_membership m SET queue_place = jsonb_build_object(
        'priority', -taken.priority, 'disagreement', -taken.disagreement, 'ranked', taken.ranked, 'task', taken.id,
        'steps', CASE taken.part WHEN 2 THEN %(steps)s + 1 ELSE 0 END)
    FROM taken WHERE m.id = %(membership)s AND taken.part > 1
)
INSERT INTO annotate_assignment
    (project_id, task_id, annotator_id, state, lease_until, shown_order, token, opened_at)
SELECT %(project)s, counted.id, %(annotator)s, 'leased', %(lease_until)s,
    (SELECT array_agg(completion_id ORDER BY random()) FROM annotate_taskcompletion WHERE task_id = counted.id),
    gen_random_uuid(), %(now)s
FROM counted
ON CONFLICT (task_id, annotator_id) DO UPDATE
    SET state = 'leased', lease_until = excluded.lease_until, opened_at = excluded.opened_at, ended_at = NULL
RETURNING annotate_assignment.*
"""  # noqa: S608  # constants of this file


def take_next(membership: Membership, lease_until: datetime) -> Assignment | None:
    """Lease the task that comes next for this person, whose membership this transaction has locked and who holds nothing."""
    place: dict[str, Any] = membership.queue_place or {"steps": STEPS}
    parameters = {
        "now": timezone.now(),
        "lease_until": lease_until,
        "annotator": membership.user_id,
        "project": membership.project_id,
        "membership": membership.pk,
        "has_place": place["steps"] < STEPS,
        "steps": place["steps"],
        "priority": place.get("priority", 0),
        "disagreement": place.get("disagreement", 0.0),
        "ranked": place.get("ranked", 0),
        "task": place.get("task", 0),
    }
    return next(iter(Assignment.objects.raw(LEASE_NEXT, parameters)), None)
