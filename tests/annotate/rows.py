"""Rows as people leave them behind, and dataset versions of them."""

from typing import Any

import pyarrow.parquet as pq
from django.utils import timezone

from annotate.models import (
    Assignment,
    Completion,
    DatasetVersion,
    Demonstration,
    Prompt,
    RankedCompletion,
    Ranking,
    Source,
    completion_hash,
    content_hash,
)
from annotate.services.datasets import FILES, create_version
from annotate.tasks import build_dataset_version


def rank(task, user, ranks: list[int], *, verdict: str = "ranked", seconds: float = 30, **changes) -> Ranking:
    """A stored ranking: `ranks` belong to the task's completions in their stored order."""
    completions = list(task.completions.order_by("pk"))
    assignment = Assignment.objects.create(
        project=task.project,
        task=task,
        annotator=user,
        state="submitted",
        lease_until=timezone.now(),
        shown_order=[completion.pk for completion in completions],
    )
    task.submitted += 1
    task.overlap = max(task.overlap, task.submitted)
    task.save()
    ranking = Ranking.objects.create(
        project=task.project,
        task=task,
        assignment=assignment,
        annotator=user,
        token=assignment.token,
        verdict=verdict,
        seconds=seconds,
        **changes,
    )
    RankedCompletion.objects.bulk_create(
        RankedCompletion(ranking=ranking, completion=completion, rank=place)
        for completion, place in zip(completions, ranks, strict=True)
    )
    return ranking


def demonstrate(project, user, question: str, text: str) -> Demonstration:
    messages = [{"role": "user", "content": question}]
    prompt, _ = Prompt.objects.get_or_create(
        project=project, content_hash=content_hash(messages), defaults={"messages": messages}
    )
    source, _ = Source.objects.get_or_create(project=project, name="people", defaults={"kind": "person"})
    completion = Completion.objects.create(prompt=prompt, source=source, text=text, content_hash=completion_hash(text))
    return Demonstration.objects.create(completion=completion, project=project, author=user)


def build(project, user, **options) -> DatasetVersion:
    version = create_version(project=project, user=user, **options)
    build_dataset_version(version.pk)
    version.refresh_from_db()
    return version


def rankings_of(version, storage) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(storage / version.folder / "rankings.parquet").to_pylist()
    return rows


def files_of(version, storage) -> list[bytes]:
    return [(storage / version.folder / name).read_bytes() for name in FILES]
