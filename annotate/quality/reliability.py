"""Annotators' reliability and completions' strength, estimated together.

Chen, Bennett, Collins-Thompson and Horvitz 2013, "Pairwise Ranking Aggregation in a Crowdsourced Setting" (Crowd-BT): annotator k
prefers i to j with probability

    η_k σ(s_i - s_j) + (1 - η_k) σ(s_j - s_i)

η_k, the reliability, is 1 for somebody who sees what the strengths say, 0.5 for a coin, below for somebody who turns orders
around. Weak priors (strengths normal, reliabilities Beta) keep every estimate finite and say that most people mean well, without
which the reversed solution would be as good.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .intervals import Array
from .reading import Rankings

STRENGTH_DEVIATION = 2.0
# Beta(4, 2): as if four comparisons had been right and two wrong.
PRIOR_RIGHT, PRIOR_WRONG = 4.0, 2.0


@dataclass(frozen=True)
class Comparisons:
    """N comparisons of two items: `annotator` preferred `winner` to `loser`; where `tie`, neither."""

    annotator: Array  # (N,) ids
    winner: Array  # (N,) ids
    loser: Array  # (N,) ids
    tie: Array  # (N,) bool


def estimate(comparisons: Comparisons) -> tuple[dict[int, float], dict[int, float]]:
    """({annotator: reliability 0 to 1}, {item: strength in log-odds, mean 0 by prior}); the same input gives the same output.

    A tie counts as half a comparison each way. Items are compared with each other within their task alone, so strengths of
    different tasks cannot be compared. Where an item was judged by one annotator, nothing speaks for or against that annotator.
    """
    # scipy is for the worker; the web process must not load it.
    from scipy.optimize import minimize

    annotators, k = np.unique(comparisons.annotator, return_inverse=True)
    items, both = np.unique(np.concatenate([comparisons.winner, comparisons.loser]), return_inverse=True)
    if not len(annotators):
        return {}, {}
    i, j = both[: len(k)], both[len(k) :]
    tie = np.asarray(comparisons.tie, dtype=bool)
    won, lost = np.where(tie, 0.5, 1.0), np.where(tie, 0.5, 0.0)

    def objective(parameters: Array) -> tuple[float, Array]:
        strength, logit = parameters[: len(items)], parameters[len(items) :]
        eta = _sigmoid(logit)
        right = _sigmoid(strength[i] - strength[j])
        agrees = eta[k] * right + (1 - eta[k]) * (1 - right)
        slope = won / agrees - lost / (1 - agrees)
        by_difference = slope * (2 * eta[k] - 1) * right * (1 - right)
        by_eta = slope * (2 * right - 1)
        value = (won * np.log(agrees) + lost * np.log1p(-agrees)).sum()
        value += (PRIOR_RIGHT * np.log(eta) + PRIOR_WRONG * np.log1p(-eta)).sum()
        value -= (strength**2).sum() / (2 * STRENGTH_DEVIATION**2)
        pulled = np.bincount(i, by_difference, len(items)) - np.bincount(j, by_difference, len(items))
        d_strength = np.asarray(pulled - strength / STRENGTH_DEVIATION**2)
        d_logit = np.bincount(k, by_eta, len(annotators)) * eta * (1 - eta)
        d_logit += PRIOR_RIGHT * (1 - eta) - PRIOR_WRONG * eta
        return -value, -np.concatenate([d_strength, d_logit])

    start = np.concatenate([np.zeros(len(items)), np.full(len(annotators), 1.5)])
    # Strengths start from how often an item won, since at equal strengths the reliabilities have no gradient.
    wins = np.bincount(i, won - lost, len(items)) - np.bincount(j, won - lost, len(items))
    start[: len(items)] = wins / np.maximum(
        np.bincount(i, minlength=len(items)) + np.bincount(j, minlength=len(items)), 1
    )
    bounds = [(-20.0, 20.0)] * len(items) + [(-8.0, 8.0)] * len(annotators)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x
    reliability = _sigmoid(found[len(items) :])
    return (
        dict(zip(annotators.tolist(), reliability.tolist(), strict=True)),
        dict(zip(items.tolist(), found[: len(items)].tolist(), strict=True)),
    )


def weights(reliability: Mapping[int, float]) -> dict[int, float]:
    """What an annotator's rankings should weigh, 0 to 1: 2 η - 1, how far the annotator is from a coin; 0 for worse than a coin."""
    return {annotator: max(0.0, 2 * eta - 1) for annotator, eta in reliability.items()}


def comparisons_of(rankings: Rankings) -> Comparisons:
    """Every pair within every ranking of a task that two annotators or more have ranked; ids are those of the database."""
    rankings = rankings.ordered()
    annotators = np.bincount(rankings.task, minlength=len(rankings.task_ids))
    rankings = rankings.where(annotators[rankings.task] > 1)
    membership, completions = rankings.memberships[rankings.annotator], rankings.completions[rankings.task]
    parts: list[tuple[Array, Array, Array, Array]] = []
    for i, j in combinations(range(rankings.ranks.shape[1]), 2):
        first, second = rankings.ranks[:, i], rankings.ranks[:, j]
        there = (first > 0) & (second > 0)
        if not there.any():
            continue
        better = (first <= second)[there]
        a, b = completions[there, i], completions[there, j]
        parts.append((membership[there], np.where(better, a, b), np.where(better, b, a), (first == second)[there]))
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return Comparisons(empty, empty, empty, np.zeros(0, dtype=bool))
    return Comparisons(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))))
