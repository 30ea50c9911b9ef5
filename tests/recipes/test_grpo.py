"""GRPO on TRL: it learns a planted reward, each loss is what it is named, the reference is where the run started, and what
cannot work is refused before anything is queued."""

import json
import shutil
from itertools import combinations
from typing import get_args, get_type_hints

import pytest

from tests.recipes.planted import PROMPTS, REWARD_FUNCTIONS, make_online_run, planted_prompt
from tests.recipes.test_failures import assert_failed
from tests.recipes.test_ranks import codes_of, start_ranks
from tests.recipes.tiny import Row, curve, events, finish, result
from training.recipes.arguments import GRPOArguments, InvalidArguments, parse_arguments
from training.recipes.run_folder import RunFolder

LOSSES = get_args(get_type_hints(GRPOArguments)["loss_type"])
SHORT: Row = {
    "rewards": {"letters": 1.0},
    "per_device_train_batch_size": 8,
    "max_completion_length": 4,
    "eval_prompts": 0,
}
# Two batches make a step, and a sampling is learned from twice: what tells the losses apart.
HALVES: Row = SHORT | {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_iterations": 2}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_policy_finds_a_planted_reward(tiny_model, tmp_path, seed):
    run = make_online_run(tmp_path / "run", "grpo", tiny_model, max_steps=20, seed=seed)
    finish(run)
    reward = curve(run, "reward")
    assert sum(reward[step] for step in range(16, 21)) / 5 > reward[1] + 0.3
    assert curve(run, "rewards/vowels/mean") == reward
    held_out = curve(run, "eval_reward")
    assert set(held_out) == {0, 20}, "before and after"
    assert held_out[20] > held_out[0] + 0.3
    assert result(run)["metrics"]["eval_reward"] == held_out[20]
    assert set(curve(run, "completions/mean_length")) == set(range(1, 21)), "one chart point a step"
    assert not curve(run, "eval_loss"), "it would say nothing"
    assert {event["step"] for event in events(run, "sample")} >= {20}


def test_every_loss_is_one_of_its_own(tiny_model, tmp_path):
    """In this process: eight recipes would cost their start-up eight times."""
    from training.recipes.grpo import grpo

    # Completions that end at different lengths: any of forty tokens ends one.
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, *range(100, 140)]}))
    curves = {}
    for loss in LOSSES:
        level = "sequence" if loss == "luspo" else "token"
        high = 5.0 if loss == "cispo" else 0.2
        arguments = {"loss_type": loss, "importance_sampling_level": level, "epsilon_high": high, "max_steps": 3}
        path = make_online_run(tmp_path / loss, "grpo", model, **(HALVES | arguments))
        args = json.loads((path / "args.json").read_text())
        grpo(
            RunFolder(path, args["inputs"], 1, REWARD_FUNCTIONS),
            parse_arguments("grpo", args["arguments"]),  # type: ignore[arg-type]
        )
        curves[loss] = curve(path, "loss")
        assert (path / "checkpoint/model.safetensors").is_file()
    assert len(curves) == 8
    for one, other in combinations(LOSSES, 2):
        assert curves[one] != curves[other], f"{one} and {other}"


def test_an_adapter_stands_on_an_adapter_and_the_reference_is_both(tiny_model, tmp_path):
    base: Row = {"location": f"folder:{tiny_model}"}
    first = make_online_run(
        tmp_path / "first", "grpo", tiny_model, PROMPTS[1:4], **SHORT, max_steps=2, use_peft=True, learning_rate=0.05
    )
    finish(first)
    assert result(first)["is_adapter"]
    for lora in (True, False):
        run = make_online_run(
            tmp_path / f"lora {lora}", "grpo", {"location": f"folder:{first / 'checkpoint'}", "base": base},
            **SHORT, max_steps=2, use_peft=lora, beta=0.1, learning_rate=0.05,
        )  # fmt: skip
        finish(run)
        divergence = curve(run, "kl")
        assert abs(divergence[1]) < 1e-6 < abs(divergence[2])


def test_ranks_find_the_reference_of_a_policy_that_was_an_adapter(tiny_model, tmp_path):
    first = make_online_run(tmp_path / "first", "grpo", tiny_model, **SHORT, max_steps=1, use_peft=True)
    finish(first)
    adapter: Row = {"location": f"folder:{first / 'checkpoint'}", "base": {"location": f"folder:{tiny_model}"}}
    run = make_online_run(tmp_path / "run", "grpo", adapter, **SHORT, max_steps=2, beta=0.1, num_processes=2)
    assert codes_of(start_ranks(run)) == [0, 0], (run / "log.txt").read_text()[-3000:]
    assert abs(curve(run, "kl")[1]) < 1e-6
    assert not list(run.glob("reference*"))


def test_what_is_left_out_is_counted_and_the_accuracy_is_measured_where_there_are_answers(tiny_model, tmp_path):
    long = {**planted_prompt(40), "prompt": [{"role": "user", "content": "x" * 80}]}
    answered = [{**prompt, "answer": "7"} for prompt in PROMPTS if prompt["split"] == "train"]
    run = make_online_run(
        tmp_path / "run",
        "grpo",
        tiny_model,
        [*answered, long],
        max_steps=2,
        rewards={"vowels": 1, "format": 0},
    )
    finish(run)
    notes = [event["message"] for event in events(run, "note")]
    assert "1 prompts are longer than 56 tokens and were left out." in notes
    assert "No prompt is held out, so there is no held-out reward." in notes
    assert set(curve(run, "rewards/accuracy/mean")) == set(curve(run, "rewards/format/mean")) == {1, 2}
    assert curve(run, "reward") == curve(run, "rewards/vowels/mean"), "what is only measured counts for nothing"
    assert result(run)["metrics"]["training_prompts"] == 24


def test_it_says_that_there_are_too_few_prompts_for_a_batch(tiny_model, tmp_path):
    run = make_online_run(tmp_path / "run", "grpo", tiny_model, [planted_prompt(1)], per_device_train_batch_size=8)
    assert_failed(run, "no_data", "1 prompts are left to train on, fewer than the 2")


def test_it_says_what_vllm_needs(tiny_model, tmp_path):
    run = make_online_run(tmp_path / "run", "grpo", tiny_model, use_vllm=True)
    assert_failed(run, "bad_arguments", "CUDA device", "vllm")


@pytest.mark.parametrize(
    ("method", "values", "field", "said"),
    [
        ("grpo", {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}, "num_generations", "the 12 completions"),
        ("grpo", {"per_device_train_batch_size": 4, "steps_per_generation": 2, "num_generations": 3}, "num_generations", "8"),
        ("rloo", {"per_device_train_batch_size": 6}, "num_generations", "the 6 completions"),
        ("grpo", {"max_length": 256, "max_completion_length": 256}, "max_completion_length", "room for a prompt"),
        ("grpo", {"rewards": {"accuracy": 0}}, "rewards", "weight is not 0"),
        ("grpo", {"loss_type": "cispo"}, "epsilon_high", "at least 1"),
        ("grpo", {"loss_type": "luspo"}, "importance_sampling_level", "must be sequence"),
        ("grpo", {"importance_sampling_level": "sequence"}, "importance_sampling_level", "must be token"),
    ],
)  # fmt: skip
def test_it_refuses_what_does_not_go_together(method, values, field, said):
    with pytest.raises(InvalidArguments) as refused:
        parse_arguments(method, values)
    assert list(refused.value.errors) == [field]
    assert said in refused.value.errors[field]


def test_accumulated_batches_make_up_a_group():
    parse_arguments("grpo", {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4})
    parse_arguments("grpo", {"importance_sampling_level": "sequence", "loss_type": "grpo"})
