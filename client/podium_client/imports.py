"""Data on its way in."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from .bars import Counted, Told
from .downloads import download
from .flows import Emit, Flow, ItemFlow, M, listing, operation, work
from .model import Data, InProject
from .transports import Session
from .waiting import until_ended
from .wire import Request, Upload, encode, get, path, post

# The server takes requests of up to 4 MiB and 1,000 rows.
BATCH_ROWS, BATCH_BYTES = 1000, 3 * 1024**2


@dataclass(frozen=True, kw_only=True)
class RefusedRow(Data):
    """A row that was not taken, and why. `row` is its number in the file (from 1) or among the rows given (from 0)."""

    row: int = 0
    field_name: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RowsAdded(Data):
    """What became of rows that were sent."""

    prompts: int = 0
    completions: int = 0
    tasks: int = 0
    rankings: int = 0
    duplicates: int = 0
    refused: list[RefusedRow] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Import(InProject[M]):
    """A file on its way in. After a dry run `forecast` says what would happen, and `start()` makes it happen."""

    id: int
    file_name: str = ""
    size: int = 0
    state: str
    is_dry_run: bool = False
    mapping: dict[str, Any] = field(default_factory=dict)
    shape: str = ""
    rows_read: int = 0
    prompts_added: int = 0
    completions_added: int = 0
    tasks_added: int = 0
    rankings_added: int = 0
    duplicates: int = 0
    rows_refused: int = 0
    forecast: dict[str, Any] | None = None
    progress: float = 0.0
    seconds_left: float | None = None
    error: str = ""
    created_by: str | None = None
    queued_at: datetime | None = None
    finished_at: datetime | None = None

    @operation
    def refresh(self) -> Flow["Import[M]"]:
        """As it is now."""
        return self._same((yield from self.session.ask(get("projects", self.project, "imports", self.id))))

    @operation
    def start(
        self,
        *,
        mapping: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Flow["Import[M]"]:
        """Import what was uploaded; `mapping` in place of the one it was uploaded with."""
        body: dict[str, Any] = {"dry_run": dry_run, **({"mapping": dict(mapping)} if mapping is not None else {})}
        started = self._same(
            (
                yield from self.session.ask(
                    post("projects", self.project, "imports", self.id, "start", body=body, once=True)
                )
            )
        )
        return (yield from started.ended(timeout)) if wait else started

    @operation
    def wait(self, timeout: float | None = None) -> Flow["Import[M]"]:
        """As it ended. Raises JobFailed, WaitedTooLong."""
        return self.ended(timeout)

    @operation
    def cancel(self) -> Flow["Import[M]"]:
        request = post("projects", self.project, "imports", self.id, "cancel", again=True)
        return self._same((yield from self.session.ask(request)))

    @listing
    def refused(self) -> ItemFlow[RefusedRow]:
        """The rows that were not taken, with line, reason and original text."""
        with tempfile.TemporaryDirectory() as folder:
            file = yield from download(self.session, self._refused_request(), Path(folder) / "refused", "Refused rows")
            with file.open("rb") as lines:
                for line in lines:
                    yield Emit(_refused(json.loads(line)))

    @operation
    def save_refused(self, target: str | Path) -> Flow[Path]:
        """The refused rows as JSON lines, to be mended and imported again."""
        return download(self.session, self._refused_request(), Path(target), "Refused rows")

    def _refused_request(self) -> Request:
        return get("projects", self.project, "imports", self.id, "refused")

    def ended(self, timeout: float | None) -> Flow["Import[M]"]:
        def look() -> Flow["Import[M]"]:
            return self._same((yield from self.session.ask(get("projects", self.project, "imports", self.id))))

        def tell(seen: "Import[M]", told: Told) -> None:
            told(seen.progress, 1.0, seen.seconds_left)

        title = f"{'Trying' if self.is_dry_run else 'Importing'} {self.file_name}"
        return until_ended(self, look, title=title, bars=self.session.bars, timeout=timeout, tell=tell)


def upload(
    session: Session, project: str, file: Path, *, mapping: Mapping[str, Any] | None, dry_run: bool
) -> Flow[Any]:
    """Sends the file in pieces; gives what the server says of the import."""
    size = yield from work(lambda: file.stat().st_size)
    with session.bars.bar(f"Sending {file.name}", "MB") as told:

        def opened() -> BinaryIO:
            return cast(BinaryIO, Counted(file.open("rb"), lambda done: told(done, size, None)))

        fields = {"dry_run": str(dry_run).lower(), "start": "true"}
        if mapping is not None:
            fields["mapping"] = json.dumps(dict(mapping))
        form = Upload(file.name, opened, fields)
        return (yield from session.ask(Request("POST", path("projects", project, "imports"), upload=form, once=True)))


def send_rows(session: Session, project: str, given: Iterable[Mapping[str, Any]], preferences: str) -> Flow[RowsAdded]:
    """All rows, in requests that the server takes. Row numbers of what is refused count from the first row given, from 0."""
    totals: dict[str, int] = dict.fromkeys(("prompts", "completions", "tasks", "rankings", "duplicates"), 0)
    refused: list[RefusedRow] = []
    total = len(given) if isinstance(given, Sized) else None
    batches, sent = _batches(given), 0
    with session.bars.bar(f"Sending rows to {project}", "rows") as told:
        while batch := (yield from work(lambda: next(batches, None))):
            body = {"rows": batch, "preferences": preferences}
            said = yield from session.ask(post("projects", project, "rows", body=body, once=True))
            for name in totals:
                totals[name] += int(said.get(name, 0))
            refused += [_refused(one, sent) for one in said.get("refused", ())]
            sent += len(batch)
            told(sent, total, None)
    return RowsAdded(**totals, refused=refused, raw={**totals, "refused": [one.raw for one in refused]})


def _refused(raw: dict[str, Any], sent: int = 0) -> RefusedRow:
    raw = {**raw, "row": int(raw.get("row", raw.get("line", 0))) + sent}
    return RefusedRow(raw=raw, row=raw["row"], field_name=str(raw.get("field", "")), reason=str(raw.get("reason", "")))


def _batches(given: Iterable[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for one in given:
        row = {name: value for name, value in one.items() if value is not None}
        weight = len(encode(row))
        if batch and (len(batch) >= BATCH_ROWS or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += weight + 1
    if batch:
        yield batch
