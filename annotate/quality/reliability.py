"""Annotators' reliability and completions' strength, estimated together.

Bradley-Terry with a reliability for each annotator (Raman and Joachims 2014, "Methods for Ordinal Peer Grading", model BT+G): annotator k
prefers i to j with probability

    σ(a_k (s_i - s_j)),    s_i ~ N(0, 1),    a_k ~ N(1, 2²)

a_k is large for somebody who sees even small differences, 0 for a coin, negative for somebody who turns orders around. Unlike in the paper
strengths are not maximised but integrated out (expectation-maximisation, their posterior taken as normal: Laplace). With two or three
rankings a task, the strengths bend so far towards each ranking that, maximised, everybody seems reliable; Crowd-BT (Chen et al. 2013),
estimated by maximum a posteriori, fails in this way. docs/quality.md has the comparison.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .intervals import Array
from .reading import Rankings

PRIOR_MEAN, PRIOR_DEVIATION = 1.0, 2.0
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
ROUNDS, CLOSE = 60, 1e-3
# Beyond so many rankings more of them would hardly change a reliability; whole tasks are left out.
LIMIT = 50_000


@dataclass(frozen=True)
class Comparisons:
    """N comparisons of two items: `annotator` preferred `winner` to `loser`; where `tie`, neither."""

    annotator: Array  # (N,) ids
    winner: Array  # (N,) ids
    loser: Array  # (N,) ids
    tie: Array  # (N,) bool


def estimate(comparisons: Comparisons) -> tuple[dict[int, float], dict[int, float]]:
    """({annotator: reliability}, {item: strength}); the same input gives the same output.

    The reliability is the probability, 0 to 1, that the annotator orders two ordinary items (drawn from the prior) as their strengths
    say: 0.5 is a coin. A strength is in log-odds for an annotator with a = 1. A tie counts as half a comparison each way. Items are
    linked within their task alone, so strengths of different tasks cannot be compared. Annotators who share no item with others
    get what the priors say.
    """
    annotators, k = np.unique(comparisons.annotator, return_inverse=True)
    if not len(annotators):
        return {}, {}
    items, both = np.unique(np.concatenate([comparisons.winner, comparisons.loser]), return_inverse=True)
    blocks = _Blocks(both[: len(k)], both[len(k) :], len(items))
    won = np.where(np.asarray(comparisons.tie, dtype=bool), 0.5, 1.0)
    strength, ability = np.zeros(len(items)), np.full(len(annotators), PRIOR_MEAN)
    for turn in range(ROUNDS):
        strength, spread, deviation = _strengths(blocks, won, ability[k], strength, steps=1 if turn else 5)
        # Larger strengths with smaller abilities fit as well but for the prior; without this step rounds creep along (Liu, Rubin and
        # Wu 1998, PX-EM).
        previous, ability = ability, ability * spread
        strength, deviation = strength / spread, deviation / spread
        ability = _abilities(strength[blocks.i] - strength[blocks.j], deviation, won, k, ability)
        if np.abs(ability - previous).max() < CLOSE:
            break
    reliability = _chance_of_right(ability)
    return (
        dict(zip(annotators.tolist(), reliability.tolist(), strict=True)),
        dict(zip(items.tolist(), strength[blocks.place].tolist(), strict=True)),
    )


def weights(reliability: Mapping[int, float]) -> dict[int, float]:
    """What an annotator's rankings should weigh, 0 to 1: how far their reliability is from a coin's; 0 for worse than a coin."""
    return {annotator: max(0.0, 2 * value - 1) for annotator, value in reliability.items()}


def comparisons_of(rankings: Rankings, limit: int = LIMIT) -> Comparisons:
    """Every pair within every ranking of a task that two annotators or more have ranked; ids are those of the database.

    Of more than `limit` such rankings, tasks are drawn, the same ones each time.
    """
    rankings = rankings.ordered()
    shared = np.bincount(rankings.task, minlength=len(rankings.task_ids)) > 1
    count = int(shared[rankings.task].sum())
    if count > limit:
        shared &= np.random.default_rng(0).random(len(shared)) < limit / count
    rankings = rankings.where(shared[rankings.task])
    membership, completions = rankings.memberships[rankings.annotator], rankings.completions[rankings.task]
    parts = [(np.zeros(0, dtype=np.int64),) * 3 + (np.zeros(0, dtype=bool),)]
    for i, j in combinations(range(rankings.ranks.shape[1]), 2):
        first, second = rankings.ranks[:, i], rankings.ranks[:, j]
        there = (first > 0) & (second > 0)
        better = (first <= second)[there]
        a, b = completions[there, i], completions[there, j]
        parts.append((membership[there], np.where(better, a, b), np.where(better, b, a), (first == second)[there]))
    return Comparisons(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class _Blocks:
    """Items that are linked by comparisons, as a rule those of one task, are estimated together, many such groups at once.

    Vectors over items have the items of a group side by side and groups in order of size; matrices hold one square per group.
    """

    def __init__(self, winner: Array, loser: Array, items: int) -> None:
        # scipy is for the worker; the web process must not load it.
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        graph = coo_matrix((np.ones(len(winner), dtype=np.int8), (winner, loser)), shape=(items, items))
        _, label = connected_components(graph, directed=False)
        size = np.bincount(label)[label]
        order = np.lexsort((np.arange(items), label, size))
        self.place = np.empty(items, dtype=np.int64)  # item → its index in vectors
        self.place[order] = np.arange(items)
        self.i, self.j = self.place[winner], self.place[loser]  # (N,)
        size, label = size[order], label[order]
        starts = np.flatnonzero(np.r_[True, label[1:] != label[:-1]])
        squares = size[starts] ** 2
        group = np.repeat(np.arange(len(starts)), size[starts])
        self._corner = (np.cumsum(squares) - squares)[group]
        self._local, self._size, self.items = np.arange(items) - starts[group], size, items
        self._entries = int(squares.sum())

    def at(self, i: Array, j: Array) -> Array:
        """Where the entry of two items of one group lies in a flat array of all squares."""
        return np.asarray(self._corner[i] + self._local[i] * self._size[i] + self._local[j])

    def scatter(self, entries: list[tuple[Array, Array]]) -> Array:
        """A flat array of all squares, (sum of size²,), from (indices, values)."""
        return np.asarray(sum(np.bincount(index, value, self._entries) for index, value in entries), dtype=np.float64)

    def invert(self, squares: Array) -> Array:
        inverse = np.empty_like(squares)
        start = 0
        for size, count in zip(*np.unique(self._size, return_counts=True), strict=True):
            end = start + count * size
            inverse[start:end] = np.linalg.inv(squares[start:end].reshape(-1, size, size)).reshape(-1)
            start = end
        return inverse

    def apply(self, squares: Array, vector: Array) -> Array:
        """Each group's square times its part of the vector, (items,)."""
        result, start, first = np.empty_like(vector), 0, 0
        for size, count in zip(*np.unique(self._size, return_counts=True), strict=True):
            end, last = start + count * size, first + count
            square, part = squares[start:end].reshape(-1, size, size), vector[first:last].reshape(-1, size, 1)
            result[first:last] = (square @ part).reshape(-1)
            start, first = end, last
        return result


def _strengths(blocks: _Blocks, won: Array, a: Array, strength: Array, steps: int) -> tuple[Array, float, Array]:
    """Laplace: ((items,) the posterior's mode, the strengths' deviation, (N,) that of the difference of each comparison's items)."""
    i, j = blocks.i, blocks.j
    everything = np.arange(blocks.items)
    # The posterior is concave, and each round starts from the one before: few Newton steps are enough.
    for _ in range(steps):
        right = _sigmoid(a * (strength[i] - strength[j]))
        pull, bend = a * (won - right), a**2 * right * (1 - right)
        slope = np.bincount(i, pull, blocks.items) - np.bincount(j, pull, blocks.items) - strength
        curvature = blocks.scatter(
            [
                (blocks.at(everything, everything), np.ones(blocks.items)),
                (blocks.at(i, i), bend),
                (blocks.at(j, j), bend),
                (blocks.at(i, j), -bend),
                (blocks.at(j, i), -bend),
            ]
        )
        covariance = blocks.invert(curvature)
        strength = strength + np.clip(blocks.apply(covariance, slope), -1, 1)
    own = covariance[blocks.at(everything, everything)]
    variance = own[i] + own[j] - 2 * covariance[blocks.at(i, j)]
    return strength, float(np.sqrt((strength**2 + own).mean())), np.sqrt(np.maximum(variance, 0))


def _abilities(mean: Array, deviation: Array, won: Array, k: Array, ability: Array) -> Array:
    """(A,) what maximises the expected log-likelihood, differences being normal, by Newton steps and Gauss-Hermite sums."""
    for _ in range(2):
        slope, bend = np.zeros(len(mean)), np.zeros(len(mean))
        for node, weight in zip(NODES, NODE_WEIGHTS / NODE_WEIGHTS.sum(), strict=True):
            difference = mean + deviation * node
            right = _sigmoid(ability[k] * difference)
            slope += weight * (won - right) * difference
            bend += weight * right * (1 - right) * difference**2
        gain = np.bincount(k, slope) - (ability - PRIOR_MEAN) / PRIOR_DEVIATION**2
        ability = ability + np.clip(gain / (np.bincount(k, bend) + 1 / PRIOR_DEVIATION**2), -1, 1)
    return ability


def _chance_of_right(ability: Array) -> Array:
    """E[σ(a |d|)] for the difference d of two strengths drawn from the prior, d ~ N(0, 2), (A,)."""
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(201)
    difference = np.sqrt(2) * np.abs(nodes)
    return np.asarray(_sigmoid(ability[:, None] * difference) @ (node_weights / node_weights.sum()))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))))
