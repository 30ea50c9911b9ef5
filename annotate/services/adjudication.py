"""Tasks on which people disagree: how far their rankings agree, which wait for a reviewer, and the reviewer's decision."""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Membership, Project, RankedCompletion, Ranking, RankingTask, record
from annotate.quality.tau import mean_tau

from .assignments import Refused
from .webhooks import announce_submitted, announce_withdrawn

COMPARED_AT_ONCE = 200
ROUNDS = 50  # a minute's round ends, whatever is left
Ranks = Mapping[int, int]  # {completion id: rank}


def compare_rankings() -> int:
    """Fill `agreement` of the tasks that have as many rankings as were asked for; returns how many tasks were compared.

    Whatever changes a task's rankings clears `compared_at`, and the next round compares them again.
    """
    compared = 0
    for _round in range(ROUNDS):
        found = _compare_batch()
        compared += found
        if found < COMPARED_AT_ONCE:
            break
    return compared


STORE = """
UPDATE annotate_rankingtask SET agreement = compared.agreement, compared_at = %s
FROM unnest(%s::bigint[], %s::float8[]) AS compared(id, agreement)
WHERE annotate_rankingtask.id = compared.id
"""


@transaction.atomic
def _compare_batch() -> int:
    full = RankingTask.objects.filter(
        compared_at=None, purpose=RankingTask.Purpose.RANKING, overlap__gte=2, submitted=F("overlap")
    )
    # Locked, so that nobody takes a ranking back between the look at it and the answer.
    locked = full.select_for_update(skip_locked=True).order_by("project_id", "pk").values_list("pk", flat=True)
    tasks = list(locked[:COMPARED_AT_ONCE])
    rankings = ranks_by_task(tasks)
    agreements = [mean_tau([list(ranks.values()) for ranks in rankings[task]]) for task in tasks]
    with connection.cursor() as cursor:
        cursor.execute(STORE, [timezone.now(), tasks, agreements])
    return len(tasks)


def ranks_by_task(tasks: Sequence[int]) -> dict[int, list[Ranks]]:
    """The current rankings by annotators of each task, completions in the same order. All-bad ones tie all of it."""
    places = RankedCompletion.objects.filter(
        ranking__task__in=tasks, ranking__is_current=True, ranking__role=Ranking.Role.ANNOTATOR
    ).order_by("ranking_id", "completion_id")
    by_ranking: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for task, ranking, completion, rank in places.values_list("ranking__task", "ranking", "completion", "rank"):
        by_ranking[task, ranking][completion] = rank
    by_task: dict[int, list[Ranks]] = defaultdict(list)
    for (task, _ranking), ranks in by_ranking.items():
        by_task[task].append(ranks)
    return by_task


def waiting(project: Project) -> QuerySet[RankingTask]:
    """The tasks that wait for a reviewer, those with the least agreement first."""
    if project.adjudicate_below is None:
        return RankingTask.objects.none()
    decisions = Ranking.objects.current().filter(task=OuterRef("pk"), role=Ranking.Role.ADJUDICATOR)
    return project.tasks.filter(
        ~Exists(decisions),
        agreement__lt=project.adjudicate_below,
        purpose=RankingTask.Purpose.RANKING,
        state=RankingTask.State.OPEN,
    ).order_by("agreement", "pk")


def after(tasks: QuerySet[RankingTask], agreement: float, pk: int) -> QuerySet[RankingTask]:
    """What comes after one place in the order of `waiting`."""
    # The first condition is the one that the index serves.
    return tasks.filter(Q(agreement__gt=agreement) | Q(agreement=agreement, pk__gt=pk), agreement__gte=agreement)


def review_order(task: RankingTask) -> list[int]:
    """The completion ids in the order a reviewer sees them: the same each time, and none that betrays their sources."""
    ids = task.task_completions.values_list("completion_id", flat=True)
    return sorted(ids, key=lambda pk: hashlib.sha256(f"{task.pk}:{pk}".encode()).digest())


def agreed_order(rankings: Sequence[Ranks], *, ties: bool) -> dict[int, int]:
    """{completion id: rank}, dense, by the mean rank over the rankings; equal means tie, or without `ties` go by id."""
    if not rankings:
        return {}
    means = {pk: fmean(ranks[pk] for ranks in rankings) for pk in rankings[0]}
    keys = {pk: (mean, 0 if ties else pk) for pk, mean in means.items()}
    places = {key: place for place, key in enumerate(sorted(set(keys.values())), start=1)}
    return {pk: places[key] for pk, key in keys.items()}


def current_decision(task: RankingTask) -> Ranking | None:
    decisions = Ranking.objects.current().filter(task=task, role=Ranking.Role.ADJUDICATOR)
    return decisions.select_related("annotator").first()


@transaction.atomic
def decide(
    *,
    membership: Membership,
    task: RankingTask,
    token: uuid.UUID,
    revises: uuid.UUID | None,
    verdict: str,
    ranks: Ranks,
    comment: str = "",
    seconds: float = 0,
) -> bool:
    """Store the reviewer's ranking of a task beside those of the annotators, which stay as they are.

    `ranks` holds a dense rank for each completion of the task, `revises` the uid of the decision that the reviewer saw, which
    this one withdraws. Returns False when this very `token` was stored before. Raises Refused when another decision was made
    meanwhile, nobody has ranked the task, or it has left the queue.
    """
    task = RankingTask.objects.select_for_update().get(pk=task.pk, project=membership.project)
    if Ranking.objects.filter(token=token).exists():
        return False
    before = current_decision(task)
    if (before.uid if before else None) != revises:
        raise Refused(
            "decided", _("Somebody else decided this task meanwhile. Their decision is below; yours was not stored.")
        )
    check_decidable(task)
    now = timezone.now()
    if before:
        before.is_current, before.withdrawn_at = False, now
        before.save(update_fields=["is_current", "withdrawn_at"])
        announce_withdrawn(membership.project, task, before)
    decision = Ranking.objects.create(
        project=membership.project,
        task=task,
        annotator=membership.user,
        role=Ranking.Role.ADJUDICATOR,
        token=token,
        revision=before.revision + 1 if before else 1,
        verdict=verdict,
        comment=comment,
        seconds=seconds,
    )
    RankedCompletion.objects.bulk_create(
        RankedCompletion(ranking=decision, completion_id=completion, rank=rank) for completion, rank in ranks.items()
    )
    record(
        membership.user,
        "ranking.decided",
        f"ranking:{decision.pk}",
        project=membership.project,
        task=task.pk,
        verdict=verdict,
        revises=before.pk if before else None,
    )
    announce_submitted(membership, task, uid=decision.uid, role=decision.role, verdict=verdict)
    return True


def check_decidable(task: RankingTask) -> None:
    """Raises Refused, in words, when there is nothing to decide about a task."""
    if task.purpose != RankingTask.Purpose.RANKING:
        raise Refused("known_order", _("The order of this task is known; there is nothing to decide."))
    if task.state != RankingTask.State.OPEN:
        raise Refused("task_closed", _("This task was taken out of the queue. Put it back before you decide it."))
    if not Ranking.objects.current().filter(task=task, role=Ranking.Role.ANNOTATOR).exists():
        raise Refused("not_ranked", _("Nobody has ranked this task yet."))
