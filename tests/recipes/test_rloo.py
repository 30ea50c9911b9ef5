"""RLOO on TRL: it learns a planted reward, and the divergence from the reference is taken off it."""

import pytest

from tests.recipes.planted import make_online_run
from tests.recipes.tiny import curve, finish, result


@pytest.mark.parametrize("seed", [0, 1])
def test_the_policy_finds_a_planted_reward(tiny_model, tmp_path, seed):
    run = make_online_run(tmp_path / "run", "rloo", tiny_model, max_steps=20, seed=seed, beta=0.001)
    finish(run)
    reward = curve(run, "reward")
    assert sum(reward[step] for step in range(16, 21)) / 5 > reward[1] + 0.3
    held_out = curve(run, "eval_reward")
    assert held_out[20] > held_out[0] + 0.3
    assert result(run)["metrics"]["eval_reward"] == held_out[20]
    divergence = curve(run, "kl")
    assert abs(divergence[1]) < 1e-5, "the policy is its own reference at first"
    assert divergence[20] > 0.05
