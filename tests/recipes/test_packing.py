"""Completions that share their prompt's tokens give the scores, losses and gradients that they give in rows of their own."""

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from trl import DPOConfig, RewardConfig

from tests.recipes.tiny import Row, curve, events, finish, make_run, planted_ranking, result
from training.recipes.arguments import DPOArguments
from training.recipes.data import encode
from training.recipes.dpo import ListwiseDPOTrainer
from training.recipes.listwise import RankingCollator
from training.recipes.models import load_causal_lm, lora, make_reward_model
from training.recipes.packing import breadth, cost, fit, pack, probe, sharing
from training.recipes.reward import ListwiseRewardTrainer
from training.recipes.run_folder import RunFolder

ALWAYS = 1e9  # a breadth that makes the tokens alone count
UNEVEN = [(1, 2, [1, 2], 0.5), (2, 5, [1, 1, 2, 4, 3], 1.0), (3, 3, [3, 1, 2], 2.0), (4, 4, [1, 1, 1, 1], 1.5)]


def uneven(tokenizer):
    """Two to five completions, with ties, of prompts from some thirty to some hundred tokens."""
    rows = []
    for number, k, ranks, weight in UNEVEN:
        row = planted_ranking(number, k=k)
        row["prompt"][0]["content"] *= 2**number
        encoded = encode(tokenizer, row["prompt"], [one["completion"] for one in row["completions"]])
        rows.append({**encoded, "ranks": ranks, "weight": weight, "prompt_id": "p", "prompt": row["prompt"]})
    return Dataset.from_list(rows)


def make_trainer(method, model, tmp_path, adapter, **extra):
    tokenizer = AutoTokenizer.from_pretrained(model)
    plain = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True}
    settings = {"output_dir": str(tmp_path), **plain, **extra}
    arguments = DPOArguments(use_peft=adapter, lora_r=4)
    given = {"train_dataset": uneven(tokenizer), "processing_class": tokenizer}
    torch.manual_seed(0)
    if method == "reward":
        return ListwiseRewardTrainer(
            make_reward_model({"location": f"folder:{model}"}),
            args=RewardConfig(**settings, center_rewards_coefficient=0.01),
            data_collator=RankingCollator(tokenizer.pad_token_id, "half"),
            peft_config=lora(arguments, "SEQ_CLS"),
            **given,
        )
    return ListwiseDPOTrainer(
        load_causal_lm({"location": f"folder:{model}"}),
        args=DPOConfig(**settings, precompute_ref_log_probs=True),
        data_collator=RankingCollator(tokenizer.pad_token_id, "half"),
        peft_config=lora(arguments, "CAUSAL_LM"),
        **given,
    )


def step(trainer, shared):
    """(what the model says of each completion, loss, gradients)"""
    trainer.data_collator.breadth = shared
    batch = trainer.data_collator([trainer.train_dataset[at] for at in range(len(UNEVEN))])
    assert ("part" in batch) is (shared is not None)
    trainer.model.train()
    trainer.model.zero_grad()
    loss, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    loss.backward()
    gradients = {name: one.grad.clone() for name, one in trainer.model.named_parameters() if one.grad is not None}
    return next(iter(outputs.values())).detach(), loss.item(), gradients


@pytest.mark.parametrize(
    ("method", "adapter", "checkpointing"),
    [("reward", False, False), ("reward", True, True), ("dpo", True, False), ("dpo", False, True)],
)
def test_shared_prompts_change_neither_scores_nor_loss_nor_gradient(
    tiny_model, tmp_path, method, adapter, checkpointing
):
    trainer = make_trainer(method, tiny_model, tmp_path, adapter, gradient_checkpointing=checkpointing)
    noise = torch.Generator().manual_seed(0)
    for (
        parameter
    ) in trainer.model.parameters():  # an adapter fresh from its making does nothing, a policy equals its reference
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=noise)
    said, loss, gradients = step(trainer, None)
    packed_said, packed_loss, packed_gradients = step(trainer, ALWAYS)

    assert said.std() > 0.01
    assert (packed_said - said).abs().max() < 1e-5
    assert packed_loss == pytest.approx(loss, abs=1e-5)
    assert packed_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (packed_gradients[name] - gradient).abs().max() < 1e-5, name
    assert max(gradient.abs().max() for gradient in gradients.values()) > 0.01


def test_the_reference_of_shared_prompts_is_that_of_each_completion_alone(tiny_model, tmp_path):
    trainer = make_trainer("dpo", tiny_model, tmp_path, False)
    alone = trainer.log_probs_all(trainer.train_dataset)
    trainer.data_collator.breadth = ALWAYS
    for together, apart in zip(trainer.log_probs_all(trainer.train_dataset), alone, strict=True):
        assert together == pytest.approx(apart, abs=1e-4)  # sums over some 15 tokens each


def test_in_bfloat16_shared_prompts_differ_by_its_rounding_alone(tiny_model, tmp_path):
    trainer = make_trainer("reward", tiny_model, tmp_path, False)
    exact, *_ = step(trainer, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (apart, *_), (together, *_) = step(trainer, None), step(trainer, ALWAYS)
    rounding = (apart - exact).abs().max()
    assert 0 < rounding < 0.05
    assert (together - exact).abs().max() < 3 * rounding


def test_rankings_fill_rows_that_the_longest_has_made():
    assert fit([5, 9, 4, 2, 3]) == ([(1, 0), (0, 0), (1, 5), (2, 3), (2, 0)], [9, 9, 5])
    rankings = [
        {"ids": [[1, 2, 3, 4], [1, 2, 5]], "prompt_length": 2},
        {"ids": [[6, 7], [6, 8]], "prompt_length": 1},
        {"ids": [[9, 10, 11, 12], [9, 13, 14, 15]], "prompt_length": 1},
    ]
    batch = {name: value.tolist() for name, value in pack(rankings, pad_token_id=0).items()}
    assert batch["input_ids"] == [[9, 10, 11, 12, 9, 13, 14, 15], [1, 2, 3, 4, 2, 5, 0, 0], [6, 7, 6, 8, 0, 0, 0, 0]]
    assert batch["position_ids"][1] == [0, 1, 2, 3, 1, 2, 0, 0]
    assert batch["part"][1] == [0, 1, 1, 1, 2, 2, 0, 0]
    assert batch["completion_mask"][1] == [0, 0, 1, 1, 0, 1, 0, 0]
    assert batch["row"] == [1, 1, 2, 2, 0, 0]
    assert batch["end"] == [3, 5, 1, 3, 3, 7]


def test_prompts_are_shared_where_that_takes_fewer_multiplications():
    long, short = [[*range(9, 109), at] for at in range(4)], [[9, *range(at + 1, at + 100)] for at in range(4)]
    rankings = [
        {"ids": ids, "prompt_length": length, "ranks": [1, 2, 3, 4], "weight": 1.0}
        for ids, length in ((long, 100), (short, 1))
    ]
    collate = RankingCollator(0, "drop", breadth=1000.0)
    assert "part" in collate(rankings[:1])
    assert "part" not in collate(rankings[1:])
    assert cost(torch.zeros(2, 10), 5.0) == 2 * 10 * 15


SMALL = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
HEADS = {"num_key_value_heads": 2, "intermediate_size": 64}


@pytest.mark.parametrize(
    ("made", "shares"),
    [
        (lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL, **HEADS, head_dim=8)), ""),
        (lambda: GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4)), ""),
        (lambda: MistralForCausalLM(MistralConfig(**SMALL, **HEADS, sliding_window=512)), ""),
        (lambda: MistralForCausalLM(MistralConfig(**SMALL, **HEADS, sliding_window=32)), "looks back over 32 tokens"),
        (lambda: BloomForCausalLM(BloomConfig(vocab_size=60, hidden_size=32, n_layer=2, n_head=4)), "the model"),
    ],
    ids=["qwen3", "gpt2", "wide window", "narrow window", "bloom"],
)
def test_models_that_cannot_share_prompts_are_found_out_and_a_note_says_so(tmp_path, made, shares):
    torch.manual_seed(0)
    model, folder = made(), RunFolder(tmp_path, inputs={})
    found = sharing(folder, model, max_length=128)
    if shares:
        assert found is None
        assert shares in events(tmp_path, "note")[0]["message"]
    else:
        assert probe(model) < 1e-5
        assert found
        assert found > 10
        assert not events(tmp_path, "note")


RANKINGS = [planted_ranking(number) for number in range(24)]
QUICK: Row = {"per_device_train_batch_size": 6, "max_steps": 6, "learning_rate": 1e-3, "eval_steps": 3, "save_steps": 6}


def test_a_run_ends_the_same_with_and_without_shared_prompts(tiny_model, tmp_path):
    rankings = [
        {**row, "prompt": [{"role": "user", "content": "why? " * (3 + at % 5)}]} for at, row in enumerate(RANKINGS)
    ]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    collate = RankingCollator(0, "half", breadth(load_causal_lm({"location": f"folder:{tiny_model}"})))
    texts = [one["completion"] for one in rankings[0]["completions"]]
    encoded = encode(tokenizer, rankings[0]["prompt"], texts)
    assert "part" in collate([{**encoded, "ranks": [1, 2, 3, 4], "weight": 1.0}])

    runs = []
    for share in (True, False):
        run = make_run(tmp_path / str(share), "reward", tiny_model, rankings=rankings, share_prompts=share, **QUICK)
        finish(run)
        runs.append(run)
    for name in ("loss", "eval_loss"):
        curves = [curve(run, name) for run in runs]
        assert curves[0] == pytest.approx(curves[1], abs=1e-4), name
        assert len(curves[0]) >= 2
    metrics = [result(run)["metrics"] for run in runs]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)
