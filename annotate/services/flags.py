"""Taking a task out of the queue, and settling why."""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Assignment, Flag, Membership, RankingTask, record

from .assignments import DONE, Refused, end_unranked, lock_assignment, take_out


@transaction.atomic
def raise_flag(*, membership: Membership, pk: int, reason: str, comment: str = "") -> None:
    """Flag the task of one's own assignment; it leaves the queue until an admin has looked. Twice is once.

    Raises Assignment.DoesNotExist, and Refused when the task was ranked or skipped by this person already.
    """
    assignment = lock_assignment(membership=membership, pk=pk)
    task = assignment.task
    if assignment.state == Assignment.State.FLAGGED:
        return
    if assignment.state in (Assignment.State.SUBMITTED, Assignment.State.SKIPPED):
        raise Refused("already_done", _(DONE[assignment.state]))
    end_unranked(assignment=assignment, state=Assignment.State.FLAGGED)
    _flag(membership, task, reason, comment)
    if task.state != RankingTask.State.CLOSED:
        take_out(task=task, state=RankingTask.State.FLAGGED)


@transaction.atomic
def take_task_out(*, membership: Membership, task: RankingTask, reason: str, comment: str = "", close: bool) -> None:
    """Flag a task without ranking it, or close it at once: its flag is then settled already. Drafts of it stay.

    Raises Refused when it has left the queue meanwhile.
    """
    task = RankingTask.objects.select_for_update().get(pk=task.pk)
    if task.state != RankingTask.State.OPEN:
        raise Refused("task_closed", _("This task was taken out of the queue meanwhile."))
    flag = _flag(membership, task, reason, comment)
    if close:
        settle_flag(membership=membership, flag=flag, reopen=False, resolution=comment)
    else:
        take_out(task=task, state=RankingTask.State.FLAGGED)


@transaction.atomic
def reopen_task(*, membership: Membership, task: RankingTask) -> None:
    """Put a closed task back into the queue. Raises Refused when it is not closed any more."""
    task = RankingTask.objects.select_for_update().get(pk=task.pk)
    if task.state != RankingTask.State.CLOSED:
        raise Refused("not_closed", _("This task is not closed any more."))
    task.state = RankingTask.State.OPEN
    task.save(update_fields=["state"])
    record(membership.user, "task.reopened", f"task:{task.pk}", project=membership.project)


@transaction.atomic
def settle_flag(*, membership: Membership, flag: Flag, reopen: bool, resolution: str = "") -> None:
    """Close the task for good, or put it back into the queue. All open flags of the task are settled with it.

    Raises Refused when the flag was settled already.
    """
    task = RankingTask.objects.select_for_update().get(pk=flag.task_id)
    waiting = Flag.objects.filter(task=task, settled_at__isnull=True)
    if not waiting.filter(pk=flag.pk).exists():
        raise Refused("already_settled", _("This flag was settled already."))
    waiting.update(settled_at=timezone.now(), settled_by=membership.user, resolution=resolution)
    if reopen:
        task.state = RankingTask.State.OPEN
        task.save(update_fields=["state"])
    else:
        take_out(task=task, state=RankingTask.State.CLOSED)
    verb = "task.reopened" if reopen else "task.closed"
    record(membership.user, verb, f"task:{task.pk}", project=membership.project, flag=flag.pk, resolution=resolution)


def _flag(membership: Membership, task: RankingTask, reason: str, comment: str) -> Flag:
    flag = Flag.objects.create(
        project=membership.project, task=task, raised_by=membership.user, reason=reason, comment=comment
    )
    record(membership.user, "task.flagged", f"task:{task.pk}", project=membership.project, flag=flag.pk, reason=reason)
    return flag
