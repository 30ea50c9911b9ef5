"""Rows of JSON: one object on each line, or the objects of one array, which is never held whole."""

import json
import re
from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from .checks import parse_json
from .errors import HEAD, MAX_LINE, FileError, RowError
from .lines import Cut, Lines
from .records import Record

# A long line of nothing but small values takes far more memory than its bytes; real rows are long because of their texts.
DENSE_FROM = 1024**2
MAX_VALUES = 500_000

QUOTE, BACKSLASH, CLOSING = b'"\\]'
GAP = re.compile(rb"[\s,]*")
STRUCTURE = re.compile(rb'"|[{\[]+|[}\]]+')
STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
SCALAR = re.compile(rb'[^,\]\s{\["]*')


def line_records(lines: Lines) -> Iterator[Record]:
    for raw in lines:
        if isinstance(raw, Cut):
            yield too_long(lines.number, raw)
        elif lines.number == 1 and raw.strip() == b"{":
            raise FileError(
                _(
                    "The file is one JSON object over many lines. Podium reads one object on each line, or a list of objects."
                )
            )
        elif raw.strip():
            yield _record(lines.number, raw)


def array_records(chunks: Iterator[bytes]) -> Iterator[Record]:
    for number, raw in enumerate(_elements(chunks), start=1):
        yield too_long(number, raw) if isinstance(raw, Cut) else _record(number, raw)


def too_long(line: int, raw: bytes) -> Record:
    return Record(line, problem=RowError("", _("The line is longer than 16 MB.")), raw=raw, is_cut=True)


def _record(line: int, raw: bytes) -> Record:
    try:
        if len(raw) > DENSE_FROM:
            _check_density(raw)
        value: Any = parse_json(raw.decode())
    except UnicodeDecodeError as error:
        reason = _("Not valid UTF-8 at byte %(at)d of the line.") % {"at": error.start + 1}
    except json.JSONDecodeError as error:
        reason = _("Not valid JSON: %(what)s at column %(column)d.") % {"what": error.msg, "column": error.colno}
    except ValueError as error:
        reason = _("Not valid JSON: %(what)s.") % {"what": error}
    else:
        if isinstance(value, dict):
            return Record(line, value, raw=raw)
        reason = _('A row must be a JSON object, like {"prompt": …}.')
    return Record(line, problem=RowError("", reason), raw=raw)


def _check_density(raw: bytes) -> None:
    containers = raw.count(b"{") + raw.count(b"[")
    strings = raw.count(b'"') - raw.count(b'\\"')
    if containers > MAX_VALUES or strings > 2 * MAX_VALUES:
        raise ValueError(_("too many values in one row"))


def _elements(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The text of each element of a JSON array; the beginning of one longer than 16 MB as `Cut`.

    An element's end is found by its brackets and strings alone, and no byte is looked at twice.
    """
    held = b""
    start = at = depth = 0
    in_string = in_scalar = is_open = is_closed = False
    cut: Cut | None = None
    broken: FileError | None = None
    while True:
        try:
            chunk = next(chunks, b"")
        except FileError as error:
            broken, chunk = error, b""
        if not chunk:
            break
        held = held[start:] + chunk
        start, at = 0, at - start
        if not is_open:
            # The bracket that opens the array is there: it is what this kind of file is known by.
            start = at = held.index(b"[") + 1
            is_open = True
        while at < len(held) and not is_closed:
            if in_string:
                at, in_string = _behind_string(held, at)
            elif in_scalar:
                at = SCALAR.match(held, at).end()  # type: ignore[union-attr]
                in_scalar = at == len(held)
            elif depth:
                found = STRUCTURE.search(held, at)
                if found is None:
                    at = len(held)
                    continue
                first, at = held[found.start()], found.end()
                if first == QUOTE:
                    in_string = True
                elif first in b"{[":
                    depth += at - found.start()
                else:
                    at = min(at, found.start() + depth)
                    depth -= at - found.start()
            else:
                start = at = GAP.match(held, at).end()  # type: ignore[union-attr]
                if at == len(held):
                    break
                is_closed = held[at] == CLOSING
                in_string = held[at] == QUOTE
                depth = int(held[at] in b"{[")
                in_scalar = not (is_closed or in_string or depth)
                start += is_closed
                at += 1
            if depth or in_string or in_scalar or is_closed:
                continue
            yield Cut(held[start : start + HEAD]) if at - start > MAX_LINE else (held[start:at] if cut is None else cut)
            cut = None
            start = at
        if is_closed and held[start:].strip(b"\0 \t\r\n"):
            raise FileError(_("There is something behind the end of the JSON array. The rows before it were imported."))
        if is_closed:
            start = at = len(held)
        elif at - start > MAX_LINE or cut is not None:
            cut = cut or Cut(held[start : start + HEAD])
            # An escape at the very end concerns what comes next; the quote stands for the string's beginning.
            held = b'"' + b"\\" * (_backslashes(held, len(held)) % 2) if in_string else b""
            start, at = 0, len(held)
    if broken:
        raise broken
    if is_open and not is_closed:
        raise FileError(_("The JSON array breaks off. The rows before the break were imported; upload the whole file."))


def _behind_string(held: bytes, at: int) -> tuple[int, bool]:
    """Where the string that is open at `at` ends, and whether it goes on behind what is held."""
    end = held.find(b'"', at)
    if end < 0:
        return len(held), True
    if _backslashes(held, end) % 2 == 0:
        return end + 1, False
    # Behind an escaped quote more of them are likely.
    end = STRING_REST.match(held, end + 1).end()  # type: ignore[union-attr]
    if end < len(held) and held[end] == QUOTE:
        return end + 1, False
    return len(held), True


def _backslashes(held: bytes, end: int) -> int:
    """How many stand right before `end`. The quote that opened the string stops the count."""
    at = end
    while at and held[at - 1] == BACKSLASH:
        at -= 1
    return end - at
