"""What reading a file gives: records, whatever the file's format."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .errors import HEAD, RowError, printable

CUT_OFF = " … (cut off here: the row is longer than 16 MB)"


@dataclass(slots=True)
class Record:
    """One row as it stands in the file. `line` counts from 1; for Parquet and JSON arrays it is the row's number.

    `raw` is the row's own bytes where the file has them as text, `member` the file of an archive in which it stands.
    """

    line: int
    value: dict[str, Any] | None = None
    problem: RowError | None = None
    raw: bytes = b""
    member: str = ""
    is_cut: bool = False

    @property
    def original(self) -> str:
        """The row as text, just as it stands in the file; of Parquet as JSON. Bytes that are no UTF-8 become U+FFFD."""
        if self.raw or self.value is None:
            text = self.raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
            return text + CUT_OFF if self.is_cut else text
        try:
            return json.dumps(self.value, ensure_ascii=False, default=str)
        except (RecursionError, ValueError):
            # What is nested too deeply to be written down is refused for that very reason.
            return ""

    @property
    def excerpt(self) -> str:
        return printable(self.original if len(self.raw) <= HEAD else self.raw[:HEAD].decode("utf-8", "replace"), 500)


@dataclass(frozen=True)
class RecordFile:
    """The records of a file, and the share of it (0 to 1) that was read so far."""

    records: Iterator[Record]
    share: Callable[[], float]
