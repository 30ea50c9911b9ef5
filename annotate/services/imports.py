"""Files of prompts, with or without completions, into a project."""

import contextlib
import errno
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import OperationalError, transaction
from django.utils.translation import gettext as _
from psycopg.errors import DiskFull

from annotate import jobs
from annotate.formats.errors import FileError, RowError, UnknownColumns, printable
from annotate.formats.mapping import Mapping
from annotate.formats.reading import Record, RecordFile, kind_of, open_records
from annotate.formats.shapes import Row, to_row
from annotate.models import Import, Project, RefusedRow, Source, User, record
from annotate.numbers import grouped

from .intake import add_rows

logger = logging.getLogger("podium.imports")

BATCH_ROWS = 2000
BATCH_CHARACTERS = 8_000_000
REFUSED_KEPT = 10_000
SOURCES_MAX = 1000
# A file without a single known row among its first is of another kind: none of it is taken.
UNKNOWN_UNTIL_REFUSED = 20
BEAT_SECONDS = 10.0


@transaction.atomic
def create_import(
    *, project: Project, user: User, upload: "File[bytes]", name: str, mapping: Mapping | None = None
) -> Import:
    """Keep the uploaded file and queue its import. FileError if its name is of no known kind."""
    kind_of(name)
    ending = "".join(re.findall(r"\.(?:jsonl|ndjson|json|csv|tsv|parquet|gz)(?=\.|$)", name.lower())[-2:])
    stored = default_storage.save(f"imports/{project.pk}/{uuid.uuid4().hex}{ending}", upload)
    job = Import.objects.create(
        project=project,
        created_by=user,
        file_name=clean_name(name),
        file=stored,
        size=upload.size or 0,
        mapping=(mapping or Mapping()).to_json(),
    )
    record(user, "import.started", f"import:{job.pk}", project=project, file=job.file_name)
    return job


@transaction.atomic
def cancel_import(*, user: User, job: Import) -> None:
    """A queued import is cancelled at once, a running one after its batch; rows that were taken stay. Twice is once."""
    if job.is_active and not job.cancel_requested:
        jobs.request_cancel(job)
        record(user, "import.cancelled", f"import:{job.pk}", project=job.project, file=job.file_name)


def clean_name(name: str) -> str:
    base = os.path.basename(name.replace("\\", "/"))
    return printable("".join(character for character in base if character.isprintable()), 255) or "file"


def run_import(job: Import, stream: BinaryIO | None = None) -> None:
    """Read the claimed job's file (or `stream`) to its end, and end the job.

    A batch, its counts and its refused rows are one transaction, so an import that was cut off goes on after the last
    whole batch. Raises OperationalError when the database is away: the job is taken up again once its lease ends.
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
    try:
        jobs.finish(job, state, error=printable(error, 1000))
    except jobs.Fenced:
        logger.warning("import %s was taken over by another worker", job.pk)


class Batch:
    """Rows, refusals and counts that are written together."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.refused: list[RefusedRow] = []
        self.read = 0
        self.characters = 0

    @property
    def is_full(self) -> bool:
        return self.read >= BATCH_ROWS or self.characters >= BATCH_CHARACTERS


def _read(job: Import, stream: BinaryIO) -> None:
    file = open_records(stream, job.file_name)
    records = _after(job, file, job.rows_read)
    mapping = Mapping.from_json(job.mapping)
    unknown: list[UnknownColumns] = []
    recognised = job.rows_read > 0
    known = Source.objects.filter(project=job.project)
    sources = set(known.filter(kind=Source.Kind.IMPORT).values_list("name", flat=True)[:SOURCES_MAX])
    taken = set(known.exclude(kind=Source.Kind.IMPORT).values_list("name", flat=True))
    batch = Batch()
    broken: FileError | None = None
    while True:
        try:
            one = next(records, None)
        except FileError as error:
            broken, one = error, None
        if one is None:
            break
        batch.read += 1
        try:
            if one.problem:
                raise one.problem
            row = to_row(one.value or {}, mapping)
            _check_sources(row, sources, taken)
            recognised = True
            batch.rows.append(row)
            batch.characters += row.size
            job.shape = job.shape or row.shape
        except RowError as error:
            batch.refused.append(_refused(job, one, error))
            if isinstance(error, UnknownColumns) and not recognised:
                unknown.append(error)
                if len(unknown) >= UNKNOWN_UNTIL_REFUSED:
                    break
        if batch.is_full:
            _write(job, batch, file.share())
            batch = Batch()
    if unknown and not recognised:
        raise FileError(_unknown(unknown[0]))
    if batch.read:
        _write(job, batch, file.share())
    if broken:
        raise broken
    if not job.rows_read:
        raise FileError(_("The file has no rows."))
    if job.rows_refused == job.rows_read:
        raise FileError(_("None of the file's rows could be taken. Each is listed with its reason."))


def _unknown(error: UnknownColumns) -> str:
    return _(
        "Nothing was imported: no row's prompt was recognised. %(reason)s You may also name the columns yourself."
    ) % {"reason": error.reason}


def _after(job: Import, file: RecordFile, done: int) -> Iterator[Record]:
    """The records that an earlier attempt did not get to."""
    beaten = time.monotonic()
    for index, one in enumerate(file.records):
        if index >= done:
            yield one
        elif time.monotonic() - beaten > BEAT_SECONDS:
            beaten = time.monotonic()
            jobs.beat(job)


def _check_sources(row: Row, sources: set[str], taken: set[str]) -> None:
    """Add the row's sources to `sources`. An import does not speak for this project's people and checkpoints (`taken`)."""
    for name in sorted(taken & {answer.source for answer in row.answers}):
        raise RowError("source", _("“%(name)s” is a checkpoint or the people of this project.") % {"name": name})
    new = {answer.source for answer in row.answers} - sources
    if len(sources) + len(new) > SOURCES_MAX:
        raise RowError("source", _("More than %(most)s sources in one project.") % {"most": grouped(SOURCES_MAX)})
    sources |= new


def _refused(job: Import, one: Record, error: RowError) -> RefusedRow:
    excerpt = one.excerpt
    if not one.problem:
        # What is nested too deeply to be written down is refused for that very reason.
        with contextlib.suppress(RecursionError, ValueError):
            excerpt = json.dumps(one.value, ensure_ascii=False, default=str)
    return RefusedRow(
        job=job,
        line=one.line,
        field=printable(error.field, 80),
        reason=printable(error.reason, 300),
        excerpt=printable(excerpt, 500),
    )


def _write(job: Import, batch: Batch, share: float) -> None:
    with transaction.atomic():
        added = add_rows(project=job.project, rows=batch.rows)
        room = max(REFUSED_KEPT - job.rows_refused, 0)
        RefusedRow.objects.bulk_create(batch.refused[:room])
        others = {name for row in batch.rows for name in row.others}
        notes = {
            "single": job.notes.get("single", 0) + added.single,
            "without": job.notes.get("without", 0) + added.without,
            "others": sorted({*job.notes.get("others", []), *(printable(name, 60) for name in others)})[:50],
        }
        changes: dict[str, Any] = {
            "shape": job.shape[:40],
            "rows_read": job.rows_read + batch.read,
            "prompts_added": job.prompts_added + added.prompts,
            "completions_added": job.completions_added + added.completions,
            "tasks_added": job.tasks_added + added.tasks,
            "duplicates": job.duplicates + added.duplicates,
            "rows_refused": job.rows_refused + len(batch.refused),
            "notes": notes,
            "progress": share,
        }
        jobs.beat(job, **changes)
    for name, value in changes.items():
        setattr(job, name, value)
