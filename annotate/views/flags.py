from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.projects import SettleForm
from annotate.services.assignments import Refused
from annotate.services.flags import settle_flag


@require_GET
@member_required(Role.ADMIN)
def flags(request: ProjectRequest) -> HttpResponse:
    project = request.membership.project
    waiting = project.flags.filter(settled_at__isnull=True).select_related("task__prompt", "raised_by").order_by("-pk")
    settled = (
        project.flags.filter(settled_at__isnull=False).select_related("task__prompt", "settled_by").order_by("-pk")
    )
    context = {
        "project": project,
        "membership": request.membership,
        "page": Paginator(waiting, 50).get_page(request.GET.get("page")),
        "settled": settled[:20],
    }
    return render(request, "annotate/flags.html", context)


@require_POST
@member_required(Role.ADMIN)
def flag_settle(request: ProjectRequest, pk: int) -> HttpResponse:
    membership = request.membership
    flag = get_object_or_404(membership.project.flags, pk=pk)
    form = SettleForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Say whether the task goes back into the queue or is closed."))
        return redirect("flags", membership.project.slug)
    reopen = form.cleaned_data["decision"] == "reopen"
    try:
        settle_flag(membership=membership, flag=flag, reopen=reopen, resolution=form.cleaned_data["resolution"])
    except Refused as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, _("The task is back in the queue.") if reopen else _("The task is closed."))
    return redirect("flags", membership.project.slug)
