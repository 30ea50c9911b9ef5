"""What the page of an evaluation shows: its figures with the tables behind them, and in words what they mean.

Reads a run's `result["evaluation"]` (docs/training.md, 'Evaluation').
"""

from collections.abc import Iterator, Mapping
from typing import Any

from annotate.figures import Figure
from training.metrics import final_figures
from training.models import Run

from .policies import answers, wins
from .preference import agreement
from .spending import spending
from .words import Section

# What an evaluation says of a checkpoint, by the role that it played.
TOLD = {
    "reward_model": ("reward_accuracy", "calibration_error"),
    "policy": ("answer_accuracy", "win_rate_reward_model", "win_rate_judge", "best_of_n_accuracy"),
    "baseline": ("baseline_answer_accuracy",),
}


def sections(evaluation: Mapping[str, Any]) -> list[Section]:
    found = (agreement(evaluation), wins(evaluation), answers(evaluation), spending(evaluation))
    return [section for section in found if section]


def figures(evaluation: Mapping[str, Any]) -> Iterator[Figure]:
    for section in sections(evaluation):
        yield from section.figures


def told_of(run: Run, role: str) -> list[tuple[str, str]]:
    """(label, text) of the figures that say something of the checkpoint which played `role`."""
    metrics = run.result.get("metrics") or {}
    names = {f"{name}{end}" for name in TOLD.get(role, ()) for end in ("", "_low", "_high")}
    return final_figures({name: value for name, value in metrics.items() if name in names})
