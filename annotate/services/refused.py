"""The rows that an import refuses, whole, in a file of their own beside it: one JSON object a line.

{"line": 3, "member": "a.jsonl" in a zip, else "", "field": "prompt", "reason": "Is empty.", "original": the row's text}
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage

from annotate.models import Import


def refused_path(job: Import) -> Path:
    return Path(default_storage.path(f"imports/{job.project_id}/{job.pk}.refused.jsonl"))


def append_refused(job: Import, rows: Iterable[dict[str, Any]]) -> int:
    """Write the rows behind those that count, and wait for the disk. Returns where the file now ends.

    Whoever commits that number makes them count. What an attempt wrote and did not commit is cut off first.
    """
    path = refused_path(job)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        file.truncate(job.refused_bytes)
        file.seek(job.refused_bytes)
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def read_refused(job: Import) -> Iterator[bytes]:
    """The rows that count, line by line."""
    left = job.refused_bytes
    path = refused_path(job)
    if not left or not path.exists():
        return
    with path.open("rb") as file:
        while left > 0 and (line := file.readline()):
            left -= len(line)
            yield line


def forget_refused(job: Import) -> None:
    with suppress(FileNotFoundError):
        refused_path(job).unlink()
