"""On which side of a dataset version each prompt is.

- A prompt of the version's parent, or of the parent's parents, keeps its side, whatever else is asked.
- Without strata every other prompt's side follows from its own hash (annotate.models.split_of).
- With strata each of them has a number of test prompts that differs by less than one from its share; so has the whole. What the
  prompts that keep their side leave of it is filled with new prompts in the order of the hashes of their hashes.
"""

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from django.core.files.storage import default_storage
from django.db import connection
from django.utils.translation import gettext as _

from annotate.models import DatasetVersion

# split_of in SQL, to the bit.
HASH = "sha256(convert_to(content_hash, 'UTF8'))"
BY_HASH = f"""
    UPDATE podium_prompt SET is_test = coalesce(
        was_test, ('x' || substr(encode({HASH}, 'hex'), 1, 8))::bit(32)::bigint::float8 / 4294967296 < %(fraction)s::float8
    )
"""  # noqa: S608 - built of constants
# A prompt with several tags or sources is of the stratum of all of them.
STRATA = {
    "tag": """
        UPDATE podium_prompt one SET stratum = coalesce((
            SELECT string_agg(DISTINCT tag::text COLLATE "C", E'\\x1f' ORDER BY tag::text COLLATE "C") FROM unnest(p.tags) tag
        ), '') FROM annotate_prompt p WHERE p.id = one.prompt_id
    """,
    "source": """
        UPDATE podium_prompt one SET stratum = named.names FROM (
            SELECT f.prompt_id, string_agg(DISTINCT s.name::text COLLATE "C", E'\\x1f' ORDER BY s.name::text COLLATE "C") AS names
            FROM podium_found f JOIN annotate_rankedcompletion rc ON rc.ranking_id = f.ranking_id
            JOIN annotate_completion c ON c.id = rc.completion_id JOIN annotate_source s ON s.id = c.source_id
            WHERE f.dropped_by IS NULL GROUP BY 1
        ) named WHERE named.prompt_id = one.prompt_id
    """,
}
# Shares are rounded over the running total, so that many small strata have together what one large one would have.
BY_STRATUM = f"""
    WITH present AS (
        SELECT * FROM podium_prompt p WHERE dropped_by IS NULL AND (has_ideal OR EXISTS (
            SELECT FROM podium_found f WHERE f.prompt_id = p.prompt_id AND f.dropped_by IS NULL
        ))
    ), strata AS (
        SELECT stratum, count(*)::float8 AS prompts, count(*) FILTER (WHERE was_test) AS kept FROM present GROUP BY 1
    ), room AS (
        SELECT stratum, floor(%(fraction)s::float8 * sum(prompts) OVER running + 0.5)
            - floor(%(fraction)s::float8 * (sum(prompts) OVER running - prompts) + 0.5) - kept AS places
        FROM strata WINDOW running AS (ORDER BY stratum COLLATE "C")
    ), sides AS (
        SELECT prompt_id, row_number() OVER (PARTITION BY stratum ORDER BY {HASH}) <= places AS is_test
        FROM present JOIN room USING (stratum) WHERE was_test IS NULL
    )
    UPDATE podium_prompt one SET is_test = coalesce(one.was_test, sides.is_test, false)
    FROM podium_prompt p LEFT JOIN sides USING (prompt_id) WHERE p.prompt_id = one.prompt_id
"""  # noqa: S608 - built of constants


def remember(version: DatasetVersion, beat: Callable[[], None]) -> None:
    """Note in `podium_prompt` where the version's ancestors have its prompts; the nearest one counts."""
    ancestor = version.parent
    if ancestor is None:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            'CREATE TEMPORARY TABLE podium_before (content_hash varchar(64) COLLATE "C" PRIMARY KEY, is_test boolean)'
        )
        while ancestor:
            for hashes, is_test in sides_of(ancestor):
                cursor.execute(
                    """INSERT INTO podium_before SELECT DISTINCT ON (hash) hash, is_test
                    FROM unnest(%s::text[], %s::boolean[]) AS one(hash, is_test) ON CONFLICT DO NOTHING""",
                    [hashes, is_test],
                )
                beat()
            ancestor = ancestor.parent
        cursor.execute(
            """UPDATE podium_prompt p SET was_test = b.is_test FROM podium_before b WHERE b.content_hash = p.content_hash"""
        )


def sides_of(version: DatasetVersion) -> Iterator[tuple[list[str], list[bool]]]:
    """(content hashes of prompts, whether they are on the test side), some thousands at a time, with repetitions."""
    for batch in stored_batches(version, ["prompt_id", "split"], 10_000):
        sides = pa.Table.from_batches([batch]).group_by(["prompt_id", "split"]).aggregate([])
        yield sides["prompt_id"].to_pylist(), [split == "test" for split in sides["split"].to_pylist()]


def stored_batches(version: DatasetVersion, columns: list[str], size: int) -> Iterator[pa.RecordBatch]:
    """Rows of a version's files, which both have these columns. Raises FileNotFoundError, in words, without the files."""
    for name in ("rankings.parquet", "demonstrations.parquet"):
        path = f"{version.folder}/{name}"
        if not default_storage.exists(path):
            raise FileNotFoundError(
                _("The files of version %(number)s are not on the storage.") % {"number": version.number}
            )
        with default_storage.open(path) as stream, pq.ParquetFile(stream) as file:
            yield from file.iter_batches(batch_size=size, columns=columns)


def assign(version: DatasetVersion) -> None:
    """Give every row of `podium_prompt` its side."""
    with connection.cursor() as cursor:
        if version.stratify_by:
            cursor.execute(STRATA[version.stratify_by])
        cursor.execute(BY_STRATUM if version.stratify_by else BY_HASH, {"fraction": version.test_fraction})
