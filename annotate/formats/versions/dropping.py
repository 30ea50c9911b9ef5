"""Which step of a version drops which rankings, asked again long after it was built."""

from collections.abc import Callable, Iterator

from django.db import connection

from annotate.models import DatasetVersion
from annotate.services.datasets import Filters

from .selection import drop_tables, select

# Of a ranking that went into one with all others of its task.
MERGED = "merged"


def dropped_rows(version: DatasetVersion, tick: Callable[[], None]) -> Iterator[tuple[str, str]]:
    """(uid, the step's name) of each ranking of the version's moment that a step drops, by ascending uid."""
    filters = Filters.from_json(version.filters)
    select(version, filters, tick)
    # In a table of its own, since the selection's are taken by the next version that is asked about.
    table = f"podium_dropped_{version.pk}"
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
            cursor.execute(
                f"CREATE TEMPORARY TABLE {table} AS SELECT uid, coalesce(dropped_by, %s) AS step FROM podium_found "  # noqa: S608 - a number
                "WHERE dropped_by IS NOT NULL OR (%s AND role <> 'adjudicator')",
                [MERGED, filters.decisions == "consensus"],
            )
        drop_tables()
        with connection.chunked_cursor() as cursor:
            cursor.execute(f"SELECT uid, step FROM {table} ORDER BY uid")  # noqa: S608 - a number
            while rows := cursor.fetchmany(2000):
                yield from ((uid.hex, step) for uid, step in rows)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
