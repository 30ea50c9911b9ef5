"""A project's settings, and pausing or archiving it."""

from copy import copy

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from annotate import jobs, tasks
from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.projects import SettingsForm, StateForm
from annotate.models import DEFAULT_CRITERIA, Project
from annotate.services.overlap import SETTINGS, apply_overlap
from annotate.services.projects import change_settings

from .preview import preview

State = Project.State
# So long somebody may wait for a page; the rest is done in the background.
AT_ONCE_SECONDS = 5


@require_http_methods(["GET", "POST"])
@member_required(Role.ADMIN)
def project_settings(request: ProjectRequest) -> HttpResponse:
    membership = request.membership
    project = membership.project
    asks_for_usual = "usual_criteria" in request.POST
    data = with_usual_criteria(request.POST) if asks_for_usual else request.POST
    # A copy, since a form writes into its instance also what is not saved.
    form = SettingsForm(data or None, instance=copy(project))
    if request.method == "POST" and form.is_valid() and not asks_for_usual:
        change_settings(membership=membership, project=form.instance, names=form.changed_data)
        messages.success(request, _("The settings are saved."))
        if not SETTINGS.isdisjoint(form.changed_data) and not apply_overlap(
            project=project, actor=membership.user, seconds=AT_ONCE_SECONDS
        ):
            jobs.wake(tasks.apply_overlap, project.pk, expires=None)
            messages.info(request, _("The tasks that are there already take on the new number of people in a while."))
        return redirect("project_settings", project.slug)
    context = {"project": project, "membership": membership, "form": form, **preview(membership, form.instance)}
    return render(request, "annotate/settings.html", context)


@require_POST
@member_required(Role.ADMIN)
def settings_preview(request: ProjectRequest) -> HttpResponse:
    """The ranking page with what the form holds; a field that is wrong counts as it is stored. Writes nothing."""
    membership = request.membership
    form = SettingsForm(request.POST, instance=copy(membership.project))
    form.is_valid()
    context = {"project": membership.project, "membership": membership, **preview(membership, form.instance)}
    return render(request, "annotate/settings.html#preview", context)


def with_usual_criteria(posted: QueryDict) -> QueryDict:
    data = posted.copy()
    data["criteria"] = "\n".join(str(name) for name in DEFAULT_CRITERIA)
    return data


@require_POST
@member_required(Role.ADMIN)
def project_state(request: ProjectRequest) -> HttpResponse:
    """Pause a project, archive it, or make it active again."""
    project = request.membership.project
    form = StateForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("A project is active, paused or archived."))
        return redirect("project_settings", project.slug)
    project.state = form.cleaned_data["state"]
    change_settings(membership=request.membership, project=project, names=["state"])
    if project.state == State.ARCHIVED:
        messages.success(request, _("The project is archived. You find it under “Archived” on the list of projects."))
    elif project.state == State.PAUSED:
        messages.success(request, _("The project is paused."))
    else:
        messages.success(request, _("The project is active: people can rank."))
    return redirect("project_settings", project.slug)
