"""What one person has ranked so far, and how fast."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import F, Func, Prefetch, Q, QuerySet, TextField
from django.utils import timezone

from annotate.models import Membership, RankedCompletion, Ranking, RankingTask

from .progress import MINE, last_midnight
from .rankings import Places, letters

PAGE = 20
PROMPT_START = 240  # characters


@dataclass(frozen=True)
class Past:
    """One ranking as its author sees it, in the letters under which the answers were shown; `earlier` are its revisions."""

    token: str
    created_at: datetime
    seconds: float
    verdict: str
    places: Places
    prompt: str
    may_revise: bool
    is_practice: bool
    earlier: list["Past"]


def my_history(*, membership: Membership, before: int | None = None) -> tuple[list[Past], int | None]:
    """A page of one's own current rankings, newest first, and where the next one begins: the `before` to ask for, or None."""
    mine = Ranking.objects.filter(
        project_id=membership.project_id, annotator_id=membership.user_id, role=Ranking.Role.ANNOTATOR
    )
    current = mine.current().order_by("-created_at", "-id")
    if start := before and mine.filter(pk=before).values_list("created_at", "pk").first():
        current = current.filter(Q(created_at__lt=start[0]) | Q(created_at=start[0], pk__lt=start[1]))
    found = list(_whole(current)[: PAGE + 1])
    shown = found[:PAGE]
    withdrawn = _whole(mine.filter(is_current=False, assignment__in=[one.assignment_id for one in shown]))
    earlier: dict[int | None, list[Ranking]] = {}
    for revision in withdrawn.order_by("-revision"):
        earlier.setdefault(revision.assignment_id, []).append(revision)
    history = [_past(one, [_past(revision, []) for revision in earlier.get(one.assignment_id, [])]) for one in shown]
    return history, shown[-1].pk if len(found) > PAGE else None


def _whole(rankings: QuerySet[Ranking]) -> QuerySet[Ranking]:
    """With what is shown of each, and no more: prompts can be long."""
    start = Func(
        F("task__prompt__messages"),
        template=f"left(%(expressions)s->-1->>'content', {PROMPT_START})",
        output_field=TextField(),
    )
    ranked = Prefetch("ranked_completions", RankedCompletion.objects.order_by("rank"))
    return rankings.select_related("task", "assignment").prefetch_related(ranked).annotate(prompt_start=start)


def _past(ranking: Ranking, earlier: list[Past]) -> Past:
    shown_order = ranking.assignment.shown_order if ranking.assignment else []
    names = dict(zip(shown_order, letters(len(shown_order)), strict=True))
    places: dict[int, list[str]] = {}
    for ranked in ranking.ranked_completions.all():
        places.setdefault(ranked.rank, []).append(names[ranked.completion_id])
    task = ranking.task
    is_practice = task.purpose == RankingTask.Purpose.PRACTICE
    return Past(
        token=str(ranking.token),
        created_at=ranking.created_at,
        seconds=ranking.seconds,
        verdict=ranking.verdict,
        places=[sorted(places[rank]) for rank in sorted(places)],
        prompt=ranking.prompt_start,  # type: ignore[attr-defined]
        may_revise=task.state == RankingTask.State.OPEN and not is_practice,
        is_practice=is_practice,
        earlier=earlier,
    )


@dataclass(frozen=True)
class Pace:
    """How many rankings of one person count, today and in the last seven days, and their median seconds (None without any)."""

    today: int
    today_seconds: float | None
    week: int
    week_seconds: float | None


def measure_pace(*, membership: Membership) -> Pace:
    midnight = last_midnight()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT count(*) FILTER (WHERE today), percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE today),
                count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds)
            FROM (SELECT r.seconds, r.created_at >= %(midnight)s AS today {MINE} AND r.created_at >= %(since)s) mine
            """,  # noqa: S608  # constants of that file
            {
                "project": membership.project_id,
                "annotator": membership.user_id,
                "midnight": midnight,
                "since": min(midnight, timezone.now() - timedelta(days=7)),
            },
        )
        return Pace(*cursor.fetchone())
