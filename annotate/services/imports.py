"""Files of prompts, with or without completions and preferences, into a project."""

import errno
import logging
import os
import re
import sys
import threading
import uuid
from contextlib import closing, suppress
from datetime import timedelta
from typing import Any, BinaryIO, cast

from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import OperationalError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from psycopg.errors import DiskFull

from annotate import jobs
from annotate.formats.importing.errors import FileError, printable
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.reading import kind_of
from annotate.models import Import, Project, RefusedRow, User, record

from .ahead import ahead
from .checking import BEAT_SECONDS, Batch, Sources, read_batches
from .intake import Origin, add_rows, count_rows
from .refused import append_refused, forget_refused
from .tables import Shadow

logger = logging.getLogger("podium.imports")

REFUSED_KEPT = 1000
# So many batches wait while one is written: with those in the making, some 30 MB of text.
BATCHES_AHEAD = 1
DRAFTS_KEPT = timedelta(days=7)
COUNTS = (
    "rows_read",
    "prompts_added",
    "completions_added",
    "tasks_added",
    "rankings_added",
    "duplicates",
    "rows_refused",
)


def create_import(
    *, project: Project, user: User, upload: "File[bytes]", name: str, mapping: Mapping | None = None
) -> Import:
    """Keep the uploaded file as a draft. FileError if its name is of no known kind."""
    kind_of(name)
    ending = "".join(re.findall(r"\.(?:jsonl|ndjson|json|csv|tsv|parquet|zip|gz)(?=\.|$)", name.lower())[-2:])
    stored = default_storage.save(f"imports/{project.pk}/{uuid.uuid4().hex}{ending}", upload)
    return Import.objects.create(
        project=project,
        created_by=user,
        state=Import.State.DRAFT,
        file_name=clean_name(name),
        file=stored,
        size=upload.size or 0,
        mapping=(mapping or Mapping()).to_json(),
    )


def may_start(job: Import) -> bool:
    """A draft, or a dry run that never came to its end."""
    return job.state == Import.State.DRAFT or (
        job.is_dry_run and job.state in (Import.State.FAILED, Import.State.CANCELLED)
    )


@transaction.atomic
def start_import(*, user: User, job: Import, mapping: Mapping | None = None, is_dry_run: bool = False) -> bool:
    """Queue a draft, to be imported or to have counted what that would do. False if it was started already."""
    current = Import.objects.select_for_update().get(pk=job.pk)
    if not may_start(current):
        return False
    job.refresh_from_db()
    if mapping:
        job.mapping = mapping.to_json()
    job.state, job.is_dry_run = Import.State.QUEUED, is_dry_run
    job.attempt, job.cancel_requested, job.error = 0, False, ""
    job.queued_at, job.woken_at, job.started_at, job.finished_at = timezone.now(), None, None, None
    start_over(job)
    job.save()
    if not is_dry_run:
        record(user, "import.started", f"import:{job.pk}", project=job.project, file=job.file_name)
    return True


def start_over(job: Import) -> None:
    """Forget what an earlier run of this import has counted and refused."""
    job.refused.all().delete()
    forget_refused(job)
    for name in COUNTS:
        setattr(job, name, 0)
    job.notes, job.shape, job.refused_bytes, job.progress = {}, "", 0, 0


@transaction.atomic
def cancel_import(*, user: User, job: Import) -> None:
    """A queued import is cancelled at once, a running one after its batch; rows that were taken stay. Twice is once."""
    if job.is_active and not job.cancel_requested:
        jobs.request_cancel(job)
        if not job.is_dry_run:
            record(user, "import.cancelled", f"import:{job.pk}", project=job.project, file=job.file_name)


def discard_import(*, job: Import) -> bool:
    """Delete a draft with its files. False if it is none any more."""
    with transaction.atomic():
        current = Import.objects.select_for_update().filter(pk=job.pk).first()
        if current is None or not may_start(current):
            return False
        current.delete()
    if job.file:
        with suppress(OSError):
            default_storage.delete(job.file)
    forget_refused(job)
    return True


def discard_old_drafts() -> int:
    """Delete the drafts that nobody has started for a week, and counts that came to no end. Returns how many."""
    unended = Q(is_dry_run=True, state__in=(Import.State.FAILED, Import.State.CANCELLED))
    old = Import.objects.filter(queued_at__lt=timezone.now() - DRAFTS_KEPT)
    return sum(discard_import(job=job) for job in old.filter(unended | Q(state=Import.State.DRAFT)))


def seconds_left(job: Import) -> float | None:
    """Until a running import ends, by the share that it has read; None while that says little."""
    if job.state != Import.State.RUNNING or job.started_at is None or job.progress < 0.01:
        return None
    return (timezone.now() - job.started_at).total_seconds() * (1 - job.progress) / job.progress


def clean_name(name: str) -> str:
    base = os.path.basename(name.replace("\\", "/"))
    return printable("".join(character for character in base if character.isprintable()), 255) or "file"


def run_import(job: Import, stream: BinaryIO | None = None) -> None:
    """Read the claimed job's file (or `stream`) to its end, and end the job.

    A batch, its counts and its refused rows are one transaction, so an import that was cut off goes on after the last
    whole batch; a dry run begins again. Raises OperationalError when the database is away: the job is taken up again once
    its lease ends.
    """
    try:
        if stream is not None:
            _read(job, stream)
        else:
            with default_storage.open(job.file) as stored:
                _read(job, cast(BinaryIO, stored))
    except jobs.Fenced:
        logger.warning("import %s was taken over by another worker", job.pk)
    except jobs.Cancelled:
        _end(job, Import.State.CANCELLED)
    except FileError as error:
        _end(job, Import.State.FAILED, str(error))
    except FileNotFoundError:
        _end(job, Import.State.FAILED, _("The uploaded file is no longer on the storage. Upload it again."))
    except OperationalError as error:
        if not isinstance(error.__cause__, DiskFull):
            raise
        _end(job, Import.State.FAILED, _("The database's disk is full. Make room, then upload the file again."))
    except OSError as error:
        logger.exception("import %s", job.pk)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = _("The disk is full.") if full else _("The storage could not be read: %(error)s.") % {"error": error}
        _end(job, Import.State.FAILED, reason)
    except Exception:
        reference = uuid.uuid4().hex[:8]
        logger.exception("import %s failed, reference %s", job.pk, reference)
        _end(job, Import.State.FAILED, _("Something went wrong on our side; the log has it as %s.") % reference)
    else:
        _end(job, Import.State.SUCCEEDED)


def _end(job: Import, state: jobs.Job.State, error: str = "") -> None:
    changes: dict[str, Any] = {}
    if job.is_dry_run:
        # It leaves a draft: what it counted if it came to its end, why not otherwise.
        changes["forecast"] = forecast_of(job) if state == Import.State.SUCCEEDED else {}
        changes.update((name, 0) for name in COUNTS if name != "rows_refused")
        state = Import.State.DRAFT
    try:
        jobs.finish(job, state, error=printable(error, 1000), **changes)
    except jobs.Fenced:
        logger.warning("import %s was taken over by another worker", job.pk)


def forecast_of(job: Import) -> dict[str, Any]:
    return {**{name: getattr(job, name) for name in COUNTS}, "notes": job.notes, "mapping": job.mapping}


def _read(job: Import, stream: BinaryIO) -> None:
    mapping = Mapping.from_json(job.mapping)
    sources = Sources(job.project)
    shadow = None
    if job.is_dry_run:
        with transaction.atomic():
            jobs.beat(job)
            start_over(job)
        shadow = Shadow(job.project)
    # Whoever has something for Postgres gets the interpreter from a thread that computes within half a millisecond, not five.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    stopped = threading.Event()

    def look() -> None:
        # The reading may find no row for long.
        if stopped.is_set():
            raise FileError

    batches = ahead(
        lambda: read_batches(stream, job.file_name, mapping, sources, job.rows_read, look),
        BATCHES_AHEAD,
        idle=lambda: jobs.beat(job),
        patience=BEAT_SECONDS,
        stopped=stopped,
    )
    try:
        with closing(batches):
            for batch in batches:
                if batch.read:
                    _write(job, batch, mapping, shadow)
                else:
                    jobs.beat(job)
    finally:
        sys.setswitchinterval(interval)
        if shadow:
            shadow.close()
    if not job.rows_read:
        raise FileError(_("The file has no rows."))
    if job.rows_refused == job.rows_read:
        raise FileError(_("None of the file's rows could be taken. Each is listed with its reason."))


def _write(job: Import, batch: Batch, mapping: Mapping, shadow: Shadow | None) -> None:
    origin = Origin(job, batch.lines, mapping.preferences)
    with transaction.atomic():
        if shadow:
            added = count_rows(shadow=shadow, rows=batch.rows, origin=origin)
        else:
            added = add_rows(project=job.project, rows=batch.rows, origin=origin)
        room = max(REFUSED_KEPT - job.rows_refused, 0)
        RefusedRow.objects.bulk_create(one.to_row(job) for one in batch.refused[:room])
        others = {name for row in batch.rows for name in row.others}
        notes = {
            "single": job.notes.get("single", 0) + added.single,
            "without": job.notes.get("without", 0) + added.without,
            "others": sorted({*job.notes.get("others", []), *(printable(name, 60) for name in others)})[:50],
        }
        changes: dict[str, Any] = {
            "shape": job.shape or batch.shape[:40],
            "rows_read": job.rows_read + batch.read,
            "prompts_added": job.prompts_added + added.prompts,
            "completions_added": job.completions_added + added.completions,
            "tasks_added": job.tasks_added + added.tasks,
            "rankings_added": job.rankings_added + added.rankings,
            "duplicates": job.duplicates + added.duplicates,
            "rows_refused": job.rows_refused + len(batch.refused),
            "notes": notes,
            "progress": batch.share,
        }
        if batch.refused:
            # Until the commit the job's row is ours, so that nobody else writes this file.
            jobs.beat(job)
            # On the disk before the number that makes them count.
            changes["refused_bytes"] = append_refused(job, (one.to_json() for one in batch.refused))
        jobs.beat(job, **changes)
    for name, value in changes.items():
        setattr(job, name, value)
