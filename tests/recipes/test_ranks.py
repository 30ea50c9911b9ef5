"""Runs in several processes."""

import json
import os
import signal
import socket
import time

import pytest
from safetensors.torch import load_file

from tests.recipes.test_resume import wait_for_step
from tests.recipes.tiny import ENVIRONMENT, FORKS, Row, curve, events, finish, make_run, planted_ranking, result
from training.recipes.training import last_whole_checkpoint

RANKINGS = [
    planted_ranking(number) for number in range(48)
]  # 12 are held out: batches come out even with two ranks, too
STEPS = 16
TRAINED: Row = {"max_steps": STEPS, "learning_rate": 1e-3, "eval_steps": 8, "save_steps": 8}


def start_ranks(run, count=2):
    """The recipe as accelerate's launcher starts it: one process per rank, over gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    method = json.loads((run / "args.json").read_text())["method"]
    shared = {
        **ENVIRONMENT, "PODIUM_HOME": str(run / "home"), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    return [
        FORKS.start(method, run, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, run / "log.txt")
        for rank in range(count)
    ]


def codes_of(ranks):
    return [rank.wait(timeout=120) for rank in ranks]


def test_two_processes_train_as_one_does_and_resume_where_sigterm_stopped_them(tiny_model, tmp_path):
    alone = make_run(
        tmp_path / "alone", "reward", tiny_model, rankings=RANKINGS, per_device_train_batch_size=6, **TRAINED
    )
    finish(alone)
    both = make_run(
        tmp_path / "both", "reward", tiny_model, rankings=RANKINGS, per_device_train_batch_size=3, num_processes=2, **TRAINED
    )  # fmt: skip
    ranks = start_ranks(both)
    wait_for_step(both, ranks[0], 3)
    asked = time.monotonic()
    for rank in ranks:
        rank.terminate()
    assert codes_of(ranks) == [75, 75], (both / "log.txt").read_text()[-3000:]
    assert time.monotonic() - asked < 10
    saved = last_whole_checkpoint(both / "trainer")
    assert saved
    assert {path.name for path in saved.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    steps = [event["step"] for event in events(both, "progress")]
    assert steps == list(range(int(saved.name.rpartition("-")[2]) + 1))  # told once, by the first rank

    assert codes_of(start_ranks(both)) == [0, 0], (both / "log.txt").read_text()[-3000:]
    for name in ("loss", "accuracy", "eval_loss", "eval_accuracy"):
        together = curve(both, name)
        expected = {step: value for step, value in curve(alone, name).items() if step in together}
        assert together == pytest.approx(expected, abs=2e-4), name
        assert len(together) >= (2 if name.startswith("eval_") else STEPS - 1)
    assert result(both)["metrics"] == pytest.approx(result(alone)["metrics"], abs=2e-4)
    weights = [load_file(one / "checkpoint/model.safetensors") for one in (both, alone)]
    assert max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0]) < 1e-3
    assert not events(both, "error")


@pytest.mark.parametrize(
    ("wanted", "code", "cause"),
    [("end", 0, ""), ("fail", 1, "nan_loss"), ("kill", 1, "out_of_memory"), ("wait", 75, "")],
)
def test_the_launcher_ends_as_its_ranks_do_and_says_why(tmp_path, wanted, code, cause):
    run = make_run(tmp_path / "run", "sft", {"location": "folder:none"})
    environment = {**ENVIRONMENT, "RANKED": wanted}
    launcher = FORKS.start("launch", run, environment, run / "log.txt", "2", "tests.recipes.ranked")
    if wanted == "wait":
        while not all((run / f"rank-{rank}").exists() for rank in range(2)):
            assert launcher.poll() is None, (run / "log.txt").read_text()
            time.sleep(0.02)
        time.sleep(0.2)
        launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(timeout=60) == code, (run / "log.txt").read_text()[-3000:]
    said = events(run, "error")
    assert (said[-1]["cause"] if said else "") == cause
    assert len(events(run, "note")) == 1
    if wanted == "wait":
        assert len(list(run.glob("saved-*"))) == 2
    for rank in range(2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((run / f"rank-{rank}").read_text()), 0)


def test_no_rank_outlives_its_launcher(tmp_path):
    run = make_run(tmp_path / "run", "sft", {"location": "folder:none"})
    launcher = FORKS.start(
        "launch", run, {**ENVIRONMENT, "RANKED": "wait"}, run / "log.txt", "2", "tests.recipes.ranked"
    )
    while not all((run / f"rank-{rank}").exists() for rank in range(2)):
        assert launcher.poll() is None, (run / "log.txt").read_text()
        time.sleep(0.02)
    pids = [int((run / f"rank-{rank}").read_text()) for rank in range(2)]
    launcher.kill()
    ends = time.monotonic() + 5
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < ends
        time.sleep(0.05)


def _alive(pid):
    try:
        return "State:\tZ" not in open(f"/proc/{pid}/status").read()
    except FileNotFoundError:
        return False
