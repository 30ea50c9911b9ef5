"""Agreement: against published worked examples, against the reference libraries, and where it is undefined."""

from itertools import pairwise

import krippendorff
import numpy as np
import pytest
from scipy.stats import kendalltau

from annotate.quality import overview
from annotate.quality.agreement import (
    alpha_of,
    coincidences_of,
    pairs_within,
    places_of,
    signs_of,
    tau_b,
)
from annotate.quality.intervals import Bootstrap
from annotate.quality.tau import mean_tau
from tests.annotate.simulation import crowd, simulate

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", part C: four observers, twelve units, data missing.
NAN = float("nan")
KRIPPENDORFF_2011 = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


def alpha_of_table(table, level):
    """Ours, from a table of observers × units, NaN where missing."""
    unit, observer = np.nonzero(~np.isnan(table.T))
    values, code = np.unique(table[observer, unit], return_inverse=True)
    _, cells, weight = coincidences_of(unit, code, len(values))
    matrix = np.bincount(cells, weight, len(values) ** 2).reshape(len(values), -1)
    return float(alpha_of(matrix, level=level, values=values))


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_krippendorff_s_worked_example(level, published):
    assert round(alpha_of_table(KRIPPENDORFF_2011, level), 3) == published


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_that_of_the_krippendorff_package(level, seed):
    random = np.random.default_rng(seed)
    table = random.integers(1, 6, (5, 30)).astype(float) + random.integers(0, 2, 30)
    table[random.random(table.shape) < 0.4] = NAN
    assert alpha_of_table(table, level) == pytest.approx(krippendorff.alpha(table, level_of_measurement=level))


def test_alpha_of_ranks_is_that_of_the_krippendorff_package_on_places():
    rankings = simulate(crowd([0.3, 0.6, 1.0, 2.0]), tasks=40, overlap=3, ties_within=0.8)
    table = np.full((4, 40 * 4), NAN)
    for row in range(len(rankings)):
        places = places_of(rankings.ranks[row : row + 1])[0, :4]
        table[rankings.annotator[row], rankings.task[row] * 4 + np.arange(4)] = places
    ours = overview.alpha_of_ranks(rankings)
    assert ours["value"] == pytest.approx(krippendorff.alpha(table, level_of_measurement="ordinal"), abs=1e-6)
    assert ours["low"] < ours["value"] < ours["high"]
    assert ours["n"] == 40


def test_without_ties_alpha_of_two_rankings_a_task_is_the_mean_of_spearman_s_rho():
    """Apart from the correction for the number of values, which vanishes as they grow."""
    rankings = simulate(crowd([0.7, 0.7]), tasks=2000)
    first, second = rankings.ranks[0::2, :4].astype(float), rankings.ranks[1::2, :4].astype(float)
    rho = 1 - 6 * ((first - second) ** 2).sum(axis=1) / (4 * (16 - 1))
    assert overview.alpha_of_ranks(rankings)["value"] == pytest.approx(rho.mean(), abs=1e-3)


def test_alpha_of_random_rankings_is_zero_whatever_the_sizes_of_their_tasks():
    mixed = [simulate(crowd([1e6] * 3), tasks=300, size=size, seed=size) for size in (2, 4, 9)]
    ranks = np.concatenate([part.ranks for part in mixed])
    task = np.concatenate([part.task + 300 * index for index, part in enumerate(mixed)])
    places = places_of(ranks)
    row, column = np.nonzero(places >= 0)
    found = overview._alpha(task[row], column, places[row, column], 900, "")
    assert found["low"] < 0 < found["high"]
    assert found["value"] == pytest.approx(0, abs=0.04)


def test_places_put_ties_at_the_middle_of_what_they_share():
    ranks = np.array([[1, 2, 3, 4, 0, 0, 0, 0, 0], [1, 1, 2, 3, 0, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0, 0, 0, 0]])
    assert (places_of(ranks)[:, :5] / 1680).round(4).tolist() == [
        [0, 0.3333, 0.6667, 1, -0.0006],
        [0.1667, 0.1667, 0.6667, 1, -0.0006],
        [1, 0, -0.0006, -0.0006, -0.0006],
    ]


def test_the_interval_of_alpha_holds_the_truth_about_as_often_as_it_says():
    """Rankings of one task depend on each other; drawing single rankings instead of tasks would give too narrow intervals."""
    truth = overview.alpha_of_ranks(simulate(crowd([1.0] * 3), tasks=1000, seed=999))["value"]
    held = 0
    for seed in range(30):
        found = overview.alpha_of_ranks(simulate(crowd([1.0] * 3), tasks=40, seed=seed))
        held += found["low"] <= truth <= found["high"]
    assert held >= 25


def test_tau_b_is_scipy_s_with_ties_and_tasks_of_any_size():
    random = np.random.default_rng(4)
    for size in range(2, 10):
        ranks = np.zeros((200, 9), dtype=np.int8)
        ranks[:, :size] = random.integers(1, size + 1, (200, size))
        first, second = np.arange(0, 200, 2), np.arange(1, 200, 2)
        ours = tau_b(signs_of(ranks), first, second)
        theirs = [kendalltau(ranks[a, :size], ranks[b, :size]).statistic for a, b in zip(first, second, strict=True)]
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_tau_b_is_that_of_a_published_example():
    """scipy's documentation of kendalltau: -0.4714."""
    assert mean_tau([[12, 2, 1, 12, 2], [1, 4, 7, 1, 0]]) == pytest.approx(-0.47140452079103173)


def test_mean_tau_is_the_mean_over_pairs_of_rankings():
    assert mean_tau([[1, 2, 3], [1, 2, 3], [3, 2, 1]]) == pytest.approx(-1 / 3)
    assert mean_tau([[1, 2, 2], [1, 2, 3]]) == pytest.approx(kendalltau([1, 2, 2], [1, 2, 3]).statistic)


@pytest.mark.parametrize("vectors", [[], [[1, 2, 3]], [[1, 1, 1], [1, 2, 3]], [[1, 1], [1, 1]]])
def test_mean_tau_is_undefined_without_two_orders(vectors):
    assert mean_tau(vectors) is None


def test_pairs_within_are_all_pairs_of_each_group_and_no_other():
    group = np.array([0, 0, 0, 2, 3, 3])
    first, second = pairs_within(group)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2), (4, 5)]


def test_alpha_is_undefined_where_no_task_was_ranked_twice():
    found = overview.alpha_of_ranks(simulate(crowd([1.0, 1.0]), tasks=20, overlap=1))
    assert (found["value"], found["why"]) == (None, overview.NOT_TWICE)


def test_alpha_is_undefined_where_everybody_ties_everything():
    found = overview.alpha_of_ranks(simulate(crowd([1.0, 1.0]), tasks=20, ties_within=1e9))
    assert (found["value"], found["why"], found["n"]) == (None, overview.NO_VARIATION, 20)


def test_tasks_are_drawn_the_same_each_time():
    first, second = (np.array(list(Bootstrap(50).weights())) for _ in range(2))
    assert (first == second).all()
    assert set(first.sum(axis=1).tolist()) == {50}
    assert not (first[0] == first[1]).all()


def test_an_interval_needs_two_tasks():
    found = overview.alpha_of_ranks(simulate(crowd([0.1, 0.1]), tasks=1))
    assert found["value"] is not None
    assert (found["low"], found["high"], found["n"]) == (None, None, 1)


def test_pairs_of_annotators_have_the_mean_of_their_taus_with_an_interval():
    rankings = simulate(crowd([0.3, 0.3, 50.0]), tasks=60)
    pairs = overview.Taus(rankings).by_pair()
    of = {(pair["a"], pair["b"]): pair for pair in pairs}
    both = [rankings.ranks[rankings.annotator == who, :4] for who in (0, 1)]
    expected = np.mean([kendalltau(a, b).statistic for a, b in zip(*both, strict=True)])
    assert of[1, 2]["value"] == pytest.approx(expected, abs=1e-6)
    assert of[1, 2]["low"] > of[1, 3]["high"]
    assert [pair["tasks"] for pair in pairs] == [60, 60, 60]


def test_time_is_cut_into_days_weeks_or_twelfths():
    rankings = simulate(crowd([0.5, 0.5]), tasks=60)
    for days, windows in ((0.1, 1), (11, 12), (60, 9), (800, 12)):
        spread = np.linspace(0, days * 86400 - 1, len(rankings))
        stretched = rankings.where(np.ones(len(rankings), dtype=bool))
        stretched.created[:] = 1_700_006_400 + spread
        parts = overview.over_time(stretched)
        assert len(parts) in (windows, windows - 1)
        assert sum(part["n"] for part in parts) == 60
        assert all(before["to"] == after["from"] for before, after in pairwise(parts))
