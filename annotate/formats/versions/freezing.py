"""Write a project's rankings and demonstrations to Parquet: streamed, whole, the same bytes for the same content.

The bytes depend on no id of the database, on no order in which rows came, and not on how many are read at once.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from django.db import Error, connection

from annotate import jobs
from annotate.models import DatasetVersion
from annotate.services.weights import reliability_weights

from .assembling import Assembler, read_ranges
from .current import PSEUDONYM
from .rows import DEMONSTRATIONS, MADE, RANKINGS
from .selection import WHICH_WRITTEN, WRITTEN, drop_tables, read_by_index, select

if TYPE_CHECKING:
    from annotate.services.datasets import Filters

# A row group ends before either is passed; both shape the bytes of a version.
CHUNK = 2000
CHUNK_BYTES = 8 * 1024**2
COUNTS = (
    "rankings", "train", "test", "ranked", "all_bad", "pairs", "ties", "demonstrations",
    "train_pairs", "test_pairs", "train_best", "test_best", "train_demonstrations", "test_demonstrations",
    "decisions", "ideal_on_top",
)  # fmt: skip
# What is taken of millions of rankings is found by a few statements, during which nothing can beat.
CHOOSING = timedelta(minutes=10)
BEAT_SECONDS = 2
IDEAL_ANSWERS = f"""
    SELECT c.content_hash, p.content_hash, p.messages::text, c.text, c.reasoning,
        {PSEUDONYM.format(project="d.project_id", person="d.author_id")}, d.created_at, one.is_test,
        octet_length(p.messages::text) + octet_length(c.text) + octet_length(c.reasoning)
    {WRITTEN} JOIN podium_prompt one ON one.prompt_id = p.id AND one.dropped_by IS NULL
    WHERE {WHICH_WRITTEN}
    ORDER BY p.content_hash COLLATE "C", c.content_hash COLLATE "C", d.created_at,
        {PSEUDONYM.format(project="d.project_id", person="d.author_id")} COLLATE "C"
"""


class Frozen(NamedTuple):
    """`DatasetVersion.counts` and `.statistics`."""

    counts: dict[str, Any]
    statistics: dict[str, Any]


def freeze(version: DatasetVersion, filters: "Filters", folder: Path) -> Frozen:
    """Write rankings.parquet and demonstrations.parquet into `folder`.

    Beats the version's lease, hence raises Fenced and Cancelled.
    """
    try:
        return _freeze(version, filters, folder)
    finally:
        # A connection that is lost takes its temporary tables along.
        with suppress(Error):
            drop_tables()


def _freeze(version: DatasetVersion, filters: "Filters", folder: Path) -> Frozen:
    jobs.beat(version, lease=CHOOSING)
    weights = reliability_weights(version) if filters.weights == "reliability" else None
    selection = select(version, filters, _beat_now_and_then(version))
    counts: Counter[str] = Counter()
    assembler = Assembler(version, filters, weights, counts)
    with _writer(folder / "rankings.parquet", RANKINGS) as writer, ThreadPoolExecutor(1) as thread:
        groups = _RowGroups(writer, thread)
        read_by_index(True)
        for first, last in read_ranges(selection.left):
            groups.add(*assembler.read(first, last))
            share = counts["rankings"] / max(selection.left, 1)
            note = f"{counts['rankings']} / {selection.left}"
            jobs.beat(version, progress=min(share, 0.99), progress_note=note)
        groups.end()
        groups.finish()
        read_by_index(False)
    has_turns = assembler.has_turns
    with _writer(folder / "demonstrations.parquet", DEMONSTRATIONS) as writer:
        for rows in _chunks(IDEAL_ANSWERS, selection.values, ahead=20):
            columns = _demonstrations(rows, counts)
            has_turns = has_turns or any(len(prompt) > 1 for prompt in columns["prompt"])
            writer.write_table(pa.table(columns, schema=DEMONSTRATIONS))
            jobs.beat(version)
    chosen = {} if weights is None else {"weights": weights}
    return Frozen(
        {**{name: counts[name] for name in COUNTS}, "has_turns": has_turns, **selection.json(), **chosen},
        assembler.statistics.json(selection.languages),
    )


def _beat_now_and_then(version: DatasetVersion) -> Callable[[], None]:
    jobs.beat(version, lease=CHOOSING)
    last = monotonic()

    def beat() -> None:
        nonlocal last
        if monotonic() - last > BEAT_SECONDS:
            jobs.beat(version, lease=CHOOSING)
            last = monotonic()

    return beat


class _RowGroups:
    """Writes rows in groups whose bounds follow from the rows alone."""

    def __init__(self, writer: pq.ParquetWriter, thread: Executor) -> None:
        self.writer, self.thread = writer, thread
        self.writing: Future[None] | None = None
        self.waiting: list[pa.Table] = []
        self.rows = self.bytes = 0

    def add(self, table: pa.Table, sizes: list[int]) -> None:
        start = 0
        for place, size in enumerate(sizes):
            if self.rows and (self.rows == CHUNK or self.bytes + size > CHUNK_BYTES):
                self.waiting.append(table.slice(start, place - start))
                self.end()
                start = place
            self.rows += 1
            self.bytes += size
        self.waiting.append(table.slice(start))

    def end(self) -> None:
        """Write what is waiting, in the background: the database is asked for the next rows meanwhile."""
        self.finish()
        if self.rows:
            # In one piece, because the bounds of pieces would be bounds of pages.
            table = pa.concat_tables(self.waiting).combine_chunks()
            self.writing = self.thread.submit(self.writer.write_table, table)
        self.waiting, self.rows, self.bytes = [], 0, 0

    def finish(self) -> None:
        """Wait until it is written. Raises what writing raised."""
        if self.writing:
            self.writing.result()
            # Arrow keeps what it has freed, and so the largest of all row groups, twice.
            pa.default_memory_pool().release_unused()
        self.writing = None


def freeze_examples(
    rows: Iterator[dict[str, Any]], as_of: datetime, folder: Path, tick: Callable[[], None]
) -> dict[str, Any]:
    """Write rows of MADE, whose `created` may be missing and whose `provenance` is any JSON, with an empty rankings.parquet.

    Returns the version's counts. Raises ValueError for a row that lacks a column or has a wrong type.
    """
    counts: Counter[str] = Counter()
    has_turns = False
    with _writer(folder / "rankings.parquet", RANKINGS) as writer:
        writer.write_table(RANKINGS.empty_table())
    with _writer(folder / "demonstrations.parquet", MADE) as writer:
        while chunk := list(islice(rows, CHUNK)):
            for row in chunk:
                if row["split"] not in ("train", "test") or any(value is None for value in row.values()):
                    raise ValueError(f"the example of prompt {row['prompt_id']} has empty or unknown values")
                counts["demonstrations"] += 1
                counts[f"{row['split']}_demonstrations"] += 1
                has_turns = has_turns or len(row["prompt"]) > 1
                row["provenance"] = json.dumps(row["provenance"], ensure_ascii=False, sort_keys=True)
                row.setdefault("created", as_of)
            columns = {name: [row[name] for row in chunk] for name in MADE.names}
            writer.write_table(pa.table(columns, schema=MADE))
            tick()
    return {**{name: counts[name] for name in COUNTS}, "has_turns": has_turns, "dropped": {}}


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Every setting that shapes the bytes is named, so that a new default of the library changes none.
    return pq.ParquetWriter(
        path,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=["verdict", "annotator", "role", "split"],
        write_statistics=False,
        data_page_version="1.0",
        data_page_size=1024 * 1024,
        store_schema=False,
    )


def _chunks(sql: str, values: dict[str, Any], *, ahead: int) -> Iterator[list[Any]]:
    """Rows of one consistent read, as many at a time as CHUNK and CHUNK_BYTES allow, at least one.

    The last column is a row's size in bytes. The server holds the rest, also between transactions; `ahead` rows come at a
    time, few where they hold texts.
    """
    with connection.chunked_cursor() as cursor:
        cursor.execute(sql, values)
        chunk: list[Any] = []
        held = 0
        while rows := cursor.fetchmany(ahead):
            for row in rows:
                if chunk and (len(chunk) == CHUNK or held + row[-1] > CHUNK_BYTES):
                    yield chunk
                    chunk, held = [], 0
                chunk.append(row)
                held += row[-1]
        if chunk:
            yield chunk


def _demonstrations(rows: list[Any], counts: Counter[str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in DEMONSTRATIONS.names}
    for digest, prompt_hash, messages, text, reasoning, annotator, created, is_test, _size in rows:
        split = "test" if is_test else "train"
        counts["demonstrations"] += 1
        counts[f"{split}_demonstrations"] += 1
        values = (digest, prompt_hash, json.loads(messages), text, reasoning, annotator, created, split)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    return columns
