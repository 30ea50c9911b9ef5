"""Comparisons of two dataset versions. Versions never change, so what was found once is kept on the storage."""

import errno
import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from typing import Any

from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError as BrokerAway

from annotate.models import DatasetVersion

from .datasets import Filters

logger = logging.getLogger("podium.datasets")

# Of both files together, what is compared while somebody waits.
AT_ONCE_ROWS, AT_ONCE_BYTES = 20_000, 64 * 1024**2
# A worker that was cut off in the middle is no reason to wait longer.
WORKING_SECONDS = 900
FAILED_SECONDS = 300
WORKING, FAILED = "working", "failed"


def comparison_folder(version: DatasetVersion, base: DatasetVersion) -> str:
    """Where the comparison is kept: named by all that shapes it."""
    told = [[one.project_id, one.content_hash, one.as_of.isoformat(), one.filters] for one in (version, base)]
    return f"comparisons/{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()}"


def load_comparison(version: DatasetVersion, base: DatasetVersion) -> dict[str, Any] | None:
    """The summary of annotate.formats.versions.comparing.compare, or None until there is one."""
    try:
        with default_storage.open(f"{comparison_folder(version, base)}/summary.json") as stored:
            summary: dict[str, Any] = json.load(stored)
            return summary
    except FileNotFoundError:
        return None


def differing_settings(version: DatasetVersion, base: DatasetVersion) -> dict[str, tuple[Any, Any]]:
    """{setting: (in base, in version)} of all that was chosen differently, as JSON has it."""

    def chosen(one: DatasetVersion) -> dict[str, Any]:
        own = {"as_of": one.as_of.isoformat(), "test_fraction": one.test_fraction, "stratify_by": one.stratify_by}
        filters = Filters.from_json(one.filters).to_json()
        return {**json.loads(json.dumps(filters)), **own, "parent": one.parent.number if one.parent else None}

    before, after = chosen(base), chosen(version)
    return {name: (before[name], after[name]) for name in after if before[name] != after[name]}


def is_small(version: DatasetVersion, base: DatasetVersion) -> bool:
    both = (version, base)
    # With those that its filters dropped: why they did may have to be found out anew.
    rows = sum(one.counts["rankings"] + sum(one.counts["dropped"].values()) for one in both)
    return rows <= AT_ONCE_ROWS and sum(one.size for one in both) <= AT_ONCE_BYTES


def check_comparable(version: DatasetVersion, base: DatasetVersion) -> None:
    """ValidationError unless both hold rankings of this project, frozen."""
    for one in (version, base):
        if one.state != DatasetVersion.State.SUCCEEDED:
            raise ValidationError(_("Version %(number)s is not finished.") % {"number": one.number})
        if one.origin:
            raise ValidationError(_("Version %(number)s holds no rankings: a run made it.") % {"number": one.number})
    if version.pk == base.pk:
        raise ValidationError(_("A version differs in nothing from itself. Choose another one."))


def request_comparison(version: DatasetVersion, base: DatasetVersion) -> bool:
    """Ask a worker for it, once until it is done. False while the last attempt's failure is fresh."""
    from annotate.tasks import compare_versions

    key = _key(version, base)
    if cache.add(key, WORKING, WORKING_SECONDS):
        try:
            compare_versions.delay(version.pk, base.pk)
        except (BrokerAway, OSError) as error:
            logger.warning("broker is away, the next request asks again: %s", error)
            cache.delete(key)
            return True
    return bool(cache.get(key) != FAILED)


def store_comparison(version: DatasetVersion, base: DatasetVersion) -> dict[str, Any]:
    """Compare and keep what was found; what is kept already is not found anew."""
    from annotate.formats.versions.comparing import compare

    summary = load_comparison(version, base)
    if summary is not None:
        return summary
    folder, key = comparison_folder(version, base), _key(version, base)

    def tick() -> None:
        cache.touch(key, WORKING_SECONDS)

    with tempfile.TemporaryFile() as rows:
        summary = compare(version, base, rows, tick=tick)
        rows.seek(0)
        _put(f"{folder}/rows.jsonl", File(rows))
    # Last, so that a summary always has its rows.
    _put(f"{folder}/summary.json", ContentFile(json.dumps(summary).encode()))
    return summary


def run_comparison(version: DatasetVersion, base: DatasetVersion) -> None:
    """For a worker: a failure is said on the page for a while, then the next request tries again."""
    key = _key(version, base)
    try:
        store_comparison(version, base)
        cache.delete(key)
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        logger.exception("comparing %s with %s%s", version.pk, base.pk, ": the disk is full" if full else "")
        cache.set(key, FAILED, FAILED_SECONDS)


def comparison_rows(
    version: DatasetVersion, base: DatasetVersion, offset: int = 0
) -> Iterator[tuple[dict[str, Any], int]]:
    """Each ranking that is not the same, and the offset after it. FileNotFoundError where nothing is kept, ValueError for an offset
    at which no line begins."""
    with default_storage.open(f"{comparison_folder(version, base)}/rows.jsonl") as stored:
        if offset > stored.size:
            raise ValueError(f"no line begins at {offset}")
        if offset:
            stored.seek(offset - 1)
            if stored.read(1) != b"\n":
                raise ValueError(f"no line begins at {offset}")
        while line := stored.readline():
            offset += len(line)
            yield json.loads(line), offset


def _put(name: str, content: Any) -> None:
    if default_storage.exists(name):
        default_storage.delete(name)
    saved = default_storage.save(name, content)
    if saved != name:
        # Another process kept the same in between.
        default_storage.delete(saved)


def _key(version: DatasetVersion, base: DatasetVersion) -> str:
    return f"comparison:{comparison_folder(version, base)}"
