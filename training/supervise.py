"""One attempt at a run: claim it, start its recipe, watch over it, register what it made.

The lease in the run's row decides who may do this (annotate/jobs.py). The database may go away for a while: training goes on, and what
must be written is written when it is back. Only a lease that is known to be lost kills the child.
"""

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_noop
from psycopg.errors import DiskFull

from annotate.jobs import Cancelled, Fenced, Job, beat, claim, finish, release
from annotate.models import Source
from annotate.services.completions import Generated, add_completions
from training import process
from training.models import Run
from training.process import Child, started
from training.recipes.arguments import METHODS
from training.services import checkpoints, generation, sampled
from training.services.events import EventCopy
from training.services.failures import RunFailed, failure_by_exit_code
from training.services.folders import lay_folder, locked_folder, log_tail, told_in_words
from training.services.rewards import judge_environment
from training.services.saves import drop_saves

logger = logging.getLogger("podium.runs")

INTERRUPTED = 75
POLL_SECONDS = 0.1
# Stored in English, as all that a run says of itself; the page translates what it knows.
INTERRUPTED_UNASKED = gettext_noop("It was interrupted; the run goes on from its last save")
STOPPED_WITH_WORKER = gettext_noop("The worker was stopped; the run goes on from its last save")
WAITING = gettext_noop("Waiting for the earlier attempt to end")
DATABASE_PATIENCE_SECONDS = 600
DATABASE_AWAY = (OperationalError, InterfaceError)

Result = TypeVar("Result")


def attempt_run(pk: int, *, shutting_down: Callable[[], bool]) -> bool:
    """Take the run if it is free and see it through. When `shutting_down` turns true, it saves and goes back to the queue.

    Returns whether the run waits for another worker now.
    """
    run = claim(Run, pk, lease=lease())
    if run is None:
        return False
    token = run.lease_token
    logger.info("run %s: attempt %s", run.pk, run.attempt)
    failure: RunFailed
    try:
        with told_in_words(), locked_folder(run) as (folder, lock):
            return _attempt(run, folder, lock, shutting_down)
    except BlockingIOError:
        logger.warning("run %s: a process of an earlier attempt is still alive", run.pk)
        persist(lambda: release(run, note=WAITING))
        return False
    except Fenced:
        logger.warning("run %s: another worker holds it now", run.pk)
        return False
    except RunFailed as error:
        failure = error
    except DATABASE_AWAY as error:
        if not isinstance(error.__cause__, DiskFull):
            raise
        failure = database_full()
    except Exception:
        logger.exception("run %s", run.pk)
        failure = RunFailed("crash", gettext_noop("Podium itself stumbled over this run. The worker's log says more."))
    run.lease_token = token  # a registration that was rolled back has cleared it
    try:
        persist(lambda: _fail(run, failure))
    except Fenced:
        pass
    except RunFailed as error:  # not even this can be written: the reaper fails it once there is space
        logger.error("run %s: %s", run.pk, error)
    return False


def database_full() -> RunFailed:
    return RunFailed("disk_full", gettext_noop("The disk that holds the database is full."))


def lease() -> timedelta:
    return timedelta(seconds=settings.RUN_LEASE_SECONDS)


def _attempt(run: Run, folder: Path, lock: int, shutting_down: Callable[[], bool]) -> bool:
    log = folder / "log.txt"
    lay_folder(run, folder)
    events = EventCopy(run, folder / "events.jsonl")
    with log.open("a") as file:
        file.write(f"== attempt {run.attempt}, {timezone.now():%Y-%m-%d %H:%M:%S} UTC\n")
    command, secrets = _command(run, folder), judge_environment(run)
    try:
        with started(command, log=log, lock=lock, secrets=secrets) as child:
            asked = _watch(run, child, events, shutting_down)
            code = child.process.returncode
    except (SystemExit, KeyboardInterrupt):  # a cold shutdown: the child is dead by now
        persist(lambda: release(run, note=STOPPED_WITH_WORKER))
        raise
    persist(lambda: _copy_rest(run, events))
    if asked == "cancel":
        persist(lambda: finish(run, Job.State.CANCELLED, log_tail=log_tail(run), seconds_left=None))
    elif asked and code != 0:
        persist(lambda: release(run, note=STOPPED_WITH_WORKER))
        return True
    elif code == INTERRUPTED:
        persist(lambda: release(run, note=INTERRUPTED_UNASKED, counts=not shutting_down()))
        return True
    elif code != 0:
        raise _failure(code, events)
    else:
        _succeed(run, folder)
    return False


def _command(run: Run, folder: Path) -> list[str]:
    return process.recipe_command(METHODS[run.method].module, folder, int(run.arguments.get("num_processes", 1)))


def _watch(run: Run, child: Child, events: EventCopy, shutting_down: Callable[[], bool]) -> str:
    """Wait for the child's end. Returns why it was asked to stop: "cancel", "shutdown", or "" if it was not."""
    asked, next_beat, next_copy = "", 0.0, 0.0
    while child.poll() is None:
        if not asked and shutting_down():
            asked = "shutdown"
            child.stop()
        now = time.monotonic()
        try:
            if now >= next_copy:
                next_copy = now + min(1.0, settings.RUN_BEAT_SECONDS)
                events.copy()
            if now >= next_beat:
                next_beat = now + settings.RUN_BEAT_SECONDS
                beat(run, lease=lease(), **events.progress)
        except Cancelled:
            asked = "cancel"
            child.stop()
        except Fenced:
            child.kill()
            raise
        except DATABASE_AWAY as error:
            logger.warning("run %s: the database is away, training goes on: %s", run.pk, error)
            connection.close()
        child.kill_if_late()
        time.sleep(POLL_SECONDS)
    return asked


def _succeed(run: Run, folder: Path) -> None:
    """Register what the recipe made and end the run. Checkpoints come in the same transaction: never one without the other."""
    result = _read_result(folder)
    method, token = METHODS[run.method], run.lease_token
    made = _weigh(run, folder, result) if method.makes_weights else []
    if method.makes == "completions":
        result["completions"] = _add_completions(run, folder)
    stored = sampled.store_sampled(folder, _Ticker(run)) if method.makes == "dataset" else None

    @transaction.atomic
    def register() -> None:
        run.lease_token = token  # a rolled-back attempt at this has cleared it
        finish(run, Job.State.SUCCEEDED, log_tail=log_tail(run), seconds_left=None, cause="")
        for weights in made:
            checkpoints.register_checkpoint(run, weights, is_adapter=bool(result.get("is_adapter")))
        run.result = result
        if stored:
            run.made_version = sampled.register_sampled(run, stored, result)
        run.save(update_fields=["result", "made_version"])

    persist(register)
    drop_saves(folder)


def _weigh(run: Run, folder: Path, result: dict[str, Any]) -> list[checkpoints.Weights]:
    """What lies in the run's checkpoint folders. Raises RunFailed for one without weights."""
    made = []
    for output, metrics in {"": result.get("metrics") or {}, **(result.get("outputs") or {})}.items():
        place = folder / (f"checkpoint-{output}" if output else "checkpoint")
        if not any(place.glob("*.safetensors")):
            raise RunFailed("crash", gettext_noop("The recipe ended well but left no weights in safetensors."))
        sha256 = checkpoints.weights_digest(place, tick=_Ticker(run))
        made.append(checkpoints.Weights(output, place.name, metrics, sha256, checkpoints.weights_size(place)))
    return made


def _add_completions(run: Run, folder: Path) -> dict[str, int]:
    """Add a generation's completions in batches, so that no long transaction holds the run's row.

    Each batch is stored together with the counts and the lines done so far, in `result`: an attempt after a crash goes on from
    there, and its counts are those of an unbroken one.
    """
    source = run.run_inputs.select_related("checkpoint__source").get(role="policy").checkpoint.source
    if source is None:
        raise RunFailed("crash", "The checkpoint has no source of completions.")
    counts, done = dict(run.result.get("completions", {})), int(run.result.get("lines", 0))
    for lines, batch in generation.read_batches(run, folder, start=done):
        counts = persist(partial(_add_batch, run, source, batch, lines, counts))
    return counts


@transaction.atomic
def _add_batch(run: Run, source: Source, batch: list[Generated], lines: int, counts: dict[str, int]) -> dict[str, int]:
    added = add_completions(project=run.project, source=source, generated=batch)
    total = {name: counts.get(name, 0) + number for name, number in added.items()}
    with suppress(Cancelled):  # too late to stop: what it made is complete
        beat(run, lease=lease(), result={"completions": total, "lines": lines})
    return total


class _Ticker:
    """Renews the lease now and then during work that has no loop of its own."""

    def __init__(self, run: Run) -> None:
        self.run, self.next_beat = run, time.monotonic() + settings.RUN_BEAT_SECONDS

    def __call__(self) -> None:
        if time.monotonic() >= self.next_beat:
            self.next_beat = time.monotonic() + settings.RUN_BEAT_SECONDS
            try:
                beat(self.run, lease=lease())
            except Cancelled:
                pass  # too late to stop: what it made is complete
            except DATABASE_AWAY:
                connection.close()


def _read_result(folder: Path) -> dict[str, Any]:
    try:
        # Postgres' jsonb holds neither NUL, which a model may well write, nor NaN.
        content = (folder / "result.json").read_bytes().replace(b"\\u0000", b"\\ufffd")
        result = json.loads(content, parse_constant=lambda _: None)
    except (OSError, ValueError) as error:
        raise RunFailed("crash", "The recipe ended well but left no readable result.json.") from error
    if not isinstance(result, dict):
        raise RunFailed("crash", "The recipe's result.json is not an object.")
    return result


def _failure(code: int, events: EventCopy) -> RunFailed:
    said = persist(events.last_error)
    if said and said.get("message"):
        return RunFailed(str(said.get("cause") or "crash")[:30], str(said["message"])[:2000])
    return failure_by_exit_code(code)


def _fail(run: Run, failure: RunFailed) -> None:
    logger.info("run %s failed: %s", run.pk, failure)
    finish(run, Job.State.FAILED, error=failure.message, cause=failure.cause, log_tail=log_tail(run), seconds_left=None)


def _copy_rest(run: Run, events: EventCopy) -> None:
    """What the recipe wrote since the last copy, its last step included."""
    while events.copy():
        pass
    with suppress(Cancelled):
        beat(run, lease=lease(), **events.progress)


def persist(write: Callable[[], Result]) -> Result:
    """Repeat `write` until the database takes it; after ten minutes without one the reaper has to see to it.

    Raises RunFailed when the database is there but its disk is full: waiting frees no space.
    """
    patience = time.monotonic() + DATABASE_PATIENCE_SECONDS
    while True:
        try:
            return write()
        except DATABASE_AWAY as error:
            connection.close()
            if isinstance(error.__cause__, DiskFull):
                raise database_full() from error
            if time.monotonic() > patience:
                raise
            logger.warning("the database is away, trying again: %s", error)
            time.sleep(1)
