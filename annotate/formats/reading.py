"""Read JSON Lines, CSV and Parquet as streams of records: bounded memory, and no bad row stops the others."""

import csv
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from .checks import parse_json
from .errors import MAX_LINE, MAX_RATIO, RATIO_CHECKED_FROM, FileError, RowError, printable

CHUNK = 256 * 1024
PARQUET_ROWS = 100
PARQUET_BYTES = 8 * 1024**2
EXTENSIONS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
RECORD_TOO_LONG = "record too long"
# Cells of these columns may hold JSON, since CSV has no lists of its own.
JSON_CELLS = {"completions", "tags", "metadata", "known_order", "rankings", "ranks", "ratings", "reasons"}


@dataclass(frozen=True)
class Record:
    """One row as it stands in the file. `line` counts from 1; for Parquet it is the row's number."""

    line: int
    value: dict[str, Any] | None = None
    problem: RowError | None = None
    excerpt: str = ""


@dataclass(frozen=True)
class RecordFile:
    """The records of a file, and the share of it (0 to 1) that was read so far."""

    records: Iterator[Record]
    share: Callable[[], float]


def kind_of(name: str) -> str:
    """'jsonl', 'csv' or 'parquet' by the file's name; FileError if it is none of them."""
    base = name.lower().removesuffix(".gz")
    extension = os.path.splitext(base)[1]
    if extension not in EXTENSIONS or (extension == ".parquet" and name.lower().endswith(".gz")):
        raise FileError(
            _(
                "“%(name)s” is no file that can be imported: it must end in .jsonl, .jsonl.gz, .csv, .csv.gz or .parquet."
            )
            % {"name": printable(name, 100)}
        )
    return {".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}.get(extension, "jsonl")


def open_records(stream: BinaryIO, name: str) -> RecordFile:
    """The records of a seekable binary stream. Raises FileError, at once or while reading."""
    kind = kind_of(name)
    stream.seek(0, os.SEEK_END)
    size = stream.tell()
    stream.seek(0)
    if not size:
        raise FileError(_("The file is empty."))
    magic = stream.read(4)
    stream.seek(0)
    if kind == "parquet":
        return _parquet(stream, magic)
    packed = magic[:2] == b"\x1f\x8b"
    if name.lower().endswith(".gz") and not packed:
        raise FileError(_("The file's name ends in .gz, but it is not gzip-compressed or its beginning is damaged."))
    if magic[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise FileError(_("The file is UTF-16. Save it as UTF-8 and upload it again."))
    if magic == b"PAR1":
        raise FileError(_("The file is Parquet. Give it a name that ends in .parquet and upload it again."))
    lines = Lines(_inflated(stream) if packed else iter(lambda: stream.read(CHUNK), b""))
    records = _csv(lines) if kind == "csv" else _jsonl(lines)
    return RecordFile(records, lambda: min(stream.tell() / size, 1.0))


def _unpacks_beyond() -> str:
    return _("The file unpacks to more than %(ratio)d times its size, which no real text does.") % {"ratio": MAX_RATIO}


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    inflate = zlib.decompressobj(wbits=31)
    read = written = 0
    try:
        while chunk := stream.read(CHUNK):
            read += len(chunk)
            data = b""
            while chunk or len(data) == CHUNK:
                data = inflate.decompress(chunk, CHUNK)
                written += len(data)
                if written > RATIO_CHECKED_FROM and written > MAX_RATIO * read:
                    raise FileError(_unpacks_beyond())
                if data:
                    yield data
                chunk = inflate.unconsumed_tail
                if inflate.eof:
                    # Several gzip files in a row are one; zeros behind the last are padding.
                    chunk = inflate.unused_data.lstrip(b"\0")
                    data = b""
                    if chunk:
                        inflate = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise FileError(
            _("The compressed file is damaged. The rows before the damage were imported; pack it again and upload it.")
        ) from error
    if not inflate.eof:
        raise FileError(
            _("The compressed file breaks off. The rows before the break were imported; upload the whole file.")
        )


class Lines:
    """Lines of a stream of chunks, with their line ends. `number` is that of the latest line.

    A line longer than 16 MB comes as None; no more than that is ever held.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.number = 0

    def __iter__(self) -> Iterator[bytes | None]:
        rest = b""
        too_long = False
        at_start = True
        broken: FileError | None = None
        while True:
            try:
                chunk = next(self.chunks, b"")
            except FileError as error:
                # Rows before the break count; the line that it cut does not.
                broken, chunk = error, b""
                rest = b""
            if not chunk:
                break
            if at_start:
                chunk = chunk.removeprefix(b"\xef\xbb\xbf")
                at_start = False
            first, *others = chunk.split(b"\n")
            if not others:
                too_long = too_long or len(rest) + len(first) > MAX_LINE
                rest = b"" if too_long else rest + first
                continue
            for piece in (rest + first, *others[:-1]):
                self.number += 1
                yield None if too_long or len(piece) > MAX_LINE else piece + b"\n"
                too_long = False
            rest = others[-1]
        if broken:
            raise broken
        if rest or too_long:
            self.number += 1
            yield None if too_long else rest


def _too_long(line: int) -> Record:
    return Record(line, problem=RowError("", _("The line is longer than 16 MB.")))


def _jsonl(lines: Lines) -> Iterator[Record]:
    for raw in lines:
        line = lines.number
        if raw is None:
            yield _too_long(line)
            continue
        if not raw.strip():
            continue
        problem = None
        value = None
        try:
            value = parse_json(raw.decode())
        except UnicodeDecodeError as error:
            problem = RowError("", _("Not valid UTF-8 at byte %(at)d of the line.") % {"at": error.start + 1})
        except json.JSONDecodeError as error:
            if raw.lstrip()[:1] == b"[" and line == 1:
                raise FileError(
                    _("The file is one JSON array. Podium reads JSON Lines: one object on each line.")
                ) from error
            problem = RowError(
                "", _("Not valid JSON: %(what)s at column %(column)d.") % {"what": error.msg, "column": error.colno}
            )
        except ValueError as error:
            problem = RowError("", _("Not valid JSON: %(what)s.") % {"what": error})
        if problem is None and not isinstance(value, dict):
            problem = RowError("", _('A row must be a JSON object, like {"prompt": …}.'))
        excerpt = raw[:500].decode("utf-8", "replace") if problem else ""
        yield Record(line, None if problem else value, problem, excerpt)


class RecordLines:
    """Lines for a csv reader. A record of many lines that grows beyond 16 MB raises csv.Error.

    `too_long` gathers the numbers of lines that were left out.
    """

    def __init__(self, lines: Lines) -> None:
        self.lines = iter(lines)
        self.numbered = lines
        self.too_long: list[int] = []
        self.size = 0

    def __iter__(self) -> "RecordLines":
        return self

    def __next__(self) -> str:
        while (raw := next(self.lines)) is None:
            self.too_long.append(self.numbered.number)
        self.size += len(raw)
        if self.size > MAX_LINE:
            raise csv.Error(RECORD_TOO_LONG)
        # Bytes that are no UTF-8 become lone surrogates, which the row's check names.
        return raw.decode("utf-8", "surrogateescape")


def _csv(lines: Lines) -> Iterator[Record]:
    csv.field_size_limit(MAX_LINE)
    text = RecordLines(lines)
    first = next(text, "")
    delimiter = next((mark for mark in ("\t", ";") if mark in first and "," not in first), ",")
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
    if len(set(header)) < len(header):
        raise FileError(_("Two columns of the file have the same name: %(names)s.") % {"names": ", ".join(header)})
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        start = lines.number + 1
        problem = None
        cells: list[str] | None = []
        text.size = 0
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem = _csv_problem(error, start, lines.number)
        for line in text.too_long:
            yield _too_long(line)
        text.too_long.clear()
        if cells is None:
            return
        if not cells and problem is None:
            continue
        if problem is None and len(cells) != len(header):
            problem = RowError(
                "",
                _("The row has %(cells)d fields where the header has %(columns)d.")
                % {"cells": len(cells), "columns": len(header)},
            )
        if problem:
            yield Record(start, problem=problem, excerpt=delimiter.join(cells)[:500])
        else:
            yield Record(start, {name: _cell(name, cell) for name, cell in zip(header, cells, strict=True)})


def _csv_problem(error: csv.Error, start: int, end: int) -> RowError:
    what = str(error)
    if "unexpected end of data" in what or "field larger" in what or what == RECORD_TOO_LONG:
        return RowError(
            "",
            _("A quotation mark opened here is not closed: lines %(start)d to %(end)d were left out.")
            % {"start": start, "end": end},
        )
    return RowError("", _("Wrong quoting: %(what)s.") % {"what": what})


def _cell(name: str, cell: str) -> Any:
    """A cell's JSON where it holds a conversation or belongs to a column of lists; otherwise its text."""
    if cell[:1] not in ("[", "{"):
        return cell
    try:
        value = parse_json(cell)
    except ValueError:
        return cell
    conversation = isinstance(value, list) and value and all(isinstance(one, dict) and "role" in one for one in value)
    return value if conversation or name in JSON_CELLS else cell


def _parquet(stream: BinaryIO, magic: bytes) -> RecordFile:
    import pyarrow
    import pyarrow.parquet

    if magic != b"PAR1":
        raise FileError(_("The file is no Parquet file, or its beginning is damaged."))
    try:
        file = pyarrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=1024 * 1024)
        file = _with_dictionaries(stream, file)
        sizes = [_batch_size(file, group) for group in range(file.metadata.num_row_groups)]
    except (pyarrow.ArrowException, OSError) as error:
        raise FileError(_("The Parquet file is damaged or cut off: %(what)s.") % {"what": _short(error)}) from error
    total = max(file.metadata.num_rows, 1)
    read = 0

    def records() -> Iterator[Record]:
        nonlocal read
        try:
            for piece in _pieces_of(file, sizes):
                if piece.num_rows == 1 and _unpacked_size(piece) > MAX_LINE:
                    read += 1
                    yield Record(read, problem=RowError("", _("The row is longer than 16 MB.")))
                    continue
                for value in piece.to_pylist():
                    read += 1
                    yield Record(read, value)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise FileError(
                _("The Parquet file is damaged after row %(row)d: %(what)s. The rows before it were imported.")
                % {"row": read, "what": _short(error)}
            ) from error

    return RecordFile(records(), lambda: read / total)


def _with_dictionaries(stream: BinaryIO, file: Any) -> Any:
    """The file again, its texts as dictionaries: one that a million rows repeat is then held once."""
    import pyarrow.parquet

    encodings: dict[str, set[str]] = {}
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        for column in (group.column(number) for number in range(group.num_columns)):
            if column.physical_type == "BYTE_ARRAY":
                encodings.setdefault(column.path_in_schema, set()).update(column.encodings)
    # pyarrow makes no dictionaries of delta encodings; `_batch_size` bounds those.
    texts = [path for path, found in encodings.items() if not any(one.startswith("DELTA") for one in found)]
    return pyarrow.parquet.ParquetFile(stream, read_dictionary=texts, pre_buffer=False, buffer_size=1024 * 1024)


def _batch_size(file: Any, index: int) -> int:
    """How many rows of a row group to decode at a time: some 8 MB by the file's own figures. FileError for a bomb."""
    group = file.metadata.row_group(index)
    unpacked, packed, longest = 1, 1, 1
    for number in range(group.num_columns):
        column = group.column(number)
        described = file.schema.column(number)
        repeated = column.num_values - group.num_rows if described.max_repetition_level else 0
        unpacked += column.total_uncompressed_size + 8 * max(repeated, 0)
        packed += column.total_compressed_size
        if column.physical_type == "BYTE_ARRAY" and "DELTA_BYTE_ARRAY" in column.encodings:
            # Each value may share its beginning with the one before, hence be as long as all that is stored.
            longest = max(longest, column.total_uncompressed_size)
        elif described.physical_type == "FIXED_LEN_BYTE_ARRAY":
            longest = max(longest, described.length)
    if unpacked > RATIO_CHECKED_FROM and unpacked > MAX_RATIO * packed:
        raise FileError(_unpacks_beyond())
    rows = int(PARQUET_BYTES * group.num_rows // unpacked)
    return max(min(PARQUET_ROWS, rows, 8 * PARQUET_BYTES // longest), 1)


def _pieces_of(file: Any, sizes: list[int]) -> Iterator[Any]:
    # A batch across two row groups has two dictionaries, which pyarrow cannot join inside of lists.
    for group, size in enumerate(sizes):
        for batch in file.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
            yield from _pieces(batch)


def _pieces(batch: Any) -> Iterator[Any]:
    """The batch's rows in order, in slices that hold no more than 8 MB unpacked, or one row."""
    if batch.num_rows < 2 or _unpacked_size(batch) <= PARQUET_BYTES:
        if batch.num_rows:
            yield batch
        return
    half = batch.num_rows // 2
    yield from _pieces(batch.slice(0, half))
    yield from _pieces(batch.slice(half))


def _unpacked_size(batch: Any) -> int:
    """About how many bytes the batch's values take as Python objects, found without making them."""
    return sum(_array_size(column) for column in batch.columns)


def _array_size(array: Any) -> int:
    import pyarrow
    import pyarrow.compute as compute

    size = 8 * len(array)
    if pyarrow.types.is_dictionary(array.type):
        lengths = compute.binary_length(array.dictionary)
        return size + (compute.sum(compute.cast(lengths.take(array.indices), pyarrow.int64())).as_py() or 0)
    if pyarrow.types.is_struct(array.type):
        return size + sum(_array_size(child) for child in array.flatten())
    if pyarrow.types.is_nested(array.type):
        return size + _array_size(array.flatten())
    return size + int(array.nbytes)


def _short(error: Exception) -> str:
    return printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 150)
