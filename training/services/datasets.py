"""What a method can learn from a dataset version."""

from math import sqrt
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage

from annotate.models import DatasetVersion
from annotate.services.datasets import FILES


def dataset_files(version: DatasetVersion) -> list[Path]:
    return [Path(default_storage.path(f"{version.folder}/{name}")) for name in FILES]


def training_rows(version: DatasetVersion, method: str, arguments: dict[str, Any]) -> int:
    """How many rows of its training split the method would learn from.

    These are the rankings that order anything at all; for `sft` one best completion of each, and demonstrations, as
    far as `train_on` takes them; for `evaluate` the rankings that it would measure a reward model on; for `orpo` pairs. For
    `kto` completions, about: which of them are judged at all only the rankings themselves tell.
    """
    rankings = int(version.counts.get("train_best", 0))
    if method == "evaluate":
        held_out = int(version.counts.get("test_best", 0))
        return held_out if arguments.get("split") == "test" else rankings + held_out
    if method == "orpo" and arguments.get("pairs") == "all":
        return int(version.counts.get("train_pairs", 0))
    if method == "kto" and rankings:
        per_ranking = (1 + sqrt(1 + 8 * int(version.counts.get("train_pairs", 0)) / rankings)) / 2
        return round(rankings * (2 if arguments.get("desirable") == "best" else per_ranking))
    if method != "sft":
        return rankings
    demonstrations = int(version.counts.get("train_demonstrations", 0))
    wanted = str(arguments.get("train_on", "both"))
    return {"best": rankings, "demonstrations": demonstrations}.get(wanted, rankings + demonstrations)
