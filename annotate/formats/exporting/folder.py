"""A folder as the Hugging Face hub holds data sets: a card and Parquet files, `datasets.load_dataset(folder)` loads it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from annotate.models import DatasetVersion

from .card import write_card
from .files import shard_files
from .options import Export


def folder_files(version: DatasetVersion, export: Export) -> dict[str, Iterator[bytes]]:
    """Name → bytes, to be read in this order."""
    data = shard_files(version, export, "data/") if export.format == "folder" else shard_files(version, export)
    splits = sorted({name.removeprefix("data/").partition("-")[0] for name in data}, reverse=True)
    return {"README.md": _card(version, export, splits), **data} if export.format == "folder" else data


def write_folder(
    version: DatasetVersion, export: Export, folder: Path, tick: Callable[[], None] = lambda: None
) -> None:
    """Write a folder, or one of shards alone, where nothing is yet; `tick` is called between parts. FileExistsError."""
    folder.mkdir(parents=True)
    for name, parts in folder_files(version, export).items():
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / name).open("xb") as out:
            for part in parts:
                out.write(part)
                tick()


def _card(version: DatasetVersion, export: Export, splits: list[str]) -> Iterator[bytes]:
    yield write_card(version, export, splits).encode()
