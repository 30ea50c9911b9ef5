"""What came of a dataset version: the runs that trained on it, their checkpoints, and which of those were promoted."""

from dataclasses import dataclass

from annotate.models import DatasetVersion
from training.models import Checkpoint, Run

from .checkpoints import promoted_checkpoint

RUNS = 50


@dataclass(frozen=True)
class Made:
    """`promoted`: "now" while it answers the project's prompts, "once" if it did, else ""."""

    checkpoint: Checkpoint
    promoted: str


@dataclass(frozen=True)
class Trained:
    run: Run
    made: tuple[Made, ...]


def trained_on(version: DatasetVersion) -> list[Trained]:
    """The newest runs on the version first."""
    runs = list(
        Run.objects.filter(dataset_version=version).prefetch_related("checkpoints__promotions").order_by("-pk")[:RUNS]
    )
    now = promoted_checkpoint(version.project) if runs else None

    def promoted(checkpoint: Checkpoint) -> str:
        if checkpoint == now:
            return "now"
        return "once" if checkpoint.promotions.all() else ""

    return [Trained(run, tuple(Made(one, promoted(one)) for one in run.checkpoints.all())) for run in runs]
