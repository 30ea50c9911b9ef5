"""A run that is stopped or killed goes on from its last whole checkpoint and ends where an unbroken one ends.

CASES holds each method that trains, with a run of STEPS short steps. "data" goes to `make_run`; the rest are arguments.
"""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.recipes.planted import PROMPTS, REWARD_FUNCTIONS
from tests.recipes.tiny import (
    Row,
    curve,
    events,
    finish,
    make_run,
    planted_demonstration,
    planted_ranking,
    result,
    start,
)
from training.recipes.training import last_whole_checkpoint

STEPS = 48
COMMON: Row = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "eval_steps": 40,
    "save_steps": 10,
}
RANKINGS = [planted_ranking(number) for number in range(40)]
DEMONSTRATIONS = [planted_demonstration(number) for number in range(40)]
# A sampling serves several steps, so that stops and kills fall in between.
ONLINE: Row = {
    "rewards": {"letters": 1.0},
    "num_generations": 2,
    "max_completion_length": 4,
    "max_length": 64,
    "eval_prompts": 4,
    "watch_steps": 0,
}
CASES: dict[str, Row] = {
    "pretrain": {
        "data": {},
        **COMMON,
        "max_length": 32,
        "vocab_size": 300,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "similarity_threshold": 1,
    },
    "sft": {"data": {"rankings": RANKINGS, "demonstrations": DEMONSTRATIONS}, **COMMON},
    "reward": {"data": {"rankings": RANKINGS}, **COMMON},
    "dpo": {"data": {"rankings": RANKINGS}, **COMMON},
    "kto": {"data": {"rankings": RANKINGS[:16]}, **COMMON, "desirable": "best", "per_device_train_batch_size": 2},
    "orpo": {"data": {"rankings": RANKINGS[:16]}, **COMMON, "per_device_train_batch_size": 2},
    "grpo": {"data": {"prompts": PROMPTS}, **COMMON, **ONLINE, "steps_per_generation": 3, "num_iterations": 2},
    "rloo": {"data": {"prompts": PROMPTS}, **COMMON, **ONLINE, "num_iterations": 3},
    "online_dpo": {
        "data": {"prompts": PROMPTS},
        **COMMON,
        "per_device_train_batch_size": 2,
        "eval_prompts": 4,
        "rewards": {"letters": 1.0},
        "max_completion_length": 4,
        "max_length": 64,
        "watch_steps": 0,
        "logging_steps": 8,
    },
}
# How far the last loss and the figures may lie apart. Weights may differ by ten times as much.
TOLERANCE = 1e-5


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("texts")
    choose = random.Random(0)
    words = ["once", "upon", "a", "time", "there", "was", "fox"]
    rows = [{"text": " ".join(choose.choices(words, k=60))} for _ in range(60)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make(path: Path, method: str, model: Path, texts: Path) -> Path:
    case: dict[str, Any] = dict(CASES[method])
    data = case.pop("data")
    if method == "pretrain":
        case["text_folder"] = str(texts)
    run = make_run(path, method, model, **data, **case)
    args = json.loads((run / "args.json").read_text())
    (run / "args.json").write_text(json.dumps({**args, "reward_functions": REWARD_FUNCTIONS}))
    return run


def wait_for_step(run, process, step):
    for _ in range(6000):
        if any(event["step"] >= step for event in events(run, "progress")):
            return
        assert process.poll() is None, (run / "log.txt").read_text()[-2000:]
        time.sleep(0.01)
    raise AssertionError("the run never got there")


def assert_same_end(run, unbroken):
    assert max(curve(run, "loss")) == max(curve(unbroken, "loss")) == STEPS
    assert curve(run, "loss")[STEPS] == pytest.approx(curve(unbroken, "loss")[STEPS], abs=TOLERANCE)
    assert result(run)["metrics"] == pytest.approx(result(unbroken)["metrics"], abs=TOLERANCE)
    for one in unbroken.glob("checkpoint*/model.safetensors"):
        expected, found = load_file(one), load_file(run / one.parent.name / one.name)
        assert max((expected[name] - found[name]).abs().max().item() for name in expected) < 10 * TOLERANCE


@pytest.mark.parametrize("method", list(CASES))
def test_stopped_and_later_killed_a_run_ends_where_an_unbroken_one_ends(tiny_model, tmp_path, texts, method):
    unbroken = make(tmp_path / "unbroken", method, tiny_model, texts)
    finish(unbroken)

    run = make(tmp_path / "run", method, tiny_model, texts)
    process = start(run)
    wait_for_step(run, process, 5)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert process.wait(timeout=30) == 75
    assert time.monotonic() - asked < 10
    saved = last_whole_checkpoint(run / "trainer")
    assert saved
    reached = events(run, "progress")[-1]["step"]
    assert int(saved.name.rpartition("-")[2]) == reached < STEPS
    assert not (run / "result.json").exists()
    assert not events(run, "error")

    process = start(run)
    wait_for_step(run, process, max(25, reached + 5))
    process.kill()
    process.wait(timeout=30)
    assert last_whole_checkpoint(run / "trainer")
    half_written = run / f"trainer/checkpoint-{STEPS - 1}"
    half_written.mkdir(exist_ok=True)
    (half_written / "model.safetensors").write_bytes(b"half")

    finish(run)
    assert not half_written.exists()
    notes = [event["message"] for event in events(run, "note")]
    assert sum("Resumed from step" in note for note in notes) == 2
    assert_same_end(run, unbroken)
