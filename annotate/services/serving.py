"""When somebody is given a task whose order is known: practice before anything else, gold now and then."""

from dataclasses import dataclass
from datetime import timedelta
from statistics import fmean

from django.db import connection
from django.utils import timezone
from django.utils.crypto import salted_hmac

from annotate.models import Assignment, Membership, RankingTask, record

Purpose = RankingTask.Purpose

LEASE_TRIES = 3

# Counts move under the task's lock, as everywhere. Gold comes to each person in an order of their own, and nobody waits for it;
# practice comes in one order to all, so it waits for the few milliseconds that somebody else holds the task's row. Whoever waits
# holds no task's lock: practice is never leased inside of a submission.
# How a statement that has chosen a task in `taken` counts the lease on it, and hands it out.
COUNT_LEASE = """counted AS (
    UPDATE annotate_rankingtask t SET leased = t.leased + 1 FROM taken WHERE t.id = taken.id RETURNING t.id
)"""
HAND_OUT = """INSERT INTO annotate_assignment
    (project_id, task_id, annotator_id, state, lease_until, shown_order, token, opened_at)
SELECT %(project)s, counted.id, %(annotator)s, 'leased', %(lease_until)s,
    (SELECT array_agg(completion_id ORDER BY random()) FROM annotate_taskcompletion WHERE task_id = counted.id),
    gen_random_uuid(), %(now)s
FROM counted
ON CONFLICT (task_id, annotator_id) DO UPDATE
    SET state = 'leased', lease_until = excluded.lease_until, opened_at = excluded.opened_at, ended_at = NULL
RETURNING annotate_assignment.*"""

LEASE_KNOWN = f"""
WITH taken AS MATERIALIZED (
    SELECT t.id FROM annotate_rankingtask t
    WHERE t.project_id = %(project)s AND t.purpose = %(purpose)s AND t.state = 'open'
      AND t.overlap > t.leased + t.submitted AND (%(task)s::bigint IS NULL OR t.id = %(task)s)
      AND NOT EXISTS (
        SELECT 1 FROM annotate_assignment a
        WHERE a.task_id = t.id AND a.annotator_id = %(annotator)s AND a.state <> 'expired')
    ORDER BY md5(t.id || ' ' || %(membership)s) LIMIT 1 FOR UPDATE OF t _WAIT_
), {COUNT_LEASE}, moved AS (
    UPDATE annotate_membership m SET served = m.served + %(turns)s FROM taken WHERE m.id = %(membership)s
)
{HAND_OUT}
"""  # noqa: S608  # constants of this file

PRACTICE = """
SELECT t.id, r.accuracy, t.state = 'open' AND coalesce(a.state, 'expired') IN ('expired', 'leased'), a.state = 'flagged'
FROM annotate_rankingtask t
LEFT JOIN annotate_assignment a ON a.task_id = t.id AND a.annotator_id = %s
LEFT JOIN annotate_ranking r ON r.assignment_id = a.id AND r.is_current AND r.accuracy IS NOT NULL
WHERE t.project_id = %s AND t.purpose = 'practice' ORDER BY t.id
"""


@dataclass(frozen=True)
class Practice:
    """How far somebody is in their practice: the accuracies of what they did, 0 to 1, and the ids of the tasks to come, in order."""

    done: list[float]
    left: list[int]
    reported: int = 0  # tasks that they flagged instead of ranking them

    @property
    def total(self) -> int:
        return len(self.done) + len(self.left)

    @property
    def score(self) -> float:
        """Mean accuracy so far, 0 to 1; 0 before the first answer."""
        return fmean(self.done) if self.done else 0.0


def must_practise(membership: Membership) -> bool:
    """Whether practice comes before this person's real tasks, if the project has practice tasks at all."""
    return (
        membership.role == Membership.Role.ANNOTATOR
        and membership.qualified_at is None
        and membership.project.practice_tasks > 0
    )


def read_practice(*, membership: Membership) -> Practice:
    with connection.cursor() as cursor:
        cursor.execute(PRACTICE, [membership.user_id, membership.project_id])
        rows = cursor.fetchall()
    done = [accuracy for _task, accuracy, _free, _reported in rows if accuracy is not None]
    free = [task for task, accuracy, is_free, _reported in rows if accuracy is None and is_free]
    reported = sum(bool(is_reported) for *_row, is_reported in rows)
    return Practice(done, free[: max(membership.project.practice_tasks - len(done), 0)], reported)


def current_practice(*, membership: Membership) -> Practice | None:
    """This person's practice while it lies before them. None for whoever need not practise, or when there is nothing to practise on."""
    if not must_practise(membership):
        return None
    practice = read_practice(membership=membership)
    # Whoever reported all of it has not passed: an admin looks at it.
    return practice if practice.total or practice.reported else None


def is_gold_turn(membership: Membership) -> bool:
    """Whether the next task of this person is to be gold.

    Of the tasks that they are given, one lies at a secret place in each block of 100 / gold_percent: the project's share is kept
    in every block, and nobody can foresee the moment.
    """
    if not gets_gold(membership):
        return False
    return membership.served == _place_of_gold(membership, _block_of(membership, membership.served))


def gets_gold(membership: Membership) -> bool:
    """Admins get none: they may read the known orders."""
    return membership.project.gold_percent > 0 and membership.role == Membership.Role.ANNOTATOR


def gold_to_come(*, membership: Membership, ordinary: int, available: int) -> int:
    """How many of the `available` gold tasks will come among this person's next `ordinary` ordinary ones.

    Added to the ordinary tasks that are left it gives a number that falls by one with every task, gold or not.
    """
    if not gets_gold(membership):
        return 0
    found, served = 0, membership.served
    while found < available:
        block = _block_of(membership, served)
        place = _place_of_gold(membership, block)
        if place < served:
            place = _place_of_gold(membership, block + 1)
        ordinary -= place - served
        if ordinary < 0:
            break
        found, served = found + 1, place + 1
    return found


def _block_of(membership: Membership, served: int) -> int:
    return served * membership.project.gold_percent // 100


def _place_of_gold(membership: Membership, block: int) -> int:
    percent = membership.project.gold_percent
    first, beyond = -(-block * 100 // percent), -(-(block + 1) * 100 // percent)
    digest = salted_hmac("annotate.gold", f"{membership.pk}:{block}", algorithm="sha256").digest()
    return first + int.from_bytes(digest[:8]) % (beyond - first)


def lease_known(*, membership: Membership) -> Assignment | None:
    """Lease a practice or gold task if it is time for one; the membership is locked, and holds nothing.

    None says that it is time for an ordinary task, unless practice has just ended with the membership paused.
    """
    for _try in range(LEASE_TRIES):
        practice = current_practice(membership=membership)
        if practice is None or not practice.left:
            break
        # None only when that very task left practice since it was looked up.
        if leased := _lease(membership, Purpose.PRACTICE, task=practice.left[0]):
            return leased
    if practice and not practice.left:
        settle_practice(membership=membership, practice=practice)
    if membership.paused_at or not is_gold_turn(membership):
        return None
    return _lease(membership, Purpose.GOLD)


def _lease(membership: Membership, purpose: Purpose, *, task: int | None = None) -> Assignment | None:
    now = timezone.now()
    parameters = {
        "now": now,
        "lease_until": now + timedelta(minutes=membership.project.lease_minutes),
        "annotator": membership.user_id,
        "project": membership.project_id,
        "membership": membership.pk,
        "purpose": purpose,
        "task": task,
        "turns": int(purpose == Purpose.GOLD),
    }
    statement = LEASE_KNOWN.replace("_WAIT_", "" if purpose == Purpose.PRACTICE else "SKIP LOCKED")
    leased = next(iter(Assignment.objects.raw(statement, parameters)), None)
    if leased is not None and purpose == Purpose.GOLD:
        membership.served += 1
    return leased


def settle_practice(*, membership: Membership, practice: Practice) -> None:
    """Practice is over: the locked membership is qualified, or paused until an admin decides."""
    project, now = membership.project, timezone.now()
    score = round(100 * practice.score, 1)
    # Compared unrounded, but for what adding up thirds of pairs loses.
    if 100 * practice.score >= project.practice_threshold - 1e-9:
        membership.qualified_at = now
        verb = "member.qualified"
    else:
        membership.paused_at, membership.pause_reason = now, Membership.PauseReason.PRACTICE
        verb = "member.paused"
    membership.save(update_fields=["qualified_at", "paused_at", "pause_reason"])
    details = {
        "reason": "practice",
        "percent": score,
        "tasks": len(practice.done),
        "needed": project.practice_threshold,
    }
    record(None, verb, f"user:{membership.user_id}", project=project, **details)
