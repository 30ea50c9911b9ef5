"""Whole rankings give the loss and the gradient that TRL's own trainers give on all their pairs."""

from itertools import combinations

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from tests.recipes.tiny import planted_ranking
from training.recipes.data import encode
from training.recipes.dpo import ListwiseDPOTrainer
from training.recipes.listwise import RankingCollator, agreement, pair_metrics, pairs_of, wilson
from training.recipes.models import load_causal_lm, make_reward_model
from training.recipes.reward import ListwiseRewardTrainer

NUMBERS = (3, 5, 6)


def settings(tmp_path, **extra):
    plain = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True}
    return {"output_dir": str(tmp_path), "per_device_train_batch_size": 64, **plain, **extra}


def whole(tokenizer):
    rows = [planted_ranking(number) for number in NUMBERS]
    return Dataset.from_list(
        [
            {**encode(tokenizer, row["prompt"], [one["completion"] for one in row["completions"]]),
             "ranks": row["ranks"], "weight": 1.0, "prompt_id": row["prompt_id"], "prompt": row["prompt"]}
            for row in rows
        ]
    )  # fmt: skip


def expanded():
    pairs = []
    for number in NUMBERS:
        row = planted_ranking(number)
        for winner, loser, _ in pairs_of(row["ranks"], ties="drop"):
            answer = [{"role": "assistant", "content": row["completions"][at]["completion"]} for at in (winner, loser)]
            pairs.append({"prompt": row["prompt"], "chosen": answer[:1], "rejected": answer[1:]})
    return Dataset.from_list(pairs)


def loss_and_gradient(trainer):
    batch = trainer.data_collator([trainer.train_dataset[at] for at in range(len(trainer.train_dataset))])
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradients = {name: value.grad.clone() for name, value in trainer.model.named_parameters() if value.grad is not None}
    return loss.item(), gradients


def assert_equal(ours, theirs):
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    flat = [torch.cat([side[name].flatten() for name in ours[1]]) for side in (ours[1], theirs[1])]
    assert flat[1].norm() > 1e-3
    assert ((flat[0] - flat[1]).norm() / flat[1].norm()).item() < 1e-5


@pytest.mark.parametrize("centre", [None, 0.01])
def test_the_reward_loss_and_gradient_equal_those_of_trl_on_expanded_pairs(tiny_model, tmp_path, centre):
    location, tokenizer = {"location": f"folder:{tiny_model}"}, AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(1)
    model = make_reward_model(location)
    config = settings(tmp_path, center_rewards_coefficient=centre)
    theirs = loss_and_gradient(
        RewardTrainer(model, args=RewardConfig(**config), train_dataset=expanded(), processing_class=tokenizer)
    )
    ours = loss_and_gradient(
        ListwiseRewardTrainer(
            model,
            args=RewardConfig(**config),
            data_collator=RankingCollator(tokenizer.pad_token_id, "drop"),
            train_dataset=whole(tokenizer),
            processing_class=tokenizer,
        )
    )
    assert_equal(ours, theirs)


def test_the_dpo_loss_and_gradient_equal_those_of_trl_on_expanded_pairs(tiny_model, tmp_path):
    location, tokenizer = {"location": f"folder:{tiny_model}"}, AutoTokenizer.from_pretrained(tiny_model)
    config = settings(tmp_path, beta=0.2, precompute_ref_log_probs=True)
    theirs = DPOTrainer(
        load_causal_lm(location), args=DPOConfig(**config), train_dataset=expanded(), processing_class=tokenizer
    )
    ours = ListwiseDPOTrainer(
        load_causal_lm(location),
        args=DPOConfig(**config),
        data_collator=RankingCollator(tokenizer.pad_token_id, "drop"),
        train_dataset=whole(tokenizer),
        processing_class=tokenizer,
    )
    # The policy moves away from the reference; otherwise every margin would be zero.
    noise = torch.Generator().manual_seed(0)
    for mine, their in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        mine.data += 0.02 * torch.randn(mine.shape, generator=noise)
        their.data.copy_(mine.data)
    assert_equal(loss_and_gradient(ours), loss_and_gradient(theirs))
    assert loss_and_gradient(ours)[0] != pytest.approx(0.6931, abs=1e-3)


RATED = [(1, 2, [1, 2], 0.5), (2, 3, [1, 1, 2], 1.0), (3, 4, [3, 1, 2, 1], 2.0), (4, 3, [1, 1, 1], 1.5)]


def uneven(tokenizer):
    """Rankings of two to four completions, with ties and with weights that differ."""
    rows = [(planted_ranking(number, k=k), ranks, weight) for number, k, ranks, weight in RATED]
    return Dataset.from_list(
        [
            {**encode(tokenizer, row["prompt"], [one["completion"] for one in row["completions"]]),
             "ranks": ranks, "weight": weight, "prompt_id": row["prompt_id"], "prompt": row["prompt"]}
            for row, ranks, weight in rows
        ]
    )  # fmt: skip


def by_hand(model, dataset, score, centre=0.0):
    """Pair after pair, each completion alone in its own forward pass: no batch, no padding, no collator."""
    model.zero_grad()
    loss = torch.zeros(())
    for ranking in dataset:
        pairs = list(combinations(range(len(ranking["ids"])), 2))
        for i, j in pairs:
            one, other = score(ranking, i), score(ranking, j)
            wins = 1.0 if ranking["ranks"][i] < ranking["ranks"][j] else 0.0
            wins = 0.5 if ranking["ranks"][i] == ranking["ranks"][j] else wins
            term = -wins * logsigmoid(one - other) - (1 - wins) * logsigmoid(other - one) + centre * (one + other) ** 2
            loss = loss + ranking["weight"] * term / len(pairs) / len(dataset)
    loss.backward()
    return loss.item(), {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def test_uneven_rankings_with_ties_and_weights_give_the_reward_loss_summed_by_hand(tiny_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(1)
    trainer = ListwiseRewardTrainer(
        make_reward_model({"location": f"folder:{tiny_model}"}),
        args=RewardConfig(**settings(tmp_path, center_rewards_coefficient=0.01)),
        data_collator=RankingCollator(tokenizer.pad_token_id, "half"),
        train_dataset=uneven(tokenizer),
        processing_class=tokenizer,
    )
    ours = loss_and_gradient(trainer)

    def score(ranking, at):
        return trainer.model(input_ids=torch.tensor([ranking["ids"][at]])).logits[0, 0]

    assert_equal(ours, by_hand(trainer.model, trainer.train_dataset, score, centre=0.01))


def test_uneven_rankings_with_ties_and_weights_give_the_dpo_loss_summed_by_hand(tiny_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    reference = load_causal_lm({"location": f"folder:{tiny_model}"})
    trainer = ListwiseDPOTrainer(
        load_causal_lm({"location": f"folder:{tiny_model}"}),
        args=DPOConfig(**settings(tmp_path, beta=0.2, precompute_ref_log_probs=True)),
        data_collator=RankingCollator(tokenizer.pad_token_id, "half"),
        train_dataset=uneven(tokenizer),
        processing_class=tokenizer,
    )
    noise = torch.Generator().manual_seed(0)
    for parameter in trainer.model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=noise)
    ours = loss_and_gradient(trainer)

    def log_prob(model, ranking, at):
        ids, length = torch.tensor(ranking["ids"][at]), ranking["prompt_length"]
        each_TV = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        return each_TV.gather(-1, ids[1:, None])[length - 1 :].sum()

    def score(ranking, at):
        with torch.no_grad():
            before = log_prob(reference, ranking, at)
        return 0.2 * (log_prob(trainer.model, ranking, at) - before)

    assert_equal(ours, by_hand(trainer.model, trainer.train_dataset, score))


def test_the_collator_keeps_rankings_whole():
    batch = RankingCollator(pad_token_id=0, ties="drop")(
        [
            {"ids": [[1, 2], [1, 3, 4]], "prompt_length": 1, "ranks": [2, 1], "weight": 1.0},
            {"ids": [[5, 6], [5, 7], [5, 8]], "prompt_length": 1, "ranks": [1, 2, 2], "weight": 0.5},
        ]
    )
    assert {name: value.tolist() for name, value in batch.items()} == {
        "sizes": [2, 3],
        "input_ids": [[1, 2, 0], [1, 3, 4], [5, 6, 0], [5, 7, 0], [5, 8, 0]],
        "attention_mask": [[1, 1, 0], [1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 1, 0]],
        "completion_mask": [[0, 1, 0], [0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 1, 0]],
        "winners": [1, 2, 2],
        "losers": [0, 3, 4],
        # each ranking counts 1/2, times its weight, shared among its pairs
        "weights": [0.5, 0.125, 0.125],
        "tied": [False, False, False],
        # the same for each completion that wins a pair
        "choices": [0.0, 0.5, 0.25, 0.0, 0.0],
        "lengths": [1, 2, 1, 1, 1],
    }


def test_a_tie_is_half_a_win_for_each_side_and_no_part_of_the_accuracy():
    assert pairs_of([2, 1, 2], "drop") == [(1, 0, 1.0), (1, 2, 1.0)]
    assert pairs_of([2, 1, 2], "half") == [(1, 0, 1.0), (0, 2, 0.5), (2, 0, 0.5), (1, 2, 1.0)]
    batch = RankingCollator(0, "half")(
        [{"ids": [[1], [2], [3]], "prompt_length": 0, "ranks": [2, 1, 2], "weight": 1.0}]
    )
    assert pair_metrics(torch.tensor([0.0, 2.0, 1.0]), batch) == {"accuracy": 1.0, "margin": 1.5}


def test_agreement_leaves_ties_out_and_counts_prompts_for_its_interval():
    agreed = agreement([[1.0, 0.0, 5.0], [0.0, 1.0]], [[1, 2, 2], [1, 2]], ["a", "a"])
    assert agreed
    assert agreed.accuracy == pytest.approx(1 / 3)
    assert agreed.pairs == 3
    assert (agreed.low, agreed.high) == wilson(1 / 3, 1)
    assert agreement([[1.0, 0.0]], [[1, 1]], ["a"]) is None


def test_the_wilson_interval_is_the_published_one():
    # Newcombe (1998), table I: 81 of 263
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
