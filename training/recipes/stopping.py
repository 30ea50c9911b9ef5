"""When to stop a run that optimises a reward: a watchdog that falls while the reward rises, or a divergence beyond its budget.

Pure functions over what the evaluations of a run measured; the decision is the same however often it is taken, so a resumed run
decides as an unbroken one. docs/training.md, 'The watchdog', has the rule in words and what its errors are.

An evaluation scores one completion for each of the same n prompts. Two evaluations are compared prompt by prompt: the fall is the
mean of the n differences in units of its own standard error, a paired t statistic. No table's critical value fits it: the best of
many noisy evaluations looks better than it is, and there is a look at every evaluation. `threshold_for` therefore plays the very
rule on runs in which nothing changes, and takes the threshold that stops at most the stated share of them.

Why a watchdog falls while the reward rises: Gao, Schulman and Hilton (2022), arXiv:2210.10760.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Reason = Literal["", "over_optimised", "divergence"]
Draw = Callable[[np.random.Generator, tuple[int, int]], Values]

SIMULATED_RUNS, FEWEST_RUNS, SIMULATED_LOOKS = 2000, 500, 100_000
ENOUGH_PROMPTS = 64  # beyond which t is normal
# How strongly the noise of neighbouring evaluations may hang together: the same seeds, and a policy that has hardly moved.
CORRELATIONS = (0.0, 0.5, 0.9)


@dataclass(frozen=True)
class Look:
    """One evaluation. `proxy` and `watchdog` hold a score for each prompt, in the prompts' order."""

    step: int
    proxy: Values
    watchdog: Values | None  # None where the run has no watchdog
    kl: float  # nats per completion


@dataclass(frozen=True)
class Rule:
    threshold: float  # standard errors
    patience: int  # evaluations in a row
    max_kl: float = 0.0  # nats per completion; 0 for no limit


@dataclass(frozen=True)
class Verdict:
    """What the looks so far say. `kept` is the place of the one whose weights are kept; None for those of the last step."""

    kept: int | None
    fall: float  # of the newest look, in standard errors; negative or 0 where it is the best
    streak: int
    reason: Reason


def judge(looks: Sequence[Look], rule: Rule) -> Verdict:
    """Follows the looks from the first; whatever comes after the one that stops the run is ignored."""
    best: int | None = None
    fall, streak = 0.0, 0
    watched = any(look.watchdog is not None for look in looks)
    for at, look in enumerate(looks):
        if rule.max_kl and look.kl > rule.max_kl:
            return Verdict(best, fall, streak, "divergence")
        if not watched:
            best = at if rule.max_kl else None  # the last one within the budget
            continue
        if best is None or mean_of(look) > mean_of(looks[best]):
            best, fall, streak = at, 0.0, 0
            continue
        fall = fall_between(looks[best], look)
        rises = look.proxy.mean() > looks[best].proxy.mean()
        streak = streak + 1 if fall > rule.threshold and rises else 0
        if streak >= rule.patience:
            return Verdict(best, fall, streak, "over_optimised")
    return Verdict(best, fall, streak, "")


def mean_of(look: Look) -> float:
    return float("-inf") if look.watchdog is None else float(look.watchdog.mean())


def fall_between(best: Look, now: Look) -> float:
    """How far the watchdog is below its best, in standard errors of the paired difference; 0 where one cannot be told."""
    if best.watchdog is None or now.watchdog is None:
        return 0.0
    return float(paired_t((best.watchdog - now.watchdog)[None])[0])


def paired_t(differences_RN: Values) -> Values:
    """Mean over N in units of its standard error, for each of R rows. Without any spread: 0 if the mean is 0, else infinite."""
    n = differences_RN.shape[1]
    if n < 2:
        return np.zeros(len(differences_RN))
    mean = differences_RN.mean(1)
    error = differences_RN.std(1, ddof=1) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > 0, mean / error, np.where(mean == 0, 0.0, np.sign(mean) * np.inf))


def threshold_for(looks: int, prompts: int, patience: int, false_alarms: float) -> float:
    """The threshold in standard errors at which at most the share `false_alarms` of runs would be stopped in which the watchdog
    stays level while the proxy rises. The least favourable of CORRELATIONS counts. Always the same for the same arguments.
    """
    if looks <= patience or prompts < 2:
        return float("inf")
    found = []
    runs = max(FEWEST_RUNS, min(SIMULATED_RUNS, SIMULATED_LOOKS // looks))
    for correlation in CORRELATIONS:
        random = np.random.default_rng(0)
        fewer = min(prompts, ENOUGH_PROMPTS)
        highest = level_runs(random, looks, fewer, patience, runs=runs, correlation=correlation)
        found.append(float(np.quantile(highest, 1 - false_alarms, method="higher")))
    return max(found)


def level_runs(
    random: np.random.Generator,
    looks: int,
    prompts: int,
    patience: int,
    *,
    runs: int = SIMULATED_RUNS,
    correlation: float = 0.0,
    noise: Draw = lambda random, shape: random.standard_normal(shape),
) -> Values:
    """Runs in which the watchdog stays level: for each the highest threshold at which `judge` would have stopped it, (runs,)."""
    now_RN = noise(random, (runs, prompts))
    best_RN = now_RN.copy()
    newest = np.zeros((patience, runs))  # the falls of the newest looks
    highest = np.zeros(runs)
    for at in range(1, looks):
        now_RN = correlation * now_RN + np.sqrt(1 - correlation**2) * noise(random, (runs, prompts))
        fall = paired_t(best_RN - now_RN)
        better = fall < 0
        best_RN[better] = now_RN[better]
        newest[at % patience] = np.where(better, 0.0, fall)
        if at >= patience:
            highest = np.maximum(highest, newest.min(0))
    return highest
