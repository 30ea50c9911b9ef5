"""Rows of a version's files by their place: only the row groups that hold them are read, so that any page of millions is near."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, groupby, islice
from typing import TYPE_CHECKING, Any

from django.core.files.storage import default_storage

from annotate.models import DatasetVersion

if TYPE_CHECKING:
    from pyarrow import Table

# What versions of before these columns existed lack.
NOT_YET: dict[str, Any] = {"ratings": [], "role": "annotator", "weight": 1.0}

Row = dict[str, Any]


class FrozenFile:
    """One of a version's Parquet files."""

    def __init__(self, parquet: Any) -> None:
        self.parquet = parquet
        groups = (parquet.metadata.row_group(number).num_rows for number in range(parquet.metadata.num_row_groups))
        # Where each row group begins, and at last the number of rows.
        self.begins: list[int] = [0, *accumulate(groups)]

    @property
    def rows(self) -> int:
        return self.begins[-1]

    @property
    def columns(self) -> list[str]:
        return list(self.parquet.schema_arrow.names)

    def group(self, number: int, columns: Sequence[str] | None = None) -> "Table":
        return self.parquet.read_row_group(number, columns=columns and list(columns), use_threads=False)

    def groups(self, columns: Sequence[str] | None = None) -> Iterator["Table"]:
        return (self.group(number, columns) for number in range(len(self.begins) - 1))

    def at(self, places: Iterable[int]) -> Iterator[Row]:
        """The rows on these places, which ascend, one by one."""
        groups = groupby(places, key=lambda place: bisect_right(self.begins, place) - 1)
        for number, inside in groups:
            rows = self.group(number).take([place - self.begins[number] for place in inside])
            for index in range(rows.num_rows):
                yield {**NOT_YET, **rows.slice(index, 1).to_pylist()[0]}

    def places(self, split: str, start: int, count: int, *, begin: int = 0) -> list[int]:
        """Where the rows of a split lie, `count` of them from its row number `start` on, counted from place `begin`."""
        if split == "all":
            return list(range(begin + start, min(begin + start + count, self.rows)))
        return list(islice(self._of_split(split, begin), start, start + count))

    def _of_split(self, split: str, begin: int) -> Iterator[int]:
        for number in range(bisect_right(self.begins, begin) - 1, len(self.begins) - 1):
            first = self.begins[number]
            for index, one in enumerate(self.group(number, ["split"])["split"].to_pylist()):
                if one == split and first + index >= begin:
                    yield first + index

    def find(self, keys: Sequence[str], column: str = "ranking") -> dict[str, int]:
        """{key: its place} of those that are there. The file is ordered by the column: few row groups of it are read."""
        found: dict[str, int] = {}
        read: dict[int, list[str]] = {}

        def values(number: int) -> list[str]:
            if number not in read:
                read[number] = self.group(number, [column])[column].to_pylist()
            return read[number]

        for key in keys:
            low, high = 0, len(self.begins) - 1
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if values(middle)[0] <= key else (low, middle)
            if high:
                inside = values(low)
                index = bisect_left(inside, key)
                if index < len(inside) and inside[index] == key:
                    found[key] = self.begins[low] + index
        return found


@contextmanager
def frozen(version: DatasetVersion, file: str) -> Iterator[FrozenFile]:
    """The version's file, open. FileNotFoundError if the storage has lost it."""
    # pyarrow costs the web process 40 MB that most of its requests do not need.
    import pyarrow.parquet

    with default_storage.open(f"{version.folder}/{file}") as stored:
        yield FrozenFile(pyarrow.parquet.ParquetFile(stored, pre_buffer=False, buffer_size=1024 * 1024))
