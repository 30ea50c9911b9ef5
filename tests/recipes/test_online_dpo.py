"""Online DPO on TRL: it learns a planted reward, and what TRL's trainer lacks is mended."""

import json
import math

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl.experimental.online_dpo import OnlineDPOConfig

from tests.recipes.planted import PROMPTS, REWARD_FUNCTIONS
from tests.recipes.test_listwise import settings
from tests.recipes.tiny import curve, events, finish, make_run, result
from training.recipes.arguments import InvalidArguments, parse_arguments
from training.recipes.models import load_causal_lm
from training.recipes.online_dpo import EvaluatingOnlineDPOTrainer


def make(path, model, **changes):
    arguments = {
        "rewards": {"vowels": 1.0}, "max_completion_length": 8, "max_length": 64, "learning_rate": 1e-2,
        "lr_scheduler_type": "constant", "per_device_train_batch_size": 24, "eval_prompts": 8, "watch_steps": 0, **changes,
    }  # fmt: skip
    run = make_run(path, "online_dpo", model, prompts=PROMPTS, **arguments)
    args = json.loads((run / "args.json").read_text())
    (run / "args.json").write_text(json.dumps({**args, "reward_functions": REWARD_FUNCTIONS}))
    return run


@pytest.mark.parametrize("seed", [0, 1])
def test_the_policy_finds_a_planted_reward(tiny_model, tmp_path, seed):
    run = make(tmp_path / "run", tiny_model, max_steps=12, seed=seed)
    finish(run)
    reward = curve(run, "reward")
    assert sum(reward[step] for step in (10, 11, 12)) / 3 > reward[1] + 0.1
    assert curve(run, "rewards/vowels/mean") == pytest.approx(reward)
    assert curve(run, "loss")[1] == pytest.approx(math.log(2), abs=1e-3)  # the reference is the policy itself at first
    held_out = curve(run, "eval_reward")
    assert set(held_out) == {0, 12}
    assert held_out[12] > held_out[0] + 0.2
    assert curve(run, "eval_loss")[12] < curve(run, "eval_loss")[0] - 0.05
    assert curve(run, "eval_accuracy") == pytest.approx({0: 0.5, 12: result(run)["metrics"]["eval_accuracy"]})
    assert result(run)["metrics"]["eval_accuracy"] > 0.7
    assert result(run)["metrics"]["eval_reward"] == pytest.approx(held_out[12])
    assert {event["step"] for event in events(run, "sample")} == {0, 12}


def test_an_adapter_learns_under_watch(tiny_model, tmp_path):
    run = make(
        tmp_path / "run", tiny_model, max_steps=2, use_peft=True, per_device_train_batch_size=4,
        gradient_accumulation_steps=2, watch_steps=1, watch_prompts=2, loss_type="ipo", missing_eos_penalty=0.5,
    )  # fmt: skip
    finish(run)
    assert result(run)["is_adapter"]
    assert set(curve(run, "watch/proxy")) == {0, 1, 2}
    assert curve(run, "watch/kl")[0] == pytest.approx(0, abs=1e-6)
    assert "Ran to its last step, 2" in result(run)["stop_reason"]
    # (log-ratio − 1/2β)² at a log-ratio of 0
    assert curve(run, "loss")[1] == pytest.approx(25, abs=1e-2)
    # 8 prompts a step, two answers each: the reward is what the rewards say, before the price of not ending
    assert curve(run, "reward")[1] >= 0


class Seen:
    """A reward that keeps what it was given. Likes long answers."""

    __name__ = "seen"

    def __call__(self, *, completion_ids, log_metric, **_):
        self.completion_ids = completion_ids
        return [float(len(ids)) for ids in completion_ids]


def make_trainer(tiny_model, tmp_path, **changes):
    model = load_causal_lm({"location": f"folder:{tiny_model}"})
    # A model that ends early, at times.
    model.generation_config.eos_token_id = list(range(3, 60))
    config = settings(tmp_path, max_new_tokens=12, temperature=1.0, beta=0.1, remove_unused_columns=False, **changes)
    rows = [{"prompt": row["prompt"], "prompt_id": str(row["prompt_id"]), "reference": ""} for row in PROMPTS[:6]]
    return EvaluatingOnlineDPOTrainer(
        model,
        reward_funcs=[Seen()],
        args=OnlineDPOConfig(**config),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )


def gradient_of_a_step(trainer):
    batch = trainer.data_collator([trainer.train_dataset[at] for at in range(6)])
    noise = torch.Generator().manual_seed(1)
    for parameter in trainer.model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=noise)
    torch.manual_seed(3)
    loss = trainer.training_step(trainer.model, batch)
    return loss.item(), torch.cat([one.grad.flatten() for one in trainer.model.parameters()])


def test_rewards_and_divergence_see_no_padding_and_batches_of_a_step_are_averaged(tiny_model, tmp_path):
    trainer = make_trainer(tiny_model, tmp_path / "one")
    loss, gradient = gradient_of_a_step(trainer)
    seen = trainer.reward_funcs[0].completion_ids
    assert len({len(ids) for ids in seen}) > 1
    for ids in seen:
        assert all(token not in trainer.eos_token_ids for token in ids[:-1])
        assert len(ids) == 12 or ids[-1] in trainer.eos_token_ids
    assert trainer.measured["completions/mean_length"] == [pytest.approx(sum(map(len, seen)) / 12)]
    assert trainer.measured["rewards/seen/mean"] == pytest.approx(trainer.measured["reward"])

    # What TRL says of the divergence is the mean over completions of their own tokens' log-ratios.
    tokenizer, divergence = trainer.processing_class, 0.0
    for at, ids in enumerate(seen):
        prompt = tokenizer.apply_chat_template(
            trainer.train_dataset[at % 6]["prompt"], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        for sign, model in ((1, trainer.model), (-1, trainer.ref_model)):
            with torch.no_grad():
                each_TV = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            divergence += sign * each_TV.gather(-1, torch.tensor(ids)[:, None]).sum().item() / len(seen)
    assert trainer.stats["objective/kl"] == [pytest.approx(divergence, abs=1e-3)]

    halved = gradient_of_a_step(make_trainer(tiny_model, tmp_path / "two", gradient_accumulation_steps=2))
    assert halved[0] == pytest.approx(loss / 2, rel=1e-4)
    assert ((2 * halved[1] - gradient).norm() / gradient.norm()).item() < 1e-4


def test_an_evaluation_moves_no_random_number_of_the_training(tiny_model, tmp_path):
    trainer = make_trainer(tiny_model, tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = trainer.evaluate()
    assert torch.rand(3).equal(expected)
    assert trainer.evaluate() == pytest.approx(first)
    assert first["eval_loss"] == pytest.approx(math.log(2))
    assert not trainer.measured


def test_what_cannot_work_is_refused():
    with pytest.raises(InvalidArguments, match="weight is not 0"):
        parse_arguments("online_dpo", {"rewards": {"format": 0.0}})
    with pytest.raises(InvalidArguments, match="room for a prompt"):
        parse_arguments("online_dpo", {"max_completion_length": 64, "max_length": 64})
