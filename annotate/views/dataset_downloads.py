"""A dataset version's files in the shapes that people load."""

from typing import Any

from django.core.files.storage import default_storage
from django.http import Http404, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.formats.exporting import (
    CONTENT_TYPES,
    FORMATS,
    SHAPES,
    SPLITS,
    export_name,
    loading_lines,
    stream_export,
)
from annotate.models import DatasetVersion
from annotate.services.datasets import FILES


def downloads(version: DatasetVersion) -> dict[str, Any]:
    """What templates/annotate/parts/dataset_downloads.html shows."""
    return {"shapes": [_shape(version, shape) for shape in SHAPES], "splits": SPLITS, "formats": FORMATS}


def has_files(version: DatasetVersion) -> bool:
    return all(default_storage.exists(f"{version.folder}/{file}") for file in FILES)


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
        request.membership.project.dataset_versions.select_related("project"),
        number=number,
        state=DatasetVersion.State.SUCCEEDED,
    )
    chosen = {
        name: request.GET.get(name, default)
        for name, default in (("shape", SHAPES[0]), ("format", FORMATS[0]), ("split", SPLITS[0]))
    }
    if not has_files(version):
        raise Http404(_("The version's files are not on the storage."))
    try:
        parts = stream_export(version, **chosen)
    except ValueError as error:
        raise Http404(str(error)) from error
    response = StreamingHttpResponse(parts, content_type=CONTENT_TYPES[chosen["format"]])
    response["Content-Disposition"] = f'attachment; filename="{export_name(version, **chosen)}"'
    return response
