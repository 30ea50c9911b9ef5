"""Dataset versions: built, looked at, downloaded."""

from itertools import islice
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotate import jobs
from annotate.access import ProjectRequest, Role, member_required
from annotate.formats.exporting import stored_rows
from annotate.forms.datasets import DatasetForm
from annotate.models import DatasetVersion
from annotate.services.datasets import Filters, cancel_version, create_version
from annotate.tasks import build_dataset_version

from .dataset_downloads import downloads, has_files

PREVIEWED = 5
CHOSEN = ("decisions", "weights", "ideal_on_top")


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.RESEARCHER, Role.ADMIN)
def datasets(request: ProjectRequest) -> HttpResponseBase:
    project = request.membership.project
    form = DatasetForm(request.POST or None, project=project)
    if request.method == "POST" and form.is_valid():
        version = create_version(
            project=project,
            user=request.user,
            note=form.cleaned_data["note"],
            test_fraction=form.cleaned_data["test_fraction"],
            as_of=form.cleaned_data["as_of"],
            filters=form.filters(),
        )
        jobs.wake(build_dataset_version, version.pk)
        return redirect("dataset", project.slug, version.number)
    versions = project.dataset_versions.select_related("created_by").order_by("-number")
    page = Paginator(versions, 50).get_page(request.GET.get("page"))
    return render(
        request,
        "annotate/datasets.html",
        {"project": project, "form": form, "page": page},
        status=422 if form.errors else 200,
    )


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset(request: ProjectRequest, number: int) -> HttpResponseBase:
    project = request.membership.project
    version = get_object_or_404(project.dataset_versions.select_related("project", "created_by"), number=number)
    if getattr(request, "htmx", False):
        response = render(request, "annotate/dataset.html#state", {"project": project, "version": version})
        if not version.is_active:
            # Now there are files to look at: load the whole page.
            response["HX-Refresh"] = "true"
        return response
    context: dict[str, Any] = {"project": project, "version": version}
    if version.state == DatasetVersion.State.SUCCEEDED:
        context["is_whole"] = has_files(version)
        context |= downloads(version)
        context["dropped"], context["chosen"] = _dropped(version), _chosen(version)
        context["left_out"] = version.counts.get("left_out", {}).items()
        context["weights"] = version.counts.get("weights", {}).items()
        if context["is_whole"]:
            context["preview"] = _preview(version)
            context["examples"] = _examples(version) if version.origin else []
    return render(request, "annotate/dataset.html", context)


def _dropped(version: DatasetVersion) -> list[dict[str, Any]]:
    """The filters that were set or took something, as the build form names them, and how many rankings each took."""
    fields = DatasetForm(project=version.project).fields
    nothing = Filters().to_json()
    dropped = version.counts["dropped"]
    return [
        {"label": fields[name].label, "value": _in_words(fields[name], value), "count": dropped.get(name, 0)}
        for name, value in version.filters.items()
        if dropped.get(name) or (name not in CHOSEN and value and value != nothing[name])
    ]


def _chosen(version: DatasetVersion) -> list[dict[str, Any]]:
    """How the version takes what it takes, in the form's words."""
    fields = DatasetForm(project=version.project).fields
    filters = Filters.from_json(version.filters).to_json()
    return [{"label": fields[name].label, "value": _in_words(fields[name], filters[name])} for name in CHOSEN]


def _in_words(field: Any, value: Any) -> Any:
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    if isinstance(value, list):
        return ", ".join(value)
    return dict(getattr(field, "choices", [])).get(value, value)


def _preview(version: DatasetVersion) -> list[dict[str, Any]]:
    """The first rankings as people read them: the last turn, then completions from best to worst."""
    rows = [row for batch in islice(stored_rows(version, "rankings.parquet"), 1) for row in batch[:PREVIEWED]]
    return [
        {
            "question": row["prompt"][-1]["content"],
            "turns": len(row["prompt"]),
            "annotator": row["annotator"],
            "is_decision": row.get("role") == "adjudicator",
            "weight": row["weight"],
            "split": row["split"],
            "is_all_bad": row["verdict"] == "all_bad",
            "completions": sorted(
                ({"rank": rank, **one} for rank, one in zip(row["ranks"], row["completions"], strict=True)),
                key=lambda one: one["rank"],
            ),
        }
        for row in rows
    ]


def _examples(version: DatasetVersion) -> list[dict[str, Any]]:
    rows = [row for batch in islice(stored_rows(version, "demonstrations.parquet"), 1) for row in batch[:PREVIEWED]]
    return [{**row, "question": row["prompt"][-1]["content"]} for row in rows]


@require_POST
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_cancel(request: ProjectRequest, number: int) -> HttpResponseBase:
    project = request.membership.project
    version = get_object_or_404(project.dataset_versions, number=number)
    cancel_version(user=request.user, version=version)
    return redirect("dataset", project.slug, version.number)
