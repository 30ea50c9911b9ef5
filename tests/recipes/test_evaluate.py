"""Evaluations as real processes, on a tiny model: what is planted is found, and a killed one goes on."""

import json
import random
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.recipes.tiny import (
    ENVIRONMENT,
    FORKS,
    Row,
    events,
    finish,
    make_run,
    planted_ranking,
    read_jsonl,
    result,
    start,
)
from training.recipes.evaluation.judging import read_verdict

RANKINGS = [planted_ranking(number) for number in range(80)]
QUICK: Row = {"max_completion_length": 8, "batch_size": 8, "num_generations": 4, "bf16": False}


def question(number: int, **more) -> Row:
    split = "test" if number % 4 == 0 else "train"
    prompt = [{"role": "user", "content": f"What is {number} and {number}?"}]
    return {"prompt_id": number, "prompt": prompt, "answer": "", "tags": [], "split": split, **more}


QUESTIONS = [question(number) for number in range(48)]


@pytest.fixture(scope="module")
def scorer(tiny_model, tmp_path_factory):
    """A reward model that has learned what the planted annotator likes: exclamation marks."""
    run = make_run(
        tmp_path_factory.mktemp("scorer") / "run", "reward", tiny_model, rankings=RANKINGS,
        learning_rate=3e-3, per_device_train_batch_size=8, max_steps=20, eval_steps=100, save_steps=100,
    )  # fmt: skip
    finish(run)
    return run / "checkpoint"


def plant(run, name: str, rows: Mapping[Any, Row]) -> None:
    """What an earlier attempt would have left."""
    lines = (json.dumps({"key": str(key), **row}) + "\n" for key, row in rows.items())
    (run / f"{name}.jsonl").write_text("".join(lines))


def texts(*written: str) -> Row:
    return {"texts": [{"text": text, "tokens": len(text), "stopped": True} for text in written]}


def test_a_reward_model_that_knows_the_preference_is_found_to_know_it(scorer, tmp_path):
    run = make_run(tmp_path / "run", "evaluate", None, inputs={"reward_model": scorer}, rankings=RANKINGS)
    tags = [
        {"prompt_id": f"prompt {number}", "tags": ["even", "four" if number % 8 else "eight"]}
        for number in range(0, 80, 4)
    ]
    (run / "data/tags.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tags))
    finish(run)

    found = result(run)["evaluation"]["agreement"]
    accuracy = found["accuracy"]
    assert accuracy["value"] > 0.9
    assert 0.7 < accuracy["low"] < accuracy["value"] <= accuracy["high"] <= 1
    assert (found["rankings"], accuracy["n"], found["pairs"]) == (20, 20, 120)
    assert {one["tag"]: one["accuracy"]["n"] for one in found["tags"]} == {"even": 20, "four": 10, "eight": 10}
    assert [(one["size"], one["pairs"]) for one in found["sizes"]] == [(4, 120)]
    assert sum(one["pairs"] for one in found["calibration"]["bins"]) == 120
    metrics = result(run)["metrics"]
    assert metrics["reward_accuracy"] == accuracy["value"]
    assert metrics["reward_accuracy_low"] == accuracy["low"]
    assert result(run)["evaluation"]["spending"] is None
    assert events(run, "progress")[-1] | {"time": 0} == {
        "kind": "progress", "time": 0, "step": 80, "total": 80, "stage": "The answers are checked",
    }  # fmt: skip


def test_all_rankings_or_those_of_a_tag_can_be_asked_for(scorer, tmp_path):
    inputs = {"reward_model": scorer}
    run = make_run(tmp_path / "all", "evaluate", None, inputs=inputs, rankings=RANKINGS, split="all")
    finish(run)
    assert result(run)["evaluation"]["agreement"]["rankings"] == 80
    tagged = make_run(tmp_path / "tag", "evaluate", None, inputs=inputs, rankings=RANKINGS, prompt_tag="rare")
    (tagged / "data/tags.jsonl").write_text('{"prompt_id": "prompt 4", "tags": ["rare"]}\n')
    finish(tagged)
    assert result(tagged)["evaluation"]["agreement"]["rankings"] == 1


def test_planted_answers_are_checked_and_more_samples_are_right_more_often(scorer, tiny_model, tmp_path):
    """Planted: greedy answers right for 7 of 10 prompts, samples right 40 times in 100, and scores that know it."""
    choose = random.Random(2)
    asked = [question(number * 4, answer=str(8 * number), tags=["sums"]) for number in range(10)]
    run = make_run(
        tmp_path / "run", "evaluate", tiny_model, inputs={"reward_model": scorer, "baseline": tiny_model}, prompts=asked,
        **QUICK | {"num_generations": 16},
    )  # fmt: skip
    right = [f"It is ${row['answer']}.0$." for row in asked]
    plant(run, "policy", {row["prompt_id"]: texts(right[at] if at < 7 else "It is 1.") for at, row in enumerate(asked)})
    plant(
        run, "baseline", {row["prompt_id"]: texts(right[at] if at < 3 else "It is 3!") for at, row in enumerate(asked)}
    )
    samples, scores = {}, {}
    for at, row in enumerate(asked):
        good = [choose.random() < 0.4 for _ in range(16)]
        wrong = [f"It is {choose.choice([1, 3, 5, 7, 9, 11, 13])}." for _ in good]
        samples[row["prompt_id"]] = texts(
            *(right[at] if one else other for one, other in zip(good, wrong, strict=True))
        )
        scores[f"samples {row['prompt_id']}"] = {"scores": [choose.gauss(2.0 * one, 1) for one in good]}
    plant(run, "samples", samples)
    plant(run, "scores", scores)
    finish(run)

    found = result(run)["evaluation"]
    assert found["answers"]["policy"]["accuracy"]["value"] == 0.7
    assert found["answers"]["baseline"]["accuracy"]["value"] == 0.3
    assert found["answers"]["policy"]["tags"][0] | {"accuracy": 0} == {"tag": "sums", "accuracy": 0}
    assert found["difference"]["value"] == pytest.approx(0.4)
    points = found["spending"]["points"]
    assert [one["n"] for one in points] == [1, 2, 4, 8, 16]
    assert points[4]["tokens"] == pytest.approx(16 * points[0]["tokens"], abs=2)
    for name in ("best", "majority", "any"):
        values = [one[name]["value"] for one in points]
        assert values[0] == pytest.approx(0.4, abs=0.1), "one sample is as right as the samples are"
        assert values[-1] > values[0] + 0.3, name
    assert points[2]["any"]["value"] > points[2]["best"]["value"] > points[0]["best"]["value"]
    (wins,) = found["wins"]
    assert wins["by"] == "reward_model"
    assert wins["wins"] + wins["ties"] + wins["losses"] == 10
    assert wins["ties"] >= 3, "the same words are a tie"
    assert len(found["samples"]) == 10
    assert {one["policy"]["right"] for one in found["samples"]} == {0.0, 1.0}


WHOLE_FILES = ("policy", "samples", "baseline", "scores")


def test_a_killed_evaluation_goes_on_and_ends_as_an_unbroken_one(scorer, tiny_model, tmp_path):
    inputs = {"reward_model": scorer, "baseline": tiny_model}
    rows: Row = {"rankings": RANKINGS, "prompts": QUESTIONS, "inputs": inputs}
    whole = make_run(tmp_path / "whole", "evaluate", tiny_model, **rows, **QUICK)
    finish(whole)
    assert result(whole)["evaluation"]["wins"][0]["ties"] == 12, "the model against itself"
    assert len(read_jsonl(whole / "samples.jsonl")) == 12
    stages = list(dict.fromkeys(event["stage"] for event in events(whole, "progress")))
    assert stages == [
        "The language model answers", "The language model is sampled", "The other model answers", "The reward model scores",
        "The answers are checked",
    ]  # fmt: skip

    killed = make_run(tmp_path / "killed", "evaluate", tiny_model, **rows, **QUICK)
    process = start(killed)
    while not read_jsonl(killed / "samples.jsonl"):
        assert process.poll() is None, (killed / "log.txt").read_text()[-2000:]
        time.sleep(0.01)
    process.kill()
    process.wait(timeout=30)
    assert not (killed / "result.json").exists()
    done = (killed / "samples.jsonl").read_bytes()
    with (killed / "samples.jsonl").open("ab") as file:
        file.write(b'{"key": "20", "texts": [{"te')
    finish(killed)
    for part in ("metrics", "evaluation"):
        assert result(killed)[part] == result(whole)[part]
    for name in WHOLE_FILES:
        assert (killed / f"{name}.jsonl").read_bytes() == (whole / f"{name}.jsonl").read_bytes(), name
    assert (killed / "samples.jsonl").read_bytes().startswith(done)


class MarksJudge(BaseHTTPRequestHandler):
    """An endpoint that likes exclamation marks and, where there are as many in both, whichever stands first."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][1]["content"]
        a, b = (text.count("!") for text in re.findall(r"\[answer [AB] \w+\](.*?)\[end", asked, re.DOTALL))
        said = "So be it" if "mumble" in asked else json.dumps({"reason": "marks", "better": "B" if b > a else "A"})
        body = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def judge_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), MarksJudge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_judge_is_asked_in_both_orders_so_that_places_make_ties_and_marks_make_wins(tiny_model, tmp_path, judge_url):
    asked = [question(4 * at) for at in range(12)]
    run = make_run(
        tmp_path / "run", "evaluate", tiny_model, inputs={"baseline": tiny_model}, prompts=asked, use_judge=True, **QUICK
    )  # fmt: skip
    policy = ["yes!!", *["<think>!!!!!</think>same"] * 4, "", "mumble", "equal", *["yes!"] * 4]
    baseline = ["no!", *["also"] * 4, "words", "so", "<think>at length</think>equal", *["no"] * 4]
    for who, written in (("policy", policy), ("baseline", baseline)):
        plant(run, who, {row["prompt_id"]: texts(text) for row, text in zip(asked, written, strict=True)})
    environment = {**ENVIRONMENT, "JUDGE_URL": judge_url, "JUDGE_MODEL": "marks"}
    assert FORKS.start("evaluate", run, environment, run / "log.txt").wait(timeout=100) == 0, (
        run / "log.txt"
    ).read_text()

    (wins,) = result(run)["evaluation"]["wins"]
    assert wins["by"] == "judge"
    assert (wins["wins"], wins["ties"], wins["losses"], wins["undecided"]) == (5, 5, 1, 1)
    assert wins["rate"]["value"] == pytest.approx(7.5 / 11)
    assert wins["swayed"] == 4
    assert wins["first"] == pytest.approx((8 + 5 + 1) / (2 * 10))
    verdicts = {row["key"]: row["verdicts"] for row in read_jsonl(run / "verdicts.jsonl")}
    assert verdicts["0"] == [1.0, 1.0]
    assert verdicts["4"] == [1.0, 0.0]
    assert verdicts["20"] == [0.0, 0.0]
    assert verdicts["24"] == [None, None]
    assert result(run)["metrics"]["win_rate_judge"] == pytest.approx(7.5 / 11)
    assert {one["won"]["judge"] for one in result(run)["evaluation"]["samples"]} == {1.0, 0.5, 0.0, None}


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('{"reason": "A is short", "better": "B"}', 0.0),
        ('```json\n{"better": "A"}\n```', 1.0),
        ("<think>B is better? no</think>The winner is: A", 1.0),
        ("[[C]]", 0.5),
        ("Answer B is better because A rambles.", 0.0),
        ("B.", 0.0),
        ("tie", 0.5),
        ("Both are good, but A is better because it is short", 1.0),
        ("Which is better, A or B? I cannot say.", None),
        ("A long answer is what I would want.", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_as_it_was_meant(reply, verdict):
    assert read_verdict(reply) == verdict


def test_it_stops_within_seconds(tiny_model, tmp_path):
    run = make_run(
        tmp_path / "run", "evaluate", tiny_model, prompts=[question(4 * at, answer="1") for at in range(400)],
        **QUICK | {"max_completion_length": 64},
    )  # fmt: skip
    process = start(run)
    while not events(run, "progress"):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert process.wait(timeout=30) == 75
    assert time.monotonic() - asked < 5


def test_it_says_what_it_could_not_measure(tiny_model, scorer, tmp_path):
    nothing = make_run(tmp_path / "nothing", "evaluate", tiny_model, prompts=[question(1)], **QUICK)
    finish(nothing, expect=1)
    (said,) = events(nothing, "error")
    assert said["cause"] == "no_data"
    assert "nothing to measure" in said["message"]

    ties = [{**planted_ranking(4), "ranks": [1, 1, 1, 1]}]
    run = make_run(
        tmp_path / "run",
        "evaluate",
        tiny_model,
        inputs={"reward_model": scorer},
        rankings=ties,
        prompts=[question(4)],
        **QUICK,
    )
    finish(run)
    found = result(run)["evaluation"]
    assert found["agreement"] is None
    assert found["answers"]["policy"]["accuracy"] is None
    assert found["spending"]["points"][-1]["reward"]["value"] >= found["spending"]["points"][0]["reward"]["value"]
    assert "no such ranking" in events(run, "note")[0]["message"]
