"""The leaderboard's results: sources by rating, with intervals, and who beat whom."""

from typing import Any

import numpy as np
from django.utils.translation import gettext_noop as _

from annotate.models import Source

from .intervals import Beat, Interval, interval, undefined
from .leaderboard import Comparisons, Ratings, compare_sources, components_of, rate_sources, separated, tabulate
from .reading import Rankings

NOTHING = _("No two sources were compared in these rankings.")
APART = _(
    "Some of these sources were never compared with each other, not even through others, so no order of all can be given."
)
ONE_SIDED = _(
    "Some sources won every comparison with the others, or lost every one. How far apart they are cannot be known from that; only a "
    "weak prior keeps their ratings finite."
)


def leaderboard(rankings: Rankings, criterion: str, beat: Beat) -> dict[str, Any]:
    """`results` of kind leaderboard. Sources stand by rating, best first; `matrix` has them in the same order."""
    total, sampled = rankings.total, len(rankings)
    rankings = rankings.ordered()
    comparisons = compare_sources(rankings, criterion)
    beat(0.1)
    components = components_of(comparisons)
    connected = len(components) == 1 and len(comparisons.sources) > 1
    ratings = rate_sources(comparisons, len(rankings.task_ids)) if connected else None
    table = tabulate(comparisons)
    why = "" if connected else (APART if len(comparisons.task) else NOTHING)
    names = dict(Source.objects.filter(pk__in=comparisons.sources.tolist()).values_list("pk", "name"))
    order = np.argsort(-ratings.ratings, kind="stable") if ratings else np.arange(len(comparisons.sources))
    tasks = _tasks_of_each(comparisons)
    sources = [
        {
            "source": int(comparisons.sources[index]),
            "name": names[int(comparisons.sources[index])],
            "rating": _rating(ratings, int(index), int(tasks[index]), why),
            "rank_low": int(ratings.rank_low[index]) if ratings else None,
            "rank_high": int(ratings.rank_high[index]) if ratings else None,
            "wins": int(table.wins[index].sum()),
            "losses": int(table.wins[:, index].sum()),
            "ties": int(table.ties[index].sum()),
            "tasks": int(tasks[index]),
            "unbounded": _unbounded(table.wins[index].sum(), table.wins[:, index].sum(), table.ties[index].sum()),
        }
        for index in order
    ]
    matrix = [
        [
            {
                "wins": int(table.wins[i, j]),
                "ties": int(table.ties[i, j]),
                "n": int(table.wins[i, j] + table.wins[j, i] + table.ties[i, j]),
            }
            for j in order
        ]
        for i in order
    ]
    return {
        "sources": sources,
        "matrix": matrix,
        "connected": connected,
        "components": components,
        "why": why,
        "note": ONE_SIDED if connected and separated(comparisons) else "",
        "counts": {"rankings": sampled, "total": total, "comparisons": int(comparisons.count.sum())},
    }


def _tasks_of_each(comparisons: Comparisons) -> Any:
    size = max(len(comparisons.sources), 1)
    both = np.concatenate([comparisons.winner, comparisons.loser])
    seen = np.unique(np.concatenate([comparisons.task, comparisons.task]) * size + both)
    return np.bincount(seen % size, minlength=size)


def _rating(ratings: Ratings | None, index: int, tasks: int, why: str) -> Interval:
    if ratings is None:
        return undefined(why, n=tasks)
    return interval(ratings.ratings[index], ratings.resampled[:, index], n=tasks)


def _unbounded(wins: float, losses: float, ties: float) -> str:
    """ "above" for a source that won everything, "below" for one that lost everything."""
    if ties or (wins and losses):
        return ""
    return "above" if wins else "below" if losses else ""
