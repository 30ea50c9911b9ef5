"""Tasks whose order is known: gold, hidden among the others, and practice, explained afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Assignment, Completion, KnownOrder, Membership, Project, Ranking, RankingTask, record

from .adjudication import ranks_by_task
from .assignments import Refused
from .overlap import ENDLESS, overlap_of
from .serving import current_practice

Purpose = RankingTask.Purpose
Ranks = dict[int, int]  # {completion id: rank}, 1 is best, equal ranks are a tie

CANDIDATES = 20
EXAMPLES = 3
WRONG_PAIRS = 2


def accuracy_of(known: Ranks, ranks: Ranks, verdict: str) -> float:
    """The share, 0 to 1, of the pairs which `known` orders strictly that `ranks` orders alike.

    A tie counts half. “All bad” orders nothing and counts 0: whoever always chose it would otherwise be half right.
    """
    if verdict == Ranking.Verdict.ALL_BAD:
        return 0.0
    return fmean(_alike(ranks[better], ranks[worse]) for better, worse in strict_pairs(known))


def _alike(better: int, worse: int) -> float:
    return 0.5 if better == worse else float(better < worse)


def strict_pairs(known: Ranks) -> list[tuple[int, int]]:
    """(better, worse) of every two completions that the known order does not tie."""
    ordered = sorted(known, key=lambda completion: (known[completion], completion))
    return [(one, other) for one, other in combinations(ordered, 2) if known[one] < known[other]]


def ranks_of_known(known: KnownOrder) -> Ranks:
    return {int(completion): rank for completion, rank in known.ranks.items()}


def known_accuracy(*, task: RankingTask, ranks: Ranks, verdict: str) -> float | None:
    """What `Ranking.accuracy` holds for an order of this task; None for an ordinary one."""
    if task.purpose == Purpose.RANKING:
        return None
    return accuracy_of(ranks_of_known(KnownOrder.objects.get(task=task)), ranks, verdict)


def check_ranks(task: RankingTask, ranks: Ranks) -> Ranks:
    """The same order without gaps. Raises Refused unless it orders exactly the task's completions, two of them strictly."""
    if set(ranks) != set(task.completions.values_list("pk", flat=True)):
        raise Refused("invalid", _("The order must name each answer of the task once."), 422)
    places = sorted(set(ranks.values()))
    if len(places) < 2:
        raise Refused(
            "invalid", _("At least one answer must be better than another: a tie of all cannot be missed."), 422
        )
    return {completion: places.index(rank) + 1 for completion, rank in ranks.items()}


@transaction.atomic
def make_known(
    *, membership: Membership, task: RankingTask, ranks: Ranks, purpose: str, explanation: str = ""
) -> KnownOrder:
    """Give a task its known order and take it out of the queue.

    Rankings that it has stay as they are; whoever is ranking it loses it, but for the draft. Raises Refused for a task that has a
    known order already or is not open, and for an order that does not fit.
    """
    task = RankingTask.objects.select_for_update().get(pk=task.pk)
    if task.purpose != Purpose.RANKING:
        raise Refused("known", _("The order of this task is known already."))
    if task.state != RankingTask.State.OPEN:
        raise Refused("task_closed", _("This task is flagged or closed; only an open one can have a known order."))
    ranks = check_ranks(task, ranks)
    _end_leases(task)
    task.purpose, task.overlap, task.agreement, task.compared_at = purpose, ENDLESS, None, None
    task.save(update_fields=["purpose", "overlap", "leased", "agreement", "compared_at"])
    known = KnownOrder.objects.create(
        task=task, ranks=_as_json(ranks), explanation=explanation, created_by=membership.user
    )
    record(
        membership.user,
        "known.added",
        f"task:{task.pk}",
        project=membership.project,
        purpose=purpose,
        ranks=known.ranks,
    )
    return known


@transaction.atomic
def change_known(
    *, membership: Membership, known: KnownOrder, ranks: Ranks, purpose: str, explanation: str = ""
) -> None:
    """Change a known order; what people answered is measured by the new one.

    Raises Refused for an order that does not fit, and when it was forgotten meanwhile.
    """
    task = _lock(known)
    ranks = check_ranks(task, ranks)
    before = {"purpose": task.purpose, "ranks": known.ranks, "explanation": known.explanation}
    known.ranks, known.explanation = _as_json(ranks), explanation
    known.save(update_fields=["ranks", "explanation"])
    if task.purpose != purpose:
        _end_leases(task)
        task.purpose = purpose
        task.save(update_fields=["purpose", "leased"])
    measured = (
        Ranking.objects.current().filter(task=task, accuracy__isnull=False).prefetch_related("ranked_completions")
    )
    for ranking in measured:
        given = {ranked.completion_id: ranked.rank for ranked in ranking.ranked_completions.all()}
        ranking.accuracy = accuracy_of(ranks, given, ranking.verdict)
        ranking.save(update_fields=["accuracy"])
    after = {"purpose": purpose, "ranks": known.ranks, "explanation": explanation}
    record(membership.user, "known.changed", f"task:{task.pk}", project=membership.project, before=before, after=after)


@transaction.atomic
def forget_known(*, membership: Membership, known: KnownOrder) -> None:
    """Make it an ordinary task again, back in the queue while it needs rankings. Nobody is measured by it any more.

    Raises Refused when it was forgotten before.
    """
    task = _lock(known)
    _end_leases(task)
    before = {"purpose": task.purpose, "ranks": known.ranks}
    overlap = overlap_of(membership.project, task.content_hash)
    task.purpose, task.overlap = Purpose.RANKING, max(overlap, task.submitted)
    task.save(update_fields=["purpose", "overlap", "leased"])
    Ranking.objects.filter(task=task, accuracy__isnull=False).update(accuracy=None)
    known.delete()
    record(membership.user, "known.removed", f"task:{task.pk}", project=membership.project, **before)


def _lock(known: KnownOrder) -> RankingTask:
    """Its task, locked, and the known order read anew. Raises Refused when it was forgotten meanwhile."""
    task = RankingTask.objects.select_for_update().get(pk=known.task_id)
    try:
        known.refresh_from_db(fields=["ranks", "explanation"])
    except KnownOrder.DoesNotExist:
        raise Refused("forgotten", _("This task is an ordinary one again; its order is not known any more.")) from None
    return task


def _end_leases(task: RankingTask) -> None:
    held = Assignment.objects.filter(task=task, state=Assignment.State.LEASED)
    held.update(state=Assignment.State.EXPIRED, ended_at=timezone.now())
    task.leased = 0


def _as_json(ranks: Ranks) -> dict[str, int]:
    return {str(completion): rank for completion, rank in sorted(ranks.items())}


@dataclass(frozen=True)
class Missed:
    """Two completions of a known order, and how many of the answers had them the wrong way round."""

    better: Completion
    worse: Completion
    times: int
    of: int


@dataclass
class Answered:
    """How people answer one task with a known order: how many did, their mean accuracy, the pairs most often wrong."""

    known: KnownOrder
    times: int = 0
    accuracy: float | None = None
    missed: list[Missed] = field(default_factory=list)

    @property
    def percent(self) -> int | None:
        return None if self.accuracy is None else round(100 * self.accuracy)


def known_orders(project: Project, *, purpose: str = "") -> QuerySet[KnownOrder]:
    """Newest first."""
    found = KnownOrder.objects.filter(task__project=project).select_related("task__prompt", "created_by")
    return (found.filter(task__purpose=purpose) if purpose else found).order_by("-pk")


def summarise(known_orders: list[KnownOrder]) -> list[Answered]:
    """How each is answered, in two statements for all of them."""
    rows = {known.task_id: Answered(known) for known in known_orders}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT task_id, count(*), avg(accuracy) FROM annotate_ranking
            WHERE task_id = ANY(%s) AND is_current AND accuracy IS NOT NULL GROUP BY task_id
            """,
            [list(rows)],
        )
        for task_id, times, accuracy in cursor.fetchall():
            rows[task_id].times, rows[task_id].accuracy = times, accuracy
        cursor.execute(
            """
            SELECT r.task_id, one.completion_id, other.completion_id, count(*) FROM annotate_ranking r
            JOIN annotate_rankedcompletion one ON one.ranking_id = r.id
            JOIN annotate_rankedcompletion other ON other.ranking_id = r.id AND other.rank > one.rank
            WHERE r.task_id = ANY(%s) AND r.is_current AND r.accuracy IS NOT NULL AND r.verdict = 'ranked'
            GROUP BY 1, 2, 3
            """,
            [list(rows)],
        )
        put_above = {(one, other): times for _task, one, other, times in cursor.fetchall()}
    completions = Completion.objects.in_bulk({pk for row in rows.values() for pk in ranks_of_known(row.known)})
    for row in rows.values():
        pairs = strict_pairs(ranks_of_known(row.known))
        wrong = [(put_above.get((worse, better), 0), better, worse) for better, worse in pairs]
        wrong.sort(key=lambda pair: -pair[0])
        row.missed = [
            Missed(completions[better], completions[worse], times, row.times)
            for times, better, worse in wrong[:WRONG_PAIRS]
            if times
        ]
    return list(rows.values())


def find_candidates(project: Project) -> list[tuple[RankingTask, int]]:
    """(task, number of rankings) of ordinary open tasks on which several people gave one and the same order, most rankings first."""
    agreed = RankingTask.objects.filter(
        project=project,
        purpose=Purpose.RANKING,
        state=RankingTask.State.OPEN,
        agreement__gte=1 - 1e-9,
        submitted__gte=2,
    )
    tasks = list(agreed.select_related("prompt").order_by("-submitted", "pk")[: 5 * CANDIDATES])
    orders = ranks_by_task([task.pk for task in tasks])
    return [(task, task.submitted) for task in tasks if _one_order(orders[task.pk])][:CANDIDATES]


def consensus(task: RankingTask) -> Ranks | None:
    """The one order that all of at least two current rankings of the task give; None where they differ or order nothing."""
    return _one_order(ranks_by_task([task.pk])[task.pk])


def _one_order(orders: Sequence[Mapping[int, int]]) -> Ranks | None:
    if len(orders) < 2 or any(order != orders[0] for order in orders) or max(orders[0].values()) < 2:
        return None
    return dict(orders[0])


def worked_examples(*, membership: Membership) -> list[KnownOrder]:
    """Up to three practice tasks to learn from; none that this person has still to do in their own practice."""
    found = known_orders(membership.project, purpose=Purpose.PRACTICE).filter(task__state=RankingTask.State.OPEN)
    if practice := current_practice(membership=membership):
        found = found.exclude(task__in=practice.left)
    return list(found.order_by("task_id")[:EXAMPLES])
