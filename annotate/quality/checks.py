"""The quality report's results about each check of `biases`: for everybody, for each annotator, and the rankings behind it."""

from typing import Any

import numpy as np
from django.utils.translation import gettext_noop as _
from scipy import stats

from . import biases
from .agreement import signs_of
from .intervals import Array, Bootstrap, mean_intervals, rounded
from .reading import Rankings

NO_POSITIONS = _("There is no ranking here yet.")
NO_COMMON = _("Ranked no task that others have ranked, in an order.")
NO_PAIRS = _("No two answers of different length were ordered.")

# How many rankings are listed behind a number, at most.
LISTED = 500
LEVEL = 0.05


def position_bias(rankings: Rankings, shown: biases.Shown) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    statistic, p, freedom = biases.position_test(shown)
    letters = int(shown.sizes.max(initial=0))
    row, letter = np.nonzero(shown.ranks > 0)
    on_top = shown.on_top[row, letter].astype(float)
    shares = mean_intervals(
        rankings.task[row], letter, on_top, letters, Bootstrap(len(rankings.task_ids)), NO_POSITIONS
    )
    wins = np.bincount(letter, on_top, letters)
    expected = np.bincount(letter, shown.chance[row], letters)
    seen = np.bincount(letter, minlength=letters)
    people = len(rankings.memberships)
    first = [_first(shown, rankings.annotator == index) for index in range(people)]
    corrected = biases.holm(np.array([one["p"] if one["p"] is not None else np.nan for one in first]))
    return {
        "letters": [
            {
                "letter": "ABCDEFGHI"[index],
                "wins": int(wins[index]),
                "n": int(seen[index]),
                "expected": rounded(expected[index]),
                "expected_share": rounded(expected[index] / seen[index]),
                "share": shares[index]["value"],
                "low": shares[index]["low"],
                "high": shares[index]["high"],
            }
            for index in range(letters)
        ],
        "chi2": rounded(statistic),
        "freedom": freedom,
        "p": rounded(p),
    }, [one | {"p_adjusted": rounded(value)} for one, value in zip(first, corrected, strict=True)]


def _first(shown: biases.Shown, mine: Array) -> dict[str, Any]:
    """How often A was in the first place, alone or shared. Rankings that tie all say nothing and are left out."""
    telling = mine & (shown.chance > 0) & (shown.chance < 1)
    chances = shown.chance[telling]
    if not len(chances):
        return {"first_share": None, "expected": None, "n": 0, "p": None}
    count = int(shown.on_top[telling, 0].sum())
    return {
        "first_share": rounded(count / len(chances)),
        "expected": rounded(chances.mean()),
        "n": len(chances),
        "p": rounded(biases.two_sided(count, chances)),
    }


def length_bias(rankings: Rankings) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    pairs = biases.length_pairs(rankings)
    people = len(rankings.memberships)
    annotator, task = rankings.annotator[pairs.row], rankings.task[pairs.row]
    bootstrap = Bootstrap(len(rankings.task_ids))
    everybody = np.zeros(len(pairs.row), dtype=np.int64)
    won = pairs.longer_won.astype(float)
    whole = mean_intervals(task, everybody, won, 1, bootstrap, NO_PAIRS)[0]
    slope, error = biases.length_slopes(pairs, everybody, 1, task)
    shares = mean_intervals(task, annotator, won, people, bootstrap, NO_PAIRS)
    slopes, errors = biases.length_slopes(pairs, annotator, people, task)
    correlation = biases.length_correlations(rankings)
    rows, excess = beyond_others(rankings, correlation)
    by, of = rankings.annotator, rankings.annotator[rows]
    excesses = mean_intervals(rankings.task[rows], of, excess, people, bootstrap, NO_COMMON)
    found = []
    for index in range(people):
        mine = correlation[(by == index) & np.isfinite(correlation)]
        found.append(
            {
                "correlation": rounded(mine.mean()) if len(mine) else None,
                "others": rounded((correlation[rows] - excess)[of == index].mean()) if (of == index).any() else None,
                "excess": excesses[index],
                "p": rounded(_unlike_zero(excess[of == index])),
                "longer_won": shares[index],
                "slope": rounded(slopes[index]),
                "slope_error": rounded(errors[index]),
            }
        )
    corrected = biases.holm(np.array([one["p"] if one["p"] is not None else np.nan for one in found]))
    defined = correlation[np.isfinite(correlation)]
    return {
        "longer_won": whole,
        "pairs": len(pairs.row),
        "correlation": rounded(defined.mean()) if len(defined) else None,
        "slope": rounded(slope[0]),
        "slope_error": rounded(error[0]),
    }, [one | {"p_adjusted": rounded(value)} for one, value in zip(found, corrected, strict=True)]


def _unlike_zero(values: Array) -> float:
    """p of a t test that the mean is 0; NaN where there is too little or no variation."""
    if len(values) < 5 or np.ptp(values) == 0:
        return float("nan")
    return float(stats.ttest_1samp(values, 0).pvalue)


def beyond_others(rankings: Rankings, value: Array) -> tuple[Array, Array]:
    """(rows (N,), (N,) by how much `value` (R,) of these rankings exceeds its mean among the task's other rankings).

    NaN are left out, and so are rankings without others.
    """
    rows = np.flatnonzero(np.isfinite(value))
    task, own = rankings.task[rows], value[rows]
    total, count = np.bincount(task, own)[task], np.bincount(task)[task]
    shared = count > 1
    return rows[shared], own[shared] - (total - own)[shared] / (count[shared] - 1)


def paces(rankings: Rankings) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    words = biases.words_shown(rankings)
    per_minute = words / np.maximum(rankings.seconds, 0.1) * 60
    too_fast = per_minute > biases.WORDS_PER_MINUTE
    people = []
    for index in range(len(rankings.memberships)):
        mine = rankings.annotator == index
        people.append(
            {
                "median_seconds": rounded(np.median(rankings.seconds[mine]), 2),
                "words_per_minute": rounded(np.median(per_minute[mine]), 1),
                "too_fast": int(too_fast[mine].sum()),
                "too_fast_share": rounded(too_fast[mine].mean()),
            }
        )
    some = len(rankings) > 0
    fastest = np.argsort(-per_minute, kind="stable")
    return {
        "median_seconds": rounded(np.median(rankings.seconds), 2) if some else None,
        "words_per_minute": rounded(np.median(per_minute), 1) if some else None,
        "threshold": biases.WORDS_PER_MINUTE,
        "too_fast": int(too_fast.sum()),
        "too_fast_share": rounded(too_fast.mean()) if some else None,
        "histogram": pace_histogram(per_minute),
        "n": len(rankings),
        "rankings": rankings.ids[fastest[too_fast[fastest]]][:LISTED].tolist(),
    }, people


def pace_histogram(per_minute: Array) -> list[dict[str, Any]]:
    """How many rankings came at from … to words a minute; the last bin is open."""
    if not len(per_minute):
        return []
    edges = np.append(np.arange(0, 1.5 * biases.WORDS_PER_MINUTE + 1, biases.WORDS_PER_MINUTE / 10), np.inf)
    counts, _edges = np.histogram(per_minute, edges)
    return [
        {"from": int(low), "to": int(high) if np.isfinite(high) else None, "count": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def straight_lining(rankings: Rankings, shown: biases.Shown) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    same, chance = biases.same_order(shown)
    people, suspects = [], np.zeros(len(rankings), dtype=bool)
    for index in range(len(rankings.memberships)):
        mine = np.flatnonzero((rankings.annotator == index) & (chance > 0))
        common = biases.common_order(
            biases.Shown(shown.ranks[mine], shown.sizes[mine], shown.on_top[mine], shown.chance[mine])
        )
        count = int(same[mine].sum())
        people.append(
            {
                "same_order": count,
                "share": rounded(same[mine].mean()) if len(mine) else None,
                "expected": rounded(chance[mine].mean()) if len(mine) else None,
                "n": len(mine),
                "p": rounded(biases.at_least(count, chance[mine])) if len(mine) else None,
                "common_order": common.letters if common else "",
                "common_count": common.count if common else 0,
                "common_share": rounded(common.count / len(mine)) if common else None,
                "common_p": rounded(common.p) if common else None,
            }
        )
        if common and common.p * len(rankings.memberships) < LEVEL:
            suspects[mine[common.rows]] = True
    corrected = biases.holm(np.array([one["p"] if one["p"] is not None else np.nan for one in people]))
    for index, value in enumerate(corrected):
        if value < LEVEL:
            suspects |= same & (rankings.annotator == index)
    telling = chance > 0
    return {
        "same_order": int(same.sum()),
        "n": int(telling.sum()),
        "share": rounded(same[telling].mean()) if telling.any() else None,
        "expected": rounded(chance[telling].mean()) if telling.any() else None,
        "p": rounded(biases.at_least(int(same.sum()), chance[telling])) if telling.any() else None,
        "rankings": rankings.ids[suspects][:LISTED].tolist(),
    }, [one | {"p_adjusted": rounded(value)} for one, value in zip(people, corrected, strict=True)]


def tied_pairs(rankings: Rankings, people: int) -> Array:
    """The share of pairs of completions that each annotator tied, (A,); NaN without rankings."""
    sizes = rankings.sizes
    pairs = sizes * (sizes - 1) / 2
    untied = np.abs(signs_of(rankings.ranks)).sum(axis=1, dtype=np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            1 - np.bincount(rankings.annotator, untied, people) / np.bincount(rankings.annotator, pairs, people)
        )
