"""Which filter of a version drops which rankings, asked again long after it was built."""

from collections.abc import Iterator
from typing import Any

from django.db import connection

from annotate.models import DatasetVersion

from .selection import SELECTION

DROPPED_ROWS = SELECTION + "SELECT uid, dropped_by FROM counted WHERE dropped_by IS NOT NULL ORDER BY uid"  # noqa: S608 - built of constants


def dropped_rows(version: DatasetVersion) -> Iterator[tuple[str, str]]:
    """(uid, the filter's name) of each ranking of the version's moment that a filter drops, by ascending uid."""
    from annotate.services.datasets import Filters

    filters = Filters.from_json(version.filters)
    values: dict[str, Any] = {
        "project": version.project_id,
        "as_of": version.as_of,
        "since": filters.since or "-infinity",
        "until": filters.until or "infinity",
        "exclude_annotators": list(filters.exclude_annotators),
        "min_seconds": filters.min_seconds,
        "exclude_all_bad": filters.exclude_all_bad,
        "tags": list(filters.tags),
        "min_rankings": filters.min_rankings,
        "decisions": filters.decisions,
        "ideal_on_top": filters.ideal_on_top,
        "known_tasks": filters.known_tasks,
    }
    with connection.chunked_cursor() as cursor:
        cursor.execute(DROPPED_ROWS, values)
        while rows := cursor.fetchmany(2000):
            yield from ((uid.hex, name) for uid, name in rows)
