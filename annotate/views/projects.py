from typing import cast

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import ProjectRequest, member_required
from annotate.forms.projects import ProjectForm
from annotate.models import Membership, User
from annotate.services.assignments import has_task
from annotate.services.projects import Count, count_project, create_project

ENOUGH_TO_TRAIN = 50


@require_http_methods(["GET", "POST"])
@login_required
def project_new(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    if not user.is_staff:
        raise PermissionDenied
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        project = create_project(project=form.save(commit=False), creator=user)
        return redirect(project)
    return render(request, "annotate/project_form.html", {"form": form})


@require_GET
@member_required()
def project(request: ProjectRequest) -> HttpResponse:
    membership = request.membership
    counts = count_project(membership.project)
    context = {
        "project": membership.project,
        "membership": membership,
        "counts": counts,
        "next_steps": next_steps(membership, counts),
    }
    return render(request, "annotate/project.html", context)


def next_steps(membership: Membership, counts: dict[str, Count]) -> list[dict[str, str]]:
    """What this person does next, most pressing first: {"url", "title", "why"}. Only pages that exist are named."""
    steps: list[dict[str, str]] = []

    def offer(url_name: str, title: str, why: str) -> None:
        try:
            url = reverse(url_name, args=[membership.project.slug])
        except NoReverseMatch:
            return
        steps.append({"url": url, "title": title, "why": why})

    if has_task(membership=membership):
        offer("rank", _("Rank answers"), _("Tasks are waiting."))
    if membership.is_admin and not counts["prompts"]:
        offer("imports", _("Import prompts"), _("The project has no prompts yet."))
    elif membership.is_admin and not counts["tasks"]:
        offer("runs", _("Write answers"), _("No prompt has two answers to compare yet. Let a model write them."))
    elif membership.is_admin and not counts["open_tasks"] and not counts["flags"]:
        offer("runs", _("Write new answers"), _("Everything is ranked. Let the model answer the prompts anew."))
    if membership.is_admin and counts["flags"]:
        offer("flags", _("Settle flags"), _("People have taken tasks out of the queue."))
    if membership.is_admin and counts["members"].value < 2:
        offer("project_members", _("Add people"), _("You are the only member."))
    if membership.may_read_data and counts["rankings"].value >= ENOUGH_TO_TRAIN:
        offer("datasets", _("Freeze a dataset"), _("There are enough rankings to train on."))
    return steps
