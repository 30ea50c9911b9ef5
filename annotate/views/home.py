from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import SignedInRequest
from annotate.models import Membership, Project


@require_GET
@login_required
def home(request: SignedInRequest) -> HttpResponse:
    mine = Membership.objects.present().filter(user_id=request.user.pk).select_related("project")
    archived = mine.filter(project__state=Project.State.ARCHIVED)
    context = {
        "memberships": mine.exclude(project__state=Project.State.ARCHIVED).order_by("project__name"),
        "archived": archived.filter(role=Membership.Role.ADMIN).order_by("project__name"),
    }
    return render(request, "annotate/home.html", context)
