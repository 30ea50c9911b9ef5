"""How well scores agree with people's rankings, and whether the probabilities that follow from them can be believed.

A Bradley-Terry model that scores two answers a and b says that a wins with probability σ(a − b). Guo et al. (2017,
arXiv:1706.04599) compare such probabilities with what happened, bin by bin (reliability diagram), and sum the gaps up (expected
calibration error). Here each pair enters once, from the side that the model favours, so probabilities run from ½ to 1.

Shapes: P pairs, B resamples.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.recipes.listwise import agreement, pairs_of

from .intervals import HIGH, RESAMPLES, SEED, Array, interval, rounded, share

BINS = 10


@dataclass(frozen=True)
class Scored:
    """A ranking with the scores that a model gave to its completions."""

    prompt: str
    ranks: Sequence[int]
    scores: Sequence[float]
    tags: Sequence[str] = ()


def measure(rankings: Sequence[Scored]) -> dict[str, Any] | None:
    """Accuracy over all pairs, by tag of the prompt, and by the number of completions; calibration. None without a pair."""
    whole = accuracy(rankings)
    if whole is None:
        return None
    return {
        **whole,
        "rankings": len(rankings),
        "tags": _parts(rankings, "tag", lambda one: one.tags),
        "sizes": _parts(rankings, "size", lambda one: [len(one.ranks)]),
        "calibration": calibration(rankings),
    }


def accuracy(rankings: Iterable[Scored]) -> dict[str, Any] | None:
    """{"accuracy": Interval over prompts, "pairs", "confidence"}."""
    rows = list(rankings)
    agreed = agreement(
        [list(one.scores) for one in rows], [list(one.ranks) for one in rows], [one.prompt for one in rows]
    )
    if agreed is None:
        return None
    told = len({one.prompt for one in rows if len(set(one.ranks)) > 1})
    return {
        "accuracy": interval(agreed.accuracy, agreed.low, agreed.high, n=told),
        "pairs": agreed.pairs,
        "confidence": rounded(agreed.confidence),
    }


def _parts(rankings: Sequence[Scored], name: str, parts_of: Callable[[Scored], Sequence[Any]]) -> list[dict[str, Any]]:
    """The accuracy of each part, in the parts' own order; a ranking may be in several."""
    parts: dict[Any, list[Scored]] = {}
    for one in rankings:
        for part in parts_of(one):
            parts.setdefault(part, []).append(one)
    measured = ((part, accuracy(parts[part])) for part in sorted(parts))
    return [{name: part, **found} for part, found in measured if found]


def calibration(rankings: Iterable[Scored]) -> dict[str, Any]:
    """{"bins": [{"low", "high", "predicted", "observed": Interval, "pairs"}], "error", "error_by_chance"}.

    The error is never negative, hence above 0 even for a perfect model. `error_by_chance` is what a perfectly calibrated model
    with these probabilities would stay below 95 times in 100: the residuals, their signs drawn at random for each prompt
    with all of its pairs (wild cluster bootstrap: Cameron, Gelbach and Miller 2008).
    """
    predicted_P, observed_P, prompt_P = _favoured(rankings)
    bin_P = np.minimum(((predicted_P - 0.5) * 2 * BINS).astype(int), BINS - 1)
    bins = []
    for at in range(BINS):
        inside_P = bin_P == at
        if inside_P.any():
            bins.append(
                {
                    "low": 0.5 + at / BINS / 2,
                    "high": 0.5 + (at + 1) / BINS / 2,
                    "predicted": rounded(predicted_P[inside_P].mean()),
                    "observed": share(float(observed_P[inside_P].mean()), len(np.unique(prompt_P[inside_P]))),
                    "pairs": int(inside_P.sum()),
                }
            )
    residual_P, pairs = observed_P - predicted_P, len(predicted_P)
    error = np.abs(np.bincount(bin_P, residual_P)).sum() / pairs
    random, prompts = np.random.default_rng(SEED), int(prompt_P.max()) + 1
    errors_B = [
        np.abs(np.bincount(bin_P, residual_P * random.choice([-1.0, 1.0], prompts)[prompt_P])).sum() / pairs
        for _ in range(RESAMPLES)
    ]
    return {"bins": bins, "error": rounded(error), "error_by_chance": rounded(np.percentile(errors_B, HIGH - 2.5))}


def _favoured(rankings: Iterable[Scored]) -> tuple[Array, Array, Array]:
    """For each pair that people did not tie: the favoured side's probability, how it fared (1, ½, 0), the prompt's number."""
    predicted, observed, prompts = [], [], []
    numbers: dict[str, int] = {}
    for one in rankings:
        for winner, loser, _ in pairs_of(one.ranks, ties="drop"):
            margin = one.scores[winner] - one.scores[loser]
            predicted.append(1 / (1 + np.exp(-abs(margin))))
            observed.append(0.5 + 0.5 * np.sign(margin))
            prompts.append(numbers.setdefault(one.prompt, len(numbers)))
    return np.array(predicted), np.array(observed), np.array(prompts)
