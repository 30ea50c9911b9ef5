"""Storing what people decided. A ranking is a weak order; rows are kept for good."""

import json
import uuid
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Assignment, Membership, Project, Ranking, RankingTask, record

from .assignments import (
    Refused,
    check_admitted,
    check_limits,
    check_may_rank,
    check_rankable,
    give_back,
    lease_time,
    lock_membership,
)
from .known import known_accuracy
from .pausing import judge
from .webhooks import announce_submitted, announce_withdrawn

Places = list[list[str]]
Ratings = dict[str, dict[str, int]]


def letters(count: int) -> str:
    """The names of `count` shown completions: letters(3) == "ABC"."""
    return "ABCDEFGHI"[:count]


# One statement, so that storing costs one round trip: the ranking, its places, the assignment, the counts, the audit row.
STORE = """
WITH ranking AS (
    INSERT INTO annotate_ranking (uid, project_id, task_id, assignment_id, annotator_id, token, revision, is_current,
        verdict, reasons, comment, accuracy, seconds, created_at)
    SELECT %(uid)s, %(project)s, %(task)s, %(assignment)s, %(annotator)s, %(token)s,
        coalesce((SELECT max(revision) FROM annotate_ranking WHERE assignment_id = %(assignment)s), 0) + 1, true,
        %(verdict)s, %(reasons)s::varchar[], %(comment)s, %(accuracy)s, %(seconds)s, %(now)s
    RETURNING id
), ranked AS (
    INSERT INTO annotate_rankedcompletion (ranking_id, completion_id, rank, ratings)
    SELECT ranking.id, place.completion, place.rank, place.ratings::jsonb
    FROM ranking,
        unnest(%(completions)s::bigint[], %(ranks)s::smallint[], %(ratings)s::text[]) AS place(completion, rank, ratings)
), done AS (
    UPDATE annotate_assignment SET state = 'submitted', ended_at = %(now)s, draft = NULL, draft_saved_at = NULL
    WHERE id = %(assignment)s
), counted AS (
    UPDATE annotate_rankingtask
    SET leased = leased - %(held)s, submitted = submitted + 1, agreement = NULL, compared_at = NULL WHERE id = %(task)s
)
INSERT INTO annotate_auditevent (project_id, actor_id, verb, target, details, at)
SELECT %(project)s, %(annotator)s, 'ranking.submitted', 'ranking:' || ranking.id, %(details)s::jsonb, %(now)s FROM ranking
RETURNING target
"""


def submit_ranking(
    *,
    membership: Membership,
    assignment: Assignment,
    token: uuid.UUID,
    verdict: str,
    places: Places,
    reasons: list[str] | None = None,
    comment: str = "",
    ratings: Ratings | None = None,
) -> bool:
    """Store a ranking of an assignment that `lock_assignment` has locked in this transaction.

    `places` is a weak order of the shown letters, best first, `ratings` {letter: {criterion: 1 to 5}} (`RankingForm` has
    checked both). Returns False when this very order was stored before: its ratings, reasons and comment stand. Raises Refused
    when the opening was submitted otherwise, taken back or lost.
    """
    ranks = ranks_of(assignment.shown_order, verdict, places)
    if assignment.token != token or assignment.state == Assignment.State.SUBMITTED:
        _check_repeated(assignment, token, verdict, ranks)
        return False
    check_admitted(membership=membership, task=assignment.task)
    check_rankable(assignment)
    check_limits(membership=membership, assignment=assignment)
    now, uid = timezone.now(), uuid.uuid4()
    shown = zip(letters(len(assignment.shown_order)), assignment.shown_order, strict=True)
    rated = {completion: (ratings or {}).get(letter, {}) for letter, completion in shown}
    with connection.cursor() as cursor:
        cursor.execute(
            STORE,
            {
                "uid": uid,
                "held": int(assignment.state == Assignment.State.LEASED),
                "project": membership.project_id,
                "task": assignment.task_id,
                "assignment": assignment.pk,
                "annotator": membership.user_id,
                "token": token,
                "verdict": verdict,
                "reasons": reasons or [],
                "comment": comment,
                "accuracy": known_accuracy(task=assignment.task, ranks=ranks, verdict=verdict),
                "seconds": max(0.0, (now - assignment.opened_at).total_seconds()),
                "now": now,
                "completions": list(ranks),
                "ranks": list(ranks.values()),
                "ratings": [json.dumps(rated[completion]) for completion in ranks],
                "details": json.dumps({"task": assignment.task_id, "verdict": verdict}),
            },
        )
    announce_submitted(membership, assignment.task, uid=uid, role=Ranking.Role.ANNOTATOR, verdict=verdict)
    judge(membership=membership, task=assignment.task)
    return True


def ranks_of(shown_order: list[int], verdict: str, places: Places) -> dict[int, int]:
    """{completion id: rank}, 1 is best, ties share a rank, dense; all 1 when nothing was good."""
    if verdict == Ranking.Verdict.ALL_BAD:
        return dict.fromkeys(shown_order, 1)
    by_letter = dict(zip(letters(len(shown_order)), shown_order, strict=True))
    return {by_letter[letter]: rank for rank, place in enumerate(places, start=1) for letter in place}


def places_of(ranking: Ranking, shown_order: list[int]) -> Places:
    """The stored order in the letters under which it was shown."""
    by_completion = dict(zip(shown_order, letters(len(shown_order)), strict=True))
    places: dict[int, list[str]] = {}
    for completion, rank in ranking.ranked_completions.values_list("completion_id", "rank"):
        places.setdefault(rank, []).append(by_completion[completion])
    return [sorted(places[rank]) for rank in sorted(places)]


def ratings_of(ranking: Ranking, shown_order: list[int]) -> Ratings:
    """{letter: {criterion: 1 to 5}} of what was rated."""
    by_completion = dict(zip(shown_order, letters(len(shown_order)), strict=True))
    rated = ranking.ranked_completions.exclude(ratings={}).values_list("completion_id", "ratings")
    return {by_completion[completion]: ratings for completion, ratings in rated}


def _check_repeated(assignment: Assignment, token: uuid.UUID, verdict: str, ranks: dict[int, int]) -> None:
    stored = Ranking.objects.filter(token=token, assignment=assignment).first()
    if stored is None and assignment.state == Assignment.State.SUBMITTED:
        raise Refused("already_submitted", _("You have ranked this task already."))
    if stored is None:
        raise Refused("stale", _("This task was opened anew elsewhere. Reload the page to go on."))
    if not stored.is_current:
        raise Refused("taken_back", _("You took this ranking back. Reload the page to rank the task again."))
    if stored.verdict != verdict or dict(stored.ranked_completions.values_list("completion_id", "rank")) != ranks:
        raise Refused("already_submitted", _("Another order was submitted for this task already; it stands."))


def last_ranking(*, membership: Membership) -> Ranking | None:
    """The submission that can be taken back: one's latest, no older than a lease."""
    since = timezone.now() - lease_time(membership.project)
    mine = Ranking.objects.current().filter(
        project_id=membership.project_id,
        annotator_id=membership.user_id,
        created_at__gte=since,
        role=Ranking.Role.ANNOTATOR,
    )
    latest = mine.select_related("task").order_by("-created_at").first()
    # Whoever has seen the known order cannot rank the task anew.
    return latest if latest and latest.task.purpose != RankingTask.Purpose.PRACTICE else None


@transaction.atomic
def undo_last(*, membership: Membership, token: uuid.UUID) -> None:
    """Take one's latest submission back and open its task again, as it was. What is held now is given back, draft kept.

    `token` is the one it was submitted with, so that asking again takes nothing more back. Raises Refused when there is
    nothing to take back, something else was submitted since, or the task has left the queue.
    """
    check_may_rank(lock_membership(membership))
    mine = Ranking.objects.filter(project_id=membership.project_id, annotator_id=membership.user_id)
    if mine.filter(token=token, is_current=False).exists():
        return
    ranking = last_ranking(membership=membership)
    if ranking is None or membership.project.state != Project.State.ACTIVE or membership.paused_at:
        raise Refused("nothing_to_undo", _("There is no recent ranking of yours to take back."))
    if ranking.token != token:
        raise Refused("stale", _("You have ranked more elsewhere since. Reload the page to see what undo takes back."))
    _reopen(membership, ranking)


@transaction.atomic
def revise(*, membership: Membership, token: uuid.UUID) -> None:
    """Open the task of one's own earlier ranking again, as undo does with the latest one; its row stays as history.

    `token` is the one it was submitted with, so that asking again opens nothing more. Raises Refused, in words.
    """
    check_may_rank(lock_membership(membership))
    mine = Ranking.objects.filter(
        project_id=membership.project_id, annotator_id=membership.user_id, role=Ranking.Role.ANNOTATOR
    )
    ranking = mine.select_related("task", "assignment").filter(token=token).first()
    if ranking is None or ranking.assignment is None:
        raise Refused("no_ranking", _("There is no such ranking of yours in this project."), 404)
    if not ranking.is_current:
        if ranking.assignment.state == Assignment.State.LEASED:
            return
        raise Refused("stale", _("You took this ranking back or revised it already; the newest one is listed here."))
    if membership.project.state != Project.State.ACTIVE:
        raise Refused("paused", _("The project is not active: rankings can be revised when an admin has resumed it."))
    if membership.paused_at:
        raise Refused("paused", _("You are given no tasks just now, so nothing can be revised either."))
    _reopen(membership, ranking)


def _reopen(membership: Membership, ranking: Ranking) -> None:
    """Withdraw a current ranking of the locked membership and lease its task to them again; what they hold is given back."""
    held = Assignment.objects.filter(
        annotator_id=membership.user_id, project_id=membership.project_id, state=Assignment.State.LEASED
    ).first()
    task_ids = [ranking.task_id, *([held.task_id] if held else [])]
    tasks = {task.pk: task for task in RankingTask.objects.select_for_update().filter(pk__in=task_ids).order_by("pk")}
    task = tasks[ranking.task_id]
    if task.state != RankingTask.State.OPEN:
        raise Refused("task_closed", _("That task was taken out of the queue; its ranking can no longer be changed."))
    decided = Ranking.objects.current().filter(task=task, role=Ranking.Role.ADJUDICATOR)
    # Gold is revised like any other: a refusal would tell which tasks are gold.
    if task.purpose == RankingTask.Purpose.PRACTICE or decided.exists():
        raise Refused("settled", _("This ranking has been evaluated already; it can no longer be changed."))
    if held is not None:
        give_back(task_id=held.task_id, assignment_id=held.pk)
    now = timezone.now()
    ranking.is_current, ranking.withdrawn_at = False, now
    ranking.save(update_fields=["is_current", "withdrawn_at"])
    announce_withdrawn(membership.project, task, ranking)
    assignment = Assignment.objects.select_related("task").get(rankings=ranking)
    assignment.state = Assignment.State.LEASED
    assignment.token = uuid.uuid4()
    # So that the seconds of the next revision hold those of the first.
    assignment.opened_at = now - timedelta(seconds=ranking.seconds)
    assignment.lease_until, assignment.ended_at = now + lease_time(membership.project), None
    assignment.draft, assignment.draft_saved_at = draft_of(ranking, assignment.shown_order), now
    assignment.save()
    RankingTask.objects.filter(pk=ranking.task_id).update(
        leased=F("leased") + 1, submitted=F("submitted") - 1, agreement=None, compared_at=None
    )
    record(
        membership.user,
        "ranking.taken_back",
        f"ranking:{ranking.pk}",
        project=membership.project,
        task=ranking.task_id,
    )


def draft_of(ranking: Ranking, shown_order: list[int]) -> dict[str, Any]:
    all_bad = ranking.verdict == Ranking.Verdict.ALL_BAD
    return {
        "verdict": ranking.verdict,
        "places": [] if all_bad else places_of(ranking, shown_order),
        "comment": ranking.comment,
        "reasons": ranking.reasons,
        "ratings": ratings_of(ranking, shown_order),
    }
