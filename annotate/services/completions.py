"""Completions that a model wrote, on their way to the people who rank them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, TypeVar

from django.db import transaction

from annotate.models import (
    K_MAX,
    Completion,
    Project,
    Prompt,
    RankingTask,
    Source,
    TaskCompletion,
    completion_hash,
    content_hash,
)

from .overlap import overlap_of

BATCH = 500
T = TypeVar("T")


@dataclass(frozen=True)
class Generated:
    """One completion that a model wrote for a stored prompt."""

    prompt_id: int
    text: str
    reasoning: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        return completion_hash(self.text, self.reasoning)


@transaction.atomic
def add_completions(*, project: Project, source: Source, generated: Iterable[Generated]) -> dict[str, int]:
    """Store completions of `source` and ask people to rank them: a task per prompt with two or more distinct ones.

    Completions of one prompt follow each other. Adding the same ones again adds nothing. Returns how many `prompts` were answered,
    `completions` and `tasks` were added, and how many completions were left out as `duplicates` of another one of the same prompt and
    source, as `empty`, or for an `unknown_prompt`; `single` counts prompts that are left with fewer than two distinct completions.
    """
    counts = dict.fromkeys(("prompts", "completions", "tasks", "duplicates", "empty", "unknown_prompt", "single"), 0)
    # Until the end, as imports do: what is added and a change of the settings that it is added by come one after the other.
    project = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    by_prompt = ((pk, list(group)) for pk, group in groupby(generated, key=attrgetter("prompt_id")))
    for batch in _batches(by_prompt, BATCH):
        _add_batch(project, source, dict(batch), counts)
    return counts


def _add_batch(project: Project, source: Source, answers: dict[int, list[Generated]], counts: dict[str, int]) -> None:
    known = set(Prompt.objects.filter(project=project, pk__in=answers).values_list("pk", flat=True))
    wanted: dict[int, dict[str, Generated]] = {}
    for prompt_id, items in answers.items():
        if prompt_id not in known:
            counts["unknown_prompt"] += len(items)
            continue
        cleaned = [
            # Postgres stores no NUL.
            Generated(prompt_id, item.text.replace("\0", ""), item.reasoning.replace("\0", ""), item.sampling)
            for item in items
        ]
        filled = [item for item in cleaned if item.text.strip()]
        distinct = {item.content_hash: item for item in filled}
        counts["prompts"] += 1
        counts["empty"] += len(items) - len(filled)
        counts["duplicates"] += len(filled) - len(distinct)
        wanted[prompt_id] = distinct

    stored = _stored(source, wanted)
    new = [
        Completion(
            prompt_id=prompt_id,
            source=source,
            text=item.text,
            reasoning=item.reasoning,
            sampling=item.sampling,
            content_hash=digest,
        )
        for prompt_id, distinct in wanted.items()
        for digest, item in distinct.items()
        if (prompt_id, digest) not in stored
    ]
    counts["duplicates"] += len(stored)
    counts["completions"] += len(new)
    Completion.objects.bulk_create(new, ignore_conflicts=True)
    _add_tasks(project, wanted, _stored(source, wanted), counts)


def _stored(source: Source, wanted: dict[int, dict[str, Generated]]) -> dict[tuple[int, str], int]:
    """(prompt id, content hash) → id of the wanted completions that are stored already."""
    rows = Completion.objects.filter(
        source=source,
        prompt_id__in=wanted,
        content_hash__in={digest for distinct in wanted.values() for digest in distinct},
    ).values_list("prompt_id", "content_hash", "pk")
    return {(prompt_id, digest): pk for prompt_id, digest, pk in rows if digest in wanted[prompt_id]}


def _add_tasks(
    project: Project, wanted: dict[int, dict[str, Generated]], ids: dict[tuple[int, str], int], counts: dict[str, int]
) -> None:
    completions_of: dict[str, list[int]] = {}
    tasks = []
    for prompt_id, distinct in wanted.items():
        completion_ids = sorted(ids[prompt_id, digest] for digest in distinct)[:K_MAX]
        if len(completion_ids) < 2:
            counts["single"] += 1
            continue
        digest = content_hash(completion_ids)
        completions_of[digest] = completion_ids
        overlap = overlap_of(project, digest)
        tasks.append(RankingTask(project=project, prompt_id=prompt_id, content_hash=digest, overlap=overlap))
    existing = set(
        RankingTask.objects.filter(project=project, content_hash__in=completions_of).values_list(
            "content_hash", flat=True
        )
    )
    added = RankingTask.objects.bulk_create(task for task in tasks if task.content_hash not in existing)
    TaskCompletion.objects.bulk_create(
        TaskCompletion(task=task, completion_id=pk) for task in added for pk in completions_of[task.content_hash]
    )
    counts["tasks"] += len(added)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
