"""Whether annotators agree: Kendall's τ-b between two rankings, Krippendorff's α over all of them.

Shapes: R rankings, K columns (completions by id, 0 where there is none), P = K (K - 1) / 2 pairs of columns, V distinct values.
"""

from itertools import combinations
from typing import Literal

import numpy as np

from .intervals import Array

# Places k / (2 (n - 1)), k = 0 … 2 (n - 1), of up to nine completions are all whole multiples of 1 / 1680.
PLACES = 1680


def signs_of(ranks: Array) -> Array:
    """(R, K) ranks → (R, P): -1 where the first of two columns is better, 1 where it is worse, 0 for ties and missing ones."""
    pairs = list(combinations(range(ranks.shape[1]), 2))
    signs = np.zeros((len(ranks), len(pairs)), dtype=np.int8)
    for index, (i, j) in enumerate(pairs):
        present = (ranks[:, i] > 0) & (ranks[:, j] > 0)
        signs[:, index] = np.where(present, np.sign(ranks[:, i] - ranks[:, j]), 0)
    return signs


def pairs_within(group: Array) -> tuple[Array, Array]:
    """All pairs of rows of the same group, for a sorted `group` (N,): (first rows, second rows)."""
    firsts, seconds = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    largest = int(np.bincount(group).max()) if len(group) else 0
    for step in range(1, largest):
        first = np.flatnonzero(group[step:] == group[:-step])
        firsts.append(first)
        seconds.append(first + step)
    return np.concatenate(firsts), np.concatenate(seconds)


def tau_b(signs: Array, first: Array, second: Array) -> Array:
    """Kendall 1945: concordant minus discordant pairs over √(untied in one · untied in the other), (N,); NaN if one ties all.

    `signs` (R, P) from `signs_of`; `first` and `second` (N,) are rows of it.
    """
    untied = np.abs(signs).sum(axis=1, dtype=np.int32)
    taus = np.empty(len(first))
    for start in range(0, len(first), 100_000):
        rows = slice(start, start + 100_000)
        i, j = first[rows], second[rows]
        together = np.einsum("np,np->n", signs[i], signs[j], dtype=np.int32)
        with np.errstate(invalid="ignore", divide="ignore"):
            taus[rows] = together / np.sqrt(untied[i] * untied[j])
    return taus


def places_of(ranks: Array) -> Array:
    """(R, K) ranks → (R, K) places from 0 (best) to PLACES (worst), ties at the middle of the places they share, -1 missing.

    The place is (mid-rank - 1) / (n - 1), n being the ranking's completions. So the mean place is the middle whatever was tied
    and however many completions a task has: rankings of tasks of different size can be pooled.
    """
    places = np.full(ranks.shape, -1, dtype=np.int16)
    for start in range(0, len(ranks), 50_000):
        part = ranks[start : start + 50_000].astype(np.int16)
        present = part > 0
        better = ((part[:, None, :] < part[:, :, None]) & present[:, None, :]).sum(axis=2)
        level = ((part[:, None, :] == part[:, :, None]) & present[:, None, :]).sum(axis=2)
        twice = 2 * better + level - 1
        scale = PLACES // (2 * np.maximum(present.sum(axis=1) - 1, 1))
        places[start : start + 50_000] = np.where(present, twice * scale[:, None], -1)
    return places


def alpha_of(
    pairs: Array, *, level: Literal["nominal", "ordinal", "interval"] = "ordinal", values: Array | None = None
) -> Array:
    """Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": (…, V, V) → (…); NaN if undefined, because no two values
    were paired or all were the same.

    `pairs` counts each pair of values of a unit once, in either direction, divided by the unit's values less one; with its
    transpose added it is the coincidence matrix. Rows are the values in their order; `values` (V,) is needed for intervals alone. The `krippendorff` package
    gives the same numbers (a test compares), but takes V² numbers for each unit at once and cannot weigh units, as resampling
    tasks needs it.
    """
    coincidences = pairs + np.swapaxes(pairs, -1, -2)
    totals = coincidences.sum(axis=-1)
    if level == "nominal":
        distances = 1.0 - np.eye(totals.shape[-1])
    else:
        # The ordinal distance between two values is the number of observations between their middles.
        scale = np.cumsum(totals, axis=-1) - totals / 2 if level == "ordinal" else np.asarray(values, dtype=float)
        distances = (scale[..., :, None] - scale[..., None, :]) ** 2
    observed = (coincidences * distances).sum(axis=(-1, -2))
    by_chance = (totals[..., :, None] * totals[..., None, :] * distances).sum(axis=(-1, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - observed * (totals.sum(axis=-1) - 1) / by_chance)


def coincidences_of(unit: Array, code: Array, values: int) -> tuple[Array, Array, Array]:
    """What `alpha_of` counts: (row (N,), cell (N,), weight (N,)), one entry per pair of observations of a unit.

    `unit` (M,) is sorted; `code` (M,) is the value's place among `values`. Row: the pair's first observation, to tell its
    task; cell: smaller code · values + larger code.
    """
    first, second = pairs_within(unit)
    size = np.bincount(unit, minlength=1)
    weight = 1.0 / (size[unit[first]] - 1) if len(first) else np.zeros(0)
    one, other = code[first], code[second]
    return first, np.minimum(one, other) * values + np.maximum(one, other), weight
