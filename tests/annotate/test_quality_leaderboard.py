"""Sources ranked: as the formula says, with honest intervals, and not at all where they were never connected."""

import numpy as np
import pytest
from scipy.optimize import minimize

from annotate.quality.leaderboard import (
    Comparisons,
    compare_sources,
    components_of,
    rate,
    rate_sources,
    separated,
    tabulate,
)
from tests.annotate.simulation import crowd, simulate

TRUTH = np.array([1.0, 0.5, 0.0, -1.5])


def of_sources(tasks=100, seed=1, truth=TRUTH, **how):
    strengths = np.random.default_rng(seed).normal(size=(tasks, 4)) * 0.7 + truth
    return simulate(crowd([0.5, 0.8, 1.0]), tasks=tasks, strengths=strengths, seed=seed, **how)


def between(pairs, sources, tie=False):
    """Each pair is a task in which the first beat the second."""
    winner, loser = np.array(pairs).T
    return Comparisons(
        np.arange(len(pairs)), winner, loser, np.full(len(pairs), tie), np.ones(len(pairs)), np.arange(sources)
    )


def test_ratings_are_those_that_make_the_comparisons_most_likely():
    """Bradley and Terry 1952 with ties as half a win each way and one tie with an average source, maximised by scipy."""
    comparisons = compare_sources(of_sources(ties_within=0.8))
    table = tabulate(comparisons)
    assert table.ties.sum() > 0
    won = table.wins + table.ties / 2

    def negative_log_likelihood(parameters):
        strength, average = parameters[:-1], parameters[-1]
        difference = strength[:, None] - strength[None, :]
        prior = 0.5 * (np.logaddexp(0, average - strength) + np.logaddexp(0, strength - average)).sum()
        return (won * np.logaddexp(0, -difference)).sum() + prior

    found = minimize(negative_log_likelihood, np.zeros(5), method="BFGS", options={"gtol": 1e-8}).x[:-1]
    expected = 1000 + 400 / np.log(10) * (found - found.mean())
    found_here = rate(comparisons.winner, comparisons.loser, comparisons.tie, comparisons.count, 4)
    assert found_here == pytest.approx(expected, abs=0.1)


def test_sources_of_known_strength_stand_in_their_order_with_their_ranges():
    comparisons = compare_sources(of_sources(tasks=200))
    rated = rate_sources(comparisons, 200)
    assert (-rated.ratings).argsort().tolist() == [0, 1, 2, 3]
    assert rated.ratings.mean() == pytest.approx(1000)
    assert rated.rank_low.tolist() == rated.rank_high.tolist() == [1, 2, 3, 4]


def test_sources_of_equal_strength_share_their_ranks():
    rated = rate_sources(compare_sources(of_sources(tasks=60, truth=np.zeros(4))), 60)
    low, high = np.percentile(rated.resampled, (2.5, 97.5), axis=0)
    assert (low < 1000).all()
    assert (high > 1000).all()
    assert (rated.rank_high - rated.rank_low).min() >= 1


def test_every_pair_of_a_ranking_is_counted_once():
    table = tabulate(compare_sources(of_sources()))
    assert table.wins.sum() == 300 * 6
    assert (table.wins + table.wins.T)[~np.eye(4, dtype=bool)].tolist() == [300] * 12


def test_two_completions_of_one_source_are_no_comparison():
    rankings = of_sources()
    rankings.sources[:, 1] = rankings.sources[:, 0]
    comparisons = compare_sources(rankings)
    assert comparisons.sources.tolist() == [1, 3, 4]
    assert comparisons.count.sum() == 300 * 5


def test_ratings_by_a_criterion_decide_where_one_is_chosen():
    rankings = of_sources(tasks=10)
    rankings.ratings["Clarity"] = np.zeros_like(rankings.ranks)
    rankings.ratings["Clarity"][:, :3] = [5, 3, 3]
    table = tabulate(compare_sources(rankings, "Clarity"))
    assert table.wins[0].tolist() == [0, 30, 30, 0]
    assert table.ties[1].tolist() == [0, 0, 30, 0]
    assert table.wins[3].sum() == table.wins[:, 3].sum() == 0


def test_sources_that_never_met_are_in_groups_of_their_own():
    comparisons = between([(0, 1), (1, 0), (2, 3), (3, 2), (1, 4)], 6)
    assert components_of(comparisons) == [[0, 1, 4], [2, 3], [5]]


def test_sources_are_connected_through_others_and_by_ties():
    assert components_of(between([(0, 1), (2, 1)], 3)) == [[0, 1, 2]]
    assert components_of(between([(0, 1)], 2, tie=True)) == [[0, 1]]
    assert not separated(between([(0, 1)], 2, tie=True))


def test_a_source_that_won_everything_keeps_a_finite_rating_and_is_told_of():
    comparisons = between([(0, 1), (0, 2), (1, 2), (2, 1), (0, 1)], 3)
    assert separated(comparisons)
    rated = rate_sources(comparisons, 5)
    assert rated.ratings.argmax() == 0
    assert np.isfinite(rated.resampled).all()
    assert rated.ratings[0] < 1600
    assert not separated(between([(0, 1), (1, 2), (2, 0)], 3))
