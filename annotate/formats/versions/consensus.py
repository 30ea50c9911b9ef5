"""One order made of several: their weighted mean rank, after Borda (1781)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import fsum

UNITS = 10_000  # a weight is a whole number of these, so that sums are exact


@dataclass
class Opinion:
    """A ranking: `ranks` and `ratings` by completion."""

    annotator: str
    role: str
    is_all_bad: bool
    weight: float
    seconds: float
    created: datetime
    reasons: Sequence[str]
    ranks: dict[int, int] = field(default_factory=dict)
    ratings: dict[int, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Consensus:
    is_all_bad: bool
    ranks: dict[int, int]
    ratings: dict[int, dict[str, int]]
    weight: float
    seconds: float
    created: datetime
    reasons: list[str]


def agree(opinions: Sequence[Opinion]) -> Consensus:
    """What `opinions` of the same completions say together.

    "All bad" where more than half of the weight says so; those that say so have no part in the order otherwise. The order is that of
    the mean ranks, where tied completions share the mean of their places ([1, 1, 3] is [1.5, 1.5, 3]); equal means are a tie. If
    nobody weighs anything, all weigh the same. A rating is the mean of those who gave one, halves up; reasons are all that
    were given; seconds and weight are means; the time is the latest one's.
    """
    weights = [round(one.weight * UNITS) for one in opinions]
    if not any(weights):
        weights = [1] * len(opinions)
    against = sum(weight for one, weight in zip(opinions, weights, strict=True) if one.is_all_bad)
    is_all_bad = 2 * against > sum(weights)
    completions = sorted(opinions[0].ranks)
    ranks = dict.fromkeys(completions, 1)
    if not is_all_bad:
        points: dict[int, int] = defaultdict(int)
        for one, weight in zip(opinions, weights, strict=True):
            if not one.is_all_bad:
                for completion, place in double_places(one.ranks).items():
                    points[completion] += weight * place
        places = sorted(set(points.values()))
        ranks = {completion: places.index(points[completion]) + 1 for completion in completions if points}
        ranks = ranks or dict.fromkeys(completions, 1)
    return Consensus(
        is_all_bad=is_all_bad,
        ranks=ranks,
        ratings={
            completion: _mean_ratings([one.ratings.get(completion, {}) for one in opinions]) for completion in ranks
        },
        weight=round(fsum(one.weight for one in opinions) / len(opinions), 4),
        seconds=fsum(one.seconds for one in opinions) / len(opinions),
        created=max(one.created for one in opinions),
        reasons=sorted({reason for one in opinions for reason in one.reasons}),
    )


def double_places(ranks: dict[int, int]) -> dict[int, int]:
    """Twice each one's place, ties sharing the mean of theirs, as whole numbers: {a: 1, b: 1, c: 2} gives {a: 3, b: 3, c: 6}."""
    values = list(ranks.values())
    return {
        completion: 2 * sum(other < rank for other in values) + values.count(rank) + 1
        for completion, rank in ranks.items()
    }


def _mean_ratings(given: Sequence[dict[str, int]]) -> dict[str, int]:
    by_criterion: dict[str, list[int]] = defaultdict(list)
    for one in given:
        for criterion, rating in one.items():
            by_criterion[criterion].append(rating)
    return {name: (2 * sum(all_) + len(all_)) // (2 * len(all_)) for name, all_ in sorted(by_criterion.items())}
