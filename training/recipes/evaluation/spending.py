"""What more samples per prompt buy: the best of n by a reward model, the majority of n, and any of n.

Each prompt is sampled k times, once. The figure for n is its mean over all C(k, n) subsets of n samples, computed without drawing
any: an unbiased estimate for n fresh samples, with far less noise than one draw. For "any of n is right" this is the
estimator of Chen et al. (2021, arXiv:2107.03374); the best of n follows from order statistics in the same way; the majority (Wang et al.
2022, arXiv:2203.11171, self-consistency) from the multivariate hypergeometric distribution. n = k has one subset and is plain.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from math import comb

import numpy as np


def any_of(right: Sequence[float], n: int) -> float:
    """The chance that one of n samples is right: 1 − C(k − c, n) / C(k, n), c of k being right."""
    k, wrong = len(right), sum(one == 0 for one in right)
    return 1 - comb(wrong, n) / comb(k, n)


def best_of(values: Sequence[float], scores: Sequence[float], n: int) -> float:
    """The expected value of the sample that scores best among n.

    The i-th best of k is the best of C(k − i, n − 1) of the C(k, n) subsets. Among equal scores any may be taken, each as likely.
    """
    k = len(scores)
    order = sorted(range(k), key=lambda at: -scores[at])
    total, start = 0.0, 0
    while start < k:
        tied = [at for at in order[start:] if scores[at] == scores[order[start]]]
        subsets = sum(comb(k - place - 1, n - 1) for place in range(start, start + len(tied)))
        total += subsets * sum(values[at] for at in tied) / len(tied)
        start += len(tied)
    return total / comb(k, n)


def majority_of(answers: Sequence[Hashable | None], right: Sequence[float], n: int) -> float:
    """The chance that the answer which most of n samples give is right; among equally frequent ones any is taken, each as likely.

    Samples without an answer (None) do not vote; where nobody votes nothing is right.
    """
    k, silent = len(answers), sum(one is None for one in answers)
    sizes = Counter(one for one in answers if one is not None)
    chance = 0.0
    for answer, size in sizes.items():
        rights = [value for one, value in zip(answers, right, strict=True) if one == answer]
        if any(rights):
            others = [count for other, count in sizes.items() if other != answer]
            won = sum(
                comb(size, votes) * _outvoted(others, silent, votes, n - votes) for votes in range(1, min(size, n) + 1)
            )
            chance += sum(rights) / len(rights) * won
    return chance / comb(k, n)


def _outvoted(others: Sequence[int], silent: int, votes: int, rest: int) -> float:
    """In how many of the ways to draw `rest` further samples no other answer has more than `votes`; t equal ones count 1 / (1 + t)."""
    most_tied = rest // votes
    ways = np.zeros((rest + 1, most_tied + 1))  # by samples drawn and answers tied
    ways[0, 0] = 1
    for size in others:
        grown = np.zeros_like(ways)
        for taken in range(min(size, votes, rest) + 1):
            tied = int(taken == votes)
            grown[taken:, tied:] += comb(size, taken) * ways[: rest + 1 - taken, : most_tied + 1 - tied]
        ways = grown
    whole = sum(comb(silent, quiet) * ways[rest - quiet] for quiet in range(min(silent, rest) + 1))
    return float((whole / (1 + np.arange(most_tied + 1))).sum())


def steps_to(k: int) -> list[int]:
    """1, 2, 4 … as far as k samples go, and k."""
    return sorted({*(2**power for power in range(k.bit_length())), k}) if k else []
