import pytest

from annotate import reasoning
from tests.recipes.tiny import Row, events, finish, make_run, planted_ranking, read_jsonl, result, save_tiny_model
from training.recipes import sampling
from training.recipes.generate import read_prompts
from training.recipes.run_folder import RunFailed, RunFolder

PROMPTS = [{"prompt_id": number, "prompt": planted_ranking(number)["prompt"]} for number in range(1, 7)]
QUICK: Row = {"num_generations": 3, "max_new_tokens": 8, "batch_size": 2, "temperature": 1.5}


def lines(run):
    return read_jsonl(run / "completions.jsonl")


def test_it_writes_a_line_per_prompt_and_a_broken_run_goes_on_as_if_it_had_not_broken(tiny_model, tmp_path):
    run = make_run(tmp_path / "whole", "generate", tiny_model, prompts=PROMPTS, seed=7, **QUICK)
    finish(run)
    written = lines(run)
    assert [line["prompt_id"] for line in written] == [1, 2, 3, 4, 5, 6]
    for line in written:
        texts = [one["completion"] for one in line["completions"]]
        assert 1 <= len(texts) <= 3
        assert len(set(texts)) == len(texts)
        assert all(texts)
        for one in line["completions"]:
            assert one["sampling"].keys() == {"temperature", "top_p", "max_new_tokens", "seed"}
            assert one["finish"] in ("stop", "length")
    assert len({line["completions"][0]["completion"] for line in written}) > 1
    assert result(run)["metrics"]["completions"] == sum(len(line["completions"]) for line in written)
    assert events(run, "progress")[-1] | {"time": 0} == {"kind": "progress", "time": 0, "step": 6, "total": 6}
    assert len(events(run, "sample")) >= 1

    broken = make_run(tmp_path / "broken", "generate", tiny_model, prompts=PROMPTS, seed=7, **QUICK)
    whole = (run / "completions.jsonl").read_bytes()
    third_line_ends = [at for at, byte in enumerate(whole) if byte == ord("\n")][2]
    (broken / "completions.jsonl").write_bytes(whole[: third_line_ends + 20])
    (broken / "events.jsonl").write_bytes(b'{"kind": "progress", "time": 1, "step": 2, "total": 6}\n{"kind": "prog')
    finish(broken)
    assert (broken / "completions.jsonl").read_bytes() == whole
    assert [event["step"] for event in events(broken, "progress")] == [2, 2, 4, 6]


def test_the_same_arguments_in_another_run_write_something_new(tiny_model, tmp_path):
    runs = [
        make_run(tmp_path / str(number), "generate", tiny_model, prompts=PROMPTS[:4], number=number, **QUICK)
        for number in (1, 2)
    ]
    for run in runs:
        finish(run)
    first, second = ([one for line in lines(run) for one in line["completions"]] for run in runs)
    assert not {one["completion"] for one in first} & {one["completion"] for one in second}
    # two batches in each run, each with a seed of its own
    assert len({one["sampling"]["seed"] for one in first + second}) == 4


def test_a_prompt_may_hold_every_character_that_breaks_lines_elsewhere(tiny_model, tmp_path):
    odd = {"prompt_id": 1, "prompt": [{"role": "user", "content": "a\u2028b\u2029c\u0085d\x1ce\ufeff\U0001f600"}]}
    run = make_run(tmp_path / "run", "generate", tiny_model, prompts=[odd, PROMPTS[1]])
    read = read_prompts(RunFolder(run, inputs={}))
    assert [{name: row[name] for name in ("prompt_id", "prompt")} for row in read] == [odd, PROMPTS[1]]


def test_a_line_that_is_no_prompt_is_named(tiny_model, tmp_path):
    run = make_run(tmp_path / "run", "generate", tiny_model, prompts=PROMPTS)
    with (run / "data/prompts.jsonl").open("ab") as file:
        file.write(b'{"prompt_id": 7, "prompt": [{"role": "user", "content": "\xff"}]}\n')
    with pytest.raises(RunFailed, match=r"Line 7 of data/prompts\.jsonl") as caught:
        read_prompts(RunFolder(run, inputs={}))
    assert caught.value.cause == "bad_dataset"


def test_greedy_gives_one_completion_and_a_base_without_a_chat_template_gets_a_plain_one(tmp_path):
    bare = save_tiny_model(tmp_path / "bare", chat_template=None)
    run = make_run(
        tmp_path / "run", "generate", bare, prompts=PROMPTS[:2], num_generations=3, max_new_tokens=8, temperature=0
    )
    finish(run)
    assert all(len(line["completions"]) <= 1 for line in lines(run))
    notes = " ".join(event["message"] for event in events(run, "note"))
    assert "Temperature 0 always gives the same completion" in notes
    assert "no chat template" in notes


@pytest.mark.parametrize("split", [sampling.split_reasoning, reasoning.split_reasoning], ids=["recipe", "import"])
@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("Blue.", "", "Blue."),
        ("<think>Air scatters.</think>\n\nBlue.", "Air scatters.", "Blue."),
        ("\n <think>\nAir\n\nscatters.\n</think>Blue.\n", "Air\n\nscatters.", "Blue."),
        ("Air scatters.</think>Blue.", "Air scatters.", "Blue."),
        ("</think>Blue.", "", "Blue."),
        ("<think></think>Blue.", "", "Blue."),
        ("<think>Air sc", "Air sc", ""),
        ("<think>a</think>b<think>c</think>d", "a", "b<think>c</think>d"),
        ("<think>a<think>b</think>c</think>d", "a<think>b", "c</think>d"),
        ("a</think>b</think>c", "a", "b</think>c"),
        ("Write <think> and </think> around it.", "", "Write <think> and </think> around it."),
        ("Begin with <think>", "", "Begin with <think>"),
        ("", "", ""),
    ],
)
def test_what_a_recipe_writes_is_parted_from_its_reasoning_as_an_import_is(split, text, thought, answer):
    assert split(text) == (thought, answer)
