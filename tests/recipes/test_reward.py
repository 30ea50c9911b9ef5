import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.recipes.tiny import Row, curve, events, finish, make_run, planted_ranking, result
from training.recipes.models import load_reward_model

RANKINGS = [planted_ranking(number) for number in range(80)]
QUICK: Row = {"per_device_train_batch_size": 8, "max_steps": 20, "eval_steps": 10, "save_steps": 10}


def scores(model, tokenizer, rankings):
    """What the saved model says of every completion, one ranking a list."""
    model.eval()
    for row in rankings:
        texts = [[*row["prompt"], {"role": "assistant", "content": one["completion"]}] for one in row["completions"]]
        batch = tokenizer.apply_chat_template(texts, return_dict=True, return_tensors="pt", padding=True)
        with torch.no_grad():
            yield model(**batch).logits.squeeze(-1)


@pytest.mark.parametrize(("lora", "rate"), [(False, 3e-3), (True, 1e-2)])
def test_it_learns_what_the_annotator_likes_and_saves_scores_of_mean_0_and_deviation_1(
    tiny_model, tmp_path, lora, rate
):
    extra = [
        {**planted_ranking(200), "verdict": "all_bad", "ranks": [1, 1, 1, 1], "split": "train"},
        {**planted_ranking(201), "completions": [{"completion": "x" * 300, "reasoning": "", "source": ""}] * 4, "split": "train"},
        {**planted_ranking(202), "ranks": [1, 1, 2, 3], "split": "train"},
    ]  # fmt: skip
    run = make_run(
        tmp_path / "run", "reward", tiny_model, rankings=RANKINGS + extra, learning_rate=rate, use_peft=lora, max_length=256,
        **QUICK,
    )  # fmt: skip
    finish(run)

    metrics = result(run)["metrics"]
    assert metrics["eval_accuracy"] > 0.9
    assert metrics["eval_accuracy_low"] > 0.6
    assert metrics["eval_accuracy_high"] <= 1
    assert metrics["eval_pairs"] == 20 * 6
    assert result(run)["is_adapter"] is lora
    loss = curve(run, "loss")
    assert loss[20] < 0.7 * loss[1]
    assert set(curve(run, "eval_accuracy")) >= {10, 20}
    notes = " ".join(event["message"] for event in events(run, "note"))
    assert "1 rankings said that all completions are bad" in notes
    assert "1 rankings are longer than 256 tokens" in notes
    assert events(run, "progress")[-1]["step"] == events(run, "progress")[-1]["total"] == 20

    location: Row = {"location": f"folder:{run / 'checkpoint'}"}
    if lora:
        location["base"] = {"location": f"folder:{tiny_model}"}
        assert not (run / "checkpoint/model.safetensors").exists()
        assert any("score" in name for name in load_file(run / "checkpoint/adapter_model.safetensors"))
    model, tokenizer = load_reward_model(location), AutoTokenizer.from_pretrained(run / "checkpoint")
    train = [row for row in (*RANKINGS, extra[2]) if row["split"] == "train"]
    flat = torch.cat(list(scores(model, tokenizer, train)))
    assert flat.mean().item() == pytest.approx(0, abs=1e-3)
    assert flat.std().item() == pytest.approx(1, abs=1e-3)
    held_out = [row for row in RANKINGS if row["split"] == "test"]
    best = [
        row["ranks"][int(given.argmax())] == 1
        for row, given in zip(held_out, scores(model, tokenizer, held_out), strict=True)
    ]
    assert sum(best) >= 18


def test_an_annotator_of_weight_0_teaches_nothing(tiny_model, tmp_path):
    against = [
        {**row, "ranking": f"f{row['ranking'][1:]}", "ranks": [5 - rank for rank in row["ranks"]], "weight": 0.0}
        for row in RANKINGS
        if row["split"] == "train"
    ]
    run = make_run(tmp_path / "run", "reward", tiny_model, rankings=RANKINGS + against, learning_rate=3e-3, **QUICK)
    finish(run)
    assert result(run)["metrics"]["eval_accuracy"] > 0.9
    assert json.loads((run / "checkpoint/score.json").read_text()).keys() == {"mean"}
