"""Files on their way in."""

from itertools import chain

from django.core.paginator import Paginator
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotate import jobs
from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.imports import ImportForm
from annotate.services.imports import cancel_import, create_import
from annotate.spreadsheets import csv_file
from annotate.tasks import run_import

SHOWN = 100


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.ADMIN)
def imports(request: ProjectRequest) -> HttpResponseBase:
    project = request.membership.project
    form = ImportForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        upload = form.cleaned_data["file"]
        try:
            job = create_import(
                project=project, user=request.user, upload=upload, name=upload.name, mapping=form.mapping()
            )
        except OSError as error:
            form.add_error("file", _("The file could not be stored: %(error)s.") % {"error": error.strerror or error})
        else:
            jobs.wake(run_import, job.pk)
            return redirect("import", project.slug, job.pk)
    page = Paginator(project.imports.select_related("created_by").order_by("-pk"), 50).get_page(request.GET.get("page"))
    return render(
        request,
        "annotate/imports.html",
        {"project": project, "form": form, "page": page},
        status=422 if form.errors else 200,
    )


@require_safe
@member_required(Role.ADMIN)
def import_(request: ProjectRequest, pk: int) -> HttpResponseBase:
    project = request.membership.project
    job = get_object_or_404(project.imports.select_related("created_by"), pk=pk)
    template = "annotate/import.html#state" if getattr(request, "htmx", False) else "annotate/import.html"
    refused = job.refused.order_by("line", "pk")[:SHOWN]
    return render(request, template, {"project": project, "job": job, "refused": refused})


@require_safe
@member_required(Role.ADMIN)
def import_refused(request: ProjectRequest, pk: int) -> HttpResponseBase:
    """Every refused row that was kept, as CSV."""
    job = get_object_or_404(request.membership.project.imports, pk=pk)
    refused = job.refused.order_by("line", "pk").iterator(1000)
    rows = ([row.line, row.field, row.reason, row.excerpt] for row in refused)
    return csv_file(f"import-{job.pk}-refused", chain([["line", "field", "reason", "excerpt"]], rows))


@require_POST
@member_required(Role.ADMIN)
def import_cancel(request: ProjectRequest, pk: int) -> HttpResponseBase:
    project = request.membership.project
    job = get_object_or_404(project.imports, pk=pk)
    cancel_import(user=request.user, job=job)
    return redirect("import", project.slug, job.pk)
