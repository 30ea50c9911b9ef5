"""Making and revoking the links by which people join a project, and joining by one."""

from http import HTTPStatus
from typing import Any

from allauth.core.internal import ratelimit
from django.contrib import messages
from django.contrib.auth import login
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.invitations import InvitationForm, SignUpForm
from annotate.models import Invitation, Membership, User
from annotate.services.assignments import Refused
from annotate.services.invitations import (
    NotOpen,
    accept_invitation,
    create_invitation,
    find_invitation,
    hash_token,
    revoke_invitation,
)

from .members import show_members

INVITED = "invited_by"


@require_POST
@never_cache
@member_required(Role.ADMIN)
def invitation_create(request: ProjectRequest) -> HttpResponse:
    """Answers with the members page, the new link on it: it is shown this once, so there is no page to redirect to."""
    form = InvitationForm(request.POST)
    if not form.is_valid():
        return show_members(request, invitation_form=form)
    _invitation, token = create_invitation(membership=request.membership, **form.cleaned_data)
    return show_members(request, new_link=request.build_absolute_uri(reverse("join", args=[token])))


@require_POST
@member_required(Role.ADMIN)
def invitation_revoke(request: ProjectRequest, pk: int) -> HttpResponse:
    membership = request.membership
    invitation = get_object_or_404(membership.project.invitations, pk=pk)
    revoke_invitation(membership=membership, invitation=invitation)
    messages.success(request, _("The link does not work any more."))
    return redirect(reverse("project_members", args=[membership.project.slug]) + "#links")


@require_GET
@never_cache
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Remember the link's hash in the session and go on without the token in the address, where logs and histories keep it."""
    if not limited(request):
        return too_often(request)
    request.session[INVITED] = hash_token(token)
    return redirect("joining")


@require_http_methods(["GET", "POST"])
@never_cache
def joining(request: HttpRequest) -> HttpResponse:
    """Join by the link that was opened, with an account that one has or makes here."""
    if request.method == "POST" and not limited(request):
        return too_often(request)
    token_hash = request.session.get(INVITED, "")
    try:
        invitation = find_invitation(token_hash)
        if isinstance(request.user, User):
            return join_as(request, request.user, invitation)
        return join_anew(request, invitation)
    except NotOpen as refused:
        return render(request, "annotate/join.html", {}, status=refused.status)


def limited(request: HttpRequest) -> bool:
    """Whether this is within the rate at which one address may open links and make accounts (ACCOUNT_RATE_LIMITS)."""
    return bool(ratelimit.consume(request, app="allauth.account", action="join", limit_get=True))


def too_often(request: HttpRequest) -> HttpResponse:
    return render(request, "429.html", status=HTTPStatus.TOO_MANY_REQUESTS)


def join_as(request: HttpRequest, user: User, invitation: Invitation) -> HttpResponse:
    project = invitation.project
    member = project.memberships.filter(user=user).first()
    context: dict[str, Any] = {"invitation": invitation, "project": project, "member": member}
    if request.method == "POST":
        try:
            return welcome(request, accept_invitation(user=user, token_hash=invitation.token_hash))
        except NotOpen:
            raise
        except Refused as refused:
            context["problem"] = refused.message
    return render(request, "annotate/join.html", context)


def join_anew(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    form = SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                user = form.save()
                member = accept_invitation(user=user, token_hash=invitation.token_hash)
        except IntegrityError:
            form.add_error("username", _("Somebody took this user name just now."))
        else:
            login(request, user)
            return welcome(request, member)
    context = {"invitation": invitation, "project": invitation.project, "form": form}
    return render(request, "annotate/join.html", context)


def welcome(request: HttpRequest, member: Membership) -> HttpResponse:
    request.session.pop(INVITED, None)
    messages.success(
        request,
        _("Welcome to %(project)s. Your role: %(role)s.")
        % {"project": member.project.name, "role": member.get_role_display()},
    )
    return redirect(member.project)
