"""Write a project's rankings and demonstrations to Parquet: streamed, whole, the same bytes for the same input."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from django.db import connection

from annotate import jobs
from annotate.models import DatasetVersion, split_of
from annotate.services.weights import reliability_weights, weight_of

from .selection import DETAILS, DROPPED, IDEAL, KEPT, RANKED, WRITTEN

if TYPE_CHECKING:
    from annotate.services.datasets import Filters

# A row group ends before either is passed; both shape the bytes of a version.
CHUNK = 2000
CHUNK_BYTES = 32 * 1024**2
COUNTS = (
    "rankings", "train", "test", "ranked", "all_bad", "pairs", "ties", "demonstrations",
    "train_pairs", "test_pairs", "train_best", "test_best", "train_demonstrations", "test_demonstrations",
    "decisions", "ideal_on_top",
)  # fmt: skip
# What is taken of millions of rankings is found by one statement, during which nothing can beat.
CHOOSING = timedelta(minutes=10)
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
COMPLETION = pa.struct([("completion", pa.string()), ("reasoning", pa.string()), ("source", pa.string())])
RATINGS = pa.list_(pa.struct([("criterion", pa.string()), ("rating", pa.int32())]))
TIME = pa.timestamp("us", tz="UTC")
RANKINGS = pa.schema(
    [
        ("ranking", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("completions", pa.list_(COMPLETION)),
        ("ranks", pa.list_(pa.int32())),
        ("ratings", pa.list_(RATINGS)),
        ("verdict", pa.string()),
        ("annotator", pa.string()),
        ("role", pa.string()),
        ("weight", pa.float64()),
        ("reasons", pa.list_(pa.string())),
        ("comment", pa.string()),
        ("seconds", pa.float64()),
        ("created", TIME),
        ("split", pa.string()),
    ]
)
DEMONSTRATIONS = pa.schema(
    [
        ("demonstration", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("completion", pa.string()),
        ("reasoning", pa.string()),
        ("annotator", pa.string()),
        ("created", TIME),
        ("split", pa.string()),
    ]
)
# Examples that something else made say where each comes from, as JSON.
MADE = DEMONSTRATIONS.append(pa.field("provenance", pa.string()))


class Ranked(NamedTuple):
    rank: int
    text: str
    reasoning: str
    source: str
    ratings: list[tuple[str, int]]


def freeze(version: DatasetVersion, filters: "Filters", folder: Path) -> dict[str, Any]:
    """Write rankings.parquet and demonstrations.parquet into `folder` and return the version's counts.

    Beats the version's lease after each row group, hence raises Fenced and Cancelled.
    """
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
    jobs.beat(version, lease=CHOOSING)
    weights = reliability_weights(version) if filters.weights == "reliability" else None
    jobs.beat(version, lease=CHOOSING)
    with connection.cursor() as cursor:
        cursor.execute(DROPPED, values)
        dropped = dict(cursor.fetchall())
    total = dropped.pop("", 0)
    counts: Counter[str] = Counter()
    has_turns = False
    with _writer(folder / "rankings.parquet", RANKINGS) as writer:
        for ids in _chunks(KEPT, values, ahead=CHUNK):
            columns = _rankings([pk for pk, _size in ids], version, filters, weights, counts)
            has_turns = has_turns or any(len(prompt) > 1 for prompt in columns["prompt"])
            writer.write_table(_rankings_table(columns))
            share = counts["rankings"] / max(total, 1)
            jobs.beat(version, progress=min(share, 0.99), progress_note=f"{counts['rankings']} / {total}")
    with _writer(folder / "demonstrations.parquet", DEMONSTRATIONS) as writer:
        for rows in _chunks(WRITTEN, values, ahead=20):
            columns = _demonstrations(rows, version.test_fraction, counts)
            has_turns = has_turns or any(len(prompt) > 1 for prompt in columns["prompt"])
            writer.write_table(pa.table(columns, schema=DEMONSTRATIONS))
            jobs.beat(version)
    chosen = {} if weights is None else {"weights": weights}
    return {**{name: counts[name] for name in COUNTS}, "has_turns": has_turns, "dropped": dropped, **chosen}


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


def _rankings(
    ids: list[int],
    version: DatasetVersion,
    filters: "Filters",
    weights: dict[str, float] | None,
    counts: Counter[str],
) -> dict[str, list[Any]]:
    with connection.cursor() as cursor:
        cursor.execute(RANKED, [ids])
        ranked: dict[int, list[Ranked]] = {pk: [] for pk in ids}
        for pk, rank, text, reasoning, source, ratings in cursor.fetchall():
            ranked[pk].append(Ranked(rank, text, reasoning, source, sorted(json.loads(ratings).items())))
        ideal: dict[int, Ranked] = {}
        if filters.ideal_on_top:
            cursor.execute(IDEAL, {"rankings": ids, "as_of": version.as_of})
            ideal = {pk: Ranked(1, text, reasoning, source, []) for pk, text, reasoning, source in cursor.fetchall()}
        cursor.execute(DETAILS, [ids])
        details = cursor.fetchall()
    columns: dict[str, list[Any]] = {name: [] for name in RANKINGS.names}
    for pk, uid, prompt_hash, messages, verdict, annotator, role, reasons, comment, seconds, created in details:
        split = split_of(prompt_hash, version.test_fraction)
        whole = ranked[pk]
        if verdict == "all_bad":
            whole = [one._replace(rank=1) for one in whole]
        if pk in ideal:
            # Nothing was good, but now there is something better.
            whole, verdict = _with_ideal(whole, ideal[pk]), "ranked"
            counts["ideal_on_top"] += 1
        ranks = [one.rank for one in whole]
        _count(counts, verdict, ranks, split)
        counts["decisions"] += role == "adjudicator"
        values = (
            uid.hex,
            prompt_hash,
            json.loads(messages),
            whole,
            ranks,
            [[{"criterion": name, "rating": rating} for name, rating in one.ratings] for one in whole],
            verdict,
            annotator,
            role,
            weight_of(annotator, role, weights),
            reasons,
            comment,
            seconds,
            created,
            split,
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    return columns


def _with_ideal(ranked: list[Ranked], ideal: Ranked) -> list[Ranked]:
    """The ideal answer takes the first place alone, the others move down; an answer that reads the same becomes it."""
    same = [one for one in ranked if (one.text, one.reasoning) == (ideal.text, ideal.reasoning)]
    others = [one for one in ranked if one not in same]
    used = sorted({one.rank for one in others})
    moved = [one._replace(rank=used.index(one.rank) + 2) for one in others]
    return [*moved, (same[0] if same else ideal)._replace(rank=1)]


def _count(counts: Counter[str], verdict: str, ranks: list[int], split: str) -> None:
    counts["rankings"] += 1
    counts[split] += 1
    counts[verdict] += 1
    if verdict == "all_bad":
        return
    all_pairs = len(ranks) * (len(ranks) - 1) // 2
    ties = sum(count * (count - 1) // 2 for count in Counter(ranks).values())
    counts["pairs"] += all_pairs - ties
    counts[f"{split}_pairs"] += all_pairs - ties
    counts["ties"] += ties
    counts[f"{split}_best"] += all_pairs > ties


def _rankings_table(columns: dict[str, list[Any]]) -> pa.Table:
    """Lists of structs go through flat arrays, many times faster than row by row."""
    prompts = columns["prompt"]
    completions = columns["completions"]
    arrays = {
        "prompt": _nested(
            prompts,
            MESSAGES,
            [[message[key] for prompt in prompts for message in prompt] for key in ("role", "content")],
        ),
        "completions": _nested(
            completions,
            RANKINGS.field("completions").type,
            [[one[index] for ranking in completions for one in ranking] for index in (1, 2, 3)],
        ),
    }
    return pa.table({**columns, **arrays}, schema=RANKINGS)


def _nested(rows: list[Any], kind: pa.ListType, values: list[list[str]]) -> pa.Array:
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    flat = pa.StructArray.from_arrays([pa.array(one, pa.string()) for one in values], fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, type=kind)


def _demonstrations(rows: list[Any], test_fraction: float, counts: Counter[str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in DEMONSTRATIONS.names}
    for digest, prompt_hash, messages, text, reasoning, annotator, created, _size in rows:
        split = split_of(prompt_hash, test_fraction)
        counts["demonstrations"] += 1
        counts[f"{split}_demonstrations"] += 1
        values = (digest, prompt_hash, json.loads(messages), text, reasoning, annotator, created, split)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    return columns
