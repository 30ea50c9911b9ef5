"""The statistics of an evaluation, on cases worked by hand and on planted data."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from training.recipes.evaluation.intervals import means
from training.recipes.evaluation.preference import Scored, calibration, measure
from training.recipes.evaluation.spending import any_of, best_of, majority_of, steps_to
from training.recipes.evaluation.winning import fit, length_controlled, sigmoid, win_rate


def test_the_mean_s_interval_is_that_of_the_normal_and_covers_the_truth():
    random = np.random.default_rng(1)
    (one,) = means(random.normal(3, 2, (400, 1)))
    assert one["n"] == 400
    assert one["low"] < 3 < one["high"]
    assert one["high"] - one["low"] == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)
    (alone,) = means(np.array([[0.5]]))
    assert alone | {"why": ""} == {"value": 0.5, "low": None, "high": None, "n": 1, "why": ""}


def test_accuracy_is_counted_by_tag_and_by_the_number_of_completions():
    rankings = [
        Scored("a", [1, 2, 3], [2.0, 1.0, 0.0], ["maths"]),  # 3 of 3
        Scored("b", [1, 2], [0.0, 1.0], ["maths", "hard"]),  # 0 of 1
        Scored("c", [1, 2], [1.0, 1.0], []),  # half of 1
        Scored("d", [1, 1], [1.0, 0.0], ["hard"]),  # a tie says nothing
    ]
    found = measure(rankings)
    assert found
    assert (found["accuracy"]["value"], found["accuracy"]["n"], found["pairs"]) == (0.7, 3, 5)
    parts = {one["tag"]: (one["accuracy"]["value"], one["pairs"]) for one in found["tags"]}
    assert parts == {"hard": (0.0, 1), "maths": (0.75, 4)}
    assert {one["size"]: one["accuracy"]["value"] for one in found["sizes"]} == {2: 0.25, 3: 1.0}
    assert measure([Scored("d", [1, 1], [1.0, 0.0])]) is None


def pairs_with(scale: float, count: int = 1500, seed: int = 0) -> list[Scored]:
    """Pairs that people decide by Bradley-Terry, scored by a model that is `scale` times as sure as it should be."""
    random = np.random.default_rng(seed)
    margins = random.normal(0, 1.5, count)
    won = random.random(count) < 1 / (1 + np.exp(-margins))
    return [
        Scored(f"prompt {at}", [1, 2] if first else [2, 1], [scale * margin, 0.0])
        for at, (margin, first) in enumerate(zip(margins, won, strict=True))
    ]


def test_calibration_tells_a_model_that_is_too_sure_from_one_that_is_right():
    honest, boastful = calibration(pairs_with(1.0)), calibration(pairs_with(4.0))
    assert honest["error"] < honest["error_by_chance"] < 0.06
    assert boastful["error"] > 0.15 > boastful["error_by_chance"]
    held = [one["observed"]["low"] <= one["predicted"] <= one["observed"]["high"] for one in honest["bins"]]
    assert sum(held) >= len(held) - 1
    last = boastful["bins"][-1]
    assert (last["low"], last["high"]) == (0.95, 1.0)
    assert last["predicted"] > last["observed"]["high"]
    assert sum(one["pairs"] for one in honest["bins"]) == 1500


def test_calibration_by_hand():
    """Four pairs at σ(log 3) = 0.75, of which three come true."""
    sure = float(np.log(3))
    rankings = [Scored(str(at), [1, 2] if at else [2, 1], [sure, 0.0]) for at in range(4)]
    found = calibration(rankings)
    (only,) = found["bins"]
    assert (only["predicted"], only["observed"]["value"], only["pairs"]) == (0.75, 0.75, 4)
    assert found["error"] == pytest.approx(0, abs=1e-6)


def test_the_length_controlled_rate_finds_the_strength_under_a_bias_for_length():
    """Planted: equal policies, one of which writes more, before a judge who likes length."""
    random = np.random.default_rng(3)
    longer = random.normal(120, 150, 2000).astype(int)
    z = np.tanh(longer / longer.std())
    for level in (0.0, 0.8):
        won = (random.random(2000) < sigmoid(level + 2.0 * z)).astype(float)
        found = win_rate(list(won), list(300 + longer), [300] * 2000)
        truth = float(sigmoid(np.array(level)))
        assert found["rate"]["low"] > truth + 0.03, "the raw rate takes length for strength"
        assert found["controlled"]["low"] < truth < found["controlled"]["high"]
        assert abs(found["controlled"]["value"] - truth) < 0.035
        assert found["length_effect"] == pytest.approx(2.0, abs=0.35)
        assert found["wins"] + found["losses"] == 2000


def test_newton_finds_the_maximum_of_the_penalised_likelihood():
    random = np.random.default_rng(5)
    z, y = np.tanh(random.normal(0.3, 1, 40)), random.choice([0.0, 0.5, 1.0], 40)
    (level,), (effect,) = fit(z, y, np.ones((1, 40)))
    rest = y - sigmoid(level + effect * z)
    assert rest.sum() == pytest.approx(0.01 * level, abs=1e-8)
    assert rest @ z == pytest.approx(0.1 * effect, abs=1e-8)


def test_the_controlled_rate_is_left_out_where_length_cannot_be_told_apart():
    always, effect = length_controlled(np.ones(20), np.arange(20))
    assert always["value"] is effect is None
    assert "One side won every time" in always["why"]
    assert length_controlled(np.array([1.0, 0.0] * 10), np.full(20, 7))[0]["value"] is None
    assert length_controlled(np.array([1.0, 0.0]), np.array([3, 4]))[0]["why"]
    same, _ = length_controlled(np.array([1.0, 0.0, 1.0, 1.0] * 5), np.zeros(20))
    assert same["value"] == 0.75


def test_a_tie_is_half_a_win():
    found = win_rate([1.0, 0.5, 0.5, 0.0], [3, 5, 5, 9], [4, 5, 6, 8])
    assert found["rate"]["value"] == 0.5
    assert (found["wins"], found["ties"], found["losses"]) == (1, 2, 1)
    assert (found["policy_length"], found["baseline_length"]) == (5.5, 5.75)


def test_any_of_n_is_the_estimator_of_chen_and_others():
    """Two of four right: one sample 1/2, two samples 1 − 1/6, three samples surely."""
    right = [1, 0, 0, 1]
    assert [any_of(right, n) for n in (1, 2, 3, 4)] == pytest.approx([1 / 2, 5 / 6, 1, 1])
    assert any_of([0, 0], 2) == 0


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(6))
def test_best_and_majority_are_the_means_over_all_subsets(n, seed):
    random = np.random.default_rng(seed)
    answers = [None if one == 0 else int(one) for one in random.integers(0, 2 + seed, 8)]
    right = [float(one == 1) for one in answers]
    scores = [float(one) for one in random.integers(0, 4, 8)]
    best, most = [], []
    for subset in combinations(range(8), n):
        top = max(scores[at] for at in subset)
        taken = [right[at] for at in subset if scores[at] == top]
        best.append(sum(taken) / len(taken))
        votes = Counter(answers[at] for at in subset if answers[at] is not None)
        first = [one for one, count in votes.items() if count == max(votes.values())]
        most.append(sum(one == 1 for one in first) / len(first) if first else 0.0)
    assert best_of(right, scores, n) == pytest.approx(np.mean(best))
    assert best_of(scores, scores, n) == pytest.approx(
        np.mean([max(scores[at] for at in subset) for subset in combinations(range(8), n)])
    )
    assert majority_of(answers, right, n) == pytest.approx(np.mean(most))


def test_a_majority_of_thirty_two_is_quick_and_sharpens_what_is_more_often_right_than_any_wrong_answer():
    answers = ["right"] * 13 + [f"wrong {at % 7}" for at in range(19)]
    right = [float(one == "right") for one in answers]
    rising = [majority_of(answers, right, n) for n in steps_to(32)]
    assert rising == sorted(rising)
    assert rising[0] == pytest.approx(13 / 32)
    assert rising[-1] == pytest.approx(1)


def test_the_samples_double_up_to_all_that_there_are():
    assert steps_to(32) == [1, 2, 4, 8, 16, 32]
    assert steps_to(7) == [1, 2, 4, 7], "the figure of “all samples” is that of all"
    assert steps_to(0) == []
