"""How often one policy's answers beat another's, and how often they would if both wrote at the same length.

People and judges like long answers. The length-controlled rate is that of AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475):
logit P(win) = θ + φ · tanh(Δ / sd(Δ)), where Δ is how much longer the policy's answer is; the rate is σ(θ), the prediction at Δ = 0.
Departures: two policies are compared, so there is no term for how hard a prompt is; φ and θ have weak normal priors (standard
deviations 3 and 10) instead of a cross-validated penalty; the interval is a bootstrap's.

Shapes: P prompts, B resamples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.recipes.arguments.base import _

from .intervals import Array, Interval, percentiles, resamples, rounded, share, undefined

RIDGE_LEVEL, RIDGE_LENGTH = 0.01, 0.1
STEPS, LONGEST_STEP = 60, 2.0

ONE_SIDED = _("One side won every time, so what length adds cannot be told.")
TOO_FEW = _("There are too few prompts for it.")
ALWAYS_LONGER = _("One side was longer by the same amount every time, so what length adds cannot be told.")
CONTROLLED_MIN = 10


def win_rate(
    outcomes: Sequence[float], policy_lengths: Sequence[int], baseline_lengths: Sequence[int]
) -> dict[str, Any]:
    """Outcomes are 1 (the policy won), 0 (the baseline won), or between: a tie is a half. Lengths are in characters.

    {"rate": Interval, "controlled": Interval, "length_effect": φ or None, "wins", "ties", "losses", "policy_length", "baseline_length"}
    """
    outcomes_P = np.array(outcomes, dtype=float)
    wins, losses = int((outcomes_P > 0.5).sum()), int((outcomes_P < 0.5).sum())
    controlled, effect = length_controlled(outcomes_P, np.array(policy_lengths) - np.array(baseline_lengths))
    return {
        "rate": share(float(outcomes_P.mean()), len(outcomes_P)),
        "controlled": controlled,
        "length_effect": effect,
        "wins": wins,
        "ties": len(outcomes_P) - wins - losses,
        "losses": losses,
        "policy_length": rounded(np.mean(policy_lengths)),
        "baseline_length": rounded(np.mean(baseline_lengths)),
    }


def length_controlled(outcomes_P: Array, longer_P: Array) -> tuple[Interval, float | None]:
    """(the controlled rate, φ). `longer_P` is by how much the policy's answer is the longer one."""
    n = len(outcomes_P)
    if n < CONTROLLED_MIN:
        return undefined(TOO_FEW, n=n), None
    if outcomes_P.min() == outcomes_P.max() and outcomes_P[0] in (0.0, 1.0):
        return undefined(ONE_SIDED, n=n), None
    deviation = longer_P.std()
    if not deviation:
        # A constant difference cannot be told from the policy's own strength; no difference has nothing to control.
        return (undefined(ALWAYS_LONGER, n=n) if longer_P.any() else share(float(outcomes_P.mean()), n)), None
    length_P = np.tanh(longer_P / deviation)
    level_1, effect_1 = fit(length_P, outcomes_P, np.ones((1, n)))
    level_B = np.concatenate([fit(length_P, outcomes_P, weights_bP)[0] for weights_bP in resamples(n)])
    return percentiles(float(sigmoid(level_1)[0]), sigmoid(level_B), n), rounded(effect_1[0])


def fit(length_P: Array, outcomes_P: Array, weights_BP: Array) -> tuple[Array, Array]:
    """(θ, φ) of each resample, (B,) both: penalised maximum likelihood by Newton's method, in closed form for two unknowns."""
    level_B, effect_B = np.zeros(len(weights_BP)), np.zeros(len(weights_BP))
    for _step in range(STEPS):
        chance_BP = sigmoid(level_B[:, None] + effect_B[:, None] * length_P)
        residual_BP = weights_BP * (outcomes_P - chance_BP)
        curve_BP = weights_BP * chance_BP * (1 - chance_BP)
        first_B = residual_BP.sum(axis=1) - RIDGE_LEVEL * level_B
        second_B = residual_BP @ length_P - RIDGE_LENGTH * effect_B
        a_B, b_B = curve_BP.sum(axis=1) + RIDGE_LEVEL, curve_BP @ length_P
        c_B = curve_BP @ length_P**2 + RIDGE_LENGTH
        determinant_B = a_B * c_B - b_B**2
        move_B = np.clip((c_B * first_B - b_B * second_B) / determinant_B, -LONGEST_STEP, LONGEST_STEP)
        turn_B = np.clip((a_B * second_B - b_B * first_B) / determinant_B, -LONGEST_STEP, LONGEST_STEP)
        level_B, effect_B = level_B + move_B, effect_B + turn_B
        if max(np.abs(move_B).max(), np.abs(turn_B).max()) < 1e-9:
            break
    return level_B, effect_B


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))
