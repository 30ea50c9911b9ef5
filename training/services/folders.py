"""A run's folder on the storage, as docs/architecture.md lays it down, and where a checkpoint's weights lie."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage
from django.utils.translation import gettext_noop

from annotate.jobs import Job
from training.models import Checkpoint, Run
from training.recipes.arguments import METHODS

from .datasets import dataset_files
from .failures import RunFailed
from .prompts import prompts_of, tags_of
from .rewards import reward_functions_of
from .saves import link, take_over_saves

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

    The first attempt at the retry of a failed or cancelled run starts from what that run has saved.

    Raises RunFailed when the dataset's files are gone.
    """
    data = folder / "data"
    data.mkdir(exist_ok=True)
    if run.dataset_version:
        for path in dataset_files(run.dataset_version):
            if not path.is_file():
                raise RunFailed("bad_dataset", f"{path.name} of dataset version {run.dataset_version} is gone.")
            link(path, data / path.name)
    earlier = None if (folder / "args.json").exists() else _resumable(run)
    if earlier and (step := take_over_saves(run_folder(earlier), folder)):
        _note(folder, f"Goes on from step {step} of run {earlier.pk}.")
    if METHODS[run.method].prompts != "none" and not (data / "prompts.jsonl").exists():
        _write_lines(data / "prompts.jsonl", prompts_of(run))
    if METHODS[run.method].makes == "evaluation" and run.dataset_version and not (data / "tags.jsonl").exists():
        _write_lines(data / "tags.jsonl", tags_of(run.project))
    played = {item.role: item.checkpoint for item in run.run_inputs.select_related("checkpoint__parent")}
    arguments = {
        "run": run.pk,
        "method": run.method,
        "arguments": run.arguments,
        "inputs": {role: model_of(checkpoint) for role, checkpoint in played.items()},
        "names": {role: checkpoint.name for role, checkpoint in played.items()}
        | ({"dataset": str(run.dataset_version)} if run.dataset_version else {}),
        "dataset": "data" if run.dataset_version else None,
        "reward_functions": reward_functions_of(run),
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
            raise RunFailed("disk_full", gettext_noop("The disk that holds the storage is full.")) from error
        raise RunFailed("crash", f"The run's files could not be written or read: {error.strerror}.") from error


def _resumable(run: Run) -> Run | None:
    """The run that this one repeats, if nothing that training depends on differs."""
    earlier = run.retry_of
    if earlier is None or earlier.state not in (Job.State.FAILED, Job.State.CANCELLED):
        return None
    return earlier if _frozen(earlier) == _frozen(run) else None


def _frozen(run: Run) -> tuple[Any, ...]:
    inputs = sorted(run.run_inputs.values_list("role", "checkpoint"))
    return run.project_id, run.method, run.arguments, run.dataset_version_id, inputs


def _note(folder: Path, message: str) -> None:
    with (folder / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": "note", "time": time.time(), "message": message}) + "\n")


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    partial.replace(path)
