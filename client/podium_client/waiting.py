"""Waiting for what the server does in the background: asked again with growing pauses."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from .bars import Bars, Told
from .errors import JobFailed, WaitedTooLong
from .flows import Flow, Sleep

FIRST, SLOWEST = 0.2, 5.0
T = TypeVar("T")


class Job(Protocol):
    @property
    def state(self) -> str: ...
    @property
    def error(self) -> str: ...


J = TypeVar("J", bound=Job)


def is_active(job: Job) -> bool:
    return job.state in ("queued", "running")


def until(
    look: Callable[[], Flow[T]],
    is_done: Callable[[T], bool],
    *,
    timeout: float | None,
    what: str,
    slowest: float = SLOWEST,
) -> Flow[T]:
    """What `look` sees once `is_done`; WaitedTooLong after `timeout` seconds, never where that is None."""
    started, pause = time.monotonic(), FIRST
    while True:
        seen = yield from look()
        if is_done(seen):
            return seen
        left = float("inf") if timeout is None else started + timeout - time.monotonic()
        if left <= 0:
            raise WaitedTooLong(f"{what}: not within {timeout:g} s.")
        yield Sleep(min(pause, left))
        pause = min(pause * 1.5, slowest)


def until_ended(
    job: J,
    look: Callable[[], Flow[J]],
    *,
    title: str,
    bars: Bars,
    timeout: float | None,
    tell: Callable[[J, Told], None],
) -> Flow[J]:
    """The job as it ended; JobFailed where it failed or was cancelled."""
    if is_active(job):
        with bars.bar(title, "%") as told:

            def watched() -> Flow[J]:
                seen = yield from look()
                tell(seen, told)
                return seen

            job = yield from until(watched, lambda seen: not is_active(seen), timeout=timeout, what=title)
    return succeeded(job, title)


def succeeded(job: J, title: str) -> J:
    # A dry run ends as a draft, whatever came of it.
    if job.state in ("failed", "cancelled") or (job.state == "draft" and job.error):
        raise JobFailed(f"{title}: {job.state}{f': {job.error}' if job.error else '.'}", job)
    return job
