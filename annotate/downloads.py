"""Downloads that can be broken off and resumed: entity tags, ranges, and a cache of files on the storage that may be lost at any time.

The first download of a file streams while it is written beside that; later ones, and every range, come from the file. Its name is the
entity tag, which is made of everything that shapes the bytes, so a file is never wrong; it is put in its place only whole.
"""

import contextlib
import logging
import os
import re
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.core.files.storage import default_storage
from django.core.serializers.json import DjangoJSONEncoder
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from annotate.formats.exporting import Export, export_name, is_weighted, stream_export
from annotate.models import DatasetVersion
from annotate.services.datasets import FILES

logger = logging.getLogger("podium.downloads")

# Goes up with every change of the bytes that an export is written in.
WRITER = 1
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
CHUNK = 1024 * 1024
# What nobody has written to for so long was left by a process that is gone.
LEFT_OVER = 3600


def download_export(request: HttpRequest, version: DatasetVersion, export: Export) -> HttpResponseBase:
    """The export as a file, or the part of it that the request asks for.

    200, 206 and 416 for a range, 304 for a known entity tag. HEAD has the length once the file was made.
    """
    key = _key(version, export)
    response = _answer(request, version, export, key)
    response["ETag"] = f'"{key}"'
    response["Accept-Ranges"] = "bytes"
    response["Cache-Control"] = "private, no-cache"
    return response


def has_files(version: DatasetVersion) -> bool:
    """Whether there is anything to export."""
    return all(default_storage.exists(f"{version.folder}/{file}") for file in FILES)


def trim_exports(limit: int | None = None) -> int:
    """Delete the files that were not asked for the longest until the others fit into EXPORT_CACHE_BYTES. Returns how many."""
    left = settings.EXPORT_CACHE_BYTES if limit is None else limit
    deleted = 0
    files = [(entry.stat(), entry) for entry in _present()]
    for found, entry in sorted(files, key=lambda one: one[0].st_mtime, reverse=True):
        is_part = entry.name.endswith(".part")
        if is_part and time.time() - found.st_mtime < LEFT_OVER:
            continue
        left -= found.st_size
        if left < 0 or is_part:
            left += found.st_size * is_part
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry)
                deleted += 1
    return deleted


def _present() -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(_folder()) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                entry.stat()
                yield entry


def _answer(request: HttpRequest, version: DatasetVersion, export: Export, key: str) -> HttpResponseBase:
    if _names(request.headers.get("If-None-Match", ""), key):
        return HttpResponse(status=304)
    wanted = request.headers.get("Range", "")
    # A range of something else than what the client has the beginning of would be rubbish.
    is_same = request.headers.get("If-Range", f'"{key}"') == f'"{key}"'
    if request.method == "HEAD" or not is_same or not RANGE.fullmatch(wanted):
        wanted = ""
    cached = _open(key)
    if cached is None and wanted:
        cached = _make(version, export, key)
    if cached is None:
        parts: Iterable[bytes] = () if request.method == "HEAD" else _keeping(stream_export(version, export), key)
        return _named(StreamingHttpResponse(parts, content_type=export.content_type), version, export)
    size = os.fstat(cached.fileno()).st_size
    if request.method == "HEAD":
        cached.close()
        return _named(HttpResponse(content_type=export.content_type), version, export, size)
    if not wanted:
        return _named(FileResponse(cached, content_type=export.content_type), version, export, size)
    return _part(cached, size, wanted, version, export)


def _part(cached: BinaryIO, size: int, wanted: str, version: DatasetVersion, export: Export) -> HttpResponseBase:
    first, last = RANGE.fullmatch(wanted).groups()  # type: ignore[union-attr]
    if first:
        start, end = int(first), min(int(last or size - 1), size - 1)
    else:
        start, end = max(size - int(last or 0), 0), size - 1
    if not first + last or (first and last and int(last) < int(first)):
        return _named(FileResponse(cached, content_type=export.content_type), version, export, size)
    if start >= size:
        cached.close()
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    response = StreamingHttpResponse(_between(cached, start, end), status=206, content_type=export.content_type)
    response["Content-Range"] = f"bytes {start}-{end}/{size}"
    return _named(response, version, export, end - start + 1)


def _named(response: Any, version: DatasetVersion, export: Export, size: int | None = None) -> HttpResponseBase:
    response["Content-Disposition"] = f'attachment; filename="{export_name(version, export)}"'
    if size is not None:
        response["Content-Length"] = str(size)
    named: HttpResponseBase = response
    return named


def _between(stream: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with stream:
        stream.seek(start)
        left = end - start + 1
        while left and (part := stream.read(min(CHUNK, left))):
            left -= len(part)
            yield part


def _names(header: str, key: str) -> bool:
    """Whether the header If-None-Match names this entity tag."""
    return header.strip() == "*" or f'"{key}"' in [one.strip().removeprefix("W/") for one in header.split(",")]


def _key(version: DatasetVersion, export: Export) -> str:
    facts: dict[str, Any] = {
        "content": version.content_hash,
        "slug": version.project.slug,
        "export": vars(export),
        "rows": [version.counts["has_turns"], is_weighted(version), bool(version.origin)],
        "writers": [WRITER, version_of("pyarrow"), zlib.ZLIB_RUNTIME_VERSION],
    }
    if export.format == "folder":
        from annotate.formats.exporting.card import card_facts

        facts["card"] = card_facts(version, export)
    return sha256(DjangoJSONEncoder(sort_keys=True).encode(facts).encode()).hexdigest()


def _folder() -> Path:
    return Path(settings.MEDIA_ROOT) / "exports"


def _open(key: str) -> BinaryIO | None:
    """The cached file, its use noted."""
    try:
        stream = (_folder() / key).open("rb")
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(_folder() / key)
    return stream


def _make(version: DatasetVersion, export: Export, key: str) -> BinaryIO:
    """Make the file without sending it. OSError where the disk is full."""
    path = _part_path(key)
    stream = path.open("w+b")
    try:
        stream.writelines(stream_export(version, export))
        stream.flush()
        os.replace(path, _folder() / key)
    except BaseException:
        stream.close()
        path.unlink(missing_ok=True)
        raise
    # It may not fit the cache, but it is open.
    trim_exports()
    stream.seek(0)
    return stream


def _keeping(parts: Iterator[bytes], key: str) -> Iterator[bytes]:
    """Give the parts on and keep a copy, the cached file once it is whole. Somebody who breaks off leaves none, a full disk too."""
    with contextlib.ExitStack() as stack:
        copy: BinaryIO | None = None
        try:
            path = _part_path(key)
            stack.callback(path.unlink, missing_ok=True)
            copy = stack.enter_context(path.open("wb"))
        except OSError as error:
            logger.warning("the export is not kept: %s", error)
        for part in parts:
            yield part
            try:
                if copy:
                    copy.write(part)
            except OSError as error:
                logger.warning("the export is not kept: %s", error)
                copy = None
        if copy:
            copy.close()
            os.replace(path, _folder() / key)
            trim_exports()


def _part_path(key: str) -> Path:
    _folder().mkdir(parents=True, exist_ok=True)
    return _folder() / f"{key}.{uuid.uuid4().hex}.part"
