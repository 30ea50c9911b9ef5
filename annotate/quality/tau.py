"""Kendall's τ-b of a few rankings of one task. Without numpy, which the web process does not load."""

from collections.abc import Sequence
from itertools import combinations
from math import sqrt


def mean_tau(rank_vectors: Sequence[Sequence[int]]) -> float | None:
    """Mean τ-b over all pairs of rankings of one task; None if no pair has one.

    Each vector holds the ranks of the same completions in the same order, 1 is best, equal is a tie. A ranking that ties all
    has no τ-b with any other. mean_tau([[1, 2, 3], [1, 2, 3], [3, 2, 1]]) is (1 - 1 - 1) / 3.
    """
    signs = [[(a > b) - (a < b) for a, b in combinations(ranks, 2)] for ranks in rank_vectors]
    norms = [sum(sign * sign for sign in one) for one in signs]
    taus = [
        sum(a * b for a, b in zip(signs[i], signs[j], strict=True)) / sqrt(norms[i] * norms[j])
        for i, j in combinations(range(len(signs)), 2)
        if norms[i] and norms[j]
    ]
    return sum(taus) / len(taus) if taus else None
