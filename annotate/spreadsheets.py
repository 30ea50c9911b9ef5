"""CSV as people open it in a spreadsheet: streamed, and free of formulas."""

import csv
import json
from collections.abc import Iterable
from typing import Any

from django.http import StreamingHttpResponse


def csv_file(name: str, rows: Iterable[Iterable[Any]]) -> StreamingHttpResponse:
    """A download of `rows`, the header first; each is written as soon as it is there."""
    writer = csv.writer(_Echo())
    lines = (writer.writerow([csv_cell(value) for value in row]) for row in rows)
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: a text that begins like one gets an apostrophe in front."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        return f"'{value}"
    return value


class _Echo:
    """A file whose `write` returns the text, so that a csv.writer can feed a stream."""

    def write(self, text: str) -> str:
        return text
