from transformers import AutoTokenizer

from tests.recipes.tiny import curve, finish, make_run, planted_demonstration, planted_ranking, result
from training.recipes.data import load_demonstrations
from training.recipes.run_folder import RunFolder

RANKINGS = [planted_ranking(number) for number in range(20)]
DEMONSTRATIONS = [planted_demonstration(number) for number in range(100, 120)]


def texts(run, tiny_model, train_on):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    parts = load_demonstrations(RunFolder(run, {}), tokenizer, 512, train_on)
    return [
        tokenizer.decode([token for token in row["labels"] if token != -100], skip_special_tokens=True).strip()
        for part in parts
        for row in part
    ]


def test_it_trains_on_demonstrations_and_on_the_completions_ranked_best(tiny_model, tmp_path):
    run = make_run(
        tmp_path / "run", "sft", tiny_model, rankings=RANKINGS, demonstrations=DEMONSTRATIONS, learning_rate=3e-3,
        per_device_train_batch_size=8, max_steps=20, eval_steps=10, save_steps=10,
    )  # fmt: skip
    finish(run)
    assert result(run)["metrics"]["examples"] == 30
    loss = curve(run, "loss")
    assert loss[20] < 0.8 * loss[1]
    assert result(run)["metrics"]["eval_loss"] < 0.8 * loss[1]


def test_each_answer_counts_once_and_the_prompt_is_no_target(tiny_model, tmp_path):
    twice = [RANKINGS[0], {**RANKINGS[0], "annotator": "A2"}]
    undecided = {**RANKINGS[1], "ranks": [1, 1, 1, 1]}
    bad = {**RANKINGS[2], "ranks": [1, 1, 1, 1], "verdict": "all_bad"}
    tied = {**RANKINGS[3], "ranks": [1, 1, 2, 2]}
    run = make_run(
        tmp_path / "run", "sft", tiny_model, rankings=[*twice, undecided, bad, tied], demonstrations=DEMONSTRATIONS[:2]
    )
    best = [RANKINGS[0]["completions"][RANKINGS[0]["ranks"].index(1)], *tied["completions"][:2]]
    expected = [one["completion"] for one in best]
    assert sorted(texts(run, tiny_model, "best")) == sorted(expected)
    assert sorted(texts(run, tiny_model, "both")) == sorted([*expected, "so be it.", "so be it."])
    assert texts(run, tiny_model, "demonstrations") == ["so be it.", "so be it."]
