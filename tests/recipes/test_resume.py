"""A run that is stopped or killed goes on from its last whole checkpoint and ends where an unbroken one ends."""

import signal
import time

import pytest
from safetensors.torch import load_file

from tests.recipes.tiny import Row, curve, events, finish, make_run, planted_ranking, result, start
from training.recipes.training import last_whole_checkpoint

RANKINGS = [planted_ranking(number) for number in range(40)]
LONG: Row = {
    "per_device_train_batch_size": 4,
    "num_train_epochs": 40,
    "learning_rate": 1e-3,
    "eval_steps": 300,
    "save_steps": 60,
}
STEPS = 320


@pytest.fixture(scope="module")
def unbroken(tiny_model, tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("unbroken") / "run", "reward", tiny_model, rankings=RANKINGS, **LONG)
    finish(run)
    return run


def wait_for_step(run, process, step):
    for _ in range(1200):
        if any(event["step"] >= step for event in events(run, "progress")):
            return
        assert process.poll() is None, (run / "log.txt").read_text()[-2000:]
        time.sleep(0.05)
    raise AssertionError("the run never got there")


def assert_same_end(run, unbroken):
    assert max(curve(run, "loss")) == max(curve(unbroken, "loss")) == STEPS
    assert curve(run, "loss")[STEPS] == pytest.approx(curve(unbroken, "loss")[STEPS], abs=1e-6)
    assert result(run)["metrics"] == pytest.approx(result(unbroken)["metrics"], abs=1e-5)
    weights = [load_file(one / "checkpoint/model.safetensors") for one in (run, unbroken)]
    assert max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0]) < 1e-5


def test_after_sigterm_it_saves_leaves_with_75_and_resumes_to_the_same_end(tiny_model, tmp_path, unbroken):
    run = make_run(tmp_path / "run", "reward", tiny_model, rankings=RANKINGS, **LONG)
    process = start(run)
    wait_for_step(run, process, 20)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert process.wait(timeout=30) == 75
    assert time.monotonic() - asked < 10
    saved = last_whole_checkpoint(run / "trainer")
    assert saved
    assert int(saved.name.rpartition("-")[2]) == events(run, "progress")[-1]["step"]
    assert not (run / "result.json").exists()
    assert not events(run, "error")

    finish(run)
    assert "Resumed from step" in events(run, "note")[-1]["message"]
    assert_same_end(run, unbroken)


def test_after_sigkill_it_resumes_from_the_last_whole_checkpoint_and_ignores_a_half_written_one(
    tiny_model, tmp_path, unbroken
):
    run = make_run(tmp_path / "run", "reward", tiny_model, rankings=RANKINGS, **LONG)
    process = start(run)
    wait_for_step(run, process, 100)
    process.kill()
    process.wait(timeout=30)
    assert last_whole_checkpoint(run / "trainer")
    (run / "trainer/checkpoint-319").mkdir()
    (run / "trainer/checkpoint-319/model.safetensors").write_bytes(b"half")

    finish(run)
    assert not (run / "trainer/checkpoint-319").exists()
    steps = [event["step"] for event in events(run, "progress")]
    resumed = next(at for at in range(1, len(steps)) if steps[at] < steps[at - 1])
    assert steps[resumed] >= 60
    assert_same_end(run, unbroken)
