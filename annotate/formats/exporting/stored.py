"""A version's files as they are stored, read a few megabytes at a time."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.core.files.storage import default_storage

from annotate.models import DatasetVersion

if TYPE_CHECKING:
    from pyarrow import RecordBatch

# What versions of before these columns existed lack.
NOT_YET: dict[str, Any] = {"ratings": [], "role": "annotator", "weight": 1.0}
ROWS, BYTES = 1000, 4 * 1024**2
# Of long rows only a few become Python objects at a time.
PYTHON_ROWS, PYTHON_BYTES = 250, 4 * 1024**2

Row = dict[str, Any]


def stored_rows(version: DatasetVersion, file: str, split: str = "all") -> Iterator[list[Row]]:
    """Rows of one of the version's files, a few hundred at a time."""
    for batch in stored_batches(version, file, split, rows=PYTHON_ROWS, size=PYTHON_BYTES):
        yield batch.to_pylist()


def stored_batches(
    version: DatasetVersion,
    file: str,
    split: str = "all",
    *,
    columns: Sequence[str] = (),
    rows: int = ROWS,
    size: int = BYTES,
) -> Iterator["RecordBatch"]:
    """Batches of one of the version's files, of at most so many rows and about so many bytes; `columns` that it lacks are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with default_storage.open(f"{version.folder}/{file}") as stored:
        parquet = pq.ParquetFile(stored, pre_buffer=False, buffer_size=1024 * 1024)
        wanted = [name for name in (*columns, "split") if name in parquet.schema_arrow.names] if columns else None
        for group in range(parquet.metadata.num_row_groups):
            held = parquet.metadata.row_group(group)
            fits = max(1, min(rows, size * held.num_rows // max(held.total_byte_size, 1)))
            for batch in parquet.iter_batches(batch_size=fits, row_groups=[group], columns=wanted, use_threads=False):
                yield batch if split == "all" else batch.filter(pc.equal(batch["split"], split))
                # Arrow keeps what it frees, up to twice as much as all the rest, unless it is asked.
                pa.default_memory_pool().release_unused()
