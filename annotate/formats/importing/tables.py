"""Rows of CSV: lists and conversations stand as JSON in their cells."""

import csv
from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from .checks import parse_json
from .errors import MAX_COLUMNS, MAX_LINE, FileError, RowError, printable
from .json_rows import too_long
from .lines import Cut, Lines
from .records import Record

RECORD_TOO_LONG = "record too long"
TOO_MANY_FIELDS = "too many fields"
MAX_HEADER = 1024**2
# A long record of nothing but separators takes far more memory than its bytes.
DENSE_FROM = 1024**2
MAX_FIELDS = 500_000
# Cells of these columns may hold JSON, since CSV has no lists of its own.
JSON_CELLS = {"completions", "tags", "metadata", "known_order", "rankings", "ranks", "ratings", "reasons"}


class RecordLines:
    """Lines for a csv reader. A record of many lines that grows beyond 16 MB raises csv.Error.

    `too_long` gathers lines that were left out, with their numbers, and `taken` the latest record's own lines.
    """

    def __init__(self, lines: Lines) -> None:
        self.lines = iter(lines)
        self.numbered = lines
        self.delimiter = b","
        self.too_long: list[tuple[int, Cut]] = []
        self.begin()

    def begin(self) -> None:
        self.size = self.fields = 0
        self.taken: list[bytes] = []

    def __iter__(self) -> "RecordLines":
        return self

    def __next__(self) -> str:
        while isinstance(raw := next(self.lines), Cut):
            self.too_long.append((self.numbered.number, raw))
        self.taken.append(raw)
        self.size += len(raw)
        if self.size > MAX_LINE:
            raise csv.Error(RECORD_TOO_LONG)
        if self.size > DENSE_FROM:
            self.fields += raw.count(self.delimiter)
            if self.fields > MAX_FIELDS:
                raise csv.Error(TOO_MANY_FIELDS)
        # Bytes that are no UTF-8 become lone surrogates, which the row's check names.
        return raw.decode("utf-8", "surrogateescape")


def table_records(lines: Lines) -> Iterator[Record]:
    """FileError if the header cannot be read; every other fault is a record's own."""
    csv.field_size_limit(MAX_LINE)
    text = RecordLines(lines)
    header, delimiter = _header(text)
    text.delimiter = delimiter.encode()
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    json_columns = JSON_CELLS.intersection(header)
    while True:
        start = lines.number + 1
        problem = None
        cells: list[str] | None = []
        text.begin()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem = _problem(error, start, lines.number)
        for line, beginning in text.too_long:
            yield too_long(line, beginning)
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
        raw = b"".join(text.taken)
        if problem:
            yield Record(start, problem=problem, raw=raw)
        else:
            pairs = zip(header, cells, strict=True)
            yield Record(start, {name: _cell(cell, name in json_columns) for name, cell in pairs}, raw=raw)


def _header(text: RecordLines) -> tuple[list[str], str]:
    first = next(text.lines, b"")
    if len(first) > MAX_HEADER or isinstance(first, Cut):
        raise FileError(_("The first line, which names the columns, is longer than 1 MB."))
    line = first.decode("utf-8", "replace")
    delimiter = next((mark for mark in ("\t", ";") if mark in line and "," not in line), ",")
    if line.count(delimiter) >= MAX_COLUMNS:
        raise FileError(_("The first line names more than %(most)d columns.") % {"most": MAX_COLUMNS})
    header = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    if len(set(header)) < len(header):
        raise FileError(
            _("Two columns of the file have the same name: %(names)s.") % {"names": printable(", ".join(header), 300)}
        )
    return header, delimiter


def _problem(error: csv.Error, start: int, end: int) -> RowError:
    what = str(error)
    if what == TOO_MANY_FIELDS:
        return RowError("", _("The row has more than %(most)d fields.") % {"most": MAX_FIELDS})
    if "unexpected end of data" in what or "field larger" in what or what == RECORD_TOO_LONG:
        return RowError(
            "",
            _("A quotation mark opened here is not closed: lines %(start)d to %(end)d were left out.")
            % {"start": start, "end": end},
        )
    return RowError("", _("Wrong quoting: %(what)s.") % {"what": what})


def _cell(cell: str, is_json: bool) -> Any:
    """A cell's JSON where it holds a conversation or belongs to a column of lists; otherwise its text."""
    if cell[:1] not in ("[", "{"):
        return cell
    try:
        value = parse_json(cell)
    except ValueError:
        return cell
    conversation = isinstance(value, list) and value and all(isinstance(one, dict) and "role" in one for one in value)
    return value if conversation or is_json else cell
