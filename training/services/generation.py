"""What becomes of the completions that a generation has written."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from annotate.services.completions import Generated
from training.models import Run

PROMPTS_AT_ONCE = 200


def read_batches(run: Run, folder: Path, *, start: int) -> Iterator[tuple[int, list[Generated]]]:
    """The completions in completions.jsonl after its first `start` lines, with how many lines are done after each batch.

    A batch holds whole lines, so all completions of a prompt.
    """
    path = folder / "completions.jsonl"
    if not path.exists():
        return
    done = start
    with path.open("rb") as file:
        lines = islice((line for line in file if line.endswith(b"\n")), start, None)
        while batch := list(islice(lines, PROMPTS_AT_ONCE)):
            done += len(batch)
            yield done, [completion for line in batch for completion in _completions(json.loads(line), run)]


def _completions(row: dict[str, Any], run: Run) -> Iterator[Generated]:
    for completion in row["completions"]:
        yield Generated(
            prompt_id=row["prompt_id"],
            text=completion["completion"],
            reasoning=completion.get("reasoning", ""),
            sampling={**completion.get("sampling", {}), "finish": completion.get("finish"), "run": run.pk},
        )
