"""The first rows of a file as a mapping reads them, before anything of it is imported."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO, cast

from django.core.files.storage import default_storage
from django.utils.translation import gettext as _

from annotate.formats.importing.errors import FileError, RowError
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.public import SAMPLE, Column, columns_of, recognised
from annotate.formats.importing.reading import open_records
from annotate.formats.importing.records import Record
from annotate.formats.importing.shapes import Row, to_row
from annotate.models import Import

from .checking import Refusal, Sources, refuse

CHARACTERS = 8_000_000
SECONDS = 5.0


@dataclass
class Preview:
    """`shape` is what the rows are read as, `columns` what the file has."""

    shape: str = ""
    columns: list[Column] = field(default_factory=list)
    looked_at: int = 0
    rows: list[tuple[int, Row]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    error: str = ""

    @property
    def rankings(self) -> int:
        return sum(len(row.rankings) for _line, row in self.rows)


def preview_import(job: Import, mapping: Mapping) -> Preview:
    """Read the first SAMPLE rows of a draft's file. Whatever is wrong with it stands in `error`."""
    preview = Preview()
    try:
        with default_storage.open(job.file) as stored:
            first = list(_first(cast(BinaryIO, stored), job.file_name, preview))
    except FileError as error:
        first, preview.error = [], str(error)
    except OSError:
        first, preview.error = [], _("The uploaded file is no longer on the storage. Upload it again.")
    preview.columns = columns_of([one.value for one in first if one.value])
    mapping, records = recognised(iter(first), mapping)
    preview.shape = mapping.shape
    sources = Sources(job.project)
    for one in records:
        preview.looked_at += 1
        try:
            if one.problem:
                raise one.problem
            row = to_row(one.value or {}, mapping)
            sources.check(row)
        except RowError as error:
            preview.refused.append(refuse(one, error))
        else:
            preview.shape = preview.shape or row.shape
            preview.rows.append((one.line, row))
    return preview


def _first(stream: BinaryIO, name: str, preview: Preview) -> Iterator[Record]:
    """The first records, fewer of them where they are huge; the file may break off among them."""
    size = 0
    begun = time.monotonic()

    def look() -> None:
        if time.monotonic() - begun > SECONDS:
            raise FileError(_("The file has few rows at its beginning: these are all that were found in a moment."))

    records = open_records(stream, name, look).records
    try:
        for one in islice(records, SAMPLE):
            yield one
            size += len(one.original)
            if size > CHARACTERS:
                return
    except FileError as error:
        preview.error = str(error)
