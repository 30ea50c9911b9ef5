from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Max, Prefetch, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.projects import SettleForm
from annotate.models import Flag, RankingTask
from annotate.services.assignments import Refused
from annotate.services.flags import settle_flag

from .tasks import describe_answers, describe_conversation

PER_PAGE = 25


@require_GET
@member_required(Role.ADMIN)
def flags(request: ProjectRequest) -> HttpResponse:
    """The tasks with open flags, or with `?show=settled` the settled flags; the latest first, 25 a page."""
    project = request.membership.project
    is_settled = request.GET.get("show") == "settled"
    if is_settled:
        settled = project.flags.filter(settled_at__isnull=False)
        page: Any = Paginator(
            settled.select_related("task__prompt", "raised_by", "settled_by").order_by("-settled_at", "-pk"), PER_PAGE
        ).get_page(request.GET.get("page"))
        tasks = []
    else:
        page = Paginator(flagged_tasks(project.tasks), PER_PAGE).get_page(request.GET.get("page"))
        tasks = [describe(task) for task in page]
    context = {
        "project": project,
        "membership": request.membership,
        "is_settled": is_settled,
        "page": page,
        "tasks": tasks,
        "count": page.paginator.count,
    }
    return render(request, "annotate/flags.html", context)


def flagged_tasks(tasks: Any) -> Any:
    """With their open flags as `open_flags`, the task flagged last first."""
    waiting = Flag.objects.filter(settled_at__isnull=True)
    shown = waiting.select_related("raised_by").order_by("-pk")
    return (
        tasks.filter(pk__in=waiting.values("task"))
        .annotate(latest=Max("flags", filter=Q(flags__settled_at__isnull=True)))
        .select_related("prompt")
        .prefetch_related(Prefetch("flags", shown, to_attr="open_flags"))
        .order_by("-latest")
    )


def describe(task: RankingTask) -> dict[str, Any]:
    return {
        "task": task,
        "flags": task.open_flags,  # type: ignore[attr-defined]  # prefetched
        "conversation": describe_conversation(task),
        "answers": describe_answers(list(task.completions.select_related("source").order_by("pk"))),
    }


@require_POST
@member_required(Role.ADMIN)
def flag_settle(request: ProjectRequest, pk: int) -> HttpResponse:
    """`back=task` returns to the task's page instead of the flags."""
    membership = request.membership
    project = membership.project
    flag = get_object_or_404(project.flags, pk=pk)
    back = redirect("task", project.slug, flag.task_id)
    if request.POST.get("back") != "task":
        back = redirect("flags", project.slug)
    form = SettleForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Say whether the task goes back into the queue or is closed."))
        return back
    reopen = form.cleaned_data["decision"] == "reopen"
    try:
        settle_flag(membership=membership, flag=flag, reopen=reopen, resolution=form.cleaned_data["resolution"])
    except Refused as refused:
        messages.error(request, refused.message)
    else:
        messages.success(request, _("The task is back in the queue.") if reopen else _("The task is closed."))
    return back
