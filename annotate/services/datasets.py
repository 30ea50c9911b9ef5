"""Dataset versions: a project's rankings and demonstrations, frozen to Parquet."""

import errno
import hashlib
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
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
from annotate.models import DatasetVersion, Project, Ranking, User, record

from .version_names import name_version

logger = logging.getLogger("podium.datasets")

CHOICES = {"decisions": ("raw", "decided", "consensus"), "weights": ("equal", "reliability")}
ROLES = tuple(Ranking.Role.values)
LISTS = ("exclude_annotators", "tags", "roles", "sources", "languages")
HELD_OUT = re.compile(r"version:[1-9]\d{0,8}|tag:.{1,60}")
FILES = ("rankings.parquet", "demonstrations.parquet")
# Outside of these a time in another zone may have a year that Python does not know.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Filters:
    """Which rankings a version takes, and how. The defaults let everybody's ranking of an ordinary task through.

    Each ranking counts for the first step that drops it; the steps are those of STEPS in annotate.formats.versions.selection, in its order.

    `known_tasks`: gold and practice tasks too. `roles`: only rankings of annotators, adjudicators or imports; empty is all that
    `decisions` lets through. `since`, `until`: aware times. `exclude_annotators`: pseudonyms. `min_seconds`: drops what an
    annotator ranked faster. `min_agreement`: mean Kendall's tau-b of the task's rankings, -1 to 1; a task of which it is not known
    is dropped. `min_gold_accuracy`: an annotator's share on gold tasks, 0 to 1; who answered none is dropped. `tags`, `sources`:
    only prompts that bear one of the tags, rankings with a completion of one of the sources. `criterion`, `min_rating`: only
    rankings in which a completion was rated by the criterion (any, if it is empty), at least so high. `min_length`, `max_length`:
    characters that each completion must have, and may; 0 is no limit. `languages`: ISO 639-1 codes of the prompt's last turn.
    `drop_duplicates`: of prompts that are nearly equal one stays. `min_rankings`: only prompts with so many of those left.
    `held_out`: "version:3" (its test side) or "tag:NAME"; drops prompts of the training side that share long phrases with those.

    `decisions`: "raw" drops those of reviewers; with "decided" a decided task gives its decision alone; with "consensus" every
    other task gives one ranking made of all of its rankings, too. `weights`: "equal", or "reliability" as estimated at the
    version's time. `ideal_on_top`: an ideal answer by a ranking's own annotator becomes its first completion.
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
    roles: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    criterion: str = ""
    min_rating: int = 0
    min_agreement: float | None = None
    min_gold_accuracy: float = 0
    min_length: int = 0
    max_length: int = 0
    drop_duplicates: bool = False
    held_out: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for what no version could be built with."""
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if unknown := set(self.roles) - set(ROLES):
            raise ValueError(f"roles must be of {', '.join(ROLES)}, not {', '.join(sorted(unknown))}")
        if self.min_agreement is not None and not -1 <= self.min_agreement <= 1:
            raise ValueError(f"min_agreement must be from -1 to 1, not {self.min_agreement}")
        if not 0 <= self.min_gold_accuracy <= 1:
            raise ValueError(f"min_gold_accuracy must be from 0 to 1, not {self.min_gold_accuracy}")
        if not 0 <= self.min_rating <= 5:
            raise ValueError(f"min_rating must be from 0 to 5, not {self.min_rating}")
        if self.max_length and self.max_length < self.min_length:
            raise ValueError(f"max_length must not be less than min_length, {self.min_length}")
        if wrong := [code for code in self.languages if not re.fullmatch("[a-z]{2,3}", code)]:
            raise ValueError(f"languages must be ISO codes such as en, not {wrong[0]!r}")
        if self.held_out and not HELD_OUT.fullmatch(self.held_out):
            raise ValueError(f"held_out must be version:NUMBER or tag:NAME, not {self.held_out!r}")
        if self.decisions == "consensus" and self.ideal_on_top:
            raise ValueError("ideal_on_top goes with no consensus: each ideal answer leads its author's own ranking")

    def to_json(self) -> dict[str, Any]:
        return {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Filters":
        """The filters that `to_json` wrote. ValueError for an unknown field or an impossible value."""
        unknown = set(value) - {one.name for one in fields(cls)}
        if unknown:
            raise ValueError(f"unknown filters: {', '.join(sorted(unknown))}")
        changes = dict(value)
        for name in ("since", "until"):
            if isinstance(changes.get(name), str):
                changes[name] = datetime.fromisoformat(changes[name]) if changes[name] else None
        for name in LISTS:
            changes[name] = tuple(changes.get(name, ()))
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
    tag: str = "",
    parent: DatasetVersion | None = None,
    test_fraction: float = 0.1,
    stratify_by: str = "",
    as_of: datetime | None = None,
    filters: Filters | None = None,
    max_attempts: int = 3,
) -> DatasetVersion:
    """Queue a version with the project's next number. A tag that another version bears moves to it.

    ValueError for a test fraction outside 0 to 0.5, an unknown `stratify_by`, an `as_of` in the future or a time before 1970, and a
    parent or `held_out` version that the project has not finished; ValidationError for a tag that cannot be one. Without a user Podium itself builds it, on behalf of whoever made the project.
    """
    filters = filters or Filters()
    if not 0 <= test_fraction <= 0.5:
        raise ValueError(f"test_fraction must be from 0 to 0.5, not {test_fraction}")
    if stratify_by and stratify_by not in DatasetVersion.Stratum.values:
        raise ValueError(f"stratify_by must be one of {', '.join(DatasetVersion.Stratum.values)}, not {stratify_by!r}")
    if as_of and not EARLIEST <= as_of <= timezone.now():
        raise ValueError(f"as_of must be from 1970 until now, not {as_of.isoformat()}")
    for name, moment in (("since", filters.since), ("until", filters.until)):
        if moment and not EARLIEST <= moment < LATEST:
            raise ValueError(f"{name} must be from 1970 to 9998, not {moment.isoformat()}")
    if parent and (parent.project_id != project.pk or parent.state != DatasetVersion.State.SUCCEEDED):
        raise ValueError(f"the parent must be a finished version of this project; {parent} is none")
    if filters.held_out.startswith("version:"):
        number = int(filters.held_out.removeprefix("version:"))
        if not project.dataset_versions.filter(number=number, state=DatasetVersion.State.SUCCEEDED).exists():
            raise ValueError(f"held_out must be a finished version of this project; v{number} is none")
    number = _next_number(project)
    version = DatasetVersion.objects.create(
        project=project,
        number=number,
        note=note,
        parent=parent,
        as_of=as_of or timezone.now(),
        filters=filters.to_json(),
        test_fraction=test_fraction,
        stratify_by=stratify_by,
        created_by=user or project.created_by,
        max_attempts=max_attempts,
    )
    record(user, "dataset.started", f"dataset:{version.number}", project=project)
    if tag:
        name_version(version=version, user=user, tag=tag, moves=True)
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
    from annotate.formats.versions.freezing import freeze

    try:
        os.makedirs(settings.MEDIA_ROOT, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=settings.MEDIA_ROOT, prefix=".dataset-") as name:
            folder = Path(name)
            counts, statistics = freeze(version, Filters.from_json(version.filters), folder)
            if not counts["rankings"] and not counts["demonstrations"]:
                raise NothingToFreeze(counts["dropped"])
            content_hash, size = _store_files(folder)
        changes = {"content_hash": content_hash, "counts": counts, "statistics": statistics, "size": size}
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
    from annotate.formats.versions.freezing import freeze_examples

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
    jobs.announce_end(version)
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
