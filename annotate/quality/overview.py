"""The quality report's results: agreement, annotators, biases, and the tasks behind each number."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from django.db.models import Avg, Count
from django.utils.translation import gettext_noop as _

from annotate.models import Membership, Ranking, RankingTask

from . import biases, checks, reliability
from .agreement import alpha_of, coincidences_of, pairs_within, places_of, signs_of, tau_b
from .intervals import Array, Beat, Bootstrap, Interval, interval, mean_intervals, rounded, undefined
from .reading import Filters, Rankings

NOT_TWICE = _("No task was ranked by two of these people, so there is nothing to compare.")
NO_VARIATION = _("All values are the same, so agreement cannot be told from chance.")
NOT_RATED = _("No answer was rated by two people on this criterion.")
ALL_TIED = _("Wherever two people ranked the same task, one of them put all answers in one place.")

# What is listed at most: pairs of annotators, and tasks that disagree.
PAIRS, DISAGREEMENTS = 500, 50
DAY = 86_400.0
WINDOWS = 12


def overview(rankings: Rankings, *, project: int, as_of: datetime, filters: Filters, beat: Beat) -> dict[str, Any]:
    """`results` of kind quality."""
    ordered = rankings.ordered()
    taus = Taus(ordered)
    beat(0.05)
    agreement = {
        "alpha": alpha_of_ranks(ordered),
        "alpha_over_time": over_time(ordered),
        "criteria": [
            {"criterion": name, **alpha_of_ratings(rankings, values)} for name, values in rankings.ratings.items()
        ],
    }
    beat(0.4)
    known = gold(project, as_of, filters)
    eta, _strengths = reliability.estimate(reliability.comparisons_of(ordered))
    beat(0.6)
    shown = biases.as_shown(ordered)
    people = len(rankings.memberships)
    position, by_position = checks.position_bias(ordered, shown)
    beat(0.7)
    length, by_length = checks.length_bias(ordered)
    beat(0.9)
    pace, by_pace = checks.paces(rankings)
    straight, by_straight = checks.straight_lining(ordered, shown)
    with_others = taus.by_annotator(people)
    beat(0.95)
    all_bad = np.bincount(rankings.annotator, rankings.all_bad, people)
    tied = checks.tied_pairs(ordered, people)
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
            "all_bad": rankings.ids[rankings.all_bad][: checks.LISTED].tolist(),
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
            checks.NO_COMMON,
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
