"""A run's folder on the storage, as docs/architecture.md lays it down, and where a checkpoint's weights lie."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage

from training.models import Checkpoint, Run
from training.recipes.arguments import METHODS

from .datasets import dataset_files
from .failures import RunFailed
from .generation import prompts_to_answer

LOG_TAIL_LINES, LOG_TAIL_BYTES = 40, 16_384


def run_folder(run: Run) -> Path:
    return Path(default_storage.path(f"runs/{run.pk}"))


def log_path(run: Run) -> Path:
    return run_folder(run) / "log.txt"


def log_tail(run: Run) -> str:
    """The last lines of the run's log, without the states that a progress bar has overwritten."""
    try:
        with log_path(run).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace").replace("\0", "")
    except OSError:
        return ""
    lines = [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]
    return "\n".join(lines[-LOG_TAIL_LINES:]).strip()


def model_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where a recipe finds the weights: MODEL in docs/architecture.md. An adapter brings along what it sits on."""
    kind, _, place = checkpoint.location.partition(":")
    location = f"folder:{default_storage.path(place)}" if kind == "storage" else checkpoint.location
    if checkpoint.is_adapter and checkpoint.parent:
        return {"location": location, "base": model_of(checkpoint.parent)}
    return {"location": location}


def missing_weights(checkpoint: Checkpoint) -> str:
    """The first folder on the way from this checkpoint to its base that is not there; empty if nothing is missing."""
    model: dict[str, Any] | None = model_of(checkpoint)
    while model:
        kind, _, place = model["location"].partition(":")
        if kind == "folder" and not Path(place).is_dir():
            return str(place)
        model = model.get("base")
    return ""


@contextmanager
def locked_folder(run: Run) -> Iterator[tuple[Path, int]]:
    """The run's folder and the descriptor of its lock, which every process of the run inherits.

    Raises BlockingIOError while a process of an earlier attempt is alive: two copies of a run never share the folder.
    """
    folder = run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder, lock
    finally:
        os.close(lock)


def lay_folder(run: Run, folder: Path) -> None:
    """Write what the recipe needs. What an earlier attempt has laid stays, so that a resumed run sees the same data.

    Raises RunFailed when the dataset's files are gone.
    """
    data = folder / "data"
    data.mkdir(exist_ok=True)
    if run.dataset_version:
        for path in dataset_files(run.dataset_version):
            if not path.is_file():
                raise RunFailed("bad_dataset", f"{path.name} of dataset version {run.dataset_version} is gone.")
            _link(path, data / path.name)
    if METHODS[run.method].makes == "completions" and not (data / "prompts.jsonl").exists():
        _write_prompts(run, data / "prompts.jsonl")
    inputs = {item.role: model_of(item.checkpoint) for item in run.run_inputs.select_related("checkpoint__parent")}
    arguments = {
        "run": run.pk,
        "method": run.method,
        "arguments": run.arguments,
        "inputs": inputs,
        "dataset": "data" if run.dataset_version else None,
    }
    _replace(folder / "args.json", json.dumps(arguments, ensure_ascii=False, indent=1))


@contextmanager
def told_in_words() -> Iterator[None]:
    """Turns what the file system refuses into RunFailed."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailed("disk_full", "The disk that holds the storage is full.") from error
        raise RunFailed("crash", f"The run's files could not be written or read: {error.strerror}.") from error


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        partial = target.with_suffix(".partial")
        shutil.copyfile(source, partial)
        partial.replace(target)


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _write_prompts(run: Run, path: Path) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        for pk, messages in prompts_to_answer(run.project, run.arguments["num_prompts"]):
            file.write(json.dumps({"prompt_id": pk, "prompt": messages}, ensure_ascii=False) + "\n")
    partial.replace(path)
