"""What a run keeps only to be resumed: the trainer's checkpoints, the reference's figures, the prompts answered so far, texts
that were prepared."""

import json
import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open

REFERENCE = "reference.safetensors"
EVALUATION = ("policy.jsonl", "samples.jsonl", "baseline.jsonl", "scores.jsonl", "verdicts.jsonl")
# A line for each prompt: what `generate` has written, and what `rejection_sampling` has.
ANSWERS = ("completions.jsonl", "sampled.jsonl")
PREPARED = "prepared"
# What a watched run has seen so far; and the saves of the second half where a reward model learns beside its watchdog.
WATCH, WATCHDOG = "trainer/watch", "trainer/watchdog"


def take_over_saves(earlier: Path, folder: Path) -> int | None:
    """Bring the saves of an earlier run's folder into a new one; returns the step to go on from, None if there is none.

    Files are linked, not copied, where the file system can: whoever deletes the one name leaves the other.
    """
    if (earlier / REFERENCE).is_file():
        link(earlier / REFERENCE, folder / REFERENCE)
    if (earlier / PREPARED).is_dir():
        _link_folder(earlier / PREPARED, folder / PREPARED)
    checkpoint = newest_whole_checkpoint(earlier / "trainer")
    if checkpoint is not None:
        _link_folder(checkpoint, folder / "trainer" / checkpoint.name)
        if (earlier / WATCH).is_dir():
            _link_folder(earlier / WATCH, folder / WATCH)
        if half := newest_whole_checkpoint(earlier / WATCHDOG):
            _link_folder(half, folder / WATCHDOG / half.name)
        return _step(checkpoint)
    if steps := _take_over_evaluation(earlier, folder):
        return steps
    prompts = earlier / "data/prompts.jsonl"
    for name in ANSWERS:
        if prompts.is_file() and (earlier / name).is_file():
            link(prompts, folder / "data/prompts.jsonl")
            return _copy_whole_lines(earlier / name, folder / name) or None
    return None


def _take_over_evaluation(earlier: Path, folder: Path) -> int:
    """What the stages of an evaluation have found so far, with the data that they went through. Returns the steps done."""
    found = [earlier / name for name in EVALUATION if (earlier / name).is_file()]
    if not found:
        return 0
    for name in ("prompts.jsonl", "tags.jsonl"):
        if (earlier / "data" / name).is_file():
            link(earlier / "data" / name, folder / "data" / name)
    steps = 0
    for file in found:
        _copy_whole_lines(file, folder / file.name)
        rows = map(json.loads, (folder / file.name).open("rb"))
        steps += sum(len(row.get("texts") or row.get("scores") or row.get("verdicts") or ()) for row in rows)
    return steps


def drop_saves(folder: Path) -> None:
    """Delete what only a resume needs, once the run has succeeded."""
    for name in ("trainer", "merged", PREPARED):
        shutil.rmtree(folder / name, ignore_errors=True)
    with suppress(OSError):
        (folder / REFERENCE).unlink()


def newest_whole_checkpoint(trainer: Path) -> Path | None:
    checkpoints = [path for path in trainer.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    return next((path for path in sorted(checkpoints, key=_step, reverse=True) if is_whole(path)), None)


def is_whole(checkpoint: Path) -> bool:
    """Whether a recipe would resume from it: the rule of training/recipes/training.py, without importing torch."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
        for file in checkpoint.glob("*.safetensors"):
            with safe_open(file, framework="numpy"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    saved = [file for name in ("optimizer.pt", "optimizer.bin", "scheduler.pt") if (file := checkpoint / name).exists()]
    sharded = [*checkpoint.glob("optimizer_*"), *checkpoint.glob("global_step*")]
    return all(map(zipfile.is_zipfile, saved)) and (len(saved) == 2 or bool(sharded))


def link(source: Path, target: Path) -> None:
    """Another name for the same file, or a copy where there can be none. Leaves a target that exists."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        partial = target.with_suffix(".partial")
        shutil.copyfile(source, partial)
        partial.replace(target)


def _link_folder(source: Path, target: Path) -> None:
    partial = target.with_name("partial")
    if not target.exists():
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial, copy_function=lambda old, new: link(Path(old), Path(new)))
        partial.rename(target)


def _copy_whole_lines(source: Path, target: Path) -> int:
    """Copy, since recipes append to this file. A last line that was cut short stays behind. Returns the number of lines."""
    partial, lines = target.with_suffix(".partial"), 0
    with source.open("rb") as old, partial.open("wb") as new:
        for line in old:
            if line.endswith(b"\n"):
                new.write(line)
                lines += 1
    partial.replace(target)
    return lines


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
