"""What was found a moment ago, kept in this process so that it need not be asked for again at once."""

from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

# How long something may be believed that has changed meanwhile. docs/api.md names it.
SECONDS = 1.0
KEPT = 1000

Found = TypeVar("Found")


class Moments(Generic[Found]):
    """Values by key, each believed for SECONDS."""

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[float, Found]] = {}

    def get(self, key: Hashable) -> Found | None:
        since, value = self._found.get(key, (0.0, None))
        return value if monotonic() - since < SECONDS else None

    def keep(self, key: Hashable, value: Found) -> Found:
        if len(self._found) >= KEPT:
            self._found.clear()
        self._found[key] = (monotonic(), value)
        return value

    def get_or_find(self, key: Hashable, find: Callable[[], Found]) -> Found:
        known = self.get(key)
        return self.keep(key, find()) if known is None else known

    def forget(self, key: Hashable) -> None:
        self._found.pop(key, None)
