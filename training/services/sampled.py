"""The dataset version that a run makes of the examples it has left in its folder."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.utils.translation import gettext_noop

from annotate.models import DatasetVersion
from annotate.services.datasets import NothingToFreeze, Stored, register_version, store_examples
from training.models import Run

from .failures import RunFailed

# What the recipe calls the reasons for which it keeps a completion out. Stored in English; the page translates them.
REASONS = {
    "empty": gettext_noop("Without an answer"),
    "cut": gettext_noop("Cut by the longest length"),
    "repeated": gettext_noop("The same as another of the prompt"),
    "unscored": gettext_noop("No reward says anything of them"),
    "below": gettext_noop("Not above the threshold"),
    "beyond": gettext_noop("Good enough, but the prompt has better ones"),
    "known": gettext_noop("In the mixed-in version already"),
}


def store_sampled(folder: Path, tick: Callable[[], None]) -> Stored:
    """Freeze what lies in dataset/demonstrations.jsonl. Raises RunFailed when that cannot be read."""
    try:
        return store_examples(_rows(folder / "dataset/demonstrations.jsonl"), tick=tick)
    except (FileNotFoundError, NothingToFreeze) as error:
        raise RunFailed("crash", gettext_noop("The recipe ended well but left no examples.")) from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunFailed("crash", f"The recipe ended well but left examples that cannot be read: {error!r}") from error


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    # Bytes, whose lines end at \n alone: text would also be cut at U+2028 inside an answer.
    with path.open("rb") as file:
        yield from map(json.loads, file)


def register_sampled(run: Run, stored: Stored, result: dict[str, Any]) -> DatasetVersion:
    counts = result.get("left_out") or {}
    return register_version(
        project=run.project,
        stored=stored,
        origin=f"run:{run.pk}",
        user=run.created_by,
        note=run.note,
        left_out={words: counts[reason] for reason, words in REASONS.items() if counts.get(reason)},
    )
