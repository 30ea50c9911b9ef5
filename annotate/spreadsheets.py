"""CSV as people open it in a spreadsheet: streamed, and free of formulas."""

import csv
import json
import re
from collections.abc import Iterable
from typing import Any

from django.http import StreamingHttpResponse

FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def csv_file(name: str, rows: Iterable[Iterable[Any]]) -> StreamingHttpResponse:
    """A download of `rows`, the header first; each is written as soon as it is there."""
    writer = csv.writer(_Echo())
    lines = (writer.writerow([csv_cell(value) for value in row]) for row in rows)
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: a text that begins like one gets an apostrophe in front.

    So does one that begins with apostrophes before such a sign: `plain_cell` then gives every text back as it was.
    """
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and FORMULA.match(value):
        return f"'{value}"
    return value


def plain_cell(text: str) -> str:
    """The text of which `csv_cell` made this cell.

    >>> plain_cell("'=1+1")
    '=1+1'
    """
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


class _Echo:
    """A file whose `write` returns the text, so that a csv.writer can feed a stream."""

    def write(self, text: str) -> str:
        return text
