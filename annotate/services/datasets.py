"""Dataset versions: a project's rankings and demonstrations, frozen to Parquet."""

import errno
import hashlib
import logging
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import OperationalError, transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _
from psycopg.errors import DiskFull

from annotate import jobs
from annotate.models import DatasetVersion, Project, User, record

logger = logging.getLogger("podium.datasets")

CHOICES = {"decisions": ("raw", "decided"), "weights": ("equal", "reliability")}
FILES = ("rankings.parquet", "demonstrations.parquet")


@dataclass(frozen=True)
class Filters:
    """Which rankings a version takes, and how. The defaults let every annotator's ranking of an ordinary task through.

    Times are aware; `exclude_annotators` holds pseudonyms; `min_seconds` drops what was ranked faster;
    `min_rankings` drops prompts with fewer rankings, counted after the filters before it; with `tags` only prompts that
    bear one of them stay. Gold and practice tasks are dropped before all others unless `known_tasks`. `decisions`: "raw" drops
    those of reviewers; with "decided" a decided task gives its decision alone, and drops its rankings after all other filters.
    Each ranking counts for the first that drops it.

    `weights`: "equal", or "reliability" as estimated at the version's time. `ideal_on_top`: an ideal answer by a ranking's
    own annotator becomes its first completion.
    """

    since: datetime | None = None
    until: datetime | None = None
    exclude_annotators: tuple[str, ...] = ()
    min_seconds: float = 0
    exclude_all_bad: bool = False
    tags: tuple[str, ...] = ()
    min_rankings: int = 1
    decisions: str = "raw"
    weights: str = "equal"
    ideal_on_top: bool = False
    known_tasks: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Filters":
        """The filters that `to_json` wrote. ValueError for an unknown field."""
        unknown = set(value) - {one.name for one in fields(cls)}
        if unknown:
            raise ValueError(f"unknown filters: {', '.join(sorted(unknown))}")
        changes = dict(value)
        for name in ("since", "until"):
            if changes.get(name):
                changes[name] = datetime.fromisoformat(changes[name])
        for name in ("exclude_annotators", "tags"):
            changes[name] = tuple(changes.get(name, ()))
        for name, known in CHOICES.items():
            if changes.get(name, known[0]) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {changes[name]!r}")
        return cls(**changes)


class NothingToFreeze(Exception):
    """No ranking and no demonstration is left. `dropped` says what each filter took."""

    def __init__(self, dropped: dict[str, int]) -> None:
        super().__init__("no rankings")
        self.dropped = dropped


@transaction.atomic
def create_version(
    *,
    project: Project,
    user: User | None,
    note: str = "",
    test_fraction: float = 0.1,
    as_of: datetime | None = None,
    filters: Filters | None = None,
    max_attempts: int = 3,
) -> DatasetVersion:
    """Queue a version with the project's next number. ValueError for a test fraction outside 0 to 0.5.

    Without a user Podium itself builds it, on behalf of whoever made the project.
    """
    if not 0 <= test_fraction <= 0.5:
        raise ValueError(f"test_fraction must be from 0 to 0.5, not {test_fraction}")
    version = DatasetVersion.objects.create(
        project=project,
        number=_next_number(project),
        note=note,
        as_of=as_of or timezone.now(),
        filters=(filters or Filters()).to_json(),
        test_fraction=test_fraction,
        created_by=user or project.created_by,
        max_attempts=max_attempts,
    )
    record(user, "dataset.started", f"dataset:{version.number}", project=project)
    return version


@transaction.atomic
def cancel_version(*, user: User, version: DatasetVersion) -> None:
    """A queued version is cancelled at once, one that is being built within seconds. Twice is once."""
    if version.is_active and not version.cancel_requested:
        jobs.request_cancel(version)
        record(user, "dataset.cancelled", f"dataset:{version.number}", project=version.project)


def build_version(version: DatasetVersion) -> None:
    """Write the claimed version's files, and end the job.

    Raises OperationalError when the database is away: the job is taken up again once its lease ends.
    """
    # pyarrow costs the web process 40 MB that it does not need.
    from annotate.formats.freezing import freeze

    try:
        os.makedirs(settings.MEDIA_ROOT, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=settings.MEDIA_ROOT, prefix=".dataset-") as name:
            folder = Path(name)
            counts = freeze(version, Filters.from_json(version.filters), folder)
            if not counts["rankings"] and not counts["demonstrations"]:
                raise NothingToFreeze(counts["dropped"])
            content_hash, size = _store_files(folder)
        changes = {"content_hash": content_hash, "counts": counts, "size": size}
        _end(version, DatasetVersion.State.SUCCEEDED, **changes)
    except jobs.Fenced:
        logger.warning("dataset version %s was taken over by another worker", version.pk)
    except jobs.Cancelled:
        _end(version, DatasetVersion.State.CANCELLED)
    except NothingToFreeze as nothing:
        dropped = ", ".join(f"{name}: {count}" for name, count in nothing.dropped.items() if count)
        error = (
            _("The filters leave no ranking: they dropped %s.") % dropped
            if dropped
            else _("The project has no rankings yet. Let people rank, then build a version.")
        )
        _end(version, DatasetVersion.State.FAILED, error=error, counts={"dropped": nothing.dropped})
    except OperationalError as error:
        if not isinstance(error.__cause__, DiskFull):
            raise
        reason = _("The disk of the database is full. Make room, then build it again.")
        _end(version, DatasetVersion.State.FAILED, error=reason)
    except OSError as error:
        logger.exception("dataset version %s", version.pk)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = _("The disk is full. Make room, then build it again.") if full else str(error)
        _end(version, DatasetVersion.State.FAILED, error=reason)
    except Exception:
        reference = uuid.uuid4().hex[:8]
        logger.exception("dataset version %s failed, reference %s", version.pk, reference)
        reason = _("Something went wrong on our side; the log has it as %s.") % reference
        _end(version, DatasetVersion.State.FAILED, error=reason)


@dataclass(frozen=True)
class Stored:
    """Files of a version that lie in their place on the storage."""

    content_hash: str
    size: int
    counts: dict[str, Any]
    as_of: datetime


def store_examples(rows: Iterator[dict[str, Any]], *, tick: Callable[[], None]) -> Stored:
    """Freeze examples that something else made: rows with the columns of demonstrations.parquet and `provenance`.

    `tick` is called now and then. Raises NothingToFreeze without a row, ValueError or KeyError for one that does not fit.
    """
    from annotate.formats.freezing import freeze_examples

    as_of = timezone.now()
    os.makedirs(settings.MEDIA_ROOT, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.MEDIA_ROOT, prefix=".dataset-") as name:
        counts = freeze_examples(rows, as_of, Path(name), tick)
        if not counts["demonstrations"]:
            raise NothingToFreeze({})
        content_hash, size = _store_files(Path(name))
    return Stored(content_hash, size, counts, as_of)


@transaction.atomic
def register_version(
    *, project: Project, stored: Stored, origin: str, user: User | None, note: str = "", left_out: dict[str, int]
) -> DatasetVersion:
    """A finished version of stored files. `origin` says what made it; `left_out` maps a reason to how many it took."""
    number = _next_number(project)
    version = DatasetVersion.objects.create(
        project=project,
        number=number,
        note=note,
        origin=origin,
        as_of=stored.as_of,
        test_fraction=stored.counts["test_demonstrations"] / stored.counts["demonstrations"],
        created_by=user or project.created_by,
        state=DatasetVersion.State.SUCCEEDED,
        progress=1,
        started_at=stored.as_of,
        finished_at=timezone.now(),
        content_hash=stored.content_hash,
        size=stored.size,
        counts={**stored.counts, "left_out": left_out},
    )
    record(user, "dataset.made", f"dataset:{number}", project=project, origin=origin)
    return version


def _next_number(project: Project) -> int:
    # Foreign keys to the project need only its key, so only other new versions wait.
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    last: int = project.dataset_versions.aggregate(last=Max("number"))["last"] or 0
    return last + 1


def _end(version: DatasetVersion, state: jobs.Job.State, **changes: Any) -> None:
    try:
        jobs.finish(version, state, **changes)
    except jobs.Fenced:
        logger.warning("dataset version %s was taken over by another worker", version.pk)


class _LocalFile(File):  # type: ignore[type-arg]
    """A file that the storage may move into its place instead of copying it."""

    def temporary_file_path(self) -> str:
        return str(self.name)


def _store_files(folder: Path) -> tuple[str, int]:
    """(content hash, bytes) of the files in `folder`, which are put in their place."""
    digests = [_digest(folder / file) for file in FILES]
    content_hash = hashlib.sha256(b"".join(digests)).hexdigest()
    size = sum((folder / file).stat().st_size for file in FILES)
    for file, digest in zip(FILES, digests, strict=True):
        _store(folder / file, f"datasets/{content_hash}/{file}", digest)
    return content_hash, size


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _stored_digest(name: str) -> bytes | None:
    if not default_storage.exists(name):
        return None
    with default_storage.open(name) as stored:
        digest = hashlib.sha256()
        for chunk in stored.chunks(1024 * 1024):
            digest.update(chunk)
        return digest.digest()


def _store(path: Path, name: str, digest: bytes) -> None:
    """Put the file in its place, unless the same bytes are there (an earlier version had the same content)."""
    there = _stored_digest(name)
    if there == digest:
        return
    if there is not None:
        default_storage.delete(name)
    with path.open("rb") as stream:
        saved = default_storage.save(name, _LocalFile(stream, str(path)))
    if saved != name:
        # Another worker stored the same content in between.
        default_storage.delete(saved)


def verify(version: DatasetVersion) -> bool:
    """Whether the stored files are, byte for byte, those that were built."""
    digests = [_stored_digest(f"{version.folder}/{file}") for file in FILES]
    whole = b"".join(digest for digest in digests if digest is not None)
    return hashlib.sha256(whole).hexdigest() == version.content_hash
