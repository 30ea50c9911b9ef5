"""Make things in a thread while those before them are used."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextvars import copy_context
from typing import Generic, TypeVar

T = TypeVar("T")


class _End(Generic[T]):
    """What comes after the last item: nothing, or what broke off the making."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(
    make: Callable[[], Iterator[T]],
    depth: int,
    *,
    idle: Callable[[], None] = lambda: None,
    patience: float | None = None,
    stopped: threading.Event | None = None,
) -> Generator[T, None, None]:
    """The items of `make()`, at most `depth` of them made in advance. Whatever is raised in the making is raised here.

    `idle` is called here whenever `patience` seconds have passed without an item. `stopped` is set once nobody takes any more,
    so that `make` may end early.

    Python computes in one thread at a time, but while one waits for Postgres the other goes on. `make` runs with this thread's
    language, and must not use the database.
    """
    items: queue.Queue[T | _End[T]] = queue.Queue(depth)
    stopped = stopped or threading.Event()

    def put(item: T | _End[T]) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in make():
                if not put(item):
                    return
        except BaseException as raised:
            error = raised
        put(_End(error))

    thread = threading.Thread(target=copy_context().run, args=(work,), name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = items.get(timeout=patience)
            except queue.Empty:
                idle()
                continue
            if isinstance(item, _End):
                break
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
