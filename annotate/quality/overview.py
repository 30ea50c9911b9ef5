"""The quality report's results: agreement, annotators, biases, and the tasks behind each number."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from django.db.models import Avg, Count
from django.utils.translation import gettext_noop as _
from scipy import stats

from annotate.models import Membership, Ranking, RankingTask

from . import biases, reliability
from .agreement import alpha_of, coincidences_of, pairs_within, places_of, signs_of, tau_b
from .intervals import Array, Bootstrap, Interval, interval, mean_intervals, rounded, undefined
from .reading import Filters, Rankings

NOTHING = _("There is no ranking here yet.")
NOT_TWICE = _("No task was ranked by two of these people, so there is nothing to compare.")
NO_VARIATION = _("All values are the same, so agreement cannot be told from chance.")
NOT_RATED = _("No answer was rated by two people on this criterion.")
ALL_TIED = _("Wherever two people ranked the same task, one of them put all answers in one place.")
NO_COMMON = _("Ranked no task that others have ranked, in an order.")
NO_PAIRS = _("No two answers of different length were ordered.")

# What is listed at most: pairs of annotators, tasks that disagree, rankings behind a number.
PAIRS, DISAGREEMENTS, LISTED = 500, 50, 500
LEVEL = 0.05
DAY = 86_400.0
WINDOWS = 12


def overview(
    rankings: Rankings, *, project: int, as_of: datetime, filters: Filters, beat: Callable[[], None]
) -> dict[str, Any]:
    """`results` of kind quality."""
    ordered = rankings.ordered()
    taus = Taus(ordered)
    beat()
    agreement = {
        "alpha": alpha_of_ranks(ordered),
        "alpha_over_time": over_time(ordered),
        "criteria": [
            {"criterion": name, **alpha_of_ratings(rankings, values)} for name, values in rankings.ratings.items()
        ],
    }
    beat()
    known = gold(project, as_of, filters)
    eta, _strengths = reliability.estimate(reliability.comparisons_of(ordered))
    beat()
    shown = biases.as_shown(ordered)
    people = len(rankings.memberships)
    position, by_position = position_bias(ordered, shown)
    beat()
    length, by_length = length_bias(ordered, taus)
    beat()
    pace, by_pace = paces(rankings)
    straight, by_straight = straight_lining(ordered, shown)
    with_others = taus.by_annotator(people)
    beat()
    all_bad = np.bincount(rankings.annotator, rankings.all_bad, people)
    tied = tied_pairs(ordered, people)
    counts = np.bincount(rankings.annotator, minlength=people)
    annotators = [
        {
            "membership": int(membership),
            "rankings": int(counts[index]),
            "tau": with_others[index],
            "reliability": rounded(eta[int(membership)]) if int(membership) in eta else None,
            "gold": known.get(int(membership), {"seen": 0, "accuracy": None}),
            **by_pace[index],
            "position": by_position[index],
            "length": by_length[index],
            "straight": by_straight[index],
            "all_bad_share": rounded(all_bad[index] / counts[index]),
            "ties_share": rounded(tied[index]),
        }
        for index, membership in enumerate(rankings.memberships)
    ]
    return {
        "counts": {
            "rankings": len(rankings),
            "tasks": len(rankings.task_ids),
            "annotators": people,
            "all_bad": int(rankings.all_bad.sum()),
            "total": rankings.total,
            "compared_tasks": taus.tasks_compared,
        },
        **agreement,
        "tau": taus.overall(),
        "pairs": taus.by_pair(),
        "annotators": annotators,
        "position": position.pop("letters"),
        "position_test": position,
        "length": {name: value for name, value in length.items() if name != "rankings"},
        "pace": {name: value for name, value in pace.items() if name != "rankings"},
        "straight_lining": {name: value for name, value in straight.items() if name != "rankings"},
        "disagreement": taus.most_disagreeing(),
        "task_lists": {
            "too_fast": pace["rankings"],
            "straight": straight["rankings"],
            "all_bad": rankings.ids[rankings.all_bad][:LISTED].tolist(),
        },
        "bootstrap": {"replicates": Bootstrap(len(rankings.task_ids)).replicates, "confidence": 0.95},
    }


class Taus:
    """τ-b of every two rankings of a task by two people."""

    def __init__(self, rankings: Rankings) -> None:
        self.rankings = rankings
        first, second = pairs_within(rankings.task)
        values = tau_b(signs_of(rankings.ranks), first, second)
        self.compared = len(first)
        self.tasks_compared = len(np.unique(rankings.task[first]))
        there = np.isfinite(values)
        self.first, self.second, self.values = first[there], second[there], values[there]
        self.task = rankings.task[self.first]
        self.bootstrap = Bootstrap(len(rankings.task_ids))

    @property
    def why(self) -> str:
        return ALL_TIED if self.compared else NOT_TWICE

    def overall(self) -> Interval:
        everything = np.zeros(len(self.values), dtype=np.int64)
        return mean_intervals(self.task, everything, self.values, 1, self.bootstrap, self.why)[0]

    def by_pair(self) -> list[dict[str, Any]]:
        """Annotators two by two, those with most common tasks first, PAIRS at most."""
        people = len(self.rankings.memberships)
        one, other = self.rankings.annotator[self.first], self.rankings.annotator[self.second]
        key = np.minimum(one, other).astype(np.int64) * people + np.maximum(one, other)
        keys, group, counts = np.unique(key, return_inverse=True, return_counts=True)
        kept = np.sort(np.argsort(-counts, kind="stable")[:PAIRS])
        place = np.full(len(keys), -1)
        place[kept] = np.arange(len(kept))
        inside = place[group] >= 0 if len(keys) else np.zeros(0, dtype=bool)
        found = mean_intervals(
            self.task[inside], place[group[inside]], self.values[inside], len(kept), self.bootstrap, self.why
        )
        names = self.rankings.memberships
        return [
            {
                "a": int(names[keys[index] // people]),
                "b": int(names[keys[index] % people]),
                "tasks": found[row]["n"],
                **found[row],
            }
            for row, index in enumerate(kept)
        ]

    def by_annotator(self, people: int) -> list[Interval]:
        annotator = self.rankings.annotator
        group = np.concatenate([annotator[self.first], annotator[self.second]])
        return mean_intervals(
            np.concatenate([self.task, self.task]),
            group,
            np.concatenate([self.values, self.values]),
            people,
            self.bootstrap,
            NO_COMMON,
        )

    def most_disagreeing(self) -> list[dict[str, Any]]:
        tasks, group = np.unique(self.task, return_inverse=True)
        means = np.bincount(group, self.values) / np.bincount(group) if len(tasks) else np.zeros(0)
        return [
            {"task": int(self.rankings.task_ids[tasks[index]]), "agreement": rounded(means[index])}
            for index in np.argsort(means, kind="stable")[:DISAGREEMENTS]
        ]


def alpha_of_ranks(rankings: Rankings) -> Interval:
    """Unit: one completion of one task. Value: the place that a ranking gave it, as a share of the way from best to worst."""
    places = places_of(rankings.ranks)
    row, column = np.nonzero(places >= 0)
    return _alpha(rankings.task[row], column, places[row, column], len(rankings.task_ids), NOT_TWICE)


def alpha_of_ratings(rankings: Rankings, ratings: Array) -> Interval:
    """Unit: one completion of one task. Value: its rating, 1 to 5."""
    row, column = np.nonzero(ratings)
    return _alpha(rankings.task[row], column, ratings[row, column], len(rankings.task_ids), NOT_RATED)


def _alpha(task: Array, column: Array, value: Array, tasks: int, why: str) -> Interval:
    """`task`, `column`, `value`: (N,) one entry per judgement."""
    unit = task.astype(np.int64) * 16 + column
    by_unit = np.argsort(unit, kind="stable")
    values, code = np.unique(value[by_unit], return_inverse=True)
    _units, unit = np.unique(unit[by_unit], return_inverse=True)
    rows, cells, weight = coincidences_of(unit, code, len(values))
    if not len(rows):
        return undefined(why)
    compared, cluster = np.unique(task[by_unit][rows], return_inverse=True)
    key, inverse = np.unique(cluster * len(values) ** 2 + cells, return_inverse=True)
    weight = np.bincount(inverse, weight)
    cluster, cells = key // len(values) ** 2, key % len(values) ** 2
    shape = (len(values), len(values))
    alpha = float(alpha_of(np.bincount(cells, weight, shape[0] * shape[1]).reshape(shape)))
    if not np.isfinite(alpha):
        return undefined(NO_VARIATION, n=len(compared))
    drawn = Bootstrap(len(compared)).sums(cluster, cells, [weight], shape[0] * shape[1])[0]
    return interval(alpha, alpha_of(drawn.reshape(-1, *shape)), n=len(compared))


def over_time(rankings: Rankings) -> list[dict[str, Any]]:
    """α by days, weeks or twelfths of the whole time, so that there are WINDOWS at most. A task counts when its last ranking came."""
    if not len(rankings):
        return []
    last = np.zeros(len(rankings.task_ids))
    np.maximum.at(last, rankings.task, rankings.created)
    there = last[last > 0]
    start = float(there.min() // DAY * DAY)
    span = float(there.max()) - start
    step = next((days * DAY for days in (1, 7) if span < days * DAY * WINDOWS), span / WINDOWS + 1)
    window = ((last - start) // step).astype(int)
    return [
        {"from": _iso(start + index * step), "to": _iso(start + (index + 1) * step)}
        | alpha_of_ranks(rankings.where(window[rankings.task] == index))
        for index in range(int(span // step) + 1)
    ]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def gold(project: int, as_of: datetime, filters: Filters) -> dict[int, dict[str, Any]]:
    """{membership: how many gold tasks, mean accuracy}. A tag says nothing about gold tasks and does not narrow them."""
    answers = Ranking.objects.current().filter(
        project_id=project,
        task__purpose=RankingTask.Purpose.GOLD,
        role=Ranking.Role.ANNOTATOR,
        accuracy__isnull=False,
        created_at__lte=as_of,
    )
    if filters.since:
        answers = answers.filter(created_at__gte=filters.since)
    if filters.until:
        answers = answers.filter(created_at__lt=filters.until)
    members = dict(Membership.objects.filter(project_id=project).values_list("user_id", "pk"))
    by_person = answers.values("annotator").annotate(seen=Count("pk"), accuracy=Avg("accuracy")).order_by()
    return {
        members[row["annotator"]]: {"seen": row["seen"], "accuracy": rounded(row["accuracy"])}
        for row in by_person
        if row["annotator"] in members
    }


def position_bias(rankings: Rankings, shown: biases.Shown) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    statistic, p, freedom = biases.position_test(shown)
    letters = int(shown.sizes.max(initial=0))
    row, letter = np.nonzero(shown.ranks > 0)
    on_top = shown.on_top[row, letter].astype(float)
    shares = mean_intervals(rankings.task[row], letter, on_top, letters, Bootstrap(len(rankings.task_ids)), NOTHING)
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


def length_bias(rankings: Rankings, taus: Taus) -> tuple[dict[str, Any], list[dict[str, Any]]]:
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
