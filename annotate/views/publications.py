"""A dataset version's way to a Hugging Face hub."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from annotate import jobs
from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.publications import PublicationForm
from annotate.models import DatasetVersion, Publication
from annotate.services.assignments import Refused
from annotate.services.publications import cancel_publication, check_publication, start_publication
from annotate.tasks import publish_dataset


@require_http_methods(["GET", "HEAD", "POST"])
@member_required(Role.ADMIN)
def dataset_publish(request: ProjectRequest, number: int) -> HttpResponseBase:
    """The form; a POST of it asks once more, one that is `sure` starts it."""
    project = request.membership.project
    versions = project.dataset_versions.select_related("project", "parent")
    version = get_object_or_404(versions, number=number, state=DatasetVersion.State.SUCCEEDED)
    form = PublicationForm(request.POST or None)
    context = {"project": project, "version": version, "form": form, "hub": settings.HF_ENDPOINT}
    if request.method != "POST":
        return render(request, "annotate/publish.html", context)
    if form.is_valid():
        try:
            if not request.POST.get("sure"):
                check_publication(**form.cleaned_data)
                return render(request, "annotate/publish.html", {**context, "asks": form.cleaned_data})
            publication = start_publication(version=version, user=request.user, **form.cleaned_data)
        except ValidationError as error:
            form.add_errors(error.message_dict)
        except Refused as refused:
            return render(
                request, "annotate/publish.html", {**context, "refused": refused.message}, status=refused.status
            )
        else:
            jobs.wake(publish_dataset, publication.pk)
            return redirect(reverse("dataset", args=[project.slug, number]) + "#publications")
    return render(request, "annotate/publish.html", context, status=422)


@require_http_methods(["GET", "HEAD"])
@member_required(Role.RESEARCHER, Role.ADMIN)
def dataset_publications(request: ProjectRequest, number: int) -> HttpResponseBase:
    """The list on the version's page, which asks for it again while something moves."""
    version = get_object_or_404(request.membership.project.dataset_versions, number=number)
    return render(
        request, "annotate/parts/publications.html", {"project": request.membership.project, "version": version}
    )


@require_POST
@member_required(Role.ADMIN)
def publication_cancel(request: ProjectRequest, pk: int) -> HttpResponseBase:
    project = request.membership.project
    publications = Publication.objects.select_related("version")
    publication = get_object_or_404(publications, pk=pk, version__project=project)
    cancel_publication(user=request.user, publication=publication)
    return redirect(reverse("dataset", args=[project.slug, publication.version.number]) + "#publications")
