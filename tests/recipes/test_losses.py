"""Losses over rankings: TRL's own on expanded pairs, and Plackett-Luce by hand and by counting all orders."""

from itertools import permutations
from math import log

import pytest
import torch
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer

from tests.recipes.test_listwise import assert_equal, expanded, loss_and_gradient, settings, whole
from tests.recipes.tiny import curve, finish, make_run, planted_ranking, result
from training.recipes.dpo import ListwiseDPOTrainer
from training.recipes.listwise import RankingCollator, bradley_terry
from training.recipes.losses import PAIR_LOSSES, plackett_luce, preference_loss
from training.recipes.models import load_causal_lm


@pytest.fixture(scope="module")
def both_trainers(tiny_model, tmp_path_factory):
    """TRL's trainer on all pairs and ours on whole rankings, both moved away from their reference in the same way."""
    location, tokenizer = {"location": f"folder:{tiny_model}"}, AutoTokenizer.from_pretrained(tiny_model)
    config = settings(tmp_path_factory.mktemp("trainers"), beta=0.2, precompute_ref_log_probs=True, label_smoothing=0.1)
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
    noise = torch.Generator().manual_seed(0)
    for mine, their in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        mine.data += 0.02 * torch.randn(mine.shape, generator=noise)
        their.data.copy_(mine.data)
    return ours, theirs


@pytest.mark.parametrize("loss_type", PAIR_LOSSES)
def test_each_pairwise_loss_and_its_gradient_equal_those_of_trl_on_expanded_pairs(both_trainers, loss_type):
    for trainer in both_trainers:
        trainer.loss_types = [loss_type]
    ours, theirs = (loss_and_gradient(trainer) for trainer in both_trainers)
    # Where squares make the loss large, float32 keeps fewer places behind the point.
    assert_equal((ours[0] / max(1, abs(theirs[0])), ours[1]), (theirs[0] / max(1, abs(theirs[0])), theirs[1]))


def test_reference_and_policy_are_computed_in_the_same_precision(tiny_model, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = {"precompute_ref_log_probs": True, "max_steps": 1, "logging_steps": 1, "learning_rate": 1e-9}
    trainer = ListwiseDPOTrainer(
        load_causal_lm({"location": f"folder:{tiny_model}"}),
        args=DPOConfig(**{**settings(tmp_path, **config), "bf16": True}),
        data_collator=RankingCollator(tokenizer.pad_token_id, "drop"),
        train_dataset=whole(tokenizer),
        processing_class=tokenizer,
    )
    trainer.train()
    assert trainer.state.log_history[0]["rewards/margins"] == 0
    assert trainer.state.log_history[0]["loss"] == pytest.approx(log(2), abs=1e-6)


@pytest.mark.parametrize(
    ("method", "loss_type", "rate", "first"),
    [
        ("dpo", "plackett_luce", 2e-3, (log(4) + log(3) + log(2)) / 3),
        ("reward", "plackett_luce", 5e-3, None),
    ],
)
def test_a_method_learns_by_another_loss(tiny_model, tmp_path, method, loss_type, rate, first):
    run = make_run(
        tmp_path / "run", method, tiny_model, rankings=[planted_ranking(number) for number in range(48)],
        loss_type=loss_type, learning_rate=rate, per_device_train_batch_size=4, max_steps=8, eval_steps=8, save_steps=8,
    )  # fmt: skip
    finish(run)
    loss = curve(run, "loss")
    assert first is None or loss[1] == pytest.approx(first, abs=1e-3)  # the reference is the policy itself at first
    assert (loss[7] + loss[8]) / 2 < 0.985 * loss[1]
    assert result(run)["metrics"]["eval_accuracy"] > 0.75


def test_the_losses_stay_numbers_far_from_the_reference():
    batch = a_batch([1, 2], "drop")
    for loss_type in (*PAIR_LOSSES, "plackett_luce"):
        for far in (-2000.0, 2000.0):
            ratios = torch.tensor([far, -far], requires_grad=True)
            loss = preference_loss(loss_type, ratios, torch.tensor([3, 4]), batch, 0.1, 0.1)
            (gradient,) = torch.autograd.grad(loss, ratios)
            assert torch.isfinite(loss), loss_type
            assert torch.isfinite(gradient).all(), loss_type


def a_batch(ranks, ties, weight=1.0):
    ids = [[1, 2 + at] for at in range(len(ranks))]
    return RankingCollator(0, ties)([{"ids": ids, "prompt_length": 1, "ranks": ranks, "weight": weight}])


def likelihood(scores, ranks, ties="drop"):
    choices = (a_batch(ranks, ties)["choices"] > 0).sum().item()
    return torch.exp(-choices * plackett_luce(torch.tensor(scores), a_batch(ranks, ties))).item()


def test_plackett_luce_is_the_likelihood_worked_by_hand():
    # Strengths 4, 2, 1 (their logarithms are the scores), ranked 2, 1, 3: (2/7) · (4/5)
    strengths = torch.tensor([4.0, 2.0, 1.0])
    assert likelihood(strengths.log().tolist(), [2, 1, 3]) == pytest.approx(2 / 7 * 4 / 5, abs=1e-6)
    # The first two tie above the third. Breslow: both from the whole field, (4/7) · (2/7); left out of one another: (4/5) · (2/3)
    assert likelihood(strengths.log().tolist(), [1, 1, 2], "half") == pytest.approx(4 / 7 * 2 / 7, abs=1e-6)
    assert likelihood(strengths.log().tolist(), [1, 1, 2], "drop") == pytest.approx(4 / 5 * 2 / 3, abs=1e-6)


def test_plackett_luce_shares_one_whole_among_all_orders_and_breslow_bounds_a_tie_from_below():
    scores = [0.3, -1.0, 0.8, 0.1]
    every = {order: likelihood(scores, list(order)) for order in permutations(range(1, 5))}
    assert sum(every.values()) == pytest.approx(1, abs=1e-5)
    # A tie of the last three leaves 3! orders open. Breslow's denominators are never smaller than theirs.
    open_orders = sum(value for order, value in every.items() if order[2] == 1)
    breslow = likelihood(scores, [2, 2, 1, 2], "half")
    assert 0 < 6 * breslow < open_orders
    # All scores equal: 1/4 for the winner, 1/3 for each of the tied three, whatever the order.
    assert likelihood([0.5] * 4, [2, 2, 1, 2], "half") == pytest.approx(1 / 4 / 27, abs=1e-6)


@pytest.mark.parametrize(("ranks", "ties"), [([2, 1], "drop"), ([1, 1], "half")])
def test_for_two_completions_plackett_luce_is_bradley_terry(ranks, ties):
    sides = []
    for loss in (plackett_luce, bradley_terry):
        scores = torch.tensor([0.7, -0.4], requires_grad=True)
        value = loss(scores, a_batch(ranks, ties, weight=0.5))
        (gradient,) = torch.autograd.grad(value, scores)
        sides.append([value.item(), *gradient.tolist()])
    assert sides[0] == pytest.approx(sides[1], abs=1e-6)


def test_each_ranking_counts_once_under_plackett_luce_however_long_it_is():
    rankings = [
        {"ids": [[1, 2], [1, 3]], "prompt_length": 1, "ranks": [1, 2], "weight": 1.0},
        {"ids": [[1, 2], [1, 3], [1, 4]], "prompt_length": 1, "ranks": [3, 2, 1], "weight": 0.5},
    ]
    scores = torch.tensor([0.1, 0.9, -0.3, 0.2, 0.6])
    together = plackett_luce(scores, RankingCollator(0, "drop")(rankings))
    apart = [
        plackett_luce(one, RankingCollator(0, "drop")([ranking])).item()
        for one, ranking in zip(scores.split([2, 3]), rankings, strict=True)
    ]
    assert together.item() == pytest.approx(sum(apart) / 2, abs=1e-6)
