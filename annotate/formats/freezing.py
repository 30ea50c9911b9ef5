"""Write a project's rankings and demonstrations to Parquet: streamed, whole, the same bytes for the same input."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from django.db import connection

from annotate import jobs
from annotate.models import DatasetVersion

if TYPE_CHECKING:
    from annotate.services.datasets import Filters

# A row group ends before either is passed; both shape the bytes of a version.
CHUNK = 2000
CHUNK_BYTES = 32 * 1024**2
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
COMPLETION = pa.struct([("completion", pa.string()), ("reasoning", pa.string()), ("source", pa.string())])
TIME = pa.timestamp("us", tz="UTC")
RANKINGS = pa.schema(
    [
        ("ranking", pa.string()),
        ("prompt_id", pa.string()),
        ("prompt", MESSAGES),
        ("completions", pa.list_(COMPLETION)),
        ("ranks", pa.list_(pa.int32())),
        ("verdict", pa.string()),
        ("annotator", pa.string()),
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
# Who left the project has no membership any more, but keeps one name in all of its exports.
PSEUDONYM = "coalesce(m.pseudonym, 'left-' || substr(md5({project} || ':' || {person}), 1, 8))"
# What was current at the given time, though it was revised or taken back since.
CURRENT = "r.project_id = %(project)s AND r.created_at <= %(as_of)s AND (r.is_current OR r.withdrawn_at > %(as_of)s)"

SELECTION = f"""
    WITH judged AS (
        SELECT r.id, r.uid, t.prompt_id, CASE
            WHEN r.created_at < %(since)s THEN 'since'
            WHEN r.created_at >= %(until)s THEN 'until'
            WHEN {PSEUDONYM.format(project="r.project_id", person="r.annotator_id")} = ANY(%(exclude_annotators)s)
                THEN 'exclude_annotators'
            WHEN r.seconds < %(min_seconds)s THEN 'min_seconds'
            WHEN %(exclude_all_bad)s AND r.verdict = 'all_bad' THEN 'exclude_all_bad'
            WHEN cardinality(%(tags)s::text[]) > 0 AND NOT p.tags::text[] && %(tags)s::text[] THEN 'tags'
        END AS dropped_by
        FROM annotate_ranking r
        JOIN annotate_rankingtask t ON t.id = r.task_id
        JOIN annotate_prompt p ON p.id = t.prompt_id
        LEFT JOIN annotate_membership m ON m.project_id = r.project_id AND m.user_id = r.annotator_id
        WHERE {CURRENT}
    ), counted AS (
        SELECT id, uid, prompt_id, CASE
            WHEN dropped_by IS NULL AND %(min_rankings)s > 1
                AND count(*) FILTER (WHERE dropped_by IS NULL) OVER (PARTITION BY prompt_id) < %(min_rankings)s
            THEN 'min_rankings' ELSE dropped_by
        END AS dropped_by
        FROM judged
    )
"""  # noqa: S608 - built of constants
DROPPED = SELECTION + "SELECT coalesce(dropped_by, ''), count(*) FROM counted GROUP BY 1"  # noqa: S608
KEPT = f"""{SELECTION}
    SELECT k.id, octet_length(p.messages::text) + (
        SELECT coalesce(sum(octet_length(c.text) + octet_length(c.reasoning)), 0)
        FROM annotate_rankedcompletion rc JOIN annotate_completion c ON c.id = rc.completion_id
        WHERE rc.ranking_id = k.id
    )
    FROM counted k JOIN annotate_prompt p ON p.id = k.prompt_id
    WHERE k.dropped_by IS NULL ORDER BY k.uid
"""  # noqa: S608 - built of constants
DETAILS = f"""
    SELECT r.id, r.uid, p.content_hash, p.messages::text, r.verdict,
        {PSEUDONYM.format(project="r.project_id", person="r.annotator_id")},
        r.reasons, r.comment, r.seconds, r.created_at
    FROM annotate_ranking r
    JOIN annotate_rankingtask t ON t.id = r.task_id
    JOIN annotate_prompt p ON p.id = t.prompt_id
    LEFT JOIN annotate_membership m ON m.project_id = r.project_id AND m.user_id = r.annotator_id
    WHERE r.id = ANY(%s) ORDER BY r.uid
"""  # noqa: S608 - built of constants
RANKED = """
    SELECT rc.ranking_id, rc.rank, c.text, c.reasoning, s.name
    FROM annotate_rankedcompletion rc
    JOIN annotate_completion c ON c.id = rc.completion_id
    JOIN annotate_source s ON s.id = c.source_id
    WHERE rc.ranking_id = ANY(%s) ORDER BY rc.ranking_id, c.id
"""
WRITTEN = f"""
    SELECT c.content_hash, p.content_hash, p.messages::text, c.text, c.reasoning,
        {PSEUDONYM.format(project="d.project_id", person="d.author_id")}, d.created_at,
        octet_length(p.messages::text) + octet_length(c.text) + octet_length(c.reasoning)
    FROM annotate_demonstration d
    JOIN annotate_completion c ON c.id = d.completion_id
    JOIN annotate_prompt p ON p.id = c.prompt_id
    LEFT JOIN annotate_membership m ON m.project_id = d.project_id AND m.user_id = d.author_id
    WHERE d.project_id = %(project)s AND d.created_at <= %(as_of)s AND (d.withdrawn_at IS NULL OR d.withdrawn_at > %(as_of)s)
        AND d.created_at >= %(since)s AND d.created_at < %(until)s
        AND NOT {PSEUDONYM.format(project="d.project_id", person="d.author_id")} = ANY(%(exclude_annotators)s)
        AND (cardinality(%(tags)s::text[]) = 0 OR p.tags::text[] && %(tags)s::text[])
    ORDER BY p.content_hash, c.content_hash, d.id
"""  # noqa: S608 - built of constants


def split_of(prompt_hash: str, test_fraction: float) -> str:
    """A prompt's side: the same in every version with the same fraction, and never both."""
    share = int(hashlib.sha256(prompt_hash.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if share < test_fraction else "train"


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
    }
    with connection.cursor() as cursor:
        cursor.execute(DROPPED, values)
        dropped = dict(cursor.fetchall())
    total = dropped.pop("", 0)
    counts: Counter[str] = Counter()
    has_turns = False
    with _writer(folder / "rankings.parquet", RANKINGS) as writer:
        for ids in _chunks(KEPT, values, ahead=CHUNK):
            columns = _rankings([pk for pk, _size in ids], version.test_fraction, counts)
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
    names = (
        "rankings", "train", "test", "ranked", "all_bad", "pairs", "ties", "demonstrations",
        "train_pairs", "test_pairs", "train_best", "test_best", "train_demonstrations", "test_demonstrations",
    )  # fmt: skip
    return {**{name: counts[name] for name in names}, "has_turns": has_turns, "dropped": dropped}


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Every setting that shapes the bytes is named, so that a new default of the library changes none.
    return pq.ParquetWriter(
        path,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=["verdict", "annotator", "split"],
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


def _rankings(ids: list[int], test_fraction: float, counts: Counter[str]) -> dict[str, list[Any]]:
    with connection.cursor() as cursor:
        cursor.execute(RANKED, [ids])
        ranked: dict[int, list[tuple[int, str, str, str]]] = {pk: [] for pk in ids}
        for pk, *rest in cursor.fetchall():
            ranked[pk].append(tuple(rest))
        cursor.execute(DETAILS, [ids])
        details = cursor.fetchall()
    columns: dict[str, list[Any]] = {name: [] for name in RANKINGS.names}
    for pk, uid, prompt_hash, messages, verdict, annotator, reasons, comment, seconds, created in details:
        split = split_of(prompt_hash, test_fraction)
        ranks = [1 if verdict == "all_bad" else rank for rank, *_rest in ranked[pk]]
        _count(counts, verdict, ranks, split)
        values = (
            uid.hex,
            prompt_hash,
            json.loads(messages),
            ranked[pk],
            ranks,
            verdict,
            annotator,
            1.0,
            reasons,
            comment,
            seconds,
            created,
            split,
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    return columns


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
