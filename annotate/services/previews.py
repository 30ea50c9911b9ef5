"""The first rows of a file as a mapping reads them, before anything of it is imported."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO, cast

from django.core.files.storage import default_storage
from django.utils.translation import gettext as _

from annotate.formats.errors import FileError, RowError
from annotate.formats.mapping import Mapping
from annotate.formats.reading import open_records
from annotate.formats.records import Record
from annotate.formats.shapes import Row
from annotate.models import Import

from .checking import SHAPE_ROWS, Refusal, Sources, checker, refuse

CHARACTERS = 8_000_000
COLUMNS_MAX = 100


@dataclass
class Preview:
    """`shape` is what the rows are read as, `columns` what the file has, dots reaching into objects."""

    shape: str = ""
    columns: list[str] = field(default_factory=list)
    looked_at: int = 0
    rows: list[tuple[int, Row]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    error: str = ""

    @property
    def rankings(self) -> int:
        return sum(len(row.rankings) for _line, row in self.rows)


def preview_import(job: Import, mapping: Mapping) -> Preview:
    """Read the first SHAPE_ROWS rows of a draft's file. Whatever is wrong with it stands in `error`."""
    preview = Preview()
    try:
        with default_storage.open(job.file) as stored:
            first = list(_first(cast(BinaryIO, stored), job.file_name, preview))
    except FileError as error:
        first, preview.error = [], str(error)
    except OSError:
        first, preview.error = [], _("The uploaded file is no longer on the storage. Upload it again.")
    preview.looked_at = len(first)
    preview.columns = columns_of(one.value for one in first if one.value)
    preview.shape, check = checker(mapping, first)
    sources = Sources(job.project)
    for one in first:
        try:
            if one.problem:
                raise one.problem
            row = check(one.value or {})
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
    records = open_records(stream, name).records
    try:
        for one in islice(records, SHAPE_ROWS):
            yield one
            size += len(one.original)
            if size > CHARACTERS:
                return
    except FileError as error:
        preview.error = str(error)


def columns_of(values: Iterator[dict[str, Any]]) -> list[str]:
    """The paths of what the rows have, in the order in which they come: of objects, and of lists of objects, also their parts."""
    paths: dict[str, None] = {}
    for value in values:
        for name, one in value.items():
            paths[name] = None
            parts = one[0] if isinstance(one, list) and one else one
            if isinstance(parts, dict):
                paths.update((f"{name}.{part}", None) for part in parts)
    return [path for path in paths if 0 < len(path) <= 200][:COLUMNS_MAX]
