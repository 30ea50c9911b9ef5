"""A run's events.jsonl, copied to rows while the recipe writes it, and read back as series, samples and notes."""

import json
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from django.db.models import BooleanField, Count, ExpressionWrapper, F, Min, Q, QuerySet, Window
from django.db.models.functions import Mod, RowNumber
from django.utils import timezone

from training.models import Run, RunEvent

logger = logging.getLogger("podium.runs")

STORED_KINDS = ("metrics", "sample", "note", "error")
READ_AT_ONCE = 4 * 1024**2
READ_ROWS = 2000
# More than a chart draws, so that it can keep the peaks (charts.py).
POINTS_READ = 1500
# What tells a held-out evaluation, or a look at the policy, from the metrics of a step.
RARE = ["eval_loss", "eval_watchdog/loss", "watch/kl"]


class EventCopy:
    """Follows the file from its start. `copy` may be repeated and interrupted: (run, offset) is unique."""

    def __init__(self, run: Run, path: Path) -> None:
        self.run, self.path, self.offset = run, path, 0
        self.progress: dict[str, Any] = {}
        self._recent: deque[tuple[float, int]] = deque(maxlen=50)
        while self.copy(attempt=max(1, run.attempt - 1)):
            pass
        self.attempt_start = self.offset
        self.progress = {}
        self._recent.clear()

    def copy(self, *, attempt: int | None = None) -> int:
        """Store the whole lines written since the last call; returns how many bytes they had."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                chunk = file.read(READ_AT_ONCE)
        except FileNotFoundError:
            return 0
        whole = chunk.rfind(b"\n") + 1
        rows, progress, position = [], None, self.offset
        for line in chunk[:whole].splitlines(keepends=True):
            event = _parse(line)
            if event and event["kind"] == "progress":
                progress = event
            elif event:
                rows.append(self._row(event, position, attempt or self.run.attempt))
            position += len(line)
        RunEvent.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500)
        if progress:
            self._note_progress(progress)
        self.offset = position
        return whole

    def _row(self, event: dict[str, Any], offset: int, attempt: int) -> RunEvent:
        data = {name: value for name, value in event.items() if name not in ("kind", "time", "step")}
        step = event.get("step")
        return RunEvent(
            run=self.run,
            offset=offset,
            attempt=attempt,
            kind=event["kind"],
            step=int(step) if isinstance(step, int | float) and step > 0 else 0,
            data=data,
            at=_time(event.get("time")),
        )

    def _note_progress(self, event: dict[str, Any]) -> None:
        step, total, time = event.get("step"), event.get("total"), event.get("time")
        if not isinstance(step, int) or not isinstance(total, int) or not isinstance(time, int | float):
            return
        if total <= 0 or not 0 <= step <= total:
            return
        self._recent.append((time, step))
        then, first = self._recent[0]
        pace = (step - first) / (time - then) if time > then else 0.0
        self.progress = {
            "step": step,
            "total_steps": total,
            "progress": step / total,
            "seconds_left": (total - step) / pace if pace > 0 else None,
            "progress_note": str(event.get("stage") or "")[:200],
        }

    def last_error(self) -> dict[str, Any] | None:
        """What the recipe's last `error` event of this attempt says."""
        errors = self.run.events.filter(kind="error", offset__gte=self.attempt_start)
        return errors.order_by("-offset").values_list("data", flat=True).first()


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        # Postgres' jsonb holds neither NUL nor NaN.
        event = json.loads(line.replace(b"\\u0000", b"\\ufffd"), parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or event.get("kind") not in (*STORED_KINDS, "progress"):
        logger.warning("skipped a line that is no event: %r", line[:200])
        return None
    return event


def _time(value: Any) -> datetime:
    try:
        return datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return timezone.now()


@dataclass(frozen=True)
class Series:
    name: str
    points: list[tuple[int, float]]


def metric_series(run: Run) -> list[Series]:
    """Each metric's points in order of their step; of a long run every n-th, and always the first and the last.

    Training and held-out metrics are thinned apart, since evaluations are rare.
    """
    place, total = (
        Window(function, partition_by="held_out", order_by=order)
        for function, order in ((RowNumber(), "offset"), (Count("*"), None))
    )
    thinned = (
        _valid_metrics(run)
        .annotate(held_out=ExpressionWrapper(Q(data__metrics__has_any_keys=RARE), BooleanField()))
        .annotate(place=place, total=total)
        .annotate(beyond=Mod(F("total") - F("place"), (F("total") + POINTS_READ - 1) / POINTS_READ))
        .filter(Q(place=1) | Q(beyond=0))
    )
    series: dict[str, list[tuple[int, float]]] = {}
    for step, data in thinned.order_by("step", "offset").values_list("step", "data"):
        for name, value in _numbers(data.get("metrics")):
            points = series.setdefault(name, [])
            if points and points[-1][0] == step:
                points.pop()
            points.append((step, value))
    return [Series(name, points) for name, points in series.items()]


def newest_rows(run: Run, limit: int) -> tuple[list[tuple[int, dict[str, float]]], int]:
    """The metrics of the newest `limit` steps, newest first, and how many earlier steps there are."""
    events = _valid_metrics(run)
    steps = list(events.order_by("-step").values_list("step", flat=True).distinct()[:limit])
    if not steps:
        return [], 0
    left_out = events.filter(step__lt=steps[-1]).aggregate(n=Count("step", distinct=True))["n"]
    return list(_by_step(events.filter(step__gte=steps[-1])))[::-1], left_out


def all_rows(run: Run) -> tuple[list[str], Iterator[tuple[int, dict[str, float]]]]:
    """The names of all metrics, and (step, name → value) in order of the step, read while it is iterated."""
    events = _valid_metrics(run)
    names: dict[str, None] = {}
    for data in events.order_by("step", "offset").values_list("data", flat=True).iterator(READ_ROWS):
        names.update(dict.fromkeys(name for name, _value in _numbers(data.get("metrics"))))
    return list(names), _by_step(events)


def some_rows(run: Run, *, after: int, limit: int) -> tuple[list[tuple[int, dict[str, float]]], bool]:
    """(step, name → value) of the first `limit` steps behind `after`, in order, and whether there are more."""
    events = _valid_metrics(run).filter(step__gt=after)
    steps = list(events.order_by("step").values_list("step", flat=True).distinct()[: limit + 1])
    return list(_by_step(events.filter(step__lte=steps[:limit][-1]))) if steps else [], len(steps) > limit


def _by_step(events: QuerySet[RunEvent]) -> Iterator[tuple[int, dict[str, float]]]:
    rows = events.order_by("step", "offset").values_list("step", "data").iterator(READ_ROWS)
    for step, group in groupby(rows, key=itemgetter(0)):
        yield step, {name: value for _step, data in group for name, value in _numbers(data.get("metrics"))}


def _valid_metrics(run: Run) -> QuerySet[RunEvent]:
    """Without what a resumed run has repeated: the newest attempt wins, and what an older one wrote from its first step on goes."""
    metrics = run.events.filter(kind="metrics")
    valid, end = Q(), None
    for attempt, first in metrics.values_list("attempt").annotate(Min("step")).order_by("-attempt"):
        valid |= Q(attempt=attempt) if end is None else Q(attempt=attempt, step__lt=end)
        end = first if end is None else min(first, end)
    return metrics.filter(valid)


def _numbers(metrics: Any) -> Iterator[tuple[str, float]]:
    if isinstance(metrics, dict):
        for name, value in metrics.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield name, float(value)
