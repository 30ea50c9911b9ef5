"""Each failure ends with one error event that names its cause, and with exit code 1, or 74 where the disk is full."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.recipes.tiny import ROOT, events, finish, make_run, planted_ranking
from training.recipes.arguments import InvalidArguments
from training.recipes.run_folder import RunFailed, explain

RANKINGS = [planted_ranking(number) for number in range(12)]


def assert_failed(run, cause, *words):
    finish(run, expect=1)
    (error,) = events(run, "error")
    assert error["cause"] == cause
    for word in words:
        assert word in error["message"]
    assert "Traceback" not in error["message"]
    assert not (run / "result.json").exists()
    assert not (run / "checkpoint").exists()


def test_no_ranking_to_train_on(tiny_model, tmp_path):
    all_bad = [{**row, "verdict": "all_bad", "ranks": [1, 1, 1, 1]} for row in RANKINGS]
    run = make_run(tmp_path / "run", "reward", tiny_model, rankings=all_bad)
    assert_failed(run, "no_data", "No ranking is left")


def test_no_demonstration_to_train_on(tiny_model, tmp_path):
    run = make_run(tmp_path / "run", "sft", tiny_model, rankings=RANKINGS, train_on="demonstrations")
    assert_failed(run, "no_data", "demonstrations.parquet")


def test_a_base_model_that_is_not_there(tmp_path):
    run = make_run(tmp_path / "run", "dpo", tmp_path / "nowhere", rankings=RANKINGS)
    assert_failed(run, "missing_model", "nowhere")


def test_a_base_model_with_pickled_weights_alone(tiny_model, tmp_path):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (pickled / name).write_bytes((tiny_model / name).read_bytes())
    torch.save({"lm_head.weight": torch.zeros(1)}, pickled / "pytorch_model.bin")
    run = make_run(tmp_path / "run", "dpo", pickled, rankings=RANKINGS)
    assert_failed(run, "missing_model", "safetensors")


def test_a_loss_that_is_no_number(tiny_model, tmp_path):
    damaged = shutil.copytree(tiny_model, tmp_path / "damaged")
    weights = load_file(damaged / "model.safetensors")
    weights["model.norm.weight"][0] = float("inf")
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    run = make_run(tmp_path / "run", "reward", damaged, rankings=RANKINGS)
    assert_failed(run, "nan_loss", "step 1", "base model itself")
    assert not list((run / "trainer").glob("checkpoint-*"))


def test_a_dataset_that_is_no_parquet(tiny_model, tmp_path):
    run = make_run(tmp_path / "run", "reward", tiny_model, rankings=RANKINGS)
    (run / "data/rankings.parquet").write_bytes(b"PAR1 is how it begins, but it goes on otherwise")
    assert_failed(run, "bad_dataset", "rankings.parquet")


def test_a_value_out_of_range(tiny_model, tmp_path):
    run = make_run(tmp_path / "run", "reward", tiny_model, rankings=RANKINGS, learning_rate=7, epochs=2)
    assert_failed(run, "bad_arguments", "learning_rate: must be at most 1", "epochs: unknown argument")


def test_an_args_json_without_arguments(tiny_model, tmp_path):
    run = make_run(tmp_path / "run", "reward", tiny_model, rankings=RANKINGS)
    (run / "args.json").write_text(json.dumps({"method": "reward"}))
    assert_failed(run, "bad_arguments", "args.json", "arguments")


def test_a_full_disk_has_an_exit_code_of_its_own(tiny_model, tmp_path):
    prompts = [{"prompt_id": 1, "prompt": planted_ranking(1)["prompt"]}]
    run = make_run(tmp_path / "run", "generate", tiny_model, prompts=prompts, max_new_tokens=4)
    (run / "result.json.partial").symlink_to("/dev/full")
    finish(run, expect=74)
    (error,) = events(run, "error")
    assert error["cause"] == "disk_full"
    assert not (run / "result.json").exists()


RECIPE_ON_A_FULL_DISK = """
from training.recipes.run_folder import main

def recipe(folder, arguments):
    (folder.path / "events.jsonl").symlink_to("/dev/full")
    {statement}

main("generate", recipe)
"""


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("folder.note('Nobody will read this.')", 74),
        ("raise ZeroDivisionError", 1),
        ("raise SystemExit(75)", 75),
        ("print('Nobody will read this.')", 0),
    ],
)
def test_the_exit_code_stands_where_neither_log_nor_event_can_be_written(tiny_model, tmp_path, statement, code):
    run = make_run(tmp_path / "run", "generate", tiny_model)
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", RECIPE_ON_A_FULL_DISK.format(statement=statement), str(run)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=full, stderr=full, check=False)
    assert done.returncode == code


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (
            RuntimeError("[enforce fail at inline_container.cc:603] PytorchStreamWriter failed writing file"),
            "disk_full",
        ),
        (InvalidArguments({"beta": "must be a number"}), "bad_arguments"),
        (RunFailed("no_data", "There is nothing."), "no_data"),
        (ZeroDivisionError("division by zero"), "crash"),
    ],
)
def test_every_error_has_a_cause(error, cause):
    assert explain(error)[0] == cause


def test_the_cause_is_found_behind_the_error_that_it_raised():
    wrapped = ValueError("the file could not be written")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert explain(wrapped)[0] == "disk_full"


def test_an_allocation_beyond_the_machine_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert explain(caught.value)[0] == "out_of_memory"
