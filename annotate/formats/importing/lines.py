"""Bytes of a file, unpacked and cut into lines, with no more than one line held."""

import zlib
from collections.abc import Callable, Iterator

from django.utils.translation import gettext as _

from .errors import (
    CHUNK,
    HEAD,
    MAX_LINE,
    MAX_RATIO,
    RATIO_CHECKED_FROM,
    FileError,
    unpacks_beyond,
)

BOM = b"\xef\xbb\xbf"


class Cut(bytes):
    """The beginning of a line that is longer than 16 MB."""


def inflated(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The content of a gzip stream, in pieces. FileError where it is damaged, breaks off or is a decompression bomb."""
    inflate = zlib.decompressobj(wbits=31)
    taken = written = 0
    try:
        while chunk := read(CHUNK):
            taken += len(chunk)
            data = b""
            while chunk or len(data) == CHUNK:
                data = inflate.decompress(chunk, CHUNK)
                written += len(data)
                if written > RATIO_CHECKED_FROM and written > MAX_RATIO * taken:
                    raise FileError(unpacks_beyond())
                if data:
                    yield data
                chunk = inflate.unconsumed_tail
                if inflate.eof:
                    # Several gzip files in a row are one; zeros behind the last are padding.
                    chunk = inflate.unused_data.lstrip(b"\0")
                    data = b""
                    if chunk:
                        inflate = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise FileError(
            _("The compressed file is damaged. The rows before the damage were imported; pack it again and upload it.")
        ) from error
    if not inflate.eof:
        raise FileError(
            _("The compressed file breaks off. The rows before the break were imported; upload the whole file.")
        )


class Lines:
    """Lines of a stream of chunks, with their line ends. `number` is that of the latest line.

    Of a line longer than 16 MB its beginning comes, as `Cut`; no more than 16 MB are ever held.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.number = 0

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        cut: Cut | None = None
        at_start = True
        broken: FileError | None = None
        while True:
            try:
                chunk = next(self.chunks, b"")
            except FileError as error:
                # Rows before the break count; the line that it cut does not.
                broken = error
                break
            if not chunk:
                break
            if at_start:
                chunk = chunk.removeprefix(BOM)
                at_start = False
            end = chunk.find(b"\n")
            if end < 0:
                if cut is None and len(rest) + len(chunk) > MAX_LINE:
                    cut = Cut((rest + chunk)[:HEAD])
                rest = b"" if cut is not None else rest + chunk
                continue
            first = rest + chunk[: end + 1]
            self.number += 1
            if cut is not None or len(first) > MAX_LINE:
                yield Cut(first[:HEAD]) if cut is None else cut
            else:
                yield first
            cut = None
            pieces = chunk[end + 1 :].splitlines(keepends=True) if b"\r" not in chunk else _split(chunk[end + 1 :])
            rest = pieces.pop() if pieces and not pieces[-1].endswith(b"\n") else b""
            for piece in pieces:
                self.number += 1
                yield piece if len(piece) <= MAX_LINE else Cut(piece[:HEAD])
        if broken:
            raise broken
        if rest or cut is not None:
            self.number += 1
            yield rest if cut is None else cut


def _split(chunk: bytes) -> list[bytes]:
    """As bytes.splitlines, but a carriage return alone ends no line."""
    lines = [line + b"\n" for line in chunk.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]
