"""Dataset versions: built, listed, looked at."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotate import jobs
from annotate.access import ProjectRequest, Role, member_required
from annotate.downloads import has_files
from annotate.figures import versions as drawn
from annotate.formats.versions.frozen import frozen
from annotate.forms.datasets import DatasetForm
from annotate.forms.versions import CompareForm, NameForm
from annotate.models import DatasetVersion
from annotate.services.datasets import cancel_version, create_version
from annotate.services.version_names import TagTaken, name_version
from annotate.spreadsheets import csv_file
from annotate.tasks import build_dataset_version

from .dataset_downloads import downloads
from .dataset_rows import describe_example, describe_ranking
from .dataset_words import choices_in_words, lineage, rates, steps_in_words

PREVIEWED = 3


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.RESEARCHER, Role.ADMIN)
def datasets(request: ProjectRequest) -> HttpResponseBase:
    project = request.membership.project
    number = request.GET.get("from", "")
    start = (
        project.dataset_versions.filter(number=number, origin="").first()
        if number.isdecimal() and len(number) < 10
        else None
    )
    form = DatasetForm(request.POST or None, project=project, start=start)
    if request.method == "POST" and form.is_valid():
        version = create_version(project=project, user=request.user, **form.options())
        jobs.wake(build_dataset_version, version.pk)
        return redirect("dataset", project.slug, version.number)
    versions = project.dataset_versions.select_related("created_by", "parent").order_by("-number")
    tag = request.GET.get("tag", "")
    if tag:
        versions = versions.filter(tag=tag) if "\0" not in tag else versions.none()
    page = Paginator(versions, 50).get_page(request.GET.get("page"))
    return render(
        request,
        "annotate/datasets.html",
        {"project": project, "form": form, "page": page, "tag": tag},
        status=422 if form.errors else 200,
    )


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset(request: ProjectRequest, number: int) -> HttpResponseBase:
    project = request.membership.project
    versions = project.dataset_versions.select_related("project", "created_by", "parent")
    version = get_object_or_404(versions, number=number)
    if request.htmx:
        response = render(request, "annotate/dataset.html#state", {"project": project, "version": version})
        if not version.is_active:
            # Now there are files to look at: load the whole page.
            response["HX-Refresh"] = "true"
        return response
    return show_version(request, version)


def show_version(
    request: ProjectRequest,
    version: DatasetVersion,
    *,
    form: NameForm | None = None,
    holder: DatasetVersion | None = None,
    status: int = 200,
) -> HttpResponse:
    """The version's page. `holder` has the tag that `form` asks for."""
    context: dict[str, Any] = {
        "project": request.membership.project,
        "version": version,
        "form": form or NameForm(initial={"note": version.note, "tag": version.tag}),
        "holder": holder,
    }
    if version.state == DatasetVersion.State.SUCCEEDED:
        context["is_whole"] = has_files(version)
        context["steps"], context["total"] = steps_in_words(version)
        context["chosen"], context["rates"] = choices_in_words(version), rates(version)
        context["left_out"] = version.counts.get("left_out", {}).items()
        context["weights"] = version.counts.get("weights", {}).items()
        context["figures"] = drawn.all_figures(version.statistics)
        context["lineage"] = lineage(version)
        context["compare"] = CompareForm(version=version)
        if context["is_whole"]:
            context |= downloads(version)
            context["rows"] = _first_rows(version)
    return render(request, "annotate/dataset.html", context, status=status)


def _first_rows(version: DatasetVersion) -> list[dict[str, Any]]:
    describe, name = describe_ranking, "rankings"
    if not version.counts["rankings"]:
        describe, name = describe_example, "demonstrations"
    with frozen(version, f"{name}.parquet") as file:
        return [describe(row) for row in file.at(file.places("all", 0, PREVIEWED))]


@require_POST
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_name(request: ProjectRequest, number: int) -> HttpResponseBase:
    """Give the version another note or tag. A tag that another version has is moved only once that was confirmed."""
    project = request.membership.project
    versions = project.dataset_versions.select_related("project", "created_by", "parent")
    version = get_object_or_404(versions, number=number)
    form = NameForm(request.POST)
    if not form.is_valid():
        return show_version(request, version, form=form, status=422)
    chosen = form.cleaned_data
    try:
        name_version(version=version, user=request.user, note=chosen["note"], tag=chosen["tag"], moves=chosen["moves"])
    except TagTaken as taken:
        version.refresh_from_db(fields=["note", "tag"])
        return show_version(request, version, form=form, holder=taken.holder, status=409)
    messages.success(request, _("Saved."))
    return redirect("dataset", project.slug, version.number)


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_tagged(request: ProjectRequest, tag: str) -> HttpResponseBase:
    """The address that stays while the tag moves."""
    project = request.membership.project
    if "\0" in tag:
        raise Http404
    version = get_object_or_404(project.dataset_versions, tag=tag)
    return redirect("dataset", project.slug, version.number)


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_table(request: ProjectRequest, number: int) -> HttpResponseBase:
    """One of the version's figures as CSV or SVG."""
    version = get_object_or_404(request.membership.project.dataset_versions.select_related("project"), number=number)
    figures = drawn.all_figures(version.statistics)
    figure = next((one for one in figures if one.key == request.GET.get("table")), None)
    if figure is None:
        raise Http404(_("This version has no such table."))
    name = f"{version.project.slug}-v{version.number}-{figure.key}"
    if request.GET.get("format", "csv") != "svg":
        return csv_file(name, figure.table())
    if figure.chart is None:
        raise Http404(_("This table has no drawing."))
    response = HttpResponse(figure.chart.draw(standalone=True), content_type="image/svg+xml")
    response["Content-Disposition"] = f'attachment; filename="{name}.svg"'
    return response


@require_POST
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_cancel(request: ProjectRequest, number: int) -> HttpResponseBase:
    project = request.membership.project
    version = get_object_or_404(project.dataset_versions, number=number)
    cancel_version(user=request.user, version=version)
    return redirect("dataset", project.slug, version.number)
