"""Who is given tasks and who is not: gold answers that pause somebody, and the admin's hand over pause and practice."""

import uuid
from statistics import fmean
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Assignment, Membership, Ranking, RankingTask, User, record

from .assignments import Refused, held_assignment, lock_membership, release_person
from .serving import must_practise, read_practice, settle_practice

PauseReason = Membership.PauseReason


def judge(*, membership: Membership, task: RankingTask) -> None:
    """See what a ranking that was just stored says of its annotator; the membership is locked."""
    if task.purpose == RankingTask.Purpose.GOLD:
        _judge_gold(membership)
    elif task.purpose == RankingTask.Purpose.PRACTICE and must_practise(membership) and not membership.paused_at:
        practice = read_practice(membership=membership)
        if not practice.left:
            settle_practice(membership=membership, practice=practice)


def _judge_gold(membership: Membership) -> None:
    project = membership.project
    if not project.gold_threshold or membership.role != Membership.Role.ANNOTATOR or membership.paused_at:
        return
    answered = Ranking.objects.current().filter(
        project=project,
        annotator_id=membership.user_id,
        accuracy__isnull=False,
        task__purpose=RankingTask.Purpose.GOLD,
    )
    if membership.resumed_at:
        answered = answered.filter(created_at__gt=membership.resumed_at)
    latest: list[Any] = list(answered.order_by("-created_at").values_list("accuracy", flat=True)[: project.gold_window])
    if len(latest) < project.gold_window:
        return
    percent = 100 * fmean(latest)
    if percent >= project.gold_threshold - 1e-9:
        return
    details: dict[str, object] = {"percent": round(percent, 1), "tasks": len(latest), "needed": project.gold_threshold}
    _pause(member=membership, reason=PauseReason.GOLD, actor=None, details=details)


def _pause(*, member: Membership, reason: str, actor: User | None, details: dict[str, object]) -> None:
    if held_assignment(membership=member):
        release_person(membership=member)
    member.paused_at, member.pause_reason = timezone.now(), reason
    member.save(update_fields=["paused_at", "pause_reason"])
    record(actor, "member.paused", f"user:{member.user_id}", project=member.project, reason=reason, **details)


@transaction.atomic
def pause_member(*, membership: Membership, member: Membership) -> None:
    """Give `member` no tasks until an admin resumes them; what they hold is given back, draft kept. Raises Refused if they are paused."""
    lock_membership(member)
    if member.paused_at:
        raise Refused("paused", _("%(name)s is paused already.") % {"name": member.user.username})
    _pause(member=member, reason=PauseReason.ADMIN, actor=membership.user, details={})


@transaction.atomic
def resume_member(*, membership: Membership, member: Membership) -> None:
    """Give them tasks again; gold is judged anew from now on, and practice that was not passed begins again.

    Raises Refused if they are not paused.
    """
    lock_membership(member)
    if not member.paused_at:
        raise Refused("not_paused", _("%(name)s is not paused.") % {"name": member.user.username})
    reason = member.pause_reason
    if reason == PauseReason.PRACTICE:
        _forget_practice(member)
    _resume(member)
    record(membership.user, "member.resumed", f"user:{member.user_id}", project=member.project, reason=reason)


@transaction.atomic
def qualify_member(*, membership: Membership, member: Membership) -> None:
    """Count practice as passed, whatever they did in it. Raises Refused if it does already."""
    lock_membership(member)
    if member.qualified_at:
        raise Refused("qualified", _("%(name)s has passed practice already.") % {"name": member.user.username})
    held = held_assignment(membership=member)
    if held and held.task.purpose == RankingTask.Purpose.PRACTICE:
        release_person(membership=member)
    if member.pause_reason == PauseReason.PRACTICE:
        _resume(member)
    member.qualified_at = timezone.now()
    member.save(update_fields=["qualified_at"])
    record(membership.user, "member.qualified", f"user:{member.user_id}", project=member.project, reason="admin")


def _resume(member: Membership) -> None:
    member.paused_at, member.pause_reason, member.resumed_at = None, "", timezone.now()
    member.save(update_fields=["paused_at", "pause_reason", "resumed_at"])


def _forget_practice(member: Membership) -> None:
    """Open the practice tasks that they did anew; what they answered stays, as taken back."""
    now = timezone.now()
    rankings = Ranking.objects.current().filter(
        project_id=member.project_id, annotator_id=member.user_id, task__purpose=RankingTask.Purpose.PRACTICE
    )
    done = dict(rankings.exclude(assignment=None).values_list("assignment_id", "task_id"))
    tasks = RankingTask.objects.filter(pk__in=done.values())
    list(tasks.select_for_update().order_by("pk").values_list("pk"))
    Ranking.objects.filter(pk__in=list(rankings.values_list("pk", flat=True))).update(
        is_current=False, withdrawn_at=now
    )
    # Each opening anew has a token of its own, so that a replay of the old submission is recognised.
    for assignment in Assignment.objects.filter(pk__in=done):
        assignment.token, assignment.draft, assignment.state = uuid.uuid4(), None, Assignment.State.EXPIRED
        assignment.save(update_fields=["token", "draft", "state"])
    tasks.update(submitted=F("submitted") - 1)
