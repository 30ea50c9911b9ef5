"""An evaluation's stages: each goes through its items in batches and appends what it finds, so that a killed run goes on."""

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

from training.recipes.run_folder import RunFolder, drop_partial_line

Row = dict[str, Any]


class Item(Protocol):
    @property
    def key(self) -> str: ...

    @property
    def steps(self) -> int: ...


AnItem = TypeVar("AnItem", bound=Item)
Model = TypeVar("Model")


class Stages:
    """Counts the steps of all stages together; `total` is what all their items have."""

    def __init__(self, folder: RunFolder, total: int) -> None:
        self.folder, self.total, self.step = folder, total, 0

    def run(
        self,
        name: str,
        label: str,
        items: Sequence[AnItem],
        per_batch: int,
        work: Callable[[list[AnItem], int], list[Row]],
    ) -> dict[str, Row]:
        """What `work(batch, place of its first item)` gives for each item, by key; a line each in NAME.jsonl.

        A batch of which an earlier attempt has left only a part is done again whole, since what it gives (seeds, padding) may
        hang on all of it.
        """
        path = self.folder.path / f"{name}.jsonl"
        drop_partial_line(path)
        found: dict[str, Row] = {}
        if path.exists():
            found = {row.pop("key"): row for row in map(json.loads, path.open("rb"))}
        for start in range(0, len(items), per_batch):
            self.tell(label)
            batch = list(items[start : start + per_batch])
            if any(item.key not in found for item in batch):
                lines = b""
                for item, row in zip(batch, work(batch, start), strict=True):
                    if item.key not in found:
                        found[item.key] = row
                        lines += (
                            json.dumps({"key": item.key, **row}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
                        )
                with path.open("ab", buffering=0) as file:
                    file.write(lines)
            self.step += sum(item.steps for item in batch)
        if items:
            self.tell(label)
        return found

    def tell(self, label: str) -> None:
        self.folder.event("progress", step=self.step, total=self.total, stage=label)


@contextmanager
def at_need(load: Callable[[], Model]) -> Iterator[Callable[[], Model]]:
    """A function that gives the model, loaded at its first call; afterwards the memory is free for the next one."""
    held: list[Model] = []

    def get() -> Model:
        if not held:
            held.append(load())
        return held[0]

    yield get
    held.clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
