"""The rule by which a watched run stops, on sequences worked by hand, under the null, and where there is something to see."""

import numpy as np
import pytest

from training.recipes.stopping import Look, Rule, judge, level_runs, paired_t, threshold_for

RULE = Rule(threshold=2.0, patience=2)
NOISES = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "heavy tails": lambda random, shape: random.standard_t(3, shape),
    "skewed": lambda random, shape: random.exponential(size=shape),
    "two values": lambda random, shape: (random.random(shape) < 0.2).astype(float),
}


AROUND = 0.1 * np.array([[1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1], [-1, 1, -1, 1], [-1, -1, 1, 1]])


def looks(proxy, watchdog, kl=None):
    """One look a value, of four prompts around each mean. Between neighbours the differences deviate by √(0.08 / 3) = 0.163, so that a
    fall by d has t = 2 d / 0.163: 0.1 is within two standard errors, 0.2 is beyond them."""
    return [
        Look(10 * at, np.full(4, p), None if w is None else w + AROUND[at % 5], (kl or [0.0] * 99)[at])
        for at, (p, w) in enumerate(zip(proxy, watchdog, strict=True))
    ]


def test_the_paired_t_is_the_textbooks():
    # Student (1908), the differences of his sleep data: mean 1.58, deviation 1.22995, n 10
    differences = np.array([[1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]])
    assert paired_t(differences)[0] == pytest.approx(4.0621, abs=1e-4)
    assert paired_t(np.zeros((1, 5)))[0] == 0
    assert paired_t(np.full((1, 5), 0.25))[0] == np.inf
    assert paired_t(np.ones((1, 1)))[0] == 0


def test_it_stops_at_the_second_look_in_a_row_that_is_below_the_best_and_keeps_the_best():
    proxy = [0, 1, 2, 3, 4, 5]
    verdict = judge(looks(proxy, [0, 1.0, 0.9, 0.5, 0.4, 0.0]), RULE)
    assert (verdict.reason, verdict.kept, verdict.streak) == ("over_optimised", 1, 2)
    assert judge(looks(proxy[:4], [0, 1.0, 0.9, 0.5]), RULE).reason == ""
    assert judge(looks(proxy[:5], [0, 1.0, 0.9, 0.5, 0.4]), RULE).reason == "over_optimised"


def test_the_fall_is_measured_in_standard_errors_of_the_paired_difference():
    verdict = judge(looks([0, 1], [1.0, 0.5]), RULE)
    assert verdict.fall == pytest.approx(2 * 0.5 / (0.08 / 3) ** 0.5)


@pytest.mark.parametrize(
    ("proxy", "watchdog", "why"),
    [
        ([0, 1, 2, 3, 4], [0, 1, 0.2, 0.9, 0.2], "the looks below the best are not in a row"),
        ([0, 5, 4, 3, 2], [0, 1, 0.2, 0.1, 0.0], "the reward falls as well"),
        ([0, 1, 2, 3, 4], [0, 1, 0.95, 0.93, 0.95], "the fall is within the noise"),
        ([0, 1, 2, 3, 4], [0, 1, 0.2, 1.5, 1.4], "a new best is found"),
        ([0, 1, 2, 3, 4], [None] * 5, "nobody watches"),
    ],
)
def test_it_goes_on_while(proxy, watchdog, why):
    assert judge(looks(proxy, watchdog), RULE).reason == "", why


def test_what_comes_after_the_stop_changes_nothing():
    stopped = looks([0, 1, 2, 3, 4], [0, 1, 0.2, 0.1, 9])
    assert judge(stopped, RULE) == judge(stopped[:4], RULE)


def test_without_a_watchdog_it_stops_at_the_divergence_alone_and_keeps_the_last_look_within_it():
    kl = [0, 3, 9, 11, 12]
    bounded = Rule(threshold=2.0, patience=2, max_kl=10)
    verdict = judge(looks([0, 1, 2, 3, 4], [None] * 5, kl), bounded)
    assert (verdict.reason, verdict.kept) == ("divergence", 2)
    assert judge(looks([0, 1, 2, 3, 4], [None] * 5, kl), RULE).kept is None
    # With one, the best within the budget is kept.
    verdict = judge(looks([0, 1, 2, 3, 4], [0, 1, 0.9, 5, 5], kl), bounded)
    assert (verdict.reason, verdict.kept) == ("divergence", 1)


@pytest.mark.parametrize("noise", list(NOISES))
@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_a_level_watchdog_is_stopped_as_rarely_as_stated(noise, correlation):
    """2,000 runs of 21 looks in which nothing but noise happens, and the proxy rises: 5 % and three standard errors of 2,000 draws."""
    threshold = threshold_for(21, 32, 2, 0.05)
    random = np.random.default_rng(7)
    highest = level_runs(random, 21, 32, 2, runs=2000, correlation=correlation, noise=NOISES[noise])
    assert (highest > threshold).mean() <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5


def test_a_critical_value_from_a_table_would_stop_far_more_level_runs():
    highest = level_runs(np.random.default_rng(7), 21, 32, 2, runs=2000)
    assert (highest > 1.696).mean() > 0.4  # the 95 % quantile of t with 31 degrees of freedom


def test_the_simulated_runs_are_those_that_the_rule_itself_would_stop():
    threshold = 2.2
    highest = level_runs(np.random.default_rng(3), 12, 16, 2, runs=200)
    random = np.random.default_rng(3)
    drawn = [random.standard_normal((200, 16)) for _ in range(12)]
    stopped = [
        judge(
            [Look(at, np.full(16, float(at)), one[run], 0.0) for at, one in enumerate(drawn)], Rule(threshold, 2)
        ).reason
        == "over_optimised"
        for run in range(200)
    ]
    assert stopped == list(highest > threshold)
    assert 0 < sum(stopped) < 100


def fallen(drop, seed, n=64):
    """A watchdog that rises for 5 looks, then falls by `drop` standard deviations of a score over the next 5, and stays there."""
    random = np.random.default_rng(seed)
    means = [0.2 * at for at in range(5)] + [0.8 - drop * at / 5 for at in range(1, 6)] + [0.8 - drop] * 10
    return [Look(at, np.full(n, float(at)), mean + random.standard_normal(n), 0.0) for at, mean in enumerate(means)]


def test_it_sees_a_fall_of_one_standard_deviation_of_a_score():
    rule = Rule(threshold_for(20, 64, 2, 0.05), 2)
    verdicts = [judge(fallen(1.0, seed), rule) for seed in range(100)]
    assert sum(verdict.reason == "over_optimised" for verdict in verdicts) >= 99
    assert np.mean([judge(fallen(0.0, seed), rule).reason == "over_optimised" for seed in range(100)]) <= 0.1


def test_the_threshold_grows_with_the_looks_and_falls_with_patience_and_is_infinite_where_nothing_can_be_told():
    assert threshold_for(21, 32, 2, 0.05) > threshold_for(8, 32, 2, 0.05) > threshold_for(8, 32, 3, 0.05) > 1.64
    assert threshold_for(8, 32, 2, 0.01) > threshold_for(8, 32, 2, 0.05)
    assert threshold_for(8, 8, 2, 0.05) > threshold_for(8, 32, 2, 0.05)  # few prompts: heavier tails
    assert threshold_for(2, 64, 2, 0.05) == threshold_for(11, 1, 2, 0.05) == float("inf")
