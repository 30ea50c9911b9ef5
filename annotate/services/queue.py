"""The order in which tasks are handed out, and the one statement that takes the next."""

from datetime import datetime

from django.utils import timezone

from annotate.models import Assignment, Membership

# The free task that comes next for one person. Parts are tried in this order, and only until one yields a row:
#   0  a task they held before and lost to the clock, so that its draft is not wasted;
#   1  the first few of the queue: new tasks of high priority, and those that somebody gave back;
#   2  onward from their own place in the queue, at the same priority; 3 at lower ones;
#   4  the whole queue, once: what came free behind them.
# Without the place, whoever has ranked 20,000 tasks that still wait for others would step over all of them at every request.
# OFFSET 0 keeps the planner from joining with all that they ever ranked, where one look per candidate is enough.
LEASE_NEXT = """
WITH taken AS MATERIALIZED (
    SELECT * FROM (
        SELECT t.id, t.priority, 0 AS part
        FROM annotate_assignment a JOIN annotate_rankingtask t ON t.id = a.task_id
        WHERE a.annotator_id = %(annotator)s AND a.project_id = %(project)s AND a.state = 'expired'
          AND t.state = 'open' AND t.overlap > t.leased + t.submitted
        ORDER BY a.draft IS NULL, a.ended_at DESC LIMIT 1 FOR UPDATE OF t SKIP LOCKED
    ) lapsed
    UNION ALL SELECT * FROM (
        SELECT t.id, t.priority, 1
        FROM (
            SELECT id FROM annotate_rankingtask
            WHERE project_id = %(project)s AND state = 'open' AND purpose = 'ranking'
              AND overlap > leased + submitted
            ORDER BY priority DESC, id LIMIT 32
        ) head JOIN annotate_rankingtask t ON t.id = head.id
        WHERE _FREE_
        ORDER BY t.priority DESC, t.id LIMIT 1 FOR UPDATE OF t SKIP LOCKED
    ) head
    UNION ALL SELECT * FROM (
        SELECT t.id, t.priority, 2 FROM annotate_rankingtask t
        WHERE _FREE_ AND t.priority = %(priority)s AND t.id > %(place)s
        ORDER BY t.priority DESC, t.id LIMIT 1 FOR UPDATE OF t SKIP LOCKED
    ) onward
    UNION ALL SELECT * FROM (
        SELECT t.id, t.priority, 3 FROM annotate_rankingtask t
        WHERE _FREE_ AND t.priority < %(priority)s
        ORDER BY t.priority DESC, t.id LIMIT 1 FOR UPDATE OF t SKIP LOCKED
    ) below
    UNION ALL SELECT * FROM (
        SELECT t.id, t.priority, 4 FROM annotate_rankingtask t
        WHERE _FREE_
        ORDER BY t.priority DESC, t.id LIMIT 1 FOR UPDATE OF t SKIP LOCKED
    ) anywhere
    LIMIT 1
), counted AS (
    UPDATE annotate_rankingtask t SET leased = t.leased + 1 FROM taken WHERE t.id = taken.id RETURNING t.id
), moved AS (
    UPDATE annotate_membership m SET queue_priority = taken.priority, queue_task = taken.id FROM taken
    WHERE m.id = %(membership)s AND taken.part > 0
      AND (taken.part > 1 OR m.queue_priority IS DISTINCT FROM taken.priority OR m.queue_task < taken.id)
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
""".replace(
    "_FREE_",
    """t.project_id = %(project)s AND t.state = 'open' AND t.purpose = 'ranking'
        AND t.overlap > t.leased + t.submitted AND NOT EXISTS (
            SELECT 1 FROM annotate_assignment a
            WHERE a.task_id = t.id AND a.annotator_id = %(annotator)s AND a.state <> 'expired' OFFSET 0)""",
)


def take_next(membership: Membership, lease_until: datetime) -> Assignment | None:
    """Lease the task that comes next for this person, whose membership this transaction has locked and who holds nothing."""
    parameters = {
        "now": timezone.now(),
        "lease_until": lease_until,
        "annotator": membership.user_id,
        "project": membership.project_id,
        "membership": membership.pk,
        "priority": membership.queue_priority,
        "place": membership.queue_task,
    }
    return next(iter(Assignment.objects.raw(LEASE_NEXT, parameters)), None)
