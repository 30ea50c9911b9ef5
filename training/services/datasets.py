"""What a method can learn from a dataset version."""

from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage

from annotate.models import DatasetVersion


def training_rows(version: DatasetVersion, method: str, arguments: dict[str, Any]) -> int:
    """How many training rows of the version the method would learn from.

    A ranking counts if it is in the training split and orders anything at all; for `sft` each completion that is
    ranked best on its own, and each demonstration, as far as `train_on` takes them. Raises FileNotFoundError.
    """
    rankings = _ordered_rankings(_file(version, "rankings"))
    if method != "sft":
        return rankings
    wanted = arguments.get("train_on", "both")
    demonstrations = _train_demonstrations(_file(version, "demonstrations"))
    return {"best": rankings, "demonstrations": demonstrations}.get(wanted, rankings + demonstrations)


def _file(version: DatasetVersion, name: str) -> Path:
    return Path(default_storage.path(f"{version.folder}/{name}.parquet"))


def _ordered_rankings(path: Path) -> int:
    import pyarrow.compute as pc  # costs 40 MB that most pages never need
    import pyarrow.parquet as pq

    total = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["split", "verdict", "ranks"]):
            mine = pc.and_(pc.equal(batch["split"], "train"), pc.equal(batch["verdict"], "ranked"))
            ranks = batch["ranks"].filter(mine)
            # Dense ranks: anything is ordered exactly when some rank is above 1.
            parents = pc.list_parent_indices(ranks).filter(pc.greater(pc.list_flatten(ranks), 1))
            total += len(pc.unique(parents))
    return total


def _train_demonstrations(path: Path) -> int:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return sum(
            pc.sum(pc.equal(batch["split"], "train")).as_py() or 0 for batch in file.iter_batches(columns=["split"])
        )
