"""The order in which tasks are handed out, and the one statement that takes the next.

Tasks of higher priority come first; among equals those about which reward models disagree more, then those that fewer people
have ranked or are ranking, then the older. The index `task_next` holds the free tasks in this order.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from annotate.models import PRIORITY_MAX, Assignment, Membership, Project, RankingTask, User, record

from .serving import COUNT_LEASE, HAND_OUT, gets_gold

# How many free tasks are looked at from the top of the queue, and from one's own place in it.
HEAD, AHEAD = 32, 64
# After so many tasks taken at one's own place the queue is looked through from the top again.
STEPS = 50
# So many of one's own tasks are hashed to step over them; few enough that Postgres always does it in memory.
HASHED = 50_000
BATCH = 2_000

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
), {COUNT_LEASE}, moved AS (
    UPDATE annotate_membership m SET served = m.served + %(turns)s,
        queue_place = CASE WHEN taken.part < 2 THEN m.queue_place ELSE jsonb_build_object(
            'priority', -taken.priority, 'disagreement', -taken.disagreement, 'ranked', taken.ranked, 'task', taken.id,
            'steps', CASE taken.part WHEN 2 THEN %(steps)s + 1 ELSE 0 END) END
    FROM taken WHERE m.id = %(membership)s AND (taken.part > 1 OR %(turns)s > 0)
)
{HAND_OUT}
"""  # noqa: S608  # constants


def take_next(membership: Membership, lease_until: datetime) -> Assignment | None:
    """Lease the task that comes next for this person, whose membership this transaction has locked and who holds nothing."""
    place: dict[str, Any] = membership.queue_place or {"steps": STEPS}
    # Where there is gold, ordinary tasks are counted too, since its turns are set by the count.
    turns = int(gets_gold(membership))
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
        "turns": turns,
    }
    leased = next(iter(Assignment.objects.raw(LEASE_NEXT, parameters)), None)
    membership.served += turns if leased else 0
    return leased


def set_priorities(*, project: Project, priorities: Mapping[int, int], actor: User | None = None) -> int:
    """Set the priority of tasks: {task id: −1000 to 1000}; higher is asked first. Returns how many changed.

    Tasks of other projects, known orders and closed tasks are left alone. Raises ValueError for a number out of bounds.
    """
    for task, priority in priorities.items():
        if abs(priority) > PRIORITY_MAX:
            raise ValueError(
                f"The priority of task {task} is {priority}; it goes from {-PRIORITY_MAX} to {PRIORITY_MAX}."
            )
    changed = _set(project, "priority", priorities)
    if changed:
        target = f"task:{next(iter(priorities))}" if len(priorities) == 1 else f"project:{project.pk}"
        given = sorted(set(priorities.values()))[:20]
        record(actor, "tasks.priority_changed", target, project=project, tasks=changed, priorities=given)
    return changed


def order_by_disagreement(*, project: Project, scores: Mapping[int, float]) -> int:
    """Among tasks of one priority, ask those first about which models disagree most: {task id: score ≥ 0}.

    Tasks without a score come after all that have one, in the usual order, and scores given earlier are forgotten: those of
    two sets of models do not compare. An empty mapping ends it. Returns how many tasks moved. Raises ValueError for a score
    that is negative or not finite.
    """
    for task, score in scores.items():
        if not 0 <= score < math.inf:
            raise ValueError(f"The score of task {task} is {score}; it must be 0 or more, and finite.")
    scored = RankingTask.objects.filter(project=project).exclude(disagreement=0.0)
    forgotten = {pk: 0.0 for pk in scored.values_list("pk", flat=True).iterator() if pk not in scores}
    return _set(project, "disagreement", {**forgotten, **scores})


def _set(project: Project, column: str, values: Mapping[int, float]) -> int:
    """In batches, each a transaction of its own, so that nobody who ranks waits for more than one; locked in the order of ids."""
    changed = 0
    ids = sorted(values)
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"""
                WITH given AS (
                    SELECT * FROM unnest(%(ids)s::bigint[], %(values)s::float8[]) AS given(id, value)
                ), locked AS (
                    SELECT t.id FROM annotate_rankingtask t JOIN given USING (id)
                    WHERE t.project_id = %(project)s AND t.purpose = 'ranking' AND t.state <> 'closed'
                        AND t.{column} <> given.value
                    ORDER BY t.id FOR UPDATE OF t
                )
                UPDATE annotate_rankingtask t SET {column} = given.value FROM locked JOIN given USING (id) WHERE t.id = locked.id
                """,  # noqa: S608  # constants of this file
                {"project": project.pk, "ids": batch, "values": [float(values[pk]) for pk in batch]},
            )
            changed += cursor.rowcount
    return changed
