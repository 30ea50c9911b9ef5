"""Which prompts a generation answers, and what becomes of its completions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce

from annotate.models import Project, Prompt, Ranking, RankingTask, Source
from annotate.services.completions import Generated, add_completions
from training.models import Run


def prompts_to_answer(project: Project, limit: int) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """(id, messages) of the prompts with the fewest rankings, then the fewest tasks, then the oldest."""
    rankings = Ranking.objects.current().filter(task__prompt=OuterRef("pk")).order_by()
    tasks = RankingTask.objects.filter(prompt=OuterRef("pk")).order_by()
    counted = Prompt.objects.filter(project=project).annotate(
        n_rankings=Coalesce(Subquery(rankings.values("task__prompt").annotate(n=Count("pk")).values("n")), 0),
        n_tasks=Coalesce(Subquery(tasks.values("prompt").annotate(n=Count("pk")).values("n")), 0),
    )
    return counted.order_by("n_rankings", "n_tasks", "pk").values_list("pk", "messages")[:limit].iterator()


def register_completions(run: Run, folder: Path, source: Source) -> dict[str, int]:
    """Turn completions.jsonl into completions and ranking tasks. Returns the counts."""
    return add_completions(project=run.project, source=source, generated=_read(folder / "completions.jsonl", run))


def _read(path: Path, run: Run) -> Iterator[Generated]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                row: dict[str, Any] = json.loads(line)
                for completion in row["completions"]:
                    yield Generated(
                        prompt_id=row["prompt_id"],
                        text=completion["completion"],
                        reasoning=completion.get("reasoning", ""),
                        sampling={**completion.get("sampling", {}), "finish": completion.get("finish"), "run": run.pk},
                    )
