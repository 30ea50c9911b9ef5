"""Read zip archives: the files in them one after another, as if each had been given alone.

Names of members are shown and never used as paths; nothing is unpacked to where a name says.
"""

import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, BinaryIO, cast

from django.utils.translation import gettext as _

from .checks import HIDDEN
from .errors import (
    CHUNK,
    MAX_RATIO,
    RATIO_CHECKED_FROM,
    FileError,
    RowError,
    printable,
    unpacks_beyond,
)
from .reading import KINDS, Look, kind_of, text_records
from .records import Record, RecordFile

MAX_MEMBERS = 10_000
MAX_DIRECTORY = 8 * 1024**2
# What is packed already does not pack much further, and Parquet is unpacked to the disk.
MAX_RATIO_PACKED = 20
SPOOLED = 16 * 1024**2
ENCRYPTED = 0x1
END = struct.Struct("<4s4H2LH")
END64_PLACE = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")


def open_archive(stream: BinaryIO, size: int, look: Look) -> RecordFile:
    """The records of the archive's files, in the archive's order. FileError for one that is damaged or made to do harm."""
    _check_directory(stream, size)
    try:
        archive = zipfile.ZipFile(stream)
        members = [one for one in archive.infolist() if _is_wanted(one)]
        _check_members(archive.infolist(), size)
    # zipfile says NotImplementedError of a version or a method of packing that it does not know.
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise FileError(_("The zip archive is damaged or cut off.")) from error
    if not members:
        raise FileError(
            _("The archive has no file that can be imported: its files must end in .jsonl, .json, .csv or .parquet.")
        )
    total = max(sum(one.compress_size for one in members), 1)
    done = 0
    current: IO[bytes] | None = None

    def records() -> Iterator[Record]:
        nonlocal done, current
        for member in members:
            refusal = _refusal(member)
            if refusal:
                yield Record(0, problem=RowError("", refusal), raw=shown(member).encode(), member=shown(member))
                done += member.compress_size
                continue
            try:
                with archive.open(member) as current:
                    for one in _records_of(member, current, look):
                        one.member = shown(member)
                        yield one
            except FileError as error:
                raise FileError(_("%(member)s: %(error)s") % {"member": shown(member), "error": error}) from error
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
                raise FileError(
                    _("%(member)s is damaged in the archive. The rows before the damage were imported.")
                    % {"member": shown(member)}
                ) from error
            done += member.compress_size

    return RecordFile(records(), lambda: min(done / total, 1.0))


def shown(member: zipfile.ZipInfo) -> str:
    """The member's name as a page can show it."""
    return printable(HIDDEN.sub("\ufffd", member.filename), 200)


def _check_directory(stream: BinaryIO, size: int) -> None:
    """FileError for more members than anybody has, before the whole directory is read into memory."""
    begin = max(size - END.size - 65535, 0)
    stream.seek(begin)
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < END.size:
        raise FileError(_("The file is no zip archive, or its end is missing."))
    _sign, _disk, _disks, _here, count, length, _offset, _comment = END.unpack_from(tail, at)
    stream.seek(max(begin + at - END64_PLACE.size - END64.size, 0))
    before = stream.tell()
    far = stream.read(begin + at - before)
    if far[-END64_PLACE.size :].startswith(b"PK\x06\x07"):
        # Some readers look where the locator says, some right before it: both must find the same record.
        _sign, _disk, place, _disks = END64_PLACE.unpack(far[-END64_PLACE.size :])
        if place != before or len(far) < END64.size + END64_PLACE.size or not far.startswith(b"PK\x06\x06"):
            raise FileError(_("The zip archive is damaged or cut off."))
        *_others, count, length, _offset = END64.unpack_from(far)
    stream.seek(0)
    if count > MAX_MEMBERS or length > MAX_DIRECTORY:
        raise FileError(_("The archive has more than %(most)d files.") % {"most": MAX_MEMBERS})


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > MAX_MEMBERS:
        raise FileError(_("The archive has more than %(most)d files.") % {"most": MAX_MEMBERS})
    unpacked = sum(one.file_size for one in members)
    if unpacked > RATIO_CHECKED_FROM and unpacked > MAX_RATIO * size:
        raise FileError(unpacks_beyond())
    for one in members:
        already = one.filename.lower().endswith((".gz", ".parquet"))
        if already and one.file_size > RATIO_CHECKED_FROM and one.file_size > MAX_RATIO_PACKED * one.compress_size:
            raise FileError(unpacks_beyond())
    ordered = sorted(members, key=lambda one: one.header_offset)
    for one, following in pairwise(ordered):
        if one.header_offset + 30 + one.compress_size > following.header_offset:
            raise FileError(_("Files of the archive overlap, which no honest archive's do."))


def _is_wanted(member: zipfile.ZipInfo) -> bool:
    """Files with rows, and those of which somebody would ask where they are; not folders, notes and what systems leave behind."""
    name = member.filename
    base = os.path.basename(name)
    if member.is_dir() or name.startswith("__MACOSX/") or base.startswith("."):
        return False
    return os.path.splitext(base.lower().removesuffix(".gz"))[1] in KINDS


def _refusal(member: zipfile.ZipInfo) -> str:
    try:
        kind = kind_of(member.filename)
    except FileError as error:
        return str(error)
    if kind == "zip":
        return _("An archive within the archive is not read.")
    if member.flag_bits & ENCRYPTED:
        return _("The file is encrypted, so it was not read.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _("The file is packed by a method that Podium does not read. Pack it with Deflate.")
    return ""


def _records_of(member: zipfile.ZipInfo, opened: IO[bytes], look: Look) -> Iterator[Record]:
    if not member.file_size:
        return
    if kind_of(member.filename) != "parquet":
        magic = opened.read(4)
        opened.seek(0)
        yield from text_records(opened.read, member.filename, magic, look)
        return
    from .parquet import open_parquet

    # Parquet is read from its end, so it needs a file of its own; it is gone once it is read.
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED) as own:
        while chunk := opened.read(CHUNK):
            own.write(chunk)
        own.seek(0)
        magic = own.read(4)
        own.seek(0)
        yield from open_parquet(cast(BinaryIO, own), magic).records
