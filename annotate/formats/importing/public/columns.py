"""The columns that a file's first rows have, for the form in which people say what is what."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.formats.importing.errors import printable

MAX_COLUMNS = 200
DEPTH = 3
EXAMPLE = 120
LOOKED_AT = 50


@dataclass(frozen=True)
class Column:
    """`path` is what a mapping names it by; the example is text of at most 120 characters."""

    path: str
    example: str


def columns_of(values: Sequence[dict[str, Any]]) -> list[Column]:
    """Every column of these rows in the order in which they first come, with the first value that is not empty.

    Of an object, and of a list of objects, the columns within come after it: `answers`, `answers.score`.
    """
    found: dict[str, str] = {}
    for value in values[:LOOKED_AT]:
        for path, one in _paths(value, "", DEPTH):
            if path in found:
                found[path] = found[path] or _example(one)
            elif len(found) < MAX_COLUMNS:
                found[path] = _example(one)
    return [Column(path, example) for path, example in found.items()]


def _paths(value: dict[str, Any], before: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, one in value.items():
        path = f"{before}{name}"
        yield path, one
        inner = one[0] if isinstance(one, list) and one else one
        if isinstance(inner, dict) and depth > 1:
            yield from _paths(inner, f"{path}.", depth - 1)


def _example(value: Any) -> str:
    if value is None:
        return ""
    try:
        text = value if isinstance(value, str) else json.dumps(_short(value), ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return ""
    text = printable(" ".join(text[: 4 * EXAMPLE].split()), EXAMPLE + 1)
    return text if len(text) <= EXAMPLE else text[: EXAMPLE - 1] + "…"


def _short(value: Any) -> Any:
    """So much of a value as an example shows."""
    if isinstance(value, list):
        return [_short(one) for one in value[:5]]
    if isinstance(value, dict):
        return {name: _short(value[name]) for name in list(value)[:5]}
    return value[:EXAMPLE] if isinstance(value, str) else value
