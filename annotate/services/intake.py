"""Rows into prompts, completions and tasks, by COPY: as fast as Postgres takes them, and never twice."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone

from annotate.formats.shapes import Known, Row
from annotate.models import Completion, KnownOrder, Project, Prompt, RankingTask, Source, TaskCompletion, content_hash

from .overlap import ENDLESS, overlap_of

PROMPT = ("id", "project_id", "messages", "content_hash", "reference_answer", "metadata", "tags", "created_at")
COMPLETION = ("id", "prompt_id", "source_id", "text", "reasoning", "sampling", "content_hash", "created_at")
TASK = (
    "id", "project_id", "prompt_id", "content_hash", "state", "purpose", "priority", "overlap", "leased", "submitted",
    "created_at",
)  # fmt: skip
KNOWN = ("task_id", "ranks", "explanation", "created_at")
TASK_COMPLETION = ("task_id", "completion_id")
TRIES = 3


@dataclass
class Added:
    """What a batch added. `duplicates` are rows that added nothing, `single` rows with one completion, hence no task."""

    prompts: int = 0
    completions: int = 0
    tasks: int = 0
    duplicates: int = 0
    single: int = 0
    without: int = 0


def add_rows(*, project: Project, rows: Sequence[Row]) -> Added:
    """Store the rows, and a task for each set of two or more completions. What is there already is left as it is.

    Imports into one project take turns, batch by batch. Where another writer adds the same rows meanwhile, the batch is
    tried again and finds them.
    """
    for attempt in range(1, TRIES + 1):
        try:
            with transaction.atomic():
                # Foreign keys to the project need only its key, so nobody else waits for this lock.
                current = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
                return _add(current, rows)
        except IntegrityError:
            if attempt == TRIES:
                raise
    raise AssertionError


def _add(project: Project, rows: Sequence[Row]) -> Added:
    added = Added()
    now = timezone.now().isoformat()
    source_ids = _source_ids(project, {answer.source for row in rows for answer in row.answers})

    prompt_ids = dict(
        Prompt.objects.filter(project=project, content_hash__in={row.content_hash for row in rows}).values_list(
            "content_hash", "pk"
        )
    )
    known_completions = {
        (prompt_id, source_id, digest): pk
        for prompt_id, source_id, digest, pk in Completion.objects.filter(
            prompt_id__in=prompt_ids.values()
        ).values_list("prompt_id", "source_id", "content_hash", "pk")
    }
    fresh = list({row.content_hash: row for row in reversed(rows) if row.content_hash not in prompt_ids}.values())
    fresh.reverse()
    new_prompts = []
    for pk, row in zip(_next_ids(Prompt, len(fresh)), fresh, strict=True):
        prompt_ids[row.content_hash] = pk
        messages = _messages_json(row.messages)
        new_prompts.append(
            (pk, project.pk, messages, row.content_hash, row.reference_answer, row.metadata, row.tags or "{}", now)
        )

    ids = iter(_next_ids(Completion, sum(len(row.answers) for row in rows)))
    seen_prompts: set[str] = set(prompt_ids) - {row.content_hash for row in fresh}
    new_completions = []
    wanted: dict[str, tuple[int, int, list[int]]] = {}
    known_orders: dict[str, tuple[str, str, str] | None] = {}
    for row in rows:
        prompt_id = prompt_ids[row.content_hash]
        is_new = row.content_hash not in seen_prompts
        seen_prompts.add(row.content_hash)
        of_row = []
        for answer in row.answers:
            key = (prompt_id, source_ids[answer.source], answer.content_hash)
            completion_id = known_completions.get(key)
            if completion_id is None:
                completion_id = known_completions[key] = next(ids)
                is_new = True
                new_completions.append(
                    (completion_id, *key[:2], answer.text, answer.reasoning, answer.sampling, answer.content_hash, now)
                )
            of_row.append(completion_id)
        added.duplicates += not is_new
        if len(of_row) > 1:
            known = known_json(row.known, of_row)
            of_row.sort()
            wanted[content_hash(of_row)] = (prompt_id, row.priority, of_row)
            known_orders[content_hash(of_row)] = known or known_orders.get(content_hash(of_row))
        else:
            added.single += len(of_row)
            added.without += not of_row

    there = set(
        RankingTask.objects.filter(project=project, content_hash__in=wanted.keys()).values_list(
            "content_hash", flat=True
        )
    )
    tasks = [(digest, *task) for digest, task in wanted.items() if digest not in there]
    new_tasks, new_pairs, new_known = [], [], []
    for pk, (digest, prompt_id, priority, of_task) in zip(_next_ids(RankingTask, len(tasks)), tasks, strict=True):
        purpose, overlap = str(RankingTask.Purpose.RANKING), overlap_of(project, digest)
        if known := known_orders[digest]:
            purpose, overlap = known[0], ENDLESS
            new_known.append((pk, *known[1:], now))
        new_tasks.append((pk, project.pk, prompt_id, digest, "open", purpose, priority, overlap, 0, 0, now))
        new_pairs += [(pk, completion_id) for completion_id in of_task]

    copy_rows(Prompt, PROMPT, new_prompts)
    copy_rows(Completion, COMPLETION, new_completions)
    copy_rows(RankingTask, TASK, new_tasks)
    copy_rows(TaskCompletion, TASK_COMPLETION, new_pairs)
    copy_rows(KnownOrder, KNOWN, new_known)
    added.prompts, added.completions, added.tasks = len(new_prompts), len(new_completions), len(new_tasks)
    return added


def known_json(known: Known | None, completions: list[int]) -> tuple[str, str, str] | None:
    """(purpose, ranks as JSON, explanation) of a known order of these completions."""
    if known is None:
        return None
    ranks = dict(sorted(zip(map(str, completions), known.ranks, strict=True)))
    return known.purpose, json.dumps(ranks), known.explanation


def _messages_json(messages: list[dict[str, str]]) -> str:
    return json.dumps(messages, ensure_ascii=False)


def _source_ids(project: Project, names: Iterable[str]) -> dict[str, int]:
    names = sorted(names)
    Source.objects.bulk_create(
        (Source(project=project, name=name, kind=Source.Kind.IMPORT) for name in names), ignore_conflicts=True
    )
    return dict(Source.objects.filter(project=project, name__in=names).values_list("name", "pk"))


def _next_ids(model: type[models.Model], count: int) -> list[int]:
    """Ids taken from the table's own sequence, so that rows may refer to each other before they are written."""
    if not count:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            [model._meta.db_table, count],
        )
        return [row[0] for row in cursor.fetchall()]


def copy_rows(model: type[models.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """COPY rows into the model's table. JSON comes as text."""
    if not rows:
        return
    names = ", ".join(columns)
    command = f"COPY {model._meta.db_table} ({names}) FROM STDIN"
    # Django wraps the errors of execute() as its own, but not those of copy().
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(command) as copy:
        for row in rows:
            copy.write_row(row)
