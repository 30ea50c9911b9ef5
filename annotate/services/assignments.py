"""Handing out tasks: who holds which, for how long.

Locks are always taken in the order membership → task → assignment. A person's own requests (two tabs, a repeated click) line up
behind their membership; different people meet only at a task.
"""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotate.models import QUEUE_ORDER, Assignment, Membership, Project, RankingTask

from .progress import reached_limit
from .queue import take_next
from .serving import current_practice, lease_known, must_practise

State = Assignment.State
EXPIRE_BATCH = 200
LEASE_TRIES = 3
# What is read under a membership's lock.
GUARDED = ("role", "queue_place", "qualified_at", "paused_at", "pause_reason", "resumed_at", "served")
# Written out, since composing them anew would cost each submission more than Postgres takes for them.
LOCK_MEMBERSHIP = f"""
SELECT id, {", ".join(GUARDED)} FROM annotate_membership WHERE id = %s AND left_at IS NULL FOR UPDATE
"""  # noqa: S608  # constants of this file
LOCK_TASK = """
SELECT t.* FROM annotate_rankingtask t JOIN annotate_assignment a ON a.task_id = t.id
WHERE a.id = %s AND a.annotator_id = %s AND a.project_id = %s FOR UPDATE OF t
"""
DONE: dict[str, str] = {
    State.SKIPPED: gettext_noop("You have skipped this task already."),
    State.FLAGGED: gettext_noop("You have flagged this task already."),
    State.SUBMITTED: gettext_noop("You have ranked this task already."),
}


class Refused(Exception):
    """What was asked for cannot be done any more. `message` is for the person; `code` is for the page."""

    def __init__(self, code: str, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class NotAMember(Refused):
    """Somebody was removed between the check of their membership and its lock."""

    def __init__(self, membership: Membership) -> None:
        name = membership.user.username
        super().__init__("not_a_member", _("%(name)s is not a member any more.") % {"name": name}, status=404)


@dataclass
class Shown:
    """What the ranking page shows of one assignment; texts are as stored, in the shown order."""

    assignment: Assignment
    messages: list[dict[str, str]] = field(default_factory=list)
    completions: list[tuple[str, str]] = field(default_factory=list)  # (text, reasoning)


def lock_membership(membership: Membership) -> Membership:
    """The same membership, read anew under its row lock. Raises NotAMember when they were removed meanwhile."""
    row = next(iter(Membership.objects.raw(LOCK_MEMBERSHIP, [membership.pk])), None)
    if row is None:
        raise NotAMember(membership)
    for name in GUARDED:
        setattr(membership, name, getattr(row, name))
    return membership


def lease_time(project: Project) -> timedelta:
    return timedelta(minutes=project.lease_minutes)


def held_assignment(*, membership: Membership) -> Assignment | None:
    """What this person is ranking now; read it under their membership's lock to rely on it."""
    return _held(membership).select_related("task").first()


def _held(membership: Membership) -> QuerySet[Assignment]:
    return Assignment.objects.filter(
        annotator_id=membership.user_id, project_id=membership.project_id, state=State.LEASED
    )


def current_assignment(*, membership: Membership) -> Assignment | None:
    """The task this person holds, its lease renewed, or else the next one, leased. None when there is none for them."""
    project = membership.project
    if project.state != Project.State.ACTIVE:
        return None
    held = held_assignment(membership=membership)
    if held and held.task.state == RankingTask.State.OPEN and renew_lease(project=project, assignment=held):
        return held
    with transaction.atomic():
        lock_membership(membership)
        return lease_next(membership=membership)


def has_task(*, membership: Membership) -> bool:
    """Whether the ranking page would have a task for this person now: the one they hold, or a free one."""
    project = membership.project
    if project.state != Project.State.ACTIVE or not membership.may_rank or membership.paused_at:
        return False
    if current_practice(membership=membership):
        return True
    taken = Assignment.objects.filter(task=OuterRef("pk"), annotator_id=membership.user_id)
    tasks = RankingTask.objects.filter(project=project, state=RankingTask.State.OPEN)
    free = tasks.filter(
        ~Exists(taken.exclude(state=State.EXPIRED)),
        purpose=RankingTask.Purpose.RANKING,
        overlap__gt=F("leased") + F("submitted"),
    )
    holds = tasks.filter(pk__in=_held(membership).values("task_id")).exists()
    # In the queue's order, so that its index serves: any order at all may step over everything that is ranked.
    following = free.order_by(*QUEUE_ORDER).values_list("pk")[:1]
    return holds or (not reached_limit(membership=membership) and bool(following))


def lease_next(*, membership: Membership, may_hold: bool = True) -> Assignment | None:
    """Lease the next task to this person, whose membership this transaction has locked; whatever they hold already comes first.

    `may_hold=False` says that they are known to hold nothing, which spares a look.
    """
    project = membership.project
    if project.state != Project.State.ACTIVE or not membership.may_rank or membership.paused_at:
        return None
    if may_hold and (held := held_assignment(membership=membership)):
        if held.task.state == RankingTask.State.OPEN:
            return held
        give_back(task_id=held.task_id, assignment_id=held.pk)
    if reached_limit(membership=membership):
        return None
    if (known := lease_known(membership=membership)) or membership.paused_at:
        return known
    for _try in range(LEASE_TRIES):
        leased = take_next(membership, timezone.now() + lease_time(project))
        if leased is not None or not expire_leases(project=project):
            return leased
    return None


def renew_lease(*, project: Project, assignment: Assignment) -> bool:
    """Keep a task that is still held. False when it no longer is."""
    assignment.lease_until = timezone.now() + lease_time(project)
    held = Assignment.objects.filter(pk=assignment.pk, state=State.LEASED)
    return bool(held.update(lease_until=assignment.lease_until))


def lock_assignment(*, membership: Membership, pk: int) -> Assignment:
    """One's own assignment with its task, both locked for the rest of the transaction, the membership too.

    Raises Assignment.DoesNotExist for anybody else's, and for another project's; Refused when they may no longer rank.
    """
    check_may_rank(lock_membership(membership))
    mine = [pk, membership.user_id, membership.project_id]
    task = next(iter(RankingTask.objects.raw(LOCK_TASK, mine)), None)
    if task is None:
        raise Assignment.DoesNotExist
    # Read only now: the task's lock guards its assignments' states.
    assignment = Assignment.objects.raw("SELECT * FROM annotate_assignment WHERE id = %s", [pk])[0]
    assignment.task = task
    return assignment


def check_may_rank(membership: Membership) -> None:
    """Raises Refused when this person, whose membership is locked, is no ranker any more."""
    if not membership.may_rank:
        raise Refused("may_not_rank", _("Your role in this project was changed: ranking is no longer part of it."), 403)


def check_admitted(*, membership: Membership, task: RankingTask) -> None:
    """Whether this person, whose membership is locked, may rank this task now. Raises Refused while they are paused, and for
    practice that lies behind them.
    """
    if membership.paused_at:
        raise Refused("paused", _("You are given no tasks just now. Your draft is kept; reload the page to see why."))
    if task.purpose == RankingTask.Purpose.PRACTICE and not must_practise(membership):
        raise Refused("task_closed", _("Practice is behind you: reload the page to go on with real tasks."))


def check_rankable(assignment: Assignment) -> None:
    """Whether a locked assignment may still be ranked: held, or run out with room left. Raises Refused, in words, if not."""
    task = assignment.task
    if assignment.state in (State.SKIPPED, State.FLAGGED, State.SUBMITTED):
        raise Refused("already_done", _(DONE[assignment.state]))
    if task.state != RankingTask.State.OPEN:
        raise Refused("task_closed", _("This task was taken out of the queue meanwhile. Your draft is kept."))
    if assignment.state == State.EXPIRED and task.leased + task.submitted >= task.overlap:
        raise Refused(
            "lease_lost",
            _("Your time for this task ran out and others have taken it meanwhile. Your draft is kept."),
        )


@transaction.atomic
def give_back(*, task_id: int, assignment_id: int, state: Assignment.State = State.EXPIRED) -> bool:
    """End one lease without a ranking; the draft stays. False when it was not held any more."""
    RankingTask.objects.select_for_update().values("pk").get(pk=task_id)
    ended = Assignment.objects.filter(pk=assignment_id, state=State.LEASED).update(state=state, ended_at=timezone.now())
    if ended:
        RankingTask.objects.filter(pk=task_id).update(leased=F("leased") - 1)
    return bool(ended)


def check_limits(*, membership: Membership, assignment: Assignment) -> None:
    """Whether a locked assignment whose lease ran out is within the project's limits; what is held always is. Raises Refused."""
    if assignment.state != State.EXPIRED or assignment.task.purpose == RankingTask.Purpose.PRACTICE:
        return
    if reached_limit(membership=membership):
        raise Refused(
            "limit_reached", _("You have reached the number of rankings that this project asks of one person.")
        )


def save_draft(*, membership: Membership, pk: int, token: Any, draft: dict[str, Any]) -> None:
    """Keep what the annotator has done so far, and their lease.

    Raises Assignment.DoesNotExist, and Refused when the task can no longer be ranked by them; the draft is kept even then.
    """
    now = timezone.now()
    mine = Assignment.objects.filter(pk=pk, annotator_id=membership.user_id, project_id=membership.project_id)
    opening = mine.filter(token=token)
    lease_until = now + lease_time(membership.project)
    if opening.filter(state=State.LEASED).update(draft=draft, draft_saved_at=now, lease_until=lease_until):
        return
    if not opening.filter(state=State.EXPIRED).update(draft=draft, draft_saved_at=now):
        mine.get()
        raise Refused("stale", _("This task was finished or opened anew elsewhere. Reload the page."))
    with transaction.atomic():
        assignment = lock_assignment(membership=membership, pk=pk)
        check_admitted(membership=membership, task=assignment.task)
        check_rankable(assignment)
        check_limits(membership=membership, assignment=assignment)
        if held_assignment(membership=membership) is None:
            RankingTask.objects.filter(pk=assignment.task_id).update(leased=F("leased") + 1)
            opening.update(state=State.LEASED, lease_until=lease_until, ended_at=None)


@transaction.atomic
def skip(*, membership: Membership, pk: int) -> None:
    """Leave a task to others; it never comes back to this person. Skipping twice is skipping once."""
    assignment = lock_assignment(membership=membership, pk=pk)
    if assignment.state == State.SKIPPED:
        return
    if assignment.state in (State.SUBMITTED, State.FLAGGED):
        raise Refused("already_done", _(DONE[assignment.state]))
    if assignment.task.purpose == RankingTask.Purpose.PRACTICE:
        raise Refused("practice", _("Practice is not skipped: give the order that you think best."), 422)
    end_unranked(assignment=assignment, state=State.SKIPPED)


def end_unranked(*, assignment: Assignment, state: Assignment.State) -> None:
    """Close a locked assignment, held or lapsed, without a ranking."""
    if assignment.state == State.LEASED:
        RankingTask.objects.filter(pk=assignment.task_id).update(leased=F("leased") - 1)
    assignment.state, assignment.ended_at = state, timezone.now()
    assignment.save(update_fields=["state", "ended_at"])


@transaction.atomic
def take_out(*, task: RankingTask, state: RankingTask.State) -> None:
    """Take a locked task out of the queue; whoever is ranking it loses it, but for the draft."""
    Assignment.objects.filter(task=task, state=State.LEASED).update(state=State.EXPIRED, ended_at=timezone.now())
    task.state, task.leased = state, 0
    task.save(update_fields=["state", "leased"])


def expire_leases(*, project: Project | None = None) -> int:
    """Give back what vanished annotators hold, a bounded batch at a time. Returns how many leases were ended."""
    total = 0
    while True:
        found, ended = _expire_batch(project)
        total += ended
        if found < EXPIRE_BATCH or not ended:
            return total


@transaction.atomic
def _expire_batch(project: Project | None) -> tuple[int, int]:
    now = timezone.now()
    lapsed = Assignment.objects.filter(state=State.LEASED, lease_until__lt=now)
    if project is not None:
        lapsed = lapsed.filter(project=project)
    task_ids = list(lapsed.order_by("lease_until").values_list("task_id", flat=True)[:EXPIRE_BATCH])
    if not task_ids:
        return 0, 0
    with connection.cursor() as cursor:
        # A task that somebody works on just now is passed over: its own request will see to it, or the next round.
        cursor.execute(
            """
            SELECT id FROM annotate_rankingtask WHERE id = ANY(%s) ORDER BY id FOR UPDATE SKIP LOCKED
            """,
            [task_ids],
        )
        locked = [row[0] for row in cursor.fetchall()]
        cursor.execute(
            """
            WITH ended AS (
                UPDATE annotate_assignment SET state = 'expired', ended_at = %s
                WHERE task_id = ANY(%s) AND state = 'leased' AND lease_until < %s RETURNING task_id
            ), counts AS (
                SELECT task_id, count(*) AS ended FROM ended GROUP BY task_id
            ), freed AS (
                UPDATE annotate_rankingtask t SET leased = t.leased - counts.ended FROM counts WHERE t.id = counts.task_id
            )
            SELECT coalesce(sum(ended), 0) FROM counts
            """,
            [now, locked, now],
        )
        return len(task_ids), int(cursor.fetchone()[0])


@transaction.atomic
def release_person(*, membership: Membership) -> None:
    """Give back what a person holds in a project: they leave it, or may no longer rank."""
    lock_membership(membership)
    held = held_assignment(membership=membership)
    if held is not None:
        give_back(task_id=held.task_id, assignment_id=held.pk)


def load_shown(assignment: Assignment) -> Shown:
    """The texts of an assignment, in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT p.messages::text, c.text, c.reasoning
            FROM unnest(%s::bigint[]) WITH ORDINALITY AS shown(id, position)
            JOIN annotate_completion c ON c.id = shown.id
            JOIN annotate_prompt p ON p.id = c.prompt_id
            ORDER BY shown.position
            """,
            [assignment.shown_order],
        )
        rows = cursor.fetchall()
    return Shown(assignment, json.loads(rows[0][0]), [(text, reasoning) for _messages, text, reasoning in rows])
