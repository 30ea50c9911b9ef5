"""Exports as files, in the bytes that leave: made as they are asked for, the same each time."""

import csv
import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from annotate.models import DatasetVersion
from annotate.spreadsheets import csv_cell

from .options import SHARD_ROWS, Export

if TYPE_CHECKING:
    import pyarrow as pa

# Lines leave so many characters at a time; values become Python objects so many at a time.
PAGE, VALUES = 1024 * 1024, 250
# A zip's oldest date: the same files make the same zip whenever it is made.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
PARQUET = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 1,
    "write_statistics": False,
    "data_page_version": "1.0",
    "data_page_size": 1024 * 1024,
    # A row group's texts stand in it once, whatever their size.
    "dictionary_pagesize_limit": 1024**3,
    "store_schema": False,
}


def stream_export(version: DatasetVersion, export: Export) -> Iterator[bytes]:
    """The version's rows as the bytes of one file."""
    from .folder import folder_files
    from .shapes import export_tables, schema_of

    if export.is_zip:
        return _zip(folder_files(version, export) if export.format == "folder" else shard_files(version, export))
    tables, schema = export_tables(version, export, export.split), schema_of(version, export)
    makers: dict[str, Callable[[], Iterator[bytes]]] = {
        "jsonl": lambda: _jsonl(tables),
        "jsonl.gz": lambda: _gzip(_jsonl(tables)),
        "csv": lambda: _csv(tables, schema.names),
        "parquet": lambda: _parquet(tables, schema),
    }
    return makers[export.format]()


def count_rows(version: DatasetVersion, export: Export, split: str) -> int:
    """How many rows a split has in the export's shape."""
    from .shapes import count_rows

    return count_rows(version, export, split)


def shard_files(version: DatasetVersion, export: Export, folder: str = "") -> dict[str, Iterator[bytes]]:
    """Name → bytes of Parquet files of `shard_rows` rows at most, `train-00000-of-00003.parquet`, to be read in this order."""
    from .shapes import count_rows, export_tables, schema_of

    rows = export.shard_rows or SHARD_ROWS
    schema = schema_of(version, export)
    files: dict[str, Iterator[bytes]] = {}
    counts = {split: count for split in export.splits if (count := count_rows(version, export, split))}
    for split, count in (counts or {export.splits[0]: 0}).items():
        shards = max(1, -(-count // rows))
        cut = _Cut(export_tables(version, export, split))
        for number in range(shards):
            files[f"{folder}{split}-{number:05d}-of-{shards:05d}.parquet"] = _parquet(cut.take(rows), schema)
    return files


class _Cut:
    """Tables one after the other, cut where a file ends."""

    def __init__(self, tables: "Iterator[pa.Table]") -> None:
        self.tables = tables
        self.rest: pa.Table | None = None

    def take(self, rows: int) -> "Iterator[pa.Table]":
        while rows and (table := self.rest or next(self.tables, None)):
            self.rest = table.slice(rows) if table.num_rows > rows else None
            table = table.slice(0, rows)
            rows -= table.num_rows
            yield table


def _jsonl(tables: "Iterator[pa.Table]") -> Iterator[bytes]:
    for table in tables:
        line = "{" + ", ".join(f"{json.dumps(name)}: %s" for name in table.column_names) + "}\n"
        page, held = [], 0
        for values in zip(*map(_json, table.columns), strict=True):
            page.append(line % values)
            held += len(page[-1])
            if held > PAGE:
                yield "".join(page).encode()
                page, held = [], 0
        yield "".join(page).encode()


def _csv(tables: "Iterator[pa.Table]", names: list[str]) -> Iterator[bytes]:
    """Lists are JSON in their cell."""
    page = io.StringIO(newline="")
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(names)
    for table in tables:
        for values in zip(*map(_cells, table.columns), strict=True):
            writer.writerow(values)
            if page.tell() > PAGE:
                yield page.getvalue().encode()
                page.seek(0)
                page.truncate()
    yield page.getvalue().encode()


def _json(column: "pa.ChunkedArray") -> Iterator[str]:
    """Each value as JSON."""
    return _written(column, lambda value: json.dumps(_without_none(value), ensure_ascii=False))


def _cells(column: "pa.ChunkedArray") -> Iterator[Any]:
    import pyarrow.types as kinds

    is_nested = kinds.is_list(column.type) or kinds.is_struct(column.type)
    return _json(column) if is_nested else _written(column, csv_cell)


def _written(column: "pa.ChunkedArray", write: Callable[[Any], Any]) -> Iterator[Any]:
    """Each value as `write` gives it; a text that several rows share is written once."""
    import pyarrow.types as kinds

    for array in column.chunks:
        if kinds.is_dictionary(array.type):
            yield from _looked_up(array, write)
        elif kinds.is_list(array.type) and array.type.value_type == _turn():
            turns = array.flatten()
            roles, contents = (_looked_up(turns.field(name), write) for name in ("role", "content"))
            whole = [f'{{"role": {role}, "content": {content}}}' for role, content in zip(roles, contents, strict=True)]
            ends = array.offsets.to_numpy() - array.offsets[0].as_py()
            yield from (f"[{', '.join(whole[start:end])}]" for start, end in itertools.pairwise(ends))
        else:
            for start in range(0, len(array), VALUES):
                yield from map(write, array.slice(start, VALUES).to_pylist())


def _looked_up(array: "pa.DictionaryArray", write: Callable[[Any], Any]) -> Iterator[Any]:
    values = [write(value) for value in array.dictionary.to_pylist()]
    return map(values.__getitem__, array.indices.to_pylist())


def _turn() -> "pa.DataType":
    from .flat import MESSAGES

    return MESSAGES.value_type


def _without_none(value: Any) -> Any:
    """A struct's fields that a row does not have are left out."""
    if isinstance(value, dict):
        return {name: _without_none(one) for name, one in value.items() if one is not None}
    return value


def _gzip(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Without the time that gzip puts into its header."""
    packer = zlib.compressobj(6, wbits=31)
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()


class _Outlet(io.RawIOBase):
    """What a writer writes into; `taken` hands it on and forgets it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def write(self, data: Any) -> int:
        part = bytes(data)
        self.parts.append(part)
        self.position += len(part)
        return len(part)

    def taken(self) -> bytes:
        parts, self.parts = self.parts, []
        return b"".join(parts)


def _parquet(tables: "Iterator[pa.Table]", schema: "pa.Schema") -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    outlet = _Outlet()
    with pq.ParquetWriter(outlet, schema, **PARQUET) as writer:
        yield outlet.taken()
        for table in tables:
            writer.write_table(table)
            pa.default_memory_pool().release_unused()
            yield outlet.taken()
    yield outlet.taken()


def _zip(files: Mapping[str, Iterator[bytes]]) -> Iterator[bytes]:
    """Stored, since Parquet is compressed already."""
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w") as archive:
        for name, parts in files.items():
            info = zipfile.ZipInfo(name, ZIP_DATE)
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as entry:
                for part in parts:
                    entry.write(part)
                    yield outlet.taken()
    yield outlet.taken()
