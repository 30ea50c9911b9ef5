"""Read Parquet as a stream of records: rows as they were written, and of a few megabytes at a time."""

from collections.abc import Iterator
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from .errors import (
    MAX_COLUMNS,
    MAX_LINE,
    MAX_RATIO,
    RATIO_CHECKED_FROM,
    FileError,
    RowError,
    printable,
    unpacks_beyond,
)
from .records import Record, RecordFile

ROWS = 100
BYTES = 8 * 1024**2


def open_parquet(stream: BinaryIO, magic: bytes) -> RecordFile:
    import pyarrow
    import pyarrow.parquet

    if magic != b"PAR1":
        raise FileError(_("The file is no Parquet file, or its beginning is damaged."))
    try:
        file = pyarrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=1024 * 1024)
        if file.metadata.num_columns > MAX_COLUMNS:
            reason = _("The file has %(columns)d columns; at most %(most)d are read.")
            raise FileError(reason % {"columns": file.metadata.num_columns, "most": MAX_COLUMNS})
        file = _with_dictionaries(stream, file)
        sizes = [_batch_size(file, group) for group in range(file.metadata.num_row_groups)]
    except (pyarrow.ArrowException, OSError) as error:
        raise FileError(_("The Parquet file is damaged or cut off: %(what)s.") % {"what": _short(error)}) from error
    total = max(file.metadata.num_rows, 1)
    read = 0

    def records() -> Iterator[Record]:
        nonlocal read
        try:
            for piece in _pieces_of(file, sizes):
                if piece.num_rows == 1 and _unpacked_size(piece) > MAX_LINE:
                    read += 1
                    yield Record(read, problem=RowError("", _("The row is longer than 16 MB.")))
                    continue
                for value in piece.to_pylist():
                    read += 1
                    yield Record(read, value)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise FileError(
                _("The Parquet file is damaged after row %(row)d: %(what)s. The rows before it were imported.")
                % {"row": read, "what": _short(error)}
            ) from error

    return RecordFile(records(), lambda: read / total)


def _with_dictionaries(stream: BinaryIO, file: Any) -> Any:
    """The file again, its texts as dictionaries: one that a million rows repeat is then held once."""
    import pyarrow.parquet

    encodings: dict[str, set[str]] = {}
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        for column in (group.column(number) for number in range(group.num_columns)):
            if column.physical_type == "BYTE_ARRAY":
                encodings.setdefault(column.path_in_schema, set()).update(column.encodings)
    # pyarrow makes no dictionaries of delta encodings; `_batch_size` bounds those.
    texts = [path for path, found in encodings.items() if not any(one.startswith("DELTA") for one in found)]
    return pyarrow.parquet.ParquetFile(stream, read_dictionary=texts, pre_buffer=False, buffer_size=1024 * 1024)


def _batch_size(file: Any, index: int) -> int:
    """How many rows of a row group to decode at a time: some 8 MB by the file's own figures. FileError for a bomb."""
    group = file.metadata.row_group(index)
    unpacked, packed, longest = 1, 1, 1
    for number in range(group.num_columns):
        column = group.column(number)
        described = file.schema.column(number)
        repeated = column.num_values - group.num_rows if described.max_repetition_level else 0
        unpacked += column.total_uncompressed_size + 8 * max(repeated, 0)
        packed += column.total_compressed_size
        if column.physical_type == "BYTE_ARRAY" and "DELTA_BYTE_ARRAY" in column.encodings:
            # Each value may share its beginning with the one before, hence be as long as all that is stored.
            longest = max(longest, column.total_uncompressed_size)
        elif described.physical_type == "FIXED_LEN_BYTE_ARRAY":
            longest = max(longest, described.length)
    if unpacked > RATIO_CHECKED_FROM and unpacked > MAX_RATIO * packed:
        raise FileError(unpacks_beyond())
    rows = int(BYTES * group.num_rows // unpacked)
    return max(min(ROWS, rows, 8 * BYTES // longest), 1)


def _pieces_of(file: Any, sizes: list[int]) -> Iterator[Any]:
    # A batch across two row groups has two dictionaries, which pyarrow cannot join inside of lists.
    for group, size in enumerate(sizes):
        for batch in file.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
            yield from _pieces(batch)


def _pieces(batch: Any) -> Iterator[Any]:
    """The batch's rows in order, in slices that hold no more than 8 MB unpacked, or one row."""
    if batch.num_rows < 2 or _unpacked_size(batch) <= BYTES:
        if batch.num_rows:
            yield batch
        return
    half = batch.num_rows // 2
    yield from _pieces(batch.slice(0, half))
    yield from _pieces(batch.slice(half))


def _unpacked_size(batch: Any) -> int:
    """About how many bytes the batch's values take as Python objects, found without making them."""
    return sum(_array_size(column) for column in batch.columns)


def _array_size(array: Any) -> int:
    import pyarrow
    import pyarrow.compute as compute

    size = 8 * len(array)
    if pyarrow.types.is_dictionary(array.type):
        lengths = compute.binary_length(array.dictionary)
        return size + (compute.sum(compute.cast(lengths.take(array.indices), pyarrow.int64())).as_py() or 0)
    if pyarrow.types.is_struct(array.type):
        return size + sum(_array_size(child) for child in array.flatten())
    if pyarrow.types.is_nested(array.type):
        return size + _array_size(array.flatten())
    return size + int(array.nbytes)


def _short(error: Exception) -> str:
    return printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 150)
