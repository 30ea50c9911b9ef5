"""A run's folder as a recipe sees it, and the frame that every recipe runs in. docs/architecture.md has the layout.

Down come `args.json` and `data/`; up go whole lines in `events.jsonl`, `checkpoint/` and, written last, `result.json`.
"""

import contextlib
import errno
import json
import os
import platform
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from training.recipes import ranks
from training.recipes.arguments import Arguments, InvalidArguments, parse_arguments

INTERRUPTED = 75  # EX_TEMPFAIL: stopped by SIGTERM, may be started again
FAILED = "failed"  # the file by which the first of several ranks to fail says that it has spoken
NO_SPACE = 74  # EX_IOERR: the one cause that may leave no room for the event that names it

Messages = list[dict[str, str]]


class RunFailed(Exception):
    """The run cannot go on. `cause` is one of docs/architecture.md's; `message` tells a person what happened."""

    def __init__(self, cause: str, message: str) -> None:
        self.cause = cause
        super().__init__(message)


@dataclass(frozen=True)
class RunFolder:
    """`inputs` maps a role to a MODEL: {"location": "folder:…" | "pypi:…" | "hub:…", "base": MODEL for an adapter}."""

    path: Path
    inputs: dict[str, dict[str, Any]]
    number: int = 0  # the run's
    reward_functions: dict[str, str] = field(default_factory=dict)  # name → package.module:function
    names: dict[str, str] = field(default_factory=dict)  # role → what people call the checkpoint

    def model(self, role: str = "policy") -> dict[str, Any]:
        if role not in self.inputs:
            raise RunFailed("missing_model", f"The run names no model for the role {role}.")
        return self.inputs[role]

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def trainer(self) -> Path:
        """Where the trainer keeps its resumable checkpoints."""
        return self.path / "trainer"

    def checkpoint(self, output: str = "") -> Path:
        """Where a result's weights go: `checkpoint/`, or `checkpoint-OUTPUT/` for what else a run makes beside its main one."""
        return self.path / (f"checkpoint-{output}" if output else "checkpoint")

    def event(self, kind: str, **values: Any) -> None:
        """Appends one event as a single write, so that whoever tails the file sees whole lines. The first rank speaks for all."""
        if ranks.is_first():
            self._append(kind, values)

    def error(self, cause: str, message: str) -> None:
        """The event that says why the run failed. Of several ranks the first to fail is heard: the others fail of its end."""
        if ranks.count() > 1:
            try:
                (self.path / FAILED).touch(exist_ok=False)
            except FileExistsError:
                return
        self._append("error", {"cause": cause, "message": message})

    def _append(self, kind: str, values: dict[str, Any]) -> None:
        line = json.dumps({"kind": kind, "time": time.time(), **values}, ensure_ascii=False, allow_nan=False)
        with (self.path / "events.jsonl").open("ab", buffering=0) as file:
            file.write(line.encode("utf-8", "replace") + b"\n")

    def note(self, message: str) -> None:
        if ranks.is_first():
            print(message, flush=True)
            self.event("note", message=message)

    @contextlib.contextmanager
    def saving_checkpoint(self, output: str = "") -> Iterator[Path]:
        """A folder that becomes `checkpoint/` once it is whole: a kill in between leaves no half-written weights."""
        final = self.checkpoint(output)
        partial = final.with_suffix(".partial")
        if ranks.is_first():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
        ranks.wait()
        yield partial
        ranks.wait()
        if ranks.is_first():
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)

    def save_result(self, metrics: dict[str, Any], *, is_adapter: bool = False, **more: Any) -> None:
        """`outputs` in `more` maps the name of each further checkpoint to its metrics."""
        if not ranks.is_first():
            return
        partial = self.path / "result.json.partial"
        content = {
            "metrics": finite(metrics), "is_adapter": is_adapter, "peak_memory_bytes": peak_memory(),
            "device": device(), **more,
        }  # fmt: skip
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        partial.rename(self.path / "result.json")


def peak_memory() -> int:
    """The most bytes that this process has held at once: on its accelerator if it used one, else in main memory."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device() -> dict[str, Any]:
    """What this process computed on: {"kind": "cuda" | "cpu", "name", "memory_bytes"}."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        about = torch.cuda.get_device_properties(torch.cuda.current_device())
        return {"kind": "cuda", "name": about.name, "memory_bytes": about.total_memory}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"kind": "cpu", "name": platform.machine(), "memory_bytes": memory}


def finite(metrics: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: such values are left out."""
    return {name: value for name, value in metrics.items() if not isinstance(value, float) or abs(value) < float("inf")}


def drop_partial_line(path: Path) -> None:
    """Cuts what a killed attempt wrote after the last whole line of a JSONL file."""
    if path.exists():
        with path.open("r+b") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)


def main(method: str, recipe: Callable[[RunFolder, Any], None]) -> NoReturn:
    """Runs `recipe(folder, arguments)` on the folder named by the command line and exits with the contract's code.

    0 done · 75 stopped by SIGTERM, to be resumed · 74 the disk is full · 1 failed, and the last `error` event says why.
    """
    if len(sys.argv) != 2 or not Path(sys.argv[1], "args.json").is_file():
        sys.exit(f"usage: python -m training.recipes.{method} RUN_DIR, a folder with an args.json")
    # Outside the training loop there is nothing to save, so leaving at once loses nothing.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    ranks.die_with_launcher()
    ranks.take_one_device()
    path = Path(sys.argv[1]).resolve()
    folder = RunFolder(path, inputs={})
    try:
        if ranks.is_first():
            drop_partial_line(path / "events.jsonl")
        arguments, folder = _read_args(path, method)
        recipe(folder, arguments)
    except Exception as error:
        cause, message = explain(error)
        with contextlib.suppress(OSError):
            traceback.print_exc()
        with contextlib.suppress(OSError):
            folder.error(cause, message)
        sys.exit(NO_SPACE if cause == "disk_full" else 1)
    finally:
        _let_go_of_the_log()
    sys.exit(0)


def _let_go_of_the_log() -> None:
    """Output that cannot be written would turn the exit code to Python's own 120: it goes nowhere instead."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _read_args(path: Path, method: str) -> tuple[Arguments, RunFolder]:
    try:
        args = json.loads((path / "args.json").read_bytes())
        values, functions = dict(args["arguments"]), dict(args.get("reward_functions") or {})
        names = dict(args.get("names") or {})
        folder = RunFolder(path, dict(args["inputs"]), int(args["run"]), functions, names)
        named = args["method"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise RunFailed("bad_arguments", f"args.json cannot be read: {error!r}") from error
    if named != method:
        raise RunFailed("bad_arguments", f"args.json is for the method {named!r}, not {method!r}")
    return parse_arguments(method, values), folder


def explain(error: BaseException) -> tuple[str, str]:
    """The contract's cause of an error, and what happened. Looks at what the error came from, too."""
    link: BaseException | None = error
    while link is not None:
        text = str(link)
        if isinstance(link, RunFailed):
            return link.cause, text
        if isinstance(link, InvalidArguments):
            return "bad_arguments", f"These arguments cannot be used: {link}"
        # torch names its own: OutOfMemoryError on an accelerator, a RuntimeError of its allocator on the CPU
        if isinstance(link, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
            return "out_of_memory", "The machine has too little memory for these arguments."
        full = isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in text or "PytorchStreamWriter failed" in text:
            return "disk_full", "There was no space left for the run's files."
        link = link.__cause__ or link.__context__
    return "crash", f"The recipe stopped on an error it did not expect: {type(error).__name__}: {str(error)[:300]}"


def models_folder() -> Path:
    """Where converted base models are kept between runs: PODIUM_HOME/models."""
    home = os.environ.get("PODIUM_HOME") or Path(__file__).resolve().parents[2] / ".podium"
    return Path(home) / "models"
