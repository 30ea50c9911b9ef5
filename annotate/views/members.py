from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.projects import MemberForm, RoleForm
from annotate.services.assignments import Refused
from annotate.services.projects import add_member, change_role, remove_member


@require_http_methods(["GET", "POST"])
@member_required(Role.ADMIN)
def project_members(request: ProjectRequest) -> HttpResponse:
    membership = request.membership
    form = MemberForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            add_member(membership=membership, user=form.cleaned_data["person"], role=form.cleaned_data["role"])
        except Refused as refused:
            form.add_error("person", refused.message)
        else:
            return redirect("project_members", membership.project.slug)
    context = {
        "project": membership.project,
        "membership": membership,
        "members": membership.project.memberships.present().select_related("user").order_by("user__username"),
        "roles": Role.choices,
        "form": form,
    }
    return render(request, "annotate/members.html", context)


@require_POST
@member_required(Role.ADMIN)
def project_member(request: ProjectRequest, pk: int) -> HttpResponse:
    """Change a member's role, or remove them (`action=remove`)."""
    membership = request.membership
    member = get_object_or_404(membership.project.memberships.select_related("user"), pk=pk)
    form = RoleForm(request.POST)
    try:
        if request.POST.get("action") == "remove":
            remove_member(membership=membership, member=member)
            messages.success(request, _("%(name)s was removed.") % {"name": member.user.username})
        elif form.is_valid():
            change_role(membership=membership, member=member, role=form.cleaned_data["role"])
            messages.success(request, _("%(name)s’s role is changed.") % {"name": member.user.username})
        else:
            messages.error(request, _("There is no such role."))
    except Refused as refused:
        messages.error(request, refused.message)
    if member.user_id == request.user.pk:
        return redirect("home")
    return redirect("project_members", membership.project.slug)
