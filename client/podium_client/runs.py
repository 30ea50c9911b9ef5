"""Trainings and generations: started, followed, stopped."""

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .bars import Told
from .checkpoints import Checkpoint, find_checkpoint
from .errors import PodiumError, WaitedTooLong
from .flows import Emit, Flow, ItemFlow, M, Sleep, listing, operation
from .model import Data, InProject
from .waiting import is_active, succeeded, until_ended
from .wire import Request, get, post


@dataclass(frozen=True, kw_only=True)
class Method(Data):
    """Something that can be run, with the arguments that it takes."""

    name: str
    title: str = ""
    summary: str = ""
    makes: str = ""
    dataset: str = ""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    arguments: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Metrics(Data):
    """What a run measured at a step."""

    step: int
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Evaluation(Data):
    """What a run of the method `evaluate` found."""

    id: int
    checkpoints: dict[str, str] = field(default_factory=dict)
    dataset: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    finished_at: datetime | None = None
    evaluation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Run(InProject[M]):
    id: int
    method: str
    state: str
    step: int = 0
    total_steps: int = 0
    seconds_left: float | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    dataset: int | None = None
    note: str = ""
    error: str = ""
    cause: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
    retry_of: int | None = None
    created_by: str | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @operation
    def refresh(self) -> Flow["Run[M]"]:
        """As it is now."""
        return self._now()

    @operation
    def wait(self, timeout: float | None = None) -> Flow["Run[M]"]:
        """As it ended. Raises JobFailed, WaitedTooLong."""
        title, bars = self._title(), self.session.bars
        return until_ended(self, self._now, title=title, bars=bars, timeout=timeout, tell=tell_steps)

    @listing
    def follow(self, *, every: float = 2.0, timeout: float | None = None) -> ItemFlow[Metrics]:
        """What it measures, as it comes: for each step the figures that are new. Ends with the run; JobFailed if that failed.

        Whoever stops iterating leaves the run going.
        """
        started, told_already = time.monotonic(), dict[int, dict[str, float]]()
        pause = min(0.2, every)
        with self.session.bars.bar(self._title(), "steps") as told:
            while True:
                # The state first: what was measured before the end is then in the figures.
                now = yield from self._now()
                tell_steps(now, told)
                # A step's figures may come in parts, so that the last one is looked at again.
                for metrics in (yield from self._metrics(told_already, max(told_already, default=0) - 1)):
                    yield Emit(metrics)
                if not is_active(now):
                    succeeded(now, self._title())
                    return
                if timeout is not None and time.monotonic() - started >= timeout:
                    raise WaitedTooLong(f"{self._title()}: not within {timeout:g} s.")
                yield Sleep(pause)
                pause = min(pause * 1.5, every)

    @operation
    def all_metrics(self) -> Flow[list[Metrics]]:
        """All that it has measured so far, a row for each step."""
        return self._metrics({}, -1)

    @operation
    def cancel(self) -> Flow["Run[M]"]:
        """Stop it; one that has ended stays as it is."""
        request = post("projects", self.project, "runs", self.id, "cancel", again=True)
        return self._same((yield from self.session.ask(request)))

    @operation
    def retry(self) -> Flow["Run[M]"]:
        """The same again, as a new run."""
        return self._same(
            (yield from self.session.ask(post("projects", self.project, "runs", self.id, "retry", once=True)))
        )

    @operation
    def checkpoint(self) -> Flow[Checkpoint[M]]:
        """The checkpoint that it made, of several the main one."""
        now = yield from self._now()
        if not now.checkpoints:
            raise PodiumError(f"{self._title()} has made no checkpoint{' yet' if is_active(now) else ''}.")
        found = yield from find_checkpoint(self.session, self.project, now.checkpoints[0])
        return Checkpoint.read(found, session=self.session, project=self.project)

    def _metrics(self, told_already: dict[int, dict[str, float]], after: int) -> Flow[list[Metrics]]:
        """What was not told before, of the steps behind `after`."""
        found: list[Metrics] = []
        place: int | None = max(after, -1)
        while place is not None:
            said = yield from self.session.ask(self._get("metrics", after=place))
            found += _new(told_already, said)
            place = said.get("next")
        return found

    def _now(self) -> Flow["Run[M]"]:
        return self._same((yield from self.session.ask(self._get())))

    def _get(self, *more: str, **query: object) -> Request:
        return get("projects", self.project, "runs", self.id, *more, query=query)

    def _title(self) -> str:
        return f"Run {self.id} ({self.method})"


def tell_steps(seen: Run[Any], told: Told) -> None:
    told(seen.step, seen.total_steps or None, seen.seconds_left)


def _new(told_already: dict[int, dict[str, float]], said: dict[str, Any]) -> list[Metrics]:
    """Of the server's table what was not told before."""
    found = []
    for step, *figures in said["rows"]:
        values = {name: value for name, value in zip(said["names"], figures, strict=True) if value is not None}
        known = told_already.setdefault(int(step), {})
        new = {name: value for name, value in values.items() if name not in known}
        if new:
            known.update(new)
            found.append(Metrics(step=int(step), values=new, raw={"step": step, **new}))
    return found
