"""Which of a project's prompts a run samples from, as data/prompts.jsonl holds them."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from annotate.models import Project, Prompt, Ranking, RankingTask, split_of
from training.models import Run
from training.recipes.arguments import METHODS, Method

# The share that is held out, the usual one of a dataset version too: then a prompt is on the same side in both.
TEST_FRACTION = 0.1


def prompts_of(run: Run) -> Iterator[dict[str, Any]]:
    return chosen_prompts(run.project, METHODS[run.method], run.arguments)


def chosen_prompts(project: Project, method: Method, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """{"prompt_id", "prompt": [messages], "answer": the reference answer or "", "tags", "split": "train" | "test", "content_hash"} for each."""
    rows = least_ranked(project) if method.prompts == "least_ranked" else _shuffled(project)
    if tag := arguments.get("prompt_tag"):
        rows = rows.filter(tags__contains=[tag])
    # An evaluation names the side that it wants; the prompts of the other side count for nothing.
    yield from islice(_on_side(rows, arguments.get("split", "all")), arguments["num_prompts"])


def _on_side(rows: QuerySet[Prompt], wanted: str) -> Iterator[dict[str, Any]]:
    columns = rows.values_list("pk", "messages", "reference_answer", "tags", "content_hash")
    for pk, messages, answer, tags, digest in columns.iterator():
        split = split_of(digest, TEST_FRACTION)
        if wanted in ("all", split):
            yield {
                "prompt_id": pk,
                "prompt": messages,
                "answer": answer,
                "tags": tags,
                "split": split,
                "content_hash": digest,
            }


def tags_of(project: Project) -> Iterator[dict[str, Any]]:
    """{"prompt_id": content hash, "tags"} of each prompt that bears any: what rankings.parquet does not say."""
    rows = Prompt.objects.filter(project=project).exclude(tags=[]).order_by("pk")
    for digest, tags in rows.values_list("content_hash", "tags").iterator():
        yield {"prompt_id": digest, "tags": tags}


def least_ranked(project: Project) -> QuerySet[Prompt]:
    """The prompts with the fewest rankings first, then the fewest tasks, then the oldest."""
    rankings = Ranking.objects.current().filter(task__prompt=OuterRef("pk")).order_by()
    tasks = RankingTask.objects.filter(prompt=OuterRef("pk")).order_by()
    counted = Prompt.objects.filter(project=project).annotate(
        n_rankings=Coalesce(Subquery(rankings.values("task__prompt").annotate(n=Count("pk")).values("n")), 0),
        n_tasks=Coalesce(Subquery(tasks.values("prompt").annotate(n=Count("pk")).values("n")), 0),
    )
    return counted.order_by("n_rankings", "n_tasks", "pk")


def _shuffled(project: Project) -> QuerySet[Prompt]:
    """In the order of their hashes, which is as good as a shuffle and the same wherever the prompts are the same."""
    return Prompt.objects.filter(project=project).order_by("content_hash")
