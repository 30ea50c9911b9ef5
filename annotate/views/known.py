"""Known orders: which tasks are gold or practice, how people answer them, and who is paused."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.known import KnownOrderForm, place_name
from annotate.models import Completion, KnownOrder, RankingTask
from annotate.services.assignments import Refused
from annotate.services.known import (
    change_known,
    consensus,
    find_candidates,
    forget_known,
    known_orders,
    make_known,
    ranks_of_known,
    summarise,
)
from annotate.services.pausing import pause_member, qualify_member, resume_member
from annotate.text import render_markdown

PER_PAGE = 25
Purpose = RankingTask.Purpose


@require_GET
@member_required(Role.ADMIN)
def known_tasks(request: ProjectRequest) -> HttpResponse:
    """Gold and practice tasks with how each is answered; `?purpose=gold` or `practice` shows one kind."""
    project = request.membership.project
    purpose = request.GET.get("purpose", "")
    purpose = purpose if purpose in (Purpose.GOLD, Purpose.PRACTICE) else ""
    page = Paginator(known_orders(project, purpose=purpose), PER_PAGE).get_page(request.GET.get("page"))
    counts = {name: known_orders(project, purpose=name).count() for name in (Purpose.GOLD, Purpose.PRACTICE)}
    context = {
        "project": project,
        "membership": request.membership,
        "page": page,
        "rows": summarise(list(page)),
        "purpose": purpose,
        "gold": counts[Purpose.GOLD],
        "practice": counts[Purpose.PRACTICE],
        "candidates": find_candidates(project) if page.number == 1 else [],
    }
    return render(request, "annotate/known_tasks.html", context)


@require_http_methods(["GET", "POST"])
@member_required(Role.ADMIN)
def known_task_add(request: ProjectRequest) -> HttpResponse:
    """Give the task `?task=<id>` a known order. Where its rankings all agree, their order is proposed."""
    membership = request.membership
    number = request.GET.get("task", "").strip()
    tasks = membership.project.tasks.select_related("prompt")
    task = (
        tasks.filter(pk=int(number)).first() if number.isascii() and number.isdecimal() and len(number) < 19 else None
    )
    if task is None:
        if number:
            messages.error(request, _("There is no task “%(number)s” in this project.") % {"number": number[:20]})
        return redirect("known_tasks", membership.project.slug)
    if task.purpose != Purpose.RANKING:
        return redirect("known_task", membership.project.slug, task.pk)
    completions = completions_of(task)
    agreed = consensus(task) or {}
    initial: dict[str, Any] = {place_name(one): agreed[one.pk] for one in completions if one.pk in agreed}
    purpose = request.GET.get("purpose")
    if purpose in (Purpose.GOLD, Purpose.PRACTICE):
        initial["purpose"] = purpose
    form = KnownOrderForm(request.POST or None, completions=completions, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            make_known(
                membership=membership,
                task=task,
                ranks=form.ranks,
                purpose=form.cleaned_data["purpose"],
                explanation=form.cleaned_data["explanation"],
            )
        except Refused as refused:
            form.add_error(None, refused.message)
        else:
            messages.success(request, _("The order is known now; the task has left the queue."))
            return redirect("known_tasks", membership.project.slug)
    return render(request, "annotate/known_task.html", describe(request, task, form) | {"agreed": bool(agreed)})


@require_http_methods(["GET", "POST"])
@member_required(Role.ADMIN)
def known_task(request: ProjectRequest, pk: int) -> HttpResponse:
    """Change the known order of the task `pk`, or forget it (`action=remove`)."""
    membership = request.membership
    found = KnownOrder.objects.filter(task__project=membership.project).select_related("task__prompt", "created_by")
    known = get_object_or_404(found, task_id=pk)
    if request.POST.get("action") == "remove":
        try:
            forget_known(membership=membership, known=known)
            messages.success(request, _("The task is an ordinary one again."))
        except Refused as refused:
            messages.error(request, refused.message)
        return redirect("known_tasks", membership.project.slug)
    completions, ranks = completions_of(known.task), ranks_of_known(known)
    initial: dict[str, Any] = {place_name(one): ranks[one.pk] for one in completions}
    initial |= {"purpose": known.task.purpose, "explanation": known.explanation}
    form = KnownOrderForm(request.POST or None, completions=completions, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            change_known(
                membership=membership,
                known=known,
                ranks=form.ranks,
                purpose=form.cleaned_data["purpose"],
                explanation=form.cleaned_data["explanation"],
            )
        except Refused as refused:
            form.add_error(None, refused.message)
        else:
            messages.success(request, _("The known order is changed; what people answered is measured by the new one."))
            return redirect("known_tasks", membership.project.slug)
    context = describe(request, known.task, form) | {"known": known, "answered": summarise([known])[0]}
    return render(request, "annotate/known_task.html", context)


@require_POST
@member_required(Role.ADMIN)
def member_pause(request: ProjectRequest, pk: int) -> HttpResponse:
    """`action`: pause a member, resume them (practice that was not passed begins anew), or qualify them by hand."""
    membership = request.membership
    member = get_object_or_404(membership.project.memberships.present().select_related("user", "project"), pk=pk)
    name = {"name": member.user.username}
    acts = {
        "pause": (pause_member, _("%(name)s is paused: they are given no tasks.") % name),
        "resume": (resume_member, _("%(name)s is given tasks again.") % name),
        "qualify": (qualify_member, _("%(name)s need not practise.") % name),
    }
    act, done = acts.get(request.POST.get("action", ""), (None, ""))
    if act is None:
        messages.error(request, _("Say what is to be done: pause, resume or qualify."))
    else:
        try:
            act(membership=membership, member=member)
        except Refused as refused:
            messages.error(request, refused.message)
        else:
            messages.success(request, done)
    return redirect("project_members", membership.project.slug)


def completions_of(task: RankingTask) -> list[Completion]:
    return list(task.completions.select_related("source").order_by("pk"))


def describe(request: ProjectRequest, task: RankingTask, form: KnownOrderForm) -> dict[str, Any]:
    return {
        "project": request.membership.project,
        "membership": request.membership,
        "task": task,
        "form": form,
        "conversation": [
            {"role": message["role"], "html": render_markdown(message["content"])} for message in task.prompt.messages
        ],
        "answers": [
            {
                "number": number,
                "completion": completion,
                "html": render_markdown(completion.text),
                "reasoning_html": render_markdown(completion.reasoning) if completion.reasoning else "",
                "field": form[place_name(completion)],
            }
            for number, completion in enumerate(form.completions, start=1)
        ],
    }
