"""Answers whose JSON Postgres writes: many rows leave without becoming objects first. Tests hold them against their schemas."""

import json
from collections.abc import Mapping
from typing import Any

from django.db import OperationalError, connection
from django.http import HttpResponse
from psycopg import Cursor
from pydantic import Field

from .base import Item, Page, PageQuery, cursor_of, read_cursor


class RowPage(Page[Item]):
    """Oldest first, so that what comes in later comes last."""

    last: str | None = Field(
        description="The `cursor` of what will come in after this page's last item; null where there is nothing yet"
    )


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


def after(query: PageQuery) -> int:
    return read_cursor(query.cursor) if query.cursor else 0


def answer_page(rows: list[tuple[Any, ...]], query: PageQuery) -> HttpResponse:
    """`rows` are (id, JSON text) in the order of their ids, one more than the limit where there are more."""
    kept = rows[: query.limit]
    last = cursor_of(kept[-1][0]) if kept else query.cursor or None
    cursors = json.dumps({"next": last if len(rows) > len(kept) else None, "last": last})
    return answer_json(f'{{"items": [{",".join([row[1] for row in kept])}], {cursors[1:]}')


def answer_json(text: str) -> HttpResponse:
    return HttpResponse(text, content_type="application/json")
