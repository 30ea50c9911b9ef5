"""A project's current rankings of ordinary tasks, as compact arrays.

Gold and practice tasks, adjudications and imported rankings are not in them. LIMIT rankings take some 50 MB.

Shapes: R rankings (sorted by task), T tasks, A annotators, K = K_MAX columns. The columns of a task are its completions by id; a
task with fewer than K completions leaves its last columns 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from django.db import connection

from annotate.models import K_MAX

from .intervals import Array, Beat, unheard

# Intervals of so many rankings are narrower than anybody needs, and they are computed in 500 MB and a minute or two.
LIMIT = 300_000
CHUNK = 20_000
# Carver 1976, "Word length, prose difficulty, and reading rate": a standard word is six characters. Unlike words between
# spaces it means much the same in every language and in code.
CHARACTERS_PER_WORD = 6

SELECTED = """
    FROM annotate_ranking r
    JOIN annotate_rankingtask t ON t.id = r.task_id
    JOIN annotate_membership m ON m.project_id = r.project_id AND m.user_id = r.annotator_id
    JOIN annotate_prompt p ON p.id = t.prompt_id
    WHERE r.project_id = %(project)s AND r.role = 'annotator'
        AND r.created_at <= %(as_of)s AND (r.is_current OR r.withdrawn_at > %(as_of)s)
        AND r.created_at >= %(since)s AND r.created_at < %(until)s
        AND (cardinality(%(annotators)s::bigint[]) = 0 OR m.id = ANY(%(annotators)s))
        AND (%(tag)s = '' OR %(tag)s = ANY(p.tags))
        AND t.purpose = 'ranking'
"""
COUNT = f"SELECT count(*) {SELECTED}"
# A multiplicative hash of the id spreads evenly and never changes, so the same tasks are drawn each time.
SAMPLED = " AND ((t.id %% 2147483648) * 2654435761 %% 4294967296) < %(share)s * 4294967296"
# Ranks, shown places and ratings have one digit each, so that a ranking's are one short string.
RANKINGS = """
    SELECT r.id, r.task_id, m.id, r.verdict = 'all_bad', r.seconds, extract(epoch FROM r.created_at)::float8, ranked.*
    {selected}
    ORDER BY r.task_id, r.id
"""
RANKED = """
    , LATERAL (
        SELECT string_agg(rc.rank::text, '' ORDER BY rc.completion_id),
            string_agg(coalesce(array_position(a.shown_order, rc.completion_id), 0)::text, '' ORDER BY rc.completion_id)
            {ratings}
        FROM annotate_assignment a JOIN annotate_rankedcompletion rc ON rc.ranking_id = r.id
        WHERE a.id = r.assignment_id
    ) AS ranked
"""
RATING = """,
            string_agg(CASE WHEN rc.ratings ->> %({name})s ~ '^[1-5]$' THEN rc.ratings ->> %({name})s ELSE '0' END, ''
                ORDER BY rc.completion_id)"""
TASKS = """
    SELECT t.id, (
            SELECT coalesce(sum(char_length(message ->> 'content')), 0) FROM jsonb_array_elements(p.messages) message
        ), shown.*
    FROM annotate_rankingtask t JOIN annotate_prompt p ON p.id = t.prompt_id,
    LATERAL (
        SELECT array_agg(c.id ORDER BY c.id), array_agg(c.source_id ORDER BY c.id),
            array_agg(char_length(c.text) + char_length(c.reasoning) ORDER BY c.id)
        FROM annotate_taskcompletion tc JOIN annotate_completion c ON c.id = tc.completion_id WHERE tc.task_id = t.id
    ) AS shown
    WHERE t.id = ANY(%s) ORDER BY t.id
"""


@dataclass(frozen=True)
class Filters:
    """Which rankings are read. `annotators` are membership ids; empty means everybody. `criterion`: of the leaderboard."""

    since: datetime | None = None
    until: datetime | None = None
    annotators: tuple[int, ...] = ()
    criterion: str = ""
    tag: str = ""


@dataclass(frozen=True)
class Rankings:
    ids: Array  # (R,)
    task: Array  # (R,) index into task_ids
    annotator: Array  # (R,) index into memberships
    all_bad: Array  # (R,) bool
    seconds: Array  # (R,)
    created: Array  # (R,) seconds since 1970
    ranks: Array  # (R, K) 1 is best; 0: no such completion, or the verdict was "all bad"
    shown: Array  # (R, K) 1 was shown as A
    task_ids: Array  # (T,)
    memberships: Array  # (A,)
    completions: Array  # (T, K) ids, 0 where there is none
    sources: Array  # (T, K) ids
    words: Array  # (T, K)
    prompt_words: Array  # (T,)
    ratings: dict[str, Array] = field(default_factory=dict)  # criterion: (R, K) 1 to 5, 0 where not rated
    total: int = 0  # within the filters, before sampling

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, mask: Array) -> "Rankings":
        """The rankings that `mask` (R,) keeps; tasks and annotators keep their index."""
        changed = {
            name: getattr(self, name)[mask]
            for name in ("ids", "task", "annotator", "all_bad", "seconds", "created", "ranks", "shown")
        }
        return replace(self, **changed, ratings={name: values[mask] for name, values in self.ratings.items()})

    def ordered(self) -> "Rankings":
        """Without the verdicts "all bad", which are not orders."""
        return self.where(~self.all_bad)

    @property
    def sizes(self) -> Array:
        """How many completions each ranking's task has, (R,)."""
        return np.asarray((self.shown > 0).sum(axis=1))


def read_rankings(
    *,
    project: int,
    as_of: datetime,
    filters: Filters,
    criteria: list[str],
    limit: int = LIMIT,
    beat: Beat = unheard,
) -> Rankings:
    """The rankings that were current at `as_of`; `beat` hears of the share read. Of more than `limit`, whole tasks are drawn, the same ones each time."""
    values: dict[str, Any] = {
        "project": project,
        "as_of": as_of,
        "since": filters.since or "-infinity",
        "until": filters.until or "infinity",
        "annotators": list(filters.annotators),
        "tag": filters.tag,
        **{f"criterion_{index}": name for index, name in enumerate(criteria)},
    }
    with connection.cursor() as cursor:
        cursor.execute(COUNT, values)
        total = cursor.fetchone()[0]
    selected = SELECTED
    if total > limit:
        selected, values["share"] = SELECTED + SAMPLED, limit / total
    rating = "".join(RATING.format(name=f"criterion_{index}") for index in range(len(criteria)))
    from_, where = selected.split("WHERE", 1)
    sql = RANKINGS.format(selected=f"{from_}{RANKED.format(ratings=rating)} WHERE {where}")
    columns: list[list[Array]] = [[] for _ in range(8 + len(criteria))]
    read = 0
    for rows in _chunks(sql, values):
        for column, kind, part in zip(columns, KINDS + ["S9"] * len(criteria), zip(*rows, strict=True), strict=False):
            column.append(_digits(part) if kind == "S9" else np.array(part, dtype=kind))
        read += len(rows)
        beat(0.7 * min(read / min(total, limit), 1))
    ids, task_id, membership, all_bad, seconds, created, ranks, shown, *rated = (
        np.concatenate(column) if column else _empty(index) for index, column in enumerate(columns)
    )
    task_ids, task = np.unique(task_id, return_inverse=True)
    memberships, annotator = np.unique(membership, return_inverse=True)
    ranks[all_bad] = 0
    return Rankings(
        ids=ids,
        task=task.astype(np.int32),
        annotator=annotator.astype(np.int32),
        all_bad=all_bad,
        seconds=seconds,
        created=created,
        ranks=ranks,
        shown=shown,
        task_ids=task_ids,
        memberships=memberships,
        **_read_tasks(task_ids, beat),
        ratings=dict(zip(criteria, rated, strict=True)),
        total=total,
    )


KINDS = ["i8", "i8", "i8", "?", "f4", "f8", "S9", "S9"]


def _digits(strings: Any) -> Array:
    """("213", "12") → [[2, 1, 3, 0, …], [1, 2, 0, …]], (N, K)."""
    codes = np.array(strings, dtype=f"S{K_MAX}").view(np.uint8).reshape(-1, K_MAX)
    return np.where(codes > 0, codes - ord("0"), 0).astype(np.int8)


def _empty(index: int) -> Array:
    if index < len(KINDS) and KINDS[index] != "S9":
        return np.zeros(0, dtype=KINDS[index])
    return np.zeros((0, K_MAX), dtype=np.int8)


def _chunks(sql: str, values: dict[str, Any]) -> Iterator[list[tuple[Any, ...]]]:
    with connection.chunked_cursor() as cursor:
        cursor.execute(sql, values)
        while rows := cursor.fetchmany(CHUNK):
            yield rows


def _read_tasks(task_ids: Array, beat: Beat) -> dict[str, Array]:
    shape = (len(task_ids), K_MAX)
    completions, sources = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    words, prompt_words = np.zeros(shape, dtype=np.float32), np.zeros(len(task_ids), dtype=np.float32)
    for start in range(0, len(task_ids), CHUNK):
        with connection.cursor() as cursor:
            cursor.execute(TASKS, [task_ids[start : start + CHUNK].tolist()])
            for row, (_pk, prompt, ids, source_ids, lengths) in enumerate(cursor, start):
                completions[row, : len(ids)] = ids
                sources[row, : len(ids)] = source_ids
                words[row, : len(ids)] = lengths
                prompt_words[row] = prompt
        beat(0.7 + 0.3 * start / len(task_ids))
    return {
        "completions": completions,
        "sources": sources,
        "words": words / CHARACTERS_PER_WORD,
        "prompt_words": prompt_words / CHARACTERS_PER_WORD,
    }
