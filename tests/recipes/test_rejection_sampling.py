"""Rejection sampling through the real recipe."""

import json
import threading
import time
from pathlib import Path

import pytest

from tests.recipes.judging import JudgeServer, said
from tests.recipes.tiny import (
    ENVIRONMENT,
    FORKS,
    curve,
    events,
    finish,
    make_run,
    planted_demonstration,
    planted_ranking,
    read_jsonl,
    result,
    start,
)
from training.recipes.rewards import make_rewards, read_completion
from training.recipes.run_folder import RunFailed, RunFolder

OWN = {"reward_functions": {"shortness": "tests.recipes.own_rewards:shortness"}, "names": {"policy": "tiny"}}


def prompts(count):
    return [
        {
            "prompt_id": number,
            "prompt": [{"role": "user", "content": f"Say {number}!"}],
            "answer": "",
            "tags": [],
            "split": "test" if number % 4 == 0 else "train",
            "content_hash": f"hash {number}",
        }
        for number in range(count)
    ]


def sampling_run(path, model, count=6, **arguments):
    chosen = {
        "rewards": {"shortness": 1.0},
        "threshold": -1000,
        "num_generations": 4,
        "max_completion_length": 12,
        "keep_unfinished": True,
        "batch_size": 2,
        **arguments.pop("arguments", {}),
    }
    run = make_run(path, "rejection_sampling", model, prompts=prompts(count), **arguments, **chosen)
    args = json.loads((run / "args.json").read_text())
    (run / "args.json").write_text(json.dumps({**args, **OWN}))
    return run


def test_it_keeps_the_best_of_each_prompt_and_says_where_they_come_from(tmp_path, tiny_model):
    run = sampling_run(tmp_path / "run", tiny_model)
    finish(run)
    sampled = {line["prompt_id"]: line["candidates"] for line in read_jsonl(run / "sampled.jsonl")}
    assert {len(candidates) for candidates in sampled.values()} == {4}
    kept = read_jsonl(run / "dataset/demonstrations.jsonl")
    assert len(kept) == 6
    for prompt, row in zip(prompts(6), kept, strict=True):
        best = max(one["score"] for one in sampled[prompt["prompt_id"]] if one["score"] is not None)
        assert row["provenance"]["score"] == best == row["provenance"]["rewards"]["shortness"]
        assert (row["provenance"]["run"], row["provenance"]["checkpoint"]) == (1, "tiny")
        assert row["provenance"]["sampling"]["max_new_tokens"] == 12
        assert (row["prompt_id"], row["split"]) == (prompt["content_hash"], prompt["split"])
    metrics = result(run)["metrics"]
    assert (metrics["sampled_prompts"], metrics["sampled"], metrics["kept"]) == (6, 24, 6)
    assert sum(result(run)["left_out"].values()) == 24 - 6
    assert set(curve(run, "rewards/shortness/mean")) == {2, 4, 6}
    assert len({row["demonstration"] for row in kept}) == 6


def test_a_threshold_that_nothing_passes_ends_in_words_with_the_counts(tmp_path, tiny_model):
    run = sampling_run(tmp_path / "run", tiny_model, 2, arguments={"threshold": 5})
    finish(run, expect=1)
    (error,) = events(run, "error")
    assert error["cause"] == "no_data"
    assert "below: " in error["message"]
    assert "Lower the threshold" in error["message"]


def test_completions_that_the_limit_has_cut_are_left_out(tmp_path, tiny_model):
    run = sampling_run(
        tmp_path / "run", tiny_model, 2, arguments={"keep_unfinished": False, "max_completion_length": 2}
    )
    finish(run, expect=1)
    assert "cut: " in events(run, "error")[0]["message"]


def test_a_dataset_version_is_mixed_in_and_nothing_is_there_twice(tmp_path, tiny_model):
    first = sampling_run(tmp_path / "first", tiny_model, 3)
    finish(first)
    already = read_jsonl(first / "dataset/demonstrations.jsonl")[1]
    demonstrations = [planted_demonstration(1), planted_demonstration(1)]
    demonstrations.append(
        {
            **planted_demonstration(2),
            **{name: already[name] for name in ("prompt_id", "prompt", "completion", "reasoning")},
            "split": "test",
        }
    )
    run = sampling_run(
        tmp_path / "run", tiny_model, 3, demonstrations=demonstrations, rankings=[planted_ranking(1)],
    )  # fmt: skip
    finish(run)
    rows = read_jsonl(run / "dataset/demonstrations.jsonl")
    kinds = [row["provenance"].get("kind", "sampled") for row in rows]
    assert sorted(kinds) == ["best completion", "demonstration", "demonstration", "sampled", "sampled"]
    assert result(run)["metrics"]["mixed_in"] == 3
    assert result(run)["left_out"]["known"] == 1
    texts = [(row["prompt_id"], row["completion"]) for row in rows]
    assert len(set(texts)) == len(texts)
    assert next(row for row in rows if row["completion"] == already["completion"])["split"] == "test"
    best = next(row for row in rows if row["provenance"].get("kind") == "best completion")
    assert best["completion"].endswith("!!!")
    assert best["annotator"] == "A1"


def test_a_killed_run_goes_on_and_keeps_what_an_unbroken_one_keeps(tmp_path, tiny_model):
    whole, broken = (
        sampling_run(tmp_path / name, tiny_model, 8, arguments={"batch_size": 1}) for name in ("whole", "broken")
    )
    finish(whole)
    process = start(broken)
    while not (broken / "sampled.jsonl").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    with (broken / "sampled.jsonl").open("ab") as file:
        file.write(b'{"prompt_id": 7, "cand')
    finish(broken)
    assert (broken / "dataset/demonstrations.jsonl").read_bytes() == (
        whole / "dataset/demonstrations.jsonl"
    ).read_bytes()
    assert result(broken)["metrics"] == result(whole)["metrics"]


def test_it_leaves_within_seconds_while_it_waits_for_the_judge(tmp_path, tiny_model):
    run = sampling_run(tmp_path / "run", tiny_model, 2, arguments={"rewards": {"judge": 1}})
    answering = threading.Event()
    with JudgeServer(lambda *_: (200, said("Score: 5")) if answering.wait(60) else (500, b"")) as server:
        environment = {**ENVIRONMENT, "JUDGE_URL": server.url, "JUDGE_MODEL": "slow"}
        process = FORKS.start("rejection_sampling", run, environment, run / "log.txt")
        while not server.requests:
            assert process.poll() is None, (run / "log.txt").read_text()
            time.sleep(0.02)
        process.terminate()
        assert process.wait(timeout=15) == 75
        answering.set()
    assert not (run / "sampled.jsonl").exists()


@pytest.mark.parametrize(
    ("place", "cause", "words"),
    [
        ("tests.recipes.own_rewards:dividing", "reward_failed", "stopped on ZeroDivisionError"),
        ("tests.recipes.own_rewards:forgetful", "reward_failed", "gave 1 numbers for 8 completions"),
        ("tests.recipes.own_rewards:unsure", "reward_failed", "nan, which is no finite number"),
        ("tests.recipes.own_rewards:missing", "bad_arguments", "cannot be imported"),
        ("tests.recipes.nowhere:politeness", "bad_arguments", "cannot be imported"),
        ("tests.recipes.own_rewards:NOTHING_TO_CALL", "bad_arguments", "is no function"),
    ],
)
def test_a_reward_of_ones_own_that_fails_is_named(place, cause, words):
    folder = RunFolder(Path("/nowhere"), {}, reward_functions={"mine": place})
    with pytest.raises(RunFailed, match=words) as failure:
        make_rewards(folder, {"mine": 1})["mine"]([read_completion([], "?")] * 8)
    assert failure.value.cause == cause
    assert f"“mine” ({place})" in str(failure.value)


def test_a_reward_that_fails_ends_the_run_and_says_which(tmp_path, tiny_model):
    run = sampling_run(tmp_path / "run", tiny_model, 2, arguments={"rewards": {"mine": 1}})
    args = json.loads((run / "args.json").read_text())
    place = "tests.recipes.own_rewards:dividing"
    (run / "args.json").write_text(json.dumps({**args, "reward_functions": {"mine": place}}))
    finish(run, expect=1)
    (error,) = events(run, "error")
    assert error["cause"] == "reward_failed"
    assert f"“mine” ({place}) stopped on ZeroDivisionError" in error["message"]
