"""Read JSON Lines, JSON arrays, CSV and Parquet, and archives of them, as streams of records.

Memory stays bounded whatever the file holds, and no bad row stops the others.
"""

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from django.utils.translation import gettext as _

from .checks import parse_json
from .errors import CHUNK, FileError, printable
from .json_rows import array_records, line_records
from .lines import BOM, Lines, inflated
from .records import Record, RecordFile
from .tables import table_records

__all__ = ["EXTENSIONS", "Record", "RecordFile", "kind_of", "open_records", "parse_json"]

KINDS = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".zip": "zip",
}
EXTENSIONS = tuple(KINDS)
Look = Callable[[], None]


def kind_of(name: str) -> str:
    """'json', 'csv', 'parquet' or 'zip' by the file's name; FileError if it is none of them."""
    base = name.lower().removesuffix(".gz")
    kind = KINDS.get(os.path.splitext(base)[1])
    if kind is None or (kind in ("parquet", "zip") and base != name.lower()):
        raise FileError(
            _(
                "“%(name)s” is no file that can be imported: it must end in .jsonl, .json, .csv (each also with .gz), "
                ".parquet or .zip."
            )
            % {"name": printable(name, 100)}
        )
    return kind


def open_records(stream: BinaryIO, name: str, look: Look = lambda: None) -> RecordFile:
    """The records of a seekable binary stream. Raises FileError, at once or while reading.

    `look` is called with every piece of text that is read, and may raise FileError: much text may hold no record.
    """
    kind = kind_of(name)
    stream.seek(0, os.SEEK_END)
    size = stream.tell()
    stream.seek(0)
    if not size:
        raise FileError(_("The file is empty."))
    magic = stream.read(4)
    stream.seek(0)
    if kind == "parquet":
        from .parquet import open_parquet

        return open_parquet(stream, magic)
    if kind == "zip":
        from .archives import open_archive

        return open_archive(stream, size, look)
    return RecordFile(text_records(stream.read, name, magic, look), lambda: min(stream.tell() / size, 1.0))


def text_records(read: Callable[[int], bytes], name: str, magic: bytes, look: Look) -> Iterator[Record]:
    """The records of JSON or CSV, packed or not, of which `magic` are the first bytes."""
    packed = magic[:2] == b"\x1f\x8b"
    if name.lower().endswith(".gz") and not packed:
        raise FileError(_("The file's name ends in .gz, but it is not gzip-compressed or its beginning is damaged."))
    if magic[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise FileError(_("The file is UTF-16. Save it as UTF-8 and upload it again."))
    if magic == b"PAR1":
        raise FileError(_("The file is Parquet. Give it a name that ends in .parquet and upload it again."))
    if magic == b"PK\x03\x04":
        raise FileError(_("The file is a zip archive. Give it a name that ends in .zip and upload it again."))
    chunks = _looked_at(inflated(read) if packed else iter(lambda: read(CHUNK), b""), look)
    if kind_of(name) == "csv":
        return table_records(Lines(chunks))
    return _json_records(chunks)


def _looked_at(chunks: Iterator[bytes], look: Look) -> Iterator[bytes]:
    for chunk in chunks:
        look()
        yield chunk


def _json_records(chunks: Iterator[bytes]) -> Iterator[Record]:
    """A file that begins with a bracket is an array, whatever its name says."""
    for chunk in chunks:
        begun = chunk.removeprefix(BOM).lstrip()
        if begun:
            rest = _before(chunk, chunks)
            return array_records(rest) if begun.startswith(b"[") else line_records(Lines(rest))
    return iter(())


def _before(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from others
