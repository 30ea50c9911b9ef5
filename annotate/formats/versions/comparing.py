"""What two dataset versions have different, and why: both files are ordered by the rankings' uids, so they are read side by side.

A row group of each is held, never the whole.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import IO, TYPE_CHECKING, Any
from uuid import UUID

from annotate.models import DatasetVersion, Ranking

from .dropping import dropped_rows
from .frozen import FrozenFile, frozen

if TYPE_CHECKING:
    from pyarrow import Table

# A prompt is told by its hash; comparing the texts would only take longer.
NOT_COMPARED = {"ranking", "prompt"}
SHOWN = 3
# Of a ranking that a version lacks; any other reason is the filter that drops it there.
LATER, WITHDRAWN, DELETED, CONSENSUS, UNKNOWN = "later", "withdrawn", "deleted", "consensus", "unknown"

Summary = dict[str, Any]


def compare(version: DatasetVersion, base: DatasetVersion, rows: IO[bytes], *, tick: Callable[[], None]) -> Summary:
    """Write a JSON line for each ranking that is not the same in both, and return how many there are and why.

    A line: {"ranking": uid, "change": "added" | "removed" | "changed", "reasons": […]}. What is in `version` alone was added and has
    the reason why `base` lacks it, what is in `base` alone was removed and has the reason why `version` lacks it, and what is in both
    with other content names the columns. The summary's "first" are places in the files: in that of the version that has the ranking,
    or (in base, in version). Calls `tick` now and then.
    """
    summary: Summary = {
        "same": 0,
        **{change: {"count": 0, "reasons": {}} for change in ("added", "removed", "changed")},
    }
    why_added, why_removed = Absences(base, version, tick), Absences(version, base, tick)
    with frozen(base, "rankings.parquet") as old, frozen(version, "rankings.parquet") as new:
        columns = [name for name in new.columns if name in old.columns and name not in NOT_COMPARED]
        for before, after in _side_by_side(old, new, ["ranking", *columns]):
            tick()
            there = dict(zip(after.uids, range(len(after.uids)), strict=True))
            common = [(index, there[uid]) for index, uid in enumerate(before.uids) if uid in there]
            known = {before.uids[index] for index, _other in common}
            differing = _differing_rows(before.table, after.table, common, columns)
            summary["same"] += len(common) - len(differing)
            gone = why_removed.of([uid for uid in before.uids if uid not in known])
            come = why_added.of([uid for uid in after.uids if uid not in known])
            found = [
                *(("removed", uid, [reason], before.place(uid)) for uid, reason in gone.items()),
                *(("added", uid, [reason], after.place(uid)) for uid, reason in come.items()),
                *(
                    ("changed", before.uids[i], names, (before.first + i, after.first + j))
                    for (i, j), names in differing.items()
                ),
            ]
            for change, uid, reasons, place in sorted(found, key=lambda one: one[1]):
                rows.write(json.dumps({"ranking": uid, "change": change, "reasons": reasons}).encode() + b"\n")
                _count(summary[change], reasons, place)
    summary["demonstrations"] = _compare_demonstrations(version, base)
    return summary


def _count(counted: Summary, reasons: Sequence[str], place: Any) -> None:
    counted["count"] += 1
    for reason in reasons:
        one = counted["reasons"].setdefault(reason, {"count": 0, "first": []})
        one["count"] += 1
        if len(one["first"]) < SHOWN:
            one["first"].append(place)


class Absences:
    """Why a version lacks rankings that `other` has. It is asked in the order of their uids."""

    def __init__(self, version: DatasetVersion, other: DatasetVersion, tick: Callable[[], None]) -> None:
        self.version, self.other, self.tick = version, other, tick
        self._dropped: Iterator[tuple[str, str]] | None = None
        self._next: tuple[str, str] | None = None

    def of(self, uids: Sequence[str]) -> dict[str, str]:
        """{uid: reason}; uids ascend, from one call to the next too."""
        found = Ranking.objects.filter(uid__in=[UUID(uid) for uid in uids]) if uids else Ranking.objects.none()
        known = {uid.hex: times for uid, *times in found.values_list("uid", "created_at", "withdrawn_at")}
        return {uid: self._reason(uid, known.get(uid)) for uid in uids}

    def _reason(self, uid: str, times: list[Any] | None) -> str:
        if times is None:
            return CONSENSUS if self.other.filters.get("decisions") == "consensus" else DELETED
        created, withdrawn = times
        if created > self.version.as_of:
            return LATER
        if withdrawn and withdrawn <= self.version.as_of:
            return WITHDRAWN
        return self._dropped_by(uid) or UNKNOWN

    def _dropped_by(self, uid: str) -> str:
        if self._dropped is None:
            self._dropped = dropped_rows(self.version, self.tick)
            self._next = next(self._dropped, None)
        while self._next and self._next[0] < uid:
            self._next = next(self._dropped, None)
        return self._next[1] if self._next and self._next[0] == uid else ""


class _Window:
    """Neighbouring rows of a file: their uids, their columns, and the place of the first."""

    def __init__(self, table: "Table", uids: list[str], first: int) -> None:
        self.table, self.uids, self.first = table, uids, first

    def place(self, uid: str) -> int:
        return self.first + bisect_right(self.uids, uid) - 1

    def parted(self, count: int) -> tuple["_Window", "_Window"]:
        """The first `count` rows, and the others."""
        return (
            _Window(self.table.slice(0, count), self.uids[:count], self.first),
            _Window(self.table.slice(count), self.uids[count:], self.first + count),
        )


def _side_by_side(old: FrozenFile, new: FrozenFile, columns: list[str]) -> Iterator[tuple[_Window, _Window]]:
    """Stretches of both files that hold the same range of uids; every row is in one."""
    streams = [_windows(old, columns), _windows(new, columns)]
    windows = [next(stream, None) for stream in streams]
    empty = [_Window(file.parquet.schema_arrow.empty_table().select(columns), [], 0) for file in (old, new)]
    while any(windows):
        # As far as the shorter of the two reaches; what is left of the other waits for the next rows.
        end = min(window.uids[-1] for window in windows if window)
        parts = list(empty)
        for side, window in enumerate(windows):
            if window is None:
                continue
            count = bisect_right(window.uids, end)
            parts[side], rest = window.parted(count)
            windows[side] = rest if rest.uids else next(streams[side], None)
        yield parts[0], parts[1]


def _windows(file: FrozenFile, columns: list[str]) -> Iterator[_Window]:
    for first, table in zip(file.begins, file.groups(columns), strict=False):
        if table.num_rows:
            yield _Window(table, table["ranking"].to_pylist(), first)


def _differing_rows(
    before: "Table", after: "Table", common: list[tuple[int, int]], columns: list[str]
) -> dict[tuple[int, int], list[str]]:
    """{(index before, index after): columns} of the rows in both whose content is not the same."""
    found: dict[tuple[int, int], list[str]] = {}
    if not common:
        return found
    old, new = before.take([i for i, _j in common]), after.take([j for _i, j in common])
    for name in columns:
        for index in _differing(old[name].combine_chunks(), new[name].combine_chunks()):
            found.setdefault(common[index], []).append(name)
    return found


def _differing(old: Any, new: Any, first: int = 0) -> Iterator[int]:
    """Where two columns differ: halves that are equal as a whole are passed over."""
    if old.equals(new):
        return iter(())
    if len(old) == 1:
        return iter((first,))
    half = len(old) // 2
    return chain(
        _differing(old.slice(0, half), new.slice(0, half), first),
        _differing(old.slice(half), new.slice(half), first + half),
    )


def _compare_demonstrations(version: DatasetVersion, base: DatasetVersion) -> dict[str, int]:
    """How many ideal answers only one of them has. They are written by people, hence few."""
    new, old = (_demonstrations(one) for one in (version, base))
    return {"same": len(new & old), "added": len(new - old), "removed": len(old - new)}


def _demonstrations(version: DatasetVersion) -> set[tuple[str, str]]:
    with frozen(version, "demonstrations.parquet") as file:
        tables = file.groups(["prompt_id", "demonstration"])
        return {
            pair
            for table in tables
            for pair in zip(table["prompt_id"].to_pylist(), table["demonstration"].to_pylist(), strict=True)
        }
