"""Simulated annotators of known ability and bias are recovered, and the estimate is what the model says."""

import time

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import kendalltau, spearmanr

from annotate.quality import reliability
from annotate.quality.reliability import Comparisons, comparisons_of, estimate, weights
from tests.annotate.simulation import crowd, simulate

NOISE = np.linspace(0.2, 3.0, 20)


def recovered(*, seed, tasks=100, size=4, **how):
    """(rank correlation of ability, mean τ between true and estimated strengths within a task, reliabilities, true noise)."""
    random = np.random.default_rng(seed)
    noise = random.permutation(NOISE)
    strengths = random.normal(size=(tasks, size))
    rankings = simulate(crowd(noise), tasks=tasks, size=size, strengths=strengths, seed=seed, **how)
    found, strength = estimate(comparisons_of(rankings))
    ability = np.array([found[member] for member in rankings.memberships])
    estimated = np.array([[strength[one] for one in row[:size]] for row in rankings.completions])
    order = np.mean([kendalltau(a, b).statistic for a, b in zip(strengths, estimated, strict=True)])
    return spearmanr(ability, -noise).statistic, order, ability, noise


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_it_recovers_twenty_annotators_from_a_hundred_tasks(seed):
    correlation, order, _, _ = recovered(seed=seed)
    assert correlation > 0.9
    assert order > 0.8


def test_it_recovers_them_where_answers_are_tied():
    correlation, order, _, _ = recovered(seed=1, ties_within=1.0)
    assert correlation > 0.9
    assert order > 0.8


def test_it_recovers_them_from_three_rankings_a_task():
    """Where strengths are maximised instead of integrated out, everybody seems reliable here."""
    correlation, _, ability, _ = recovered(seed=1, tasks=1000, overlap=3)
    assert correlation > 0.9
    assert np.ptp(ability) > 0.2


def test_a_reliability_is_the_share_of_pairs_ordered_rightly():
    """Though the model's noise is logistic and theirs normal: P(right) = 1/2 + arctan(1 / noise) / π."""
    _, _, ability, noise = recovered(seed=1, tasks=200)
    right = 0.5 + np.arctan(1 / noise) / np.pi
    assert np.abs(ability - right).max() < 0.06
    assert np.abs(np.mean(ability - right)) < 0.02


def test_it_finds_the_coin_and_the_one_who_turns_orders_around():
    rankings = simulate(crowd([0.5, 0.5, 0.5, 1000.0, 0.5]), tasks=100)
    flipped = rankings.annotator == 4
    rankings.ranks[flipped] = np.where(rankings.ranks[flipped] > 0, 5 - rankings.ranks[flipped], 0)
    found, _ = estimate(comparisons_of(rankings))
    assert found[1] > 0.75
    assert found[4] == pytest.approx(0.5, abs=0.05)
    assert found[5] < 0.25
    weight = weights(found)
    assert weight[5] == 0
    assert weight[1] > 0.5 > weight[4]


def test_the_estimate_is_close_to_the_maximum_of_the_exact_marginal_likelihood():
    """Of tasks with two items the strengths' difference alone matters, and it can be integrated out exactly."""
    random = np.random.default_rng(3)
    truth, tasks = np.repeat([0.3, 1.0, 2.0, 4.0], 2), 200
    difference = np.sqrt(2) * random.normal(size=tasks)
    first_wins = random.random((tasks, 8)) < 1 / (1 + np.exp(-np.outer(difference, truth)))
    task, annotator = (axis.ravel() for axis in np.indices((tasks, 8)))
    won = first_wins.ravel()
    found, _ = estimate(Comparisons(annotator, 2 * task + ~won, 2 * task + won, np.zeros(len(task), dtype=bool)))
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(41)
    sign = np.where(first_wins, 1, -1)

    def negative_log_posterior(a):
        log_likelihood = -np.logaddexp(0, -sign[:, :, None] * a[None, :, None] * np.sqrt(2) * nodes).sum(axis=1)
        marginal = np.log(np.exp(log_likelihood) @ (node_weights / node_weights.sum())).sum()
        return -marginal + ((a - 1) ** 2).sum() / 8

    exact = reliability._chance_of_right(minimize(negative_log_posterior, np.ones(8), method="L-BFGS-B").x)
    assert [found[who] for who in range(8)] == pytest.approx(exact.tolist(), abs=0.03)


def test_somebody_who_agreed_always_keeps_a_finite_estimate():
    rankings = simulate(crowd([1e-9, 1e-9]), tasks=30)
    found, strength = estimate(comparisons_of(rankings))
    assert all(0.8 < value < 1 for value in found.values())
    assert all(abs(value) < 5 for value in strength.values())


def test_the_same_comparisons_give_the_same_estimate():
    comparisons = comparisons_of(simulate(crowd(NOISE), overlap=3))
    assert estimate(comparisons) == estimate(comparisons)


def test_without_common_tasks_there_is_nothing_to_estimate():
    assert estimate(comparisons_of(simulate(crowd(NOISE), overlap=1))) == ({}, {})


def test_a_large_project_is_drawn_from_by_whole_tasks():
    rankings = simulate(crowd(NOISE), tasks=200, overlap=4)
    drawn = comparisons_of(rankings, limit=200)
    assert 0 < len(drawn.annotator) < 6 * 400
    per_item = np.unique(np.concatenate([drawn.winner, drawn.loser]), return_counts=True)[1]
    assert set(per_item.tolist()) == {4 * 3}


def test_ten_thousand_rankings_take_a_few_seconds():
    part = comparisons_of(simulate(crowd(NOISE), tasks=100))
    comparisons = Comparisons(
        np.tile(part.annotator, 5),
        np.concatenate([part.winner + 1000 * copy for copy in range(5)]),
        np.concatenate([part.loser + 1000 * copy for copy in range(5)]),
        np.tile(part.tie, 5),
    )
    assert len(comparisons.annotator) == 10_000 * 6
    begun = time.perf_counter()
    _, strength = estimate(comparisons)
    assert time.perf_counter() - begun < 10
    assert len(strength) == 2000
