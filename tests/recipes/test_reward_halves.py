"""A reward model and its watchdog, from two halves of the prompts."""

import random

import pytest
from safetensors.torch import load_file

from tests.recipes.test_resume import wait_for_step
from tests.recipes.tiny import Row, curve, events, finish, make_run, planted_ranking, result, start
from training.recipes.reward import order_of, side_of

RANKINGS = [planted_ranking(number) for number in range(96)]
QUICK: Row = {
    "watchdog": True,
    "per_device_train_batch_size": 4,
    "num_train_epochs": 1,
    "learning_rate": 3e-3,
    "eval_steps": 100,
    "save_steps": 5,
    "lr_scheduler_type": "constant",
}


@pytest.fixture(scope="module")
def unbroken(tiny_model, tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("halves") / "run", "reward", tiny_model, rankings=RANKINGS, **QUICK)
    finish(run)
    return run


def weights(run, folder):
    return load_file(run / folder / "model.safetensors")


def same(one, other, tolerance=1e-5):
    return max((one[name] - other[name]).abs().max().item() for name in one) < tolerance


def test_a_prompt_is_on_one_side_whatever_the_order_and_the_sides_are_even():
    prompts = [f"{number:x}" for number in range(4000)]
    sides = {prompt: side_of(prompt) for prompt in prompts}
    random.Random(1).shuffle(prompts)
    assert all(side_of(prompt) == sides[prompt] for prompt in prompts)
    assert 1870 < list(sides.values()).count("watchdog") < 2130


def test_equal_scores_share_their_rank():
    assert order_of([0.5, 2.0, 0.5, 1.0]) == [3, 1, 3, 2]


def test_both_learn_and_are_measured_on_the_same_held_out_rankings(unbroken):
    both = result(unbroken)
    proxy, watchdog = both["metrics"], both["outputs"]["watchdog"]
    assert proxy["eval_accuracy"] > 0.8
    assert watchdog["eval_accuracy"] > 0.8
    assert proxy["eval_pairs"] == watchdog["eval_pairs"] == 24 * 6
    assert proxy["eval_watchdog_agreement"] > proxy["eval_watchdog_agreement_low"] > 0.7
    # 72 training rankings of 6 pairs, each in one half alone
    assert proxy["train_pairs"] + watchdog["train_pairs"] == 72 * 6
    sides = [side_of(row["prompt_id"]) for row in RANKINGS if row["split"] == "train"]
    assert watchdog["train_pairs"] == sides.count("watchdog") * 6
    assert not same(weights(unbroken, "checkpoint"), weights(unbroken, "checkpoint-watchdog"), 1e-2)
    last = events(unbroken, "progress")[-1]
    assert last["step"] == last["total"] == max(curve(unbroken, "watchdog/loss"))
    assert max(curve(unbroken, "loss")) < min(curve(unbroken, "watchdog/loss"))
    assert any("Only" in event["message"] and "the watchdog" in event["message"] for event in events(unbroken, "note"))


def test_each_learns_from_its_half_alone(tiny_model, tmp_path, unbroken):
    """With the watchdog's rankings turned round, the reward model is the same to the last bit."""
    turned = [
        {**row, "ranks": [5 - rank for rank in row["ranks"]]} if side_of(row["prompt_id"]) == "watchdog" else row
        for row in RANKINGS
    ]
    run = make_run(tmp_path / "run", "reward", tiny_model, rankings=turned, **QUICK)
    finish(run)
    assert same(weights(run, "checkpoint"), weights(unbroken, "checkpoint"), 1e-7)
    assert result(run)["outputs"]["watchdog"]["train_accuracy"] > 0.8
    assert result(run)["metrics"]["eval_watchdog_agreement"] < 0.3


def test_killed_while_the_watchdog_learns_it_ends_as_an_unbroken_run_and_trains_the_first_no_more(
    tiny_model, tmp_path, unbroken
):
    run = make_run(tmp_path / "run", "reward", tiny_model, rankings=RANKINGS, **QUICK)
    process = start(run)
    first_ends = max(curve(unbroken, "loss"))
    wait_for_step(run, process, first_ends + 5)
    process.kill()
    process.wait(timeout=30)
    assert (run / "checkpoint-watchdog").exists() is False

    finish(run)
    for folder in ("checkpoint", "checkpoint-watchdog"):
        assert same(weights(run, folder), weights(unbroken, folder))
    assert result(run)["metrics"] == pytest.approx(result(unbroken)["metrics"], abs=1e-5)
    assert result(run)["outputs"]["watchdog"] == pytest.approx(result(unbroken)["outputs"]["watchdog"], abs=1e-5)
    steps = [event["step"] for event in events(run, "progress")]
    resumed = next(at for at in range(1, len(steps)) if steps[at] < steps[at - 1])
    assert min(step for step in steps[resumed:] if step != first_ends) > first_ends


def test_rankings_of_one_prompt_are_too_few_for_two_halves(tiny_model, tmp_path):
    one = [{**planted_ranking(number), "prompt_id": "p", "split": "train"} for number in range(4)]
    run = make_run(tmp_path / "run", "reward", tiny_model, rankings=one, **QUICK)
    finish(run, expect=1)
    (error,) = events(run, "error")
    assert error["cause"] == "no_data"
    assert "two halves" in error["message"]
