"""Sources ranked by whose completions are preferred: Bradley-Terry, with ties as half a win each way.

The estimate is evalica's (Newman 2023's iteration for Bradley and Terry 1952). Given sources that were never compared, or one that
won everything, evalica answers with equal tiny scores and no warning; so both are looked for here first, and each source is
also given one tie with an imaginary source of average strength, which keeps every rating finite.

Shapes: N comparisons, S sources, B resamples.
"""

from dataclasses import dataclass
from itertools import combinations

import evalica
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .intervals import Array, Bootstrap
from .reading import Rankings

# Arpad Elo's scale: 400 points are odds of ten to one; the mean of all sources is 1000.
MEAN, SCALE = 1000.0, 400.0
PRIOR_TIES = 1.0


@dataclass(frozen=True)
class Comparisons:
    """N comparisons of two sources within one ranking, alike ones of a task counted together."""

    task: Array  # (N,) index of the task
    winner: Array  # (N,) index into sources
    loser: Array  # (N,)
    tie: Array  # (N,) bool
    count: Array  # (N,)
    sources: Array  # (S,) ids


def compare_sources(rankings: Rankings, criterion: str = "") -> Comparisons:
    """Pairs of completions of different sources within each ranking: by rank, or by their ratings where `criterion` is given."""
    sources = np.unique(rankings.sources[np.unique(rankings.task)]) if len(rankings) else np.zeros(0, dtype=np.int64)
    sources = sources[sources > 0]
    if criterion:
        # Ratings grow with what is good, ranks fall.
        values = rankings.ratings[criterion].astype(np.int16)
        values = np.where(values > 0, 6 - values, 0)
    else:
        values = rankings.ranks
    source = np.searchsorted(sources, rankings.sources)[rankings.task]
    kinds: list[Array] = []
    for i, j in combinations(range(values.shape[1]), 2):
        a, b = values[:, i], values[:, j]
        row = np.flatnonzero((a > 0) & (b > 0) & (source[:, i] != source[:, j]))
        first_better = a[row] <= b[row]
        left, right = source[row, i], source[row, j]
        tie = a[row] == b[row]
        winner, loser = np.where(first_better, left, right), np.where(first_better, right, left)
        # A tie has no winner: the lower index stands first, so that alike ones are counted together.
        winner, loser = np.where(tie, np.minimum(left, right), winner), np.where(tie, np.maximum(left, right), loser)
        kinds.append(np.stack([rankings.task[row], winner, loser, tie], axis=1))
    joined = np.concatenate(kinds) if kinds else np.zeros((0, 4), dtype=np.int64)
    size = np.int64(max(len(sources), 1))
    key = ((joined[:, 0].astype(np.int64) * size + joined[:, 1]) * size + joined[:, 2]) * 2 + joined[:, 3]
    unique, count = np.unique(key, return_counts=True)
    pair = unique // 2
    return Comparisons(
        task=pair // (size * size),
        winner=pair // size % size,
        loser=pair % size,
        tie=(unique % 2).astype(bool),
        count=count.astype(float),
        sources=sources,
    )


def components_of(comparisons: Comparisons) -> list[list[int]]:
    """Source ids, grouped by who was compared with whom, directly or through others; the largest group first."""
    return _components(comparisons, strong=False)


def separated(comparisons: Comparisons) -> bool:
    """Whether some sources won every comparison against the rest (Ford 1957): their ratings are held by the prior alone."""
    return len(_components(comparisons, strong=True)) > 1


def _components(comparisons: Comparisons, *, strong: bool) -> list[list[int]]:
    size = len(comparisons.sources)
    if not size:
        return []
    ties = comparisons.tie
    beats = np.concatenate([comparisons.winner, comparisons.loser[ties]])
    beaten = np.concatenate([comparisons.loser, comparisons.winner[ties]])
    graph = coo_matrix((np.ones(len(beats)), (beats, beaten)), shape=(size, size))
    _, label = connected_components(graph, directed=True, connection="strong" if strong else "weak")
    groups = [comparisons.sources[label == one].tolist() for one in np.unique(label)]
    return sorted(groups, key=lambda group: (-len(group), group))


@dataclass(frozen=True)
class Table:
    """Who beat whom, (S, S) each: `wins[i, j]` of i over j; `ties` is symmetric."""

    wins: Array
    ties: Array


def tabulate(comparisons: Comparisons) -> Table:
    size = len(comparisons.sources)
    wins, ties = np.zeros((size, size)), np.zeros((size, size))
    decided = ~comparisons.tie
    np.add.at(wins, (comparisons.winner[decided], comparisons.loser[decided]), comparisons.count[decided])
    for one, other in ((comparisons.winner, comparisons.loser), (comparisons.loser, comparisons.winner)):
        np.add.at(ties, (one[comparisons.tie], other[comparisons.tie]), comparisons.count[comparisons.tie])
    return Table(wins, ties)


def rate(winner: Array, loser: Array, tie: Array, count: Array, size: int) -> Array:
    """Ratings (size,) on Elo's scale, mean 1000, of comparisons that occurred `count` times each, (N,)."""
    here = np.arange(size)
    outcome = np.concatenate([np.where(tie, evalica.Winner.Draw, evalica.Winner.X), np.full(size, evalica.Winner.Draw)])
    found = evalica.bradley_terry(
        np.concatenate([winner, here]).tolist(),
        np.concatenate([loser, np.full(size, size)]).tolist(),
        outcome.tolist(),
        weights=np.concatenate([count, np.full(size, PRIOR_TIES)]).tolist(),
        tolerance=1e-6,
        limit=10_000,
    )
    strength = np.log10(found.scores.reindex(range(size)).to_numpy())
    return np.asarray(MEAN + SCALE * (strength - strength.mean()))


@dataclass(frozen=True)
class Ratings:
    ratings: Array  # (S,)
    resampled: Array  # (B, S)
    rank_low: Array  # (S,) the best rank within 95 % of the resamples
    rank_high: Array  # (S,) the worst


def rate_sources(comparisons: Comparisons, tasks: int) -> Ratings:
    """Ratings with resamples of the `tasks` tasks; the sources must be connected."""
    size = len(comparisons.sources)
    kind = (comparisons.winner * size + comparisons.loser) * 2 + comparisons.tie
    kinds, group = np.unique(kind, return_inverse=True)
    winner, loser, tie = kinds // 2 // size, kinds // 2 % size, kinds % 2 == 1
    count = np.bincount(group, comparisons.count, len(kinds))
    ratings = rate(winner, loser, tie, count, size)
    # Only tasks that compare anything are drawn: the others tell nothing about the sources.
    compared, task = np.unique(comparisons.task, return_inverse=True)
    drawn = Bootstrap(len(compared)).sums(task, group, [comparisons.count], len(kinds))[0]
    resampled = np.array([rate(winner, loser, tie, weights, size) for weights in drawn])
    places = (-resampled).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable") + 1
    rank_low, rank_high = np.percentile(places, (2.5, 97.5), axis=0, method="nearest").astype(int)
    return Ratings(ratings, resampled, rank_low, rank_high)
