import pytest
import torch
from torch.nn.functional import logsigmoid
from transformers import AutoTokenizer
from trl.experimental.orpo import ORPOConfig

from tests.recipes.test_listwise import assert_equal, loss_and_gradient, settings
from tests.recipes.tiny import curve, events, finish, make_run, planted_ranking, result
from training.recipes.arguments import ORPOArguments
from training.recipes.models import load_causal_lm
from training.recipes.orpo import WeighingORPOTrainer, chosen_pairs, load_pairs
from training.recipes.run_folder import RunFolder

RANKINGS = [planted_ranking(number) for number in range(48)]


def notes(run):
    return " ".join(event["message"] for event in events(run, "note"))


@pytest.mark.parametrize(("seed", "pairs", "lora"), [(1, "all", False), (2, "best_worst", True)])
def test_the_policy_comes_to_prefer_what_people_prefer(tiny_model, tmp_path, seed, pairs, lora):
    run = make_run(
        tmp_path / "run", "orpo", tiny_model, rankings=RANKINGS, learning_rate=1e-2 if lora else 4e-3, use_peft=lora,
        beta=4.0, pairs=pairs, per_device_train_batch_size=8, max_steps=12, eval_steps=12, save_steps=12, seed=seed,
    )  # fmt: skip
    finish(run)
    metrics = result(run)["metrics"]
    assert metrics["eval_accuracy"] > 0.75
    assert metrics["eval_accuracy_low"] < metrics["eval_accuracy"] < metrics["eval_accuracy_high"]
    assert metrics["eval_pairs"] == 12 * 6
    loss, chosen = curve(run, "loss"), curve(run, "logps/chosen")
    assert loss[12] < 0.9 * loss[1]
    assert chosen[12] > chosen[1] + 0.2  # imitation, too: the chosen grows likelier by itself
    assert curve(run, "eval_rewards/accuracies")[12] > 0.75
    assert curve(run, "eval_loss")[12] == pytest.approx(metrics["eval_loss"], abs=1e-5)
    assert result(run)["is_adapter"] is lora
    assert f"36 rankings give {216 if pairs == 'all' else 36} pairs" in notes(run)
    assert len(events(run, "sample")) == 3


def test_pairs_are_best_against_worst_or_all_that_are_no_tie():
    assert list(chosen_pairs([2, 1, 3, 3], "best_worst")) == [(1, 3)]
    assert list(chosen_pairs([2, 1, 2], "all")) == [(1, 0), (1, 2)]


def test_each_ranking_counts_once_and_what_is_left_out_is_counted(tiny_model, tmp_path):
    long = {"completion": "x" * 300, "reasoning": "", "source": ""}
    rows = [
        RANKINGS[1],
        {**RANKINGS[2], "weight": 3.0, "completions": RANKINGS[2]["completions"][:2], "ranks": [1, 2]},
        {**RANKINGS[3], "verdict": "all_bad", "ranks": [1, 1, 1, 1]},
        {**RANKINGS[5], "ranks": [1, 1, 1, 1]},
        {**RANKINGS[6], "weight": 0.0},
        {**RANKINGS[7], "completions": [long, *RANKINGS[7]["completions"][1:]]},
    ]
    run = make_run(tmp_path / "run", "orpo", tiny_model, rankings=rows)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    train, test = load_pairs(RunFolder(run, {}), tokenizer, ORPOArguments(pairs="all", max_length=200))
    for expected in (
        "1 rankings said that all", "1 rankings are ties", "1 rankings have weight 0", "3 pairs are longer than 200 tokens",
        "No ranking is held out",
    ):  # fmt: skip
        assert expected in notes(run)
    assert len(test) == 0
    assert len(train) == 6 + 1 + 3
    assert sum(train["weight"]) == pytest.approx(10)
    assert train["weight"][6] == pytest.approx(18 * train["weight"][0])
    for row in train:
        texts = {side: [token for token in row[f"{side}_labels"] if token != -100] for side in ("chosen", "rejected")}
        chosen, rejected = (tokenizer.decode(ids).count("!") for ids in texts.values())
        assert chosen > rejected or row["weight"] == train["weight"][6]


def test_the_loss_is_the_papers_worked_by_hand(tiny_model, tmp_path):
    run = make_run(tmp_path / "run", "orpo", tiny_model, rankings=[{**RANKINGS[1], "weight": 3.0}, RANKINGS[2]])
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    train, _ = load_pairs(RunFolder(run, {}), tokenizer, ORPOArguments())
    trainer = WeighingORPOTrainer(
        load_causal_lm({"location": f"folder:{tiny_model}"}),
        args=ORPOConfig(**settings(tmp_path, beta=0.7, remove_unused_columns=False)),
        train_dataset=train.remove_columns("prompt"),
        processing_class=tokenizer,
    )
    ours = loss_and_gradient(trainer)

    trainer.model.zero_grad()
    loss = torch.zeros(())
    for pair in train:
        means = []
        for side in ("chosen", "rejected"):
            ids, labels = torch.tensor(pair[f"{side}_input_ids"]), torch.tensor(pair[f"{side}_labels"])
            each_TV = trainer.model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
            kept = labels[1:] != -100
            means.append(each_TV.gather(-1, ids[1:, None]).squeeze(-1)[kept].mean())
        odds = [mean - torch.log1p(-mean.exp()) for mean in means]  # of the geometric mean of the tokens' probabilities
        loss = loss + pair["weight"] * (-means[0] - 0.7 * logsigmoid(odds[0] - odds[1])) / len(train)
    loss.backward()
    by_hand = {name: one.grad.clone() for name, one in trainer.model.named_parameters() if one.grad is not None}
    assert [pair["weight"] for pair in train] == pytest.approx([1.5, 0.5])
    assert_equal(ours, (loss.item(), by_hand))
