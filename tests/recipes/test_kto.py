import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import KTOConfig, KTOTrainer

from tests.recipes.test_listwise import assert_equal, loss_and_gradient, settings
from tests.recipes.tiny import curve, events, finish, make_run, planted_ranking, result
from training.recipes.arguments import InvalidArguments, KTOArguments, parse_arguments
from training.recipes.kto import WeighingCollator, WeighingKTOTrainer
from training.recipes.models import load_causal_lm
from training.recipes.run_folder import RunFolder
from training.recipes.unpaired import by_rank, by_ratings, class_weights, load_unpaired

RANKINGS = [planted_ranking(number) for number in range(48)]
ALL_BAD = {**planted_ranking(201), "verdict": "all_bad", "ranks": [1, 1, 1, 1], "split": "train"}


def notes(run):
    return " ".join(event["message"] for event in events(run, "note"))


@pytest.mark.parametrize(("seed", "desirable", "lora"), [(0, "middle", False), (2, "best", True)])
def test_the_policy_comes_to_prefer_what_people_prefer(tiny_model, tmp_path, seed, desirable, lora):
    run = make_run(
        tmp_path / "run", "kto", tiny_model, rankings=[*RANKINGS, ALL_BAD], learning_rate=4e-3 if lora else 3e-3,
        use_peft=lora, desirable=desirable, per_device_train_batch_size=8, max_steps=12, eval_steps=12, save_steps=12,
        seed=seed,
    )  # fmt: skip
    finish(run)
    metrics = result(run)["metrics"]
    assert metrics["eval_accuracy"] > 0.7
    assert metrics["eval_accuracy_low"] < metrics["eval_accuracy"] < metrics["eval_accuracy_high"]
    assert metrics["eval_pairs"] == 12 * 6
    loss, margins = curve(run, "loss"), curve(run, "rewards/margins")
    assert loss[1] == pytest.approx(0.5, abs=0.1)  # each side stands at its reference, times its weight
    assert sum(loss[step] for step in (10, 11, 12)) / 3 < loss[1] - 0.015
    assert sum(margins[step] for step in (10, 11, 12)) / 3 > 0.1 > abs(margins[1])
    assert curve(run, "eval_loss")[12] == pytest.approx(metrics["eval_loss"], abs=1e-5)
    assert result(run)["is_adapter"] is lora
    good, bad = (72, 76) if desirable == "middle" else (36, 40)
    assert f"Learning from {good} good and {bad} bad completions." in notes(run)
    assert len(events(run, "sample")) == 3


def test_a_completion_is_good_or_bad_by_its_place():
    def judged(ranks, desirable, verdict="ranked"):
        return by_rank({"ranks": ranks, "verdict": verdict}, desirable)

    assert judged([2, 1, 3], "best") == [None, True, False]
    assert judged([1, 2, 2, 1], "best") == [True, False, False, True]
    assert judged([2, 1, 3], "middle") == [None, True, False]
    assert judged([1, 2, 2, 3], "middle") == [True, None, None, False]
    assert judged([1, 1, 1, 2], "middle") == [True, True, True, False]
    for desirable in ("best", "middle"):
        assert judged([1, 1], desirable) == [None, None]
        assert judged([1, 1], desirable, "all_bad") == [False, False]


def test_a_completion_is_good_or_bad_by_its_ratings():
    def rated(**ratings):
        return [{"criterion": name, "rating": value} for name, value in ratings.items()]

    row = {"ratings": [rated(clarity=4, truth=2), rated(clarity=2, truth=5), rated(truth=5), []]}
    assert by_ratings(row, "clarity", 4) == [True, False, None, None]
    assert by_ratings(row, "", 3.5) == [False, True, True, None]


def test_it_learns_from_ratings_and_counts_what_it_leaves_out(tiny_model, tmp_path):
    def rate(row, worth=True):
        given = [[{"criterion": "Zest", "rating": 5 if rank <= 2 else 1}] for rank in row["ranks"]]
        return {**row, "ratings": given if worth else [[], *given[1:]]}

    long = {
        **RANKINGS[1],
        "completions": [{"completion": "x" * 300, "reasoning": "", "source": ""}, *RANKINGS[1]["completions"][1:]],
    }
    rows = [rate(row) for row in RANKINGS[2:12]] + [rate(long), rate(RANKINGS[2], worth=False)]
    rows.append({**rate(RANKINGS[3]), "weight": 0.0})
    run = make_run(tmp_path / "run", "kto", tiny_model, rankings=rows)
    arguments = KTOArguments(desirable="ratings", criterion="Zest", max_length=200)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    train, test = load_unpaired(RunFolder(run, {}), tokenizer, arguments)
    assert "1 completions were not rated by the criterion" in notes(run)
    assert "1 completions are longer than 200 tokens" in notes(run)
    assert "1 rankings have weight 0" in notes(run)
    assert len(train) == 8 * 4 + 3 + 3
    assert len(test) == 2 * 4
    for row in train:
        text = tokenizer.decode(row["completion_ids"])
        assert row["label"] is (text.count("!") >= 2)
    # Each prompt also stands with its neighbour's completion.
    assert train[1]["KL_completion_ids"] == train[0]["completion_ids"]
    assert train[0]["KL_completion_ids"] == train[7]["completion_ids"]


def test_without_a_good_completion_it_says_so(tiny_model, tmp_path):
    run = make_run(tmp_path / "run", "kto", tiny_model, rankings=[ALL_BAD])
    finish(run, expect=1)
    assert events(run, "error")[-1]["cause"] == "no_data"
    assert "No good completion" in events(run, "error")[-1]["message"]


def test_the_divergence_needs_batches_of_two():
    with pytest.raises(InvalidArguments, match="at least 2"):
        parse_arguments("kto", {"per_device_train_batch_size": 1})
    parse_arguments("kto", {"per_device_train_batch_size": 1, "loss_type": "apo_zero_unpaired"})


def test_the_rarer_side_is_weighed_up_as_the_paper_has_it():
    def weights(good, bad):
        return class_weights(
            Dataset.from_dict({"label": [True] * good + [False] * bad, "weight": [1.0] * (good + bad)})
        )

    assert weights(2, 6) == (3, 1)
    assert weights(4, 3) == (1, 1)
    assert weights(8, 3) == (1, 2)


@pytest.fixture(scope="module")
def both_trainers(tiny_model, tmp_path_factory):
    """TRL's trainer and ours on the same completions, in one batch, moved away from their reference in the same way."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    run = make_run(tmp_path_factory.mktemp("kto") / "run", "kto", tiny_model, rankings=RANKINGS[1:4])
    train, _ = load_unpaired(RunFolder(run, {}), tokenizer, KTOArguments(per_device_train_batch_size=64))
    config = settings(
        run, beta=0.2, precompute_ref_log_probs=True, desirable_weight=1.5, undesirable_weight=0.5, dataset_num_proc=1
    )
    by_text = {tokenizer.decode(row["completion_ids"]): row["prompt"] for row in train}
    plain = [
        {"prompt": row["prompt"], "label": row["label"],
         "completion": [{"role": "assistant", "content": text.removesuffix("<|im_end|>\n")}]}
        for row, text in zip(train, by_text, strict=True)
    ]  # fmt: skip
    theirs = KTOTrainer(
        load_causal_lm({"location": f"folder:{tiny_model}"}), args=KTOConfig(**config),
        train_dataset=Dataset.from_list(plain), processing_class=tokenizer,
    )  # fmt: skip
    ours = WeighingKTOTrainer(
        load_causal_lm({"location": f"folder:{tiny_model}"}), args=KTOConfig(**config),
        data_collator=WeighingCollator(tokenizer.pad_token_id), train_dataset=train, processing_class=tokenizer,
        reference_file=run / "reference.safetensors",
    )  # fmt: skip
    noise = torch.Generator().manual_seed(0)
    for mine, their in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        mine.data += 0.02 * torch.randn(mine.shape, generator=noise)
        their.data.copy_(mine.data)
    return ours, theirs


@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
def test_loss_and_gradient_equal_those_of_trl(both_trainers, loss_type):
    for trainer in both_trainers:
        trainer.loss_type = loss_type
    ours, theirs = (loss_and_gradient(trainer) for trainer in both_trainers)
    assert_equal(ours, theirs)


def test_an_example_of_half_the_weight_counts_half(both_trainers):
    ours = both_trainers[0]
    ours.loss_type = "apo_zero_unpaired"  # no divergence, which is shared by all of a batch
    rows = [ours.train_dataset[at] for at in range(len(ours.train_dataset))]

    def loss(examples):
        return ours.compute_loss(ours.model, ours.data_collator(examples)).item()

    halved = [{**row, "weight": 0.5 if at == 0 else 1.0} for at, row in enumerate(rows)]
    assert loss(halved) == pytest.approx(loss(rows) - 0.5 * loss(rows[:1]) / len(rows), abs=1e-6)
