"""Files from the server: streamed to disk, gone on with where they broke off, and put in place whole or not at all."""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import Message
from itertools import count
from pathlib import Path
from typing import BinaryIO

from .bars import Told
from .errors import ApiError, BadAnswer, Unreachable
from .flows import Fetch, Flow, Sleep, work
from .transports import Session
from .wire import PATIENCE, Request, Response, growing_pause, is_worth_repeating, problem

try:
    import fcntl
except ImportError:  # Windows: a download is gone on with, but two of one file are not told apart
    fcntl = None  # type: ignore[assignment]


def download(session: Session, request: Request, target: Path, title: str = "") -> Flow[Path]:
    """The file at `target`, or in that folder under the server's name for it. What an earlier call that was interrupted has left of the same file is kept and gone on with."""
    head = yield from _describe(session, request)
    etag = head.headers.get("etag", "")
    if target.is_dir():
        target = target / _name_of(head)
    part = target.with_name(f".{target.name}.{hashlib.sha256(etag.encode()).hexdigest()[:12]}.part")
    yield from work(lambda: target.parent.mkdir(parents=True, exist_ok=True))
    with session.bars.bar(title or target.name, "MB") as told, _opened(part, keep=bool(etag)) as (file, place):
        yield from _fill(session, request, etag, file, told)
        yield from work(lambda: _finish(file, place, target))
    return target


def _describe(session: Session, request: Request) -> Flow[Response]:
    """What HEAD says; nothing where the server has no word for it: such a file cannot be gone on with."""
    try:
        return (yield from session.call(replace(request, method="HEAD")))
    except ApiError as error:
        if error.status != 405:
            raise
        return Response(200, {})


def _fill(session: Session, request: Request, etag: str, file: BinaryIO, told: Told) -> Flow[None]:
    failures = count(1)
    while True:
        here = file.seek(0, os.SEEK_END)
        headers = {"Accept-Encoding": "identity"}
        if here and etag:
            headers |= {"Range": f"bytes={here}-", "If-Range": etag}
        try:
            answer: Response = yield Fetch(replace(request, headers=headers), _Receiver(file, here, told))
        except Unreachable:
            attempt = next(failures)
            if attempt > session.retries:
                raise
            yield Sleep(growing_pause(attempt))
            continue
        if answer.status in (200, 206):
            expected = _whole_size(answer)
            if expected is not None and file.seek(0, os.SEEK_END) != expected:
                raise BadAnswer(f"The file should have {expected:,} bytes and came with {file.tell():,}.")
            return
        if answer.status == 416 and here:
            # Either there is nothing left of it, or what lies here is none of it.
            if _whole_size(answer) == here:
                return
            file.truncate(0)
            continue
        attempt = next(failures)
        if attempt > session.retries or not is_worth_repeating(request, answer):
            raise problem(answer)
        asked = answer.headers.get("retry-after", "")
        yield Sleep(max(growing_pause(attempt), min(PATIENCE, float(asked)) if asked.isdecimal() else 0.0))


class _Receiver:
    """Writes the pieces behind what is there, or from the start where the server sends the whole file after all."""

    def __init__(self, file: BinaryIO, here: int, told: Told) -> None:
        self.file, self.here, self.told, self.begun = file, here, told, False

    def __call__(self, head: Response, piece: bytes) -> None:
        if not self.begun:
            self.begun = True
            start = _range_start(head) if head.status == 206 else 0
            if start > self.here:
                raise BadAnswer("The server left out a part of the file.")
            self.file.seek(start)
            self.file.truncate()
        self.file.write(piece)
        self.told(self.file.tell(), _whole_size(head), None)


def _range_start(head: Response) -> int:
    try:
        return int(head.headers["content-range"].removeprefix("bytes ").split("-")[0])
    except (KeyError, ValueError) as error:
        raise BadAnswer("The server sent a part of the file and did not say which.") from error


def _whole_size(head: Response) -> int | None:
    said = head.headers.get("content-range", "").rpartition("/")[2] or (
        head.headers.get("content-length", "") if head.status == 200 else ""
    )
    return int(said) if said.isdecimal() else None


@contextmanager
def _opened(part: Path, *, keep: bool) -> Iterator[tuple[BinaryIO, Path]]:
    """The part file to go on with. Where another process has it, one of our own; that one does not stay when interrupted."""
    shared = part
    if keep:
        shared.touch()
        file = shared.open("r+b")
        if _lock(file):
            try:
                yield file, shared
            finally:
                file.close()
            return
        file.close()
    own = part.with_suffix(f".{uuid.uuid4().hex}")
    file = own.open("w+b")
    try:
        yield file, own
    finally:
        file.close()
        with contextlib.suppress(FileNotFoundError):
            own.unlink()


def _lock(file: BinaryIO) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another process may have finished it and moved it away between our opening and our locking.
        return os.path.samestat(os.fstat(file.fileno()), os.stat(file.name))
    except OSError:
        return False


def _name_of(head: Response) -> str:
    said = Message()
    said["Content-Disposition"] = head.headers.get("content-disposition", "")
    # A name, and nothing that leads elsewhere.
    return (said.get_filename() or "").replace("\\", "/").rpartition("/")[2].lstrip(".") or "download"


def _finish(file: BinaryIO, place: Path, target: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    if os.name == "nt":
        file.close()
    place.replace(target)
