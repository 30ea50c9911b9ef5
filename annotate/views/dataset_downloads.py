"""A dataset version's files in the shapes that people load."""

from typing import Any

from django.http import Http404, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.downloads import download_export, has_files
from annotate.formats.exporting import FORMATS, SHAPES, SPLITS, Export, InvalidExport, loading_lines
from annotate.models import DatasetVersion


def downloads(version: DatasetVersion) -> dict[str, Any]:
    """What templates/annotate/parts/dataset_downloads.html shows."""
    return {"shapes": [_shape(version, shape) for shape in SHAPES], "splits": SPLITS, "formats": FORMATS}


def _shape(version: DatasetVersion, shape: str) -> dict[str, Any]:
    counts = version.counts
    names = {"ranking": ("{}",), "sft": ("{}_demonstrations", "{}_best")}.get(shape, ("{}_pairs",))
    rows = {split: sum(counts[name.format(split)] for name in names) for split in ("train", "test")}
    return {
        "name": shape,
        **rows,
        "lines": [(format, loading_lines(version, shape, format)) for format in FORMATS],
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
    """The export that an address asks for. InvalidExport."""
    chosen = {name: values[name] for name in Export.__dataclass_fields__ if values.get(name)}
    if rows := chosen.get("shard_rows"):
        if not str(rows).isascii() or not str(rows).isdigit():
            raise InvalidExport("shard_rows", f"shard_rows must be a whole number, not {rows!r}")
        chosen["shard_rows"] = int(rows)
    return Export(**chosen)
