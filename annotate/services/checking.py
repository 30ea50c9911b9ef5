"""The rows of an import's file, read and checked, in batches that are written together."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from annotate.formats.importing.errors import FileError, RowError, UnknownColumns, printable
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.public import recognised
from annotate.formats.importing.reading import Look, open_records
from annotate.formats.importing.records import Record
from annotate.formats.importing.shapes import Row, to_row
from annotate.models import Import, Project, RefusedRow, Source
from annotate.numbers import grouped

BATCH_ROWS = 2000
BATCH_CHARACTERS = 8_000_000
SOURCES_MAX = 1000
# A file without a single known row among its first is of another kind: none of it is taken.
UNKNOWN_UNTIL_REFUSED = 20
BEAT_SECONDS = 10.0


@dataclass
class Refusal:
    """A row that is not taken, and why; `original` is its whole text as far as there is one."""

    line: int
    member: str
    field: str
    reason: str
    original: str

    @property
    def excerpt(self) -> str:
        return printable(self.original, 500)

    def to_json(self) -> dict[str, Any]:
        return {
            "line": self.line,
            "member": self.member,
            "field": self.field,
            "reason": self.reason,
            "original": self.original,
        }

    def to_row(self, job: Import) -> RefusedRow:
        reason = f"{self.member}: {self.reason}" if self.member else self.reason
        return RefusedRow(
            job=job,
            line=self.line,
            field=printable(self.field, 80),
            reason=printable(reason, 300),
            excerpt=self.excerpt,
        )


@dataclass
class Batch:
    """Rows and refusals that are written together, and the share of the file (0 to 1) that they end at."""

    rows: list[Row] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    read: int = 0
    characters: int = 0
    shape: str = ""
    share: float = 0.0

    @property
    def is_full(self) -> bool:
        return self.read >= BATCH_ROWS or self.characters >= BATCH_CHARACTERS


class Sources:
    """Which names completions may bear. An import does not speak for this project's people and checkpoints."""

    def __init__(self, project: Project) -> None:
        known = Source.objects.filter(project=project)
        self.ours = set(known.filter(kind=Source.Kind.IMPORT).values_list("name", flat=True)[:SOURCES_MAX])
        self.taken = set(known.exclude(kind=Source.Kind.IMPORT).values_list("name", flat=True))

    def check(self, row: Row) -> None:
        """Take the row's sources. RowError if one is not free, or they become too many."""
        names = {answer.source for answer in row.answers}
        for name in sorted(self.taken & names):
            raise RowError("source", _("“%(name)s” is a checkpoint or the people of this project.") % {"name": name})
        new = names - self.ours
        if len(self.ours) + len(new) > SOURCES_MAX:
            raise RowError("source", _("More than %(most)s sources in one project.") % {"most": grouped(SOURCES_MAX)})
        self.ours |= new


def read_batches(
    stream: BinaryIO, name: str, mapping: Mapping, sources: Sources, done: int, look: Look
) -> Iterator[Batch]:
    """The file's rows after the first `done`, in batches; while those are skipped, an empty one now and then.

    FileError where the file cannot be read, or not on; what came before it, has come.
    """
    file = open_records(stream, name, look)
    broken: list[FileError] = []
    mapping, records = recognised(_until_broken(file.records, broken), mapping)
    unknown: list[UnknownColumns] = []
    is_known = done > 0
    batch, index, spoken = Batch(), 0, time.monotonic()
    for one in records:
        index += 1
        if index <= done:
            if time.monotonic() - spoken > BEAT_SECONDS:
                spoken = time.monotonic()
                yield Batch(share=file.share())
            continue
        batch.read += 1
        try:
            if one.problem:
                raise one.problem
            row = to_row(one.value or {}, mapping)
            sources.check(row)
        except RowError as error:
            refusal = refuse(one, error)
            batch.refused.append(refusal)
            batch.characters += len(refusal.original)
            if isinstance(error, UnknownColumns) and not is_known:
                unknown.append(error)
                if len(unknown) >= UNKNOWN_UNTIL_REFUSED:
                    break
        else:
            is_known = True
            batch.rows.append(row)
            batch.lines.append(one.line)
            batch.characters += row.size
            batch.shape = batch.shape or row.shape
        if batch.is_full:
            batch.share = file.share()
            yield batch
            batch = Batch()
    if unknown and not is_known:
        raise FileError(_unknown(unknown[0]))
    if batch.read:
        batch.share = file.share()
        yield batch
    if broken:
        raise broken[0]


def _until_broken(records: Iterator[Record], broken: list[FileError]) -> Iterator[Record]:
    """The records until the file breaks off; then the error is put into `broken`."""
    try:
        yield from records
    except FileError as error:
        broken.append(error)


def _unknown(error: UnknownColumns) -> str:
    return _(
        "Nothing was imported: no row's prompt was recognised. %(reason)s You may also name the columns yourself."
    ) % {"reason": error.reason}


def refuse(one: Record, error: RowError) -> Refusal:
    return Refusal(one.line, one.member, error.field, error.reason, one.original)
