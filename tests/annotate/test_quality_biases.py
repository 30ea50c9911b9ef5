"""Position, length, pace and straight-lining: the tests are what they say, and simulated biases are found."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare, spearmanr

from annotate.quality import biases, checks
from tests.annotate.simulation import crowd, simulate


def shown_of(rankings):
    return rankings, biases.as_shown(rankings)


def test_holm_corrects_as_r_s_documentation_of_p_adjust_does():
    adjusted = biases.holm(np.array([0.01, 0.02, 0.03, float("nan"), 0.04, 0.05]))
    assert adjusted[[0, 1, 2, 4, 5]].round(4).tolist() == [0.05, 0.08, 0.09, 0.09, 0.09]
    assert np.isnan(adjusted[3])


def test_equal_chances_are_a_binomial_test():
    chances = np.full(30, 0.25)
    assert biases.at_least(14, chances) == pytest.approx(binomtest(14, 30, 0.25, alternative="greater").pvalue)
    less = binomtest(3, 30, 0.25, alternative="less").pvalue
    assert biases.two_sided(3, chances) == pytest.approx(2 * less)


def test_unequal_chances_are_summed_exactly():
    chances = np.array([0.1, 0.5, 0.5, 0.25, 0.75])
    outcomes = np.array(list(product((0, 1), repeat=5)))
    mass = np.where(outcomes, chances, 1 - chances).prod(axis=1)
    for count in range(6):
        assert biases.at_least(count, chances) == pytest.approx(mass[outcomes.sum(axis=1) >= count].sum())


def test_many_unequal_chances_are_close_to_the_exact_sum():
    chances = np.linspace(0.2, 0.3, biases.EXACT + 1)
    assert biases.at_least(540, chances) == pytest.approx(biases.at_least(540, chances[:-1]), abs=0.01)


def test_as_shown_puts_the_ranks_under_their_letters():
    rankings = simulate(crowd([1.0]), tasks=5)
    shown = biases.as_shown(rankings)
    for row in range(5):
        for column in range(4):
            assert shown.ranks[row, rankings.shown[row, column] - 1] == rankings.ranks[row, column]


def test_the_position_test_is_pearson_s_without_ties():
    _, shown = shown_of(simulate(crowd([1.0] * 3), tasks=100))
    statistic, p, freedom = biases.position_test(shown)
    expected = chisquare(shown.on_top[:, :4].sum(axis=0))
    assert [statistic, p, freedom] == pytest.approx([expected.statistic, expected.pvalue, 3])


def test_the_position_test_raises_few_false_alarms_where_answers_are_tied():
    false = 0
    for seed in range(100):
        _, shown = shown_of(simulate(crowd([0.5]), tasks=40, ties_within=1.0, seed=seed))
        false += biases.position_test(shown)[1] < 0.05
    assert false <= 11


def test_who_puts_a_first_is_recovered():
    towards_a = np.random.default_rng(2).permutation(np.linspace(0, 0.6, 20))
    rankings, shown = shown_of(simulate(crowd(np.full(20, 0.5), towards_a=towards_a)))
    whole, by_annotator = checks.position_bias(rankings, shown)
    shares = [one["first_share"] for one in by_annotator]
    assert spearmanr(shares, towards_a).statistic > 0.9
    assert whole["p"] < 1e-6
    a, *rest = whole["letters"]
    assert a["letter"] == "A"
    assert a["low"] > a["expected_share"]
    assert all(letter["high"] < letter["expected_share"] for letter in rest)
    honest, worst = by_annotator[int(towards_a.argmin())], by_annotator[int(towards_a.argmax())]
    assert honest["p_adjusted"] > 0.05 > worst["p_adjusted"]


def test_rankings_that_tie_all_say_nothing_of_position():
    rankings, shown = shown_of(simulate(crowd([1.0]), tasks=20, ties_within=1e9))
    whole, (only,) = checks.position_bias(rankings, shown)
    assert (whole["p"], only["p"], only["n"]) == (None, None, 0)


def test_whoever_gives_the_order_shown_is_found_with_the_rankings():
    rankings, shown = shown_of(simulate(crowd([0.5] * 5, straight=[0, 0, 0.5, 0, 0]), tasks=60))
    whole, people = checks.straight_lining(rankings, shown)
    assert [one["p_adjusted"] < 0.05 for one in people] == [False, False, True, False, False]
    assert people[2]["share"] > 0.4 > 0.15 > people[0]["share"]
    suspects = rankings.annotator[np.isin(rankings.ids, whole["rankings"])]
    assert set(suspects.tolist()) == {2}
    assert len(suspects) == people[2]["same_order"] == people[2]["common_count"]


def test_whoever_always_gives_another_order_is_found():
    rankings = simulate(crowd([0.5] * 3), tasks=40)
    mine = rankings.annotator == 1
    rankings.ranks[mine, :4] = 5 - rankings.shown[mine, :4]
    _, people = checks.straight_lining(rankings, biases.as_shown(rankings))
    assert people[1]["common_order"] == "D C B A"
    assert people[1]["common_share"] == 1
    assert people[1]["common_p"] < 1e-6
    assert people[0]["common_p"] > 0.05
    assert people[1]["same_order"] == 0


def test_the_chance_of_the_order_shown_depends_on_ties():
    rankings = simulate(crowd([1.0]), tasks=4)
    rankings.ranks[:, :4] = [[1, 2, 3, 4], [1, 1, 2, 3], [1, 1, 2, 2], [1, 1, 1, 1]]
    rankings.shown[:, :4] = [1, 2, 3, 4]
    same, chance = biases.same_order(biases.as_shown(rankings))
    assert same.tolist() == [True, True, True, False]
    assert chance.tolist() == pytest.approx([1 / 24, 2 / 24, 4 / 24, 0])


def test_the_slope_of_length_is_recovered_with_its_error():
    """Two answers, the longer one preferred with log-odds of 0.8 per doubling."""
    random = np.random.default_rng(5)
    rankings = simulate(crowd([1.0]), tasks=3000, size=2)
    ratio = np.log2(rankings.words[:, 0] / rankings.words[:, 1])
    first = random.random(3000) < 1 / (1 + np.exp(-0.8 * ratio))
    rankings.ranks[:, :2] = np.where(first[:, None], [1, 2], [2, 1])
    whole, (only,) = checks.length_bias(rankings)
    assert whole["slope"] == pytest.approx(0.8, abs=3 * whole["slope_error"])
    assert 0.01 < whole["slope_error"] < 0.1
    assert only["longer_won"]["low"] > 0.5
    assert only["correlation"] > 0
    assert (only["excess"]["value"], only["p"]) == (None, None)


def test_whoever_prefers_the_longer_answer_stands_out_from_the_others():
    rankings = simulate(crowd([0.3] * 4), tasks=80)
    mine = rankings.annotator == 3
    order = (-rankings.words[:, :4]).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable") + 1
    rankings.ranks[mine, :4] = order
    _, people = checks.length_bias(rankings)
    assert people[3]["correlation"] > 0.9
    assert people[3]["longer_won"]["value"] == 1
    assert np.isfinite(people[3]["slope"])
    assert people[3]["excess"]["low"] > 0.5
    assert people[3]["p_adjusted"] < 0.001
    assert all(person["p_adjusted"] > 0.05 or person["excess"]["value"] < 0 for person in people[:3])


def test_a_ranking_faster_than_reading_is_listed_fastest_first():
    rankings = simulate(crowd([0.5, 0.5]), tasks=10)
    words = biases.words_shown(rankings)
    rankings = replace(rankings, seconds=words / 300 * 60)
    rankings.seconds[3], rankings.seconds[8] = words[3] / 1500 * 60, words[8] / 4000 * 60
    whole, people = checks.paces(rankings)
    assert whole["rankings"] == [int(rankings.ids[8]), int(rankings.ids[3])]
    assert whole["words_per_minute"] == pytest.approx(300)
    assert whole["too_fast"] == 2 == sum(person["too_fast"] for person in people)


def test_a_shared_pair_counts_as_tied():
    rankings = simulate(crowd([0.5, 0.5]), tasks=2)
    rankings.ranks[:, :4] = [1, 1, 2, 3]
    rankings.ranks[rankings.annotator == 1, :4] = [1, 2, 3, 4]
    assert checks.tied_pairs(rankings, 2).tolist() == [pytest.approx(1 / 6), 0]
