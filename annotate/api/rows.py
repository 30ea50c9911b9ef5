"""Answers whose JSON Postgres writes: many rows leave without becoming objects first. Tests hold them against their schemas."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import OperationalError, connection
from django.http import HttpResponse
from psycopg import Cursor
from pydantic import Field

from .base import Item, Page, PageQuery, cursor_of, read_cursor

# How much text of rows that never change a process keeps, in characters.
KEPT_CHARACTERS = 16 * 1024**2


class RowPage(Page[Item]):
    """Oldest first, so that what comes in later comes last."""

    last: str | None = Field(
        description="The `cursor` of what will come in after this page's last item; null where there is nothing yet"
    )


def fetch_ids(statement: str, parameters: Mapping[str, Any], *, planned: bool = True) -> list[int]:
    return [row[0] for row in fetch(statement, parameters, planned=planned)]


def fetch(statement: str, parameters: Mapping[str, Any], *, planned: bool = True) -> list[tuple[Any, ...]]:
    """The rows of a statement that only reads.

    Postgres keeps its plan unless `planned` is false, for statements whose best plan depends on the parameters. Instead of
    asking before each statement whether the connection still lives, a broken one is replaced and asked once more.
    """
    try:
        return _fetch(statement, parameters, planned)
    except OperationalError:
        if connection.in_atomic_block:
            raise
        connection.close()
        return _fetch(statement, parameters, planned)


def _fetch(statement: str, parameters: Mapping[str, Any], planned: bool) -> list[tuple[Any, ...]]:
    connection.ensure_connection()
    with connection.wrap_database_errors, Cursor(connection.connection) as cursor:
        cursor.execute(statement, parameters, prepare=planned)
        return cursor.fetchall()


def time_json(column: str) -> str:
    """SQL for a time as all of the API writes it: UTC, to the microsecond."""
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


class Lasting:
    """The JSON of rows that are never changed once they are stored, so that it is written once for many requests.

    `statement` gives (id, JSON text) for `%(ids)s`. Which rows a page holds the database is asked each time.
    """

    def __init__(self, statement: str) -> None:
        self._statement = statement
        self._texts: dict[int, str] = {}
        self._characters = 0

    def rows(self, ids: Sequence[int]) -> list[tuple[int, str]]:
        found = {pk: text for pk in ids if (text := self._texts.get(pk)) is not None}
        if missing := [pk for pk in ids if pk not in found]:
            read = dict(fetch(self._statement, {"ids": missing}))
            self._characters += sum(map(len, read.values()))
            if self._characters > KEPT_CHARACTERS:
                self._texts, self._characters = {}, 0
            self._texts.update(read)
            found |= read
        return [(pk, found[pk]) for pk in ids if pk in found]


def after(query: PageQuery) -> int:
    return read_cursor(query.cursor) if query.cursor else 0


def answer_page(ids: Sequence[int], lasting: Lasting, query: PageQuery) -> HttpResponse:
    """`ids` are in their order, one more than the limit where there are more."""
    kept = lasting.rows(ids[: query.limit])
    last = cursor_of(kept[-1][0]) if kept else query.cursor or None
    cursors = json.dumps({"next": last if len(ids) > query.limit else None, "last": last})
    return answer_json(f'{{"items": [{",".join([row[1] for row in kept])}], {cursors[1:]}')


def answer_json(text: str) -> HttpResponse:
    return HttpResponse(text, content_type="application/json")
