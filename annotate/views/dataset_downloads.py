"""A dataset version's files in the shapes that people load."""

from typing import Any

from django.http import Http404, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.downloads import download_export, has_files
from annotate.formats.exporting import SHAPES, Export, InvalidExport, count_rows, loading_lines
from annotate.forms.publications import SHAPE_LABELS, ExportForm
from annotate.models import DatasetVersion
from annotate.services.publications import is_set_up

# The formats whose loading differs; a compressed file is loaded as the plain one is.
SHOWN = ("jsonl", "csv", "parquet", "folder")


# Of more rankings the page does not count how many single answers they give.
COUNTED = 200_000


def downloads(version: DatasetVersion) -> dict[str, Any]:
    """What templates/annotate/parts/dataset_downloads.html shows."""
    return {
        "shapes": [_shape(version, shape) for shape in SHAPES],
        "export": ExportForm(),
        "publishing": is_set_up(),
    }


def _shape(version: DatasetVersion, shape: str) -> dict[str, Any]:
    rows: dict[str, int | None] = {"train": None, "test": None}
    if shape != "unpaired" or version.counts["rankings"] <= COUNTED:
        rows = {split: count_rows(version, Export(shape=shape), split) for split in rows}
    return {
        "name": shape,
        "label": SHAPE_LABELS[shape],
        **rows,
        "lines": [(format, loading_lines(version, shape, format)) for format in SHOWN],
    }


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_download(request: ProjectRequest, number: int) -> HttpResponseBase:
    version = get_object_or_404(
        request.membership.project.dataset_versions.select_related("project", "parent"),
        number=number,
        state=DatasetVersion.State.SUCCEEDED,
    )
    if not has_files(version):
        raise Http404(_("The version's files are not on the storage."))
    try:
        export = read_export(request.GET)
    except InvalidExport as error:
        raise Http404(str(error)) from error
    return download_export(request, version, export)


def read_export(values: Any) -> Export:
    """The export that the form asks for; what does not go with its format is left out. InvalidExport."""
    chosen = {name: values[name] for name in Export.__dataclass_fields__ if values.get(name)}
    rows = str(chosen.pop("shard_rows", ""))
    if rows and chosen.get("format") in ("parquet", "folder"):
        if not rows.isascii() or not rows.isdigit() or len(rows) > 12:
            raise InvalidExport("shard_rows", f"shard_rows must be a whole number, not {rows!r}")
        chosen["shard_rows"] = int(rows)
    if chosen.get("format") != "folder":
        chosen.pop("license", None)
    return Export(**chosen)
