"""Export a dataset version in the shapes that TRL reads, streamed from its Parquet files.

A page of rows at a time is held, never the whole: `stream_export` yields bytes as they are made.
"""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from django.core.files.storage import default_storage

from annotate.models import DatasetVersion
from annotate.spreadsheets import csv_cell

SHAPES = ("preference", "preference-implicit", "preference-conversational", "ranking", "sft")
FORMATS = ("jsonl", "csv", "parquet")
SPLITS = ("train", "test", "all")
CONTENT_TYPES = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/octet-stream",
}
# What versions of before these columns existed lack.
NOT_YET: dict[str, Any] = {"ratings": [], "role": "annotator"}
ROWS = 250
BYTES = 4 * 1024**2

Row = dict[str, Any]


def export_name(version: DatasetVersion, shape: str, format: str, split: str) -> str:
    return f"{version.project.slug}-v{version.number}-{shape}-{split}.{format}"


def stream_export(version: DatasetVersion, *, shape: str, format: str, split: str) -> Iterator[bytes]:
    """The version's rows in a shape, as a file of a format. ValueError, at once, for an unknown one of them."""
    for name, value, known in (("shape", shape, SHAPES), ("format", format, FORMATS), ("split", split, SPLITS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    batches = export_batches(version, shape, split)
    if format == "jsonl":
        return _jsonl(batches)
    if format == "csv":
        return _csv(batches, _names(version, shape))
    return _parquet(batches, version, shape)


def export_batches(version: DatasetVersion, shape: str, split: str) -> Iterator[list[Row]]:
    """Lists of rows in the shape, in the order of the version's files."""
    if shape == "sft":
        yield from _sft(version, split)
        return
    for rankings in stored_rows(version, "rankings.parquet", split):
        if shape == "ranking":
            yield [{**NOT_YET, **row, "created": row["created"].isoformat()} for row in rankings]
        else:
            yield [
                {**pair, **_weight(version, row)}
                for row in rankings
                for pair in _pairs(row, shape, is_plain=_is_plain(version, shape))
            ]


def stored_rows(version: DatasetVersion, file: str, split: str = "all") -> Iterator[list[Row]]:
    """Rows of one of the version's files, a few hundred at a time."""
    # pyarrow costs the web process 40 MB that most of its requests do not need.
    import pyarrow.parquet

    with default_storage.open(f"{version.folder}/{file}") as stored:
        parquet = pyarrow.parquet.ParquetFile(stored, pre_buffer=False, buffer_size=1024 * 1024)
        for group in range(parquet.metadata.num_row_groups):
            stored_group = parquet.metadata.row_group(group)
            # Freezing bounds a row group's bytes; of long rows only a few become Python objects at a time.
            size = max(1, min(ROWS, BYTES * stored_group.num_rows // max(stored_group.total_byte_size, 1)))
            for batch in parquet.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
                yield [row for row in batch.to_pylist() if split in ("all", row["split"])]


def loading_lines(version: DatasetVersion, shape: str, format: str, split: str = "train") -> str:
    """The lines of Python that load a downloaded export, and give it to TRL where TRL has a trainer for its shape."""
    name = export_name(version, shape, format, split)
    loader = {"jsonl": "json"}.get(format, format)
    options = ", keep_default_na=False" if format == "csv" else ""
    lines = ["from datasets import load_dataset"]
    data = f'data = load_dataset("{loader}", data_files="{name}", split="train"{options})'
    nested = [] if _is_plain(version, shape) else [name for name in _names(version, shape) if name != "weight"]
    if shape == "ranking":
        nested = ["prompt", "completions", "ranks", "ratings", "reasons"]
    if format == "csv" and nested:
        lines.insert(0, "import json")
        data += f"\ndata = data.map(lambda row: {{name: json.loads(row[name]) for name in {nested}}})"
    lines.append(data)
    if shape != "ranking":
        trainer = "SFTTrainer" if shape == "sft" else "DPOTrainer"
        lines.insert(1, f"from trl import {trainer}")
        lines.append(f'{trainer}("your-model", train_dataset=data).train()')
    return "\n".join(lines)


def _is_plain(version: DatasetVersion, shape: str) -> bool:
    """Prompts that are one question are given as text, unless a single one of the version is longer."""
    return shape == "preference" and not version.counts["has_turns"]


def _is_weighted(version: DatasetVersion) -> bool:
    return "weights" in version.counts


def _weight(version: DatasetVersion, row: Row) -> Row:
    """A column of its own where annotators weigh differently; trainers that know no weights pass it over."""
    return {"weight": row["weight"]} if _is_weighted(version) else {}


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _pairs(row: Row, shape: str, *, is_plain: bool) -> Iterator[Row]:
    """Every pair of different ranks; ties and all-bad rankings give none."""
    if row["verdict"] == "all_bad":
        return
    prompt = row["prompt"]
    ranked = sorted(
        zip(row["ranks"], (one["completion"] for one in row["completions"]), strict=True), key=lambda pair: pair[0]
    )
    for index, (better, chosen) in enumerate(ranked):
        for worse, rejected in ranked[index + 1 :]:
            if worse == better:
                continue
            if is_plain:
                yield {"prompt": prompt[0]["content"], "chosen": chosen, "rejected": rejected}
            elif shape == "preference-implicit":
                yield {"chosen": prompt + _assistant(chosen), "rejected": prompt + _assistant(rejected)}
            else:
                yield {"prompt": prompt, "chosen": _assistant(chosen), "rejected": _assistant(rejected)}


def _sft(version: DatasetVersion, split: str) -> Iterator[list[Row]]:
    for rows in stored_rows(version, "demonstrations.parquet", split):
        yield [
            {
                "prompt": row["prompt"],
                "completion": _assistant(_written(version, row)),
                **_weight(version, {"weight": 1.0}),
            }
            for row in rows
        ]
    for rows in stored_rows(version, "rankings.parquet", split):
        yield [
            {
                "prompt": row["prompt"],
                "completion": _assistant(row["completions"][row["ranks"].index(1)]["completion"]),
                **_weight(version, row),
            }
            for row in rows
            # A ranking that ties all has no best.
            if row["verdict"] == "ranked" and max(row["ranks"]) > 1
        ]


def _written(version: DatasetVersion, row: Row) -> str:
    """What a model wrote is imitated with its reasoning; people's answers stand alone."""
    if version.origin and row["reasoning"]:
        return f"<think>\n{row['reasoning']}\n</think>\n\n{row['completion']}"
    text: str = row["completion"]
    return text


def _names(version: DatasetVersion, shape: str) -> list[str]:
    if shape == "ranking":
        from .freezing import RANKINGS

        return list(RANKINGS.names)
    names = {"sft": ["prompt", "completion"], "preference-implicit": ["chosen", "rejected"]}
    return [*names.get(shape, ["prompt", "chosen", "rejected"]), *_weight(version, {"weight": 1.0})]


def _jsonl(batches: Iterator[list[Row]]) -> Iterator[bytes]:
    for rows in batches:
        yield "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _csv(batches: Iterator[list[Row]], names: list[str]) -> Iterator[bytes]:
    """Lists are JSON in their cell."""
    page = io.StringIO(newline="")
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(names)
    for rows in batches:
        for row in rows:
            writer.writerow([csv_cell(row[name]) for name in names])
        yield page.getvalue().encode()
        page.seek(0)
        page.truncate()
    yield page.getvalue().encode()


class _Outlet(io.RawIOBase):
    """What a ParquetWriter writes into; `taken` hands it on and forgets it."""

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


def _parquet(batches: Iterator[list[Row]], version: DatasetVersion, shape: str) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from .freezing import MESSAGES, RANKINGS

    if shape == "ranking":
        schema = RANKINGS.set(RANKINGS.get_field_index("created"), pa.field("created", pa.string()))
    else:
        text = pa.string() if _is_plain(version, shape) else MESSAGES
        schema = pa.schema([(name, pa.float64() if name == "weight" else text) for name in _names(version, shape)])
    outlet = _Outlet()
    with pq.ParquetWriter(outlet, schema, compression="zstd", store_schema=False) as writer:
        yield outlet.taken()
        for rows in batches:
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                yield outlet.taken()
    yield outlet.taken()
