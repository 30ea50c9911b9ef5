from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.invitations import InvitationForm
from annotate.forms.projects import MemberForm, RoleForm
from annotate.models import Invitation, Project
from annotate.services.assignments import Refused
from annotate.services.projects import add_member, change_role, remove_member

PAGE, LINKS = 50, 50


@require_http_methods(["GET", "POST"])
@member_required(Role.ADMIN)
def project_members(request: ProjectRequest) -> HttpResponse:
    membership = request.membership
    form = MemberForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        person = form.cleaned_data["person"]
        try:
            add_member(membership=membership, user=person, role=form.cleaned_data["role"])
        except Refused as refused:
            form.add_error("person", refused.message)
        else:
            messages.success(request, _("%(name)s is a member now.") % {"name": person.username})
            return redirect("project_members", membership.project.slug)
    return show_members(request, form=form)


def show_members(
    request: ProjectRequest,
    *,
    form: MemberForm | None = None,
    invitation_form: InvitationForm | None = None,
    new_link: str = "",
) -> HttpResponse:
    """The members page; `new_link` is shown on it this once."""
    project = request.membership.project
    wanted = request.GET.get("q", "").replace("\0", "").strip()[:150]
    members = project.memberships.present().select_related("user").order_by("user__username", "pk")
    if wanted:
        members = members.filter(user__username__icontains=wanted)
    context = {
        "project": project,
        "membership": request.membership,
        "page": Paginator(members, PAGE).get_page(request.GET.get("page")),
        "wanted": wanted,
        "roles": Role.choices,
        "form": form or MemberForm(),
        "invitation_form": invitation_form or InvitationForm(),
        "invitations": invitations_of(project),
        "new_link": new_link,
    }
    return render(request, "annotate/members.html", context)


def invitations_of(project: Project) -> QuerySet[Invitation]:
    """The latest LINKS, those that still work before all others: whatever works can be revoked."""
    works = Q(revoked_at=None, uses__lt=F("max_uses"), expires_at__gt=timezone.now())
    ordered = project.invitations.order_by(ExpressionWrapper(works, BooleanField()).desc(), "-pk")
    return ordered.select_related("created_by")[:LINKS]


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
