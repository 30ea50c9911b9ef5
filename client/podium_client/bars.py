"""Progress on the terminal: one line for each thing under way, on the standard error, and nothing where that is no terminal."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from rich.progress import Progress

# told(done, total or None, seconds left or None where they are to be estimated)
Told = Callable[[float, float | None, float | None], None]


class Bars:
    """`show`: True and False force it, None shows them where the standard error is a terminal."""

    def __init__(self, show: bool | None) -> None:
        self.show = sys.stderr.isatty() if show is None else show
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._open = 0

    @contextmanager
    def bar(self, title: str, unit: str) -> Iterator[Told]:
        if not self.show:
            yield _silent
            return
        progress = self._start()
        task = progress.add_task(title, total=None, note="")
        started = time.monotonic()

        def told(done: float, total: float | None = None, seconds_left: float | None = None) -> None:
            if seconds_left is None and total and 0 < done < total:
                seconds_left = (time.monotonic() - started) * (total - done) / done
            progress.update(task, completed=done, total=total, note=_note(done, total, unit, seconds_left))

        try:
            yield told
        finally:
            self._stop()

    def _start(self) -> "Progress":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        with self._lock:
            if self._progress is None:
                columns = TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[note]}")
                # rich would take what is printed into a pipe for something to show above the bar.
                self._progress = Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
                self._progress.start()
            self._open += 1
            return self._progress

    def _stop(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None


def _silent(done: float, total: float | None = None, seconds_left: float | None = None) -> None:
    pass


def _note(done: float, total: float | None, unit: str, seconds_left: float | None) -> str:
    def figure(value: float) -> str:
        return f"{value / 1e6:,.1f}" if unit == "MB" else f"{value:,.0f}"

    if unit == "%":
        text = f"{100 * done / total:.0f} %" if total else ""
    else:
        text = f"{figure(done)}{f' of {figure(total)}' if total else ''} {unit}"
    return text + (f" · {in_words(seconds_left)} left" if seconds_left else "")


def in_words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Counted:
    """A file that tells how much of it was read."""

    def __init__(self, file: BinaryIO, told: Callable[[int], None]) -> None:
        self._file, self._told = file, told

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._told(self._file.tell())
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(1 << 16):
            yield piece
