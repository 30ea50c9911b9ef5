"""A run under watch: looks change nothing, the rule stops it, the right weights are kept, and a killed run goes on as if nothing had been."""

import random

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes.planted import make_online_run
from tests.recipes.test_ranks import codes_of, start_ranks
from tests.recipes.test_resume import wait_for_step
from tests.recipes.tiny import Row, curve, events, finish, make_run, planted_ranking, result, start
from training.recipes.models import load_causal_lm
from training.recipes.watchdog import distinct, divergence, repetition

WATCHED: Row = {"watch_steps": 2, "eval_prompts": 0, "save_steps": 5, "seed": 3}


def disliked_vowels(number: int) -> Row:
    """A ranking whose annotator likes vowels as little as the planted reward likes them much."""
    choose = random.Random(number)
    counts = choose.sample(range(9), 4)
    texts = ["".join(choose.sample("aeiouaei"[:count] + "bcdfghjk"[count:], 8)) for count in counts]
    return {
        **planted_ranking(number),
        "completions": [{"completion": text, "reasoning": "", "source": "tiny"} for text in texts],
        "ranks": [1 + sum(other < count for other in counts) for count in counts],
    }


@pytest.fixture(scope="module")
def hater(tiny_model, tmp_path_factory):
    """A watchdog whose score falls with every vowel."""
    run = make_run(
        tmp_path_factory.mktemp("hater") / "run", "reward", tiny_model, rankings=[disliked_vowels(n) for n in range(120)],
        learning_rate=3e-3, per_device_train_batch_size=8, eval_steps=100, num_train_epochs=2,
    )  # fmt: skip
    finish(run)
    assert result(run)["metrics"]["eval_accuracy"] > 0.8
    return run / "checkpoint"


@pytest.fixture(scope="module")
def bounded(tiny_model, tmp_path_factory):
    """Stopped by its budget of divergence, after the weights of three looks or more could have been kept."""
    run = make_online_run(
        tmp_path_factory.mktemp("bounded") / "run", "grpo", tiny_model, max_steps=40, max_kl=2.0, **WATCHED
    )
    finish(run)
    return run


def weights(run):
    return load_file(run / "checkpoint/model.safetensors")


def difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_variety_and_repetition_are_counted_in_tokens():
    assert distinct([[1, 2, 1, 2], [1, 2]], 2) == 2 / 4  # (1, 2) three times, (2, 1) once
    assert distinct([[7]], 2) == 1
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)  # of five, the last is the first
    assert repetition([5] * 8) == pytest.approx(4 / 5)
    assert repetition([1, 2, 3]) == 0


@pytest.mark.parametrize("lora", [False, True])
def test_training_is_the_same_with_looks_and_without(tiny_model, tmp_path, lora):
    ends = []
    for name, steps in (("seen", 2), ("unseen", 0)):
        run = make_online_run(
            tmp_path / name, "grpo", tiny_model, max_steps=5, use_peft=lora, beta=0.0 if lora else 0.04,
            **{**WATCHED, "watch_steps": steps},
        )  # fmt: skip
        finish(run)
        ends.append(load_file(run / f"checkpoint/{'adapter_model' if lora else 'model'}.safetensors"))
        assert set(curve(run, "watch/kl")) == ({0, 2, 4, 5} if steps else set())
        assert ("stop_reason" in result(run)) == bool(steps)
    assert difference(*ends) == 0


def test_it_stops_when_the_watchdog_falls_and_keeps_the_weights_of_its_best(tiny_model, tmp_path, hater):
    run = make_online_run(
        tmp_path / "run", "grpo", tiny_model, max_steps=40, watch_prompts=24, inputs={"watchdog": hater}, **WATCHED
    )
    finish(run)
    said = result(run)
    watch = said["watch"]
    assert watch["reason"] == "over_optimised"
    assert watch["step"] < 40
    assert watch["proxy_at_end"] > watch["proxy_at_kept"]
    assert watch["watchdog_at_end"] < watch["watchdog_at_kept"]
    assert watch["fall"] > watch["threshold"] > 1.6
    fell = curve(run, "watch/fall")
    assert all(fell[watch["step"] - back] > watch["threshold"] for back in (0, 2))
    assert f"Stopped at step {watch['step']}" in said["stop_reason"]
    assert events(run, "note")[-1]["message"] == said["stop_reason"]
    assert max(curve(run, "loss")) == watch["step"]

    scores = curve(run, "watch/watchdog")
    assert watch["watchdog_at_kept"] == max(scores[step] for step in scores)
    again = make_online_run(
        tmp_path / "again", "grpo", tiny_model, max_steps=watch["kept_step"] or 1, **{**WATCHED, "watch_steps": 0}
    )
    if watch["kept_step"]:
        finish(again)
        expected = weights(again)
    else:
        expected = load_file(tiny_model / "model.safetensors")
    assert difference(expected, weights(run)) == 0

    last = [event for event in events(run, "sample") if event["step"] == watch["step"] and "kept" in event]
    assert len(last) == 4
    for sample in last:
        assert sample["kept_step"] == watch["kept_step"]
        assert sample["scores"].keys() == {"before", "kept", "after"}
        assert sample["scores"]["after"].keys() == {"proxy", "watchdog"}


def test_ranks_stop_together_even_if_their_rewards_differ(tiny_model, tmp_path, hater):
    run = make_online_run(
        tmp_path / "run", "grpo", tiny_model, max_steps=40, watch_prompts=24, inputs={"watchdog": hater}, num_processes=2,
        **WATCHED | {"per_device_train_batch_size": 8, "rewards": {"vowels_less_and_less": 1.0}},
    )  # fmt: skip
    assert codes_of(start_ranks(run)) == [0, 0], (run / "log.txt").read_text()[-3000:]
    watch = result(run)["watch"]
    assert watch["reason"] == "over_optimised"
    assert max(curve(run, "loss")) == watch["step"] < 40


def test_beyond_its_budget_of_divergence_it_keeps_the_last_look_within_it(tiny_model, tmp_path, bounded):
    watch = result(bounded)["watch"]
    kl = curve(bounded, "watch/kl")
    assert watch["reason"] == "divergence"
    assert kl[watch["step"]] == watch["kl"] > 2 >= kl[watch["kept_step"]]
    assert watch["kept_step"] == watch["step"] - 2 >= 4
    shorter = make_online_run(
        tmp_path / "run", "grpo", tiny_model, max_steps=watch["kept_step"], **{**WATCHED, "watch_steps": 0}
    )
    finish(shorter)
    assert difference(weights(shorter), weights(bounded)) == 0
    assert kl[0] == pytest.approx(0, abs=1e-6)


def test_of_an_adapter_the_kept_weights_come_back_as_well(tiny_model, tmp_path):
    lora = {**WATCHED, "use_peft": True, "learning_rate": 1e-2, "beta": 0.0}
    run = make_online_run(tmp_path / "run", "grpo", tiny_model, max_steps=12, max_kl=0.2, **lora)
    finish(run)
    watch = result(run)["watch"]
    assert watch["reason"] == "divergence"
    assert 0 < watch["kept_step"] < watch["step"]
    shorter = make_online_run(
        tmp_path / "shorter", "grpo", tiny_model, max_steps=watch["kept_step"], **{**lora, "watch_steps": 0}
    )
    finish(shorter)
    kept, expected = (load_file(one / "checkpoint/adapter_model.safetensors") for one in (run, shorter))
    assert difference(expected, kept) == 0


def test_the_divergence_is_summed_over_a_completion_and_exact_for_each_token(tiny_model):
    policy, reference = (load_causal_lm({"location": f"folder:{tiny_model}"}).eval() for _ in range(2))
    noise = torch.Generator().manual_seed(0)
    for parameter in policy.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=noise)
    rows = [([5, 6, 7], [8, 9]), ([5], [10, 11, 12, 13])]
    kl = entropy = 0.0
    for prompt, completion in rows:  # one by one, token by token
        for at in range(len(completion)):
            ids = torch.tensor([[*prompt, *completion[:at]]])
            with torch.no_grad():
                ours, theirs = ((model(input_ids=ids).logits[0, -1] / 0.7).softmax(-1) for model in (policy, reference))
            kl += (ours * (ours / theirs).log()).sum().item() / len(rows)
            entropy -= (ours * ours.log()).sum().item() / 6
    assert divergence(policy, reference, rows, temperature=0.7) == pytest.approx((kl, entropy), rel=1e-4)
    assert divergence(policy, policy, rows)[0] == 0


def test_killed_it_goes_on_with_the_looks_it_had_and_ends_as_an_unbroken_run(tiny_model, tmp_path, bounded):
    run = make_online_run(tmp_path / "run", "grpo", tiny_model, max_steps=40, max_kl=2.0, **WATCHED)
    process = start(run)
    wait_for_step(run, process, 7)
    process.kill()
    process.wait(timeout=30)
    assert (run / "trainer/watch/look-6.json").exists()
    finish(run)
    assert any("Resumed from step" in event["message"] for event in events(run, "note"))
    for name in ("watch/proxy", "watch/kl", "watch/length", "watch/kept_step"):
        assert curve(run, name) == pytest.approx(curve(bounded, name), abs=1e-6)
    said, expected = result(run), result(bounded)
    for one in (said, expected):
        one["watch"].pop("seconds")
    assert said["watch"] == pytest.approx(expected["watch"], abs=1e-6)
    assert said["stop_reason"] == expected["stop_reason"]
    assert difference(weights(run), weights(bounded)) < 1e-6
