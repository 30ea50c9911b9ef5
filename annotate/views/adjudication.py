"""Tasks on which people disagree, and the page on which a reviewer decides one."""

from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.adjudication import DecisionForm, new_token
from annotate.forms.ranking import first_problem
from annotate.models import Project, Ranking, RankingTask
from annotate.numbers import rounded
from annotate.services.adjudication import (
    after,
    agreed_order,
    check_decidable,
    current_decision,
    decide,
    review_order,
    waiting,
)
from annotate.services.assignments import Refused
from annotate.services.rankings import letters

from .tasks import describe_answers, describe_conversation, rankings_of, ranks_in

PER_PAGE = 50
DECISIONS_SHOWN = 20


@require_GET
@member_required(Role.ADMIN)
def adjudication(request: ProjectRequest) -> HttpResponse:
    """The tasks that wait, least agreement first; `?after=<agreement>,<task>` goes on from there."""
    project = request.membership.project
    tasks = waiting(project)
    rows = list(from_place(tasks, request.GET.get("after", "")).select_related("prompt")[: PER_PAGE + 1])
    shown = rows[:PER_PAGE]
    for task in shown:
        task.agreement_shown = rounded(task.agreement, 2)  # type: ignore[attr-defined, arg-type]  # of those it is known
    decisions = (
        Ranking.objects.current()
        .filter(project=project, role=Ranking.Role.ADJUDICATOR)
        .select_related("task__prompt", "annotator")
        .order_by("-pk")[:DECISIONS_SHOWN]
    )
    context = {
        "project": project,
        "membership": request.membership,
        "tasks": shown,
        "below": "" if project.adjudicate_below is None else rounded(project.adjudicate_below, 2),
        "count": tasks.count(),
        "more": place_of(shown[-1]) if len(rows) > PER_PAGE else "",
        "is_first": not request.GET.get("after"),
        "decisions": decisions,
    }
    return render(request, "annotate/adjudication.html", context)


def place_of(task: RankingTask) -> str:
    return f"{task.agreement!r},{task.pk}"


def from_place(tasks: QuerySet[RankingTask, RankingTask], place: str) -> QuerySet[RankingTask, RankingTask]:
    agreement, _comma, pk = place.partition(",")
    try:
        return after(tasks, float(agreement), int(pk))
    except (ValueError, OverflowError):
        return tasks


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@member_required(Role.ADMIN)
def task_decide(request: ProjectRequest, pk: int) -> HttpResponse:
    """The rankings of one task side by side, and the reviewer's own order. `?names` tells whose rankings they are."""
    membership = request.membership
    project = membership.project
    task = get_object_or_404(project.tasks.select_related("prompt"), pk=pk)
    order = review_order(task)
    by_letter = dict(zip(letters(len(order)), order, strict=True))
    if request.method != "POST":
        try:
            check_decidable(task)
        except Refused as refused:
            messages.error(request, refused.message)
            return redirect("task", project.slug, task.pk)
        return show(request, task, by_letter, None)
    form = DecisionForm(request.POST, project=project, shown="".join(by_letter))
    if not form.is_valid():
        return show(request, task, by_letter, form)
    data = form.cleaned_data
    try:
        decide(
            membership=membership,
            task=task,
            token=data["token"],
            revises=data["revises"],
            verdict=data["verdict"],
            ranks={by_letter[letter]: rank for letter, rank in data["places"].items()},
            comment=data["comment"],
            seconds=data["seconds"],
        )
    except Refused as refused:
        messages.error(request, refused.message)
        return redirect("task_decide" if refused.code == "decided" else "task", project.slug, task.pk)
    messages.success(request, _("The decision is stored. The rankings stay as they are."))
    following = next_task(project, task)
    if following is None:
        return redirect("adjudication", project.slug)
    return redirect("task_decide", project.slug, following.pk)


def next_task(project: Project, task: RankingTask) -> RankingTask | None:
    """What waits after this task, else from the top."""
    tasks = waiting(project).exclude(pk=task.pk)
    onward = after(tasks, task.agreement, task.pk).first() if task.agreement is not None else None
    return onward or tasks.first()


def show(
    request: ProjectRequest, task: RankingTask, by_letter: dict[str, int], form: DecisionForm | None
) -> HttpResponse:
    """The review page; `form` is what was posted and is wrong."""
    project = request.membership.project
    rankings = list(rankings_of(task).current().filter(role=Ranking.Role.ANNOTATOR).order_by("pk"))
    ordered = [ranks_in(one) for one in rankings if one.verdict == Ranking.Verdict.RANKED]
    decision = current_decision(task)
    suggested = ranks_in(decision) if decision else agreed_order(ordered, ties=project.allow_ties)
    bound = form or DecisionForm(
        project=project,
        shown="".join(by_letter),
        initial={
            "token": new_token(),
            "revises": decision.uid if decision else None,
            "comment": decision.comment if decision else "",
            **{f"place_{letter}": suggested.get(completion) for letter, completion in by_letter.items()},
        },
    )
    texts = {one.pk: one for one in task.completions.select_related("source")}
    following = next_task(project, task)
    context: dict[str, Any] = {
        "project": project,
        "membership": request.membership,
        "task": task,
        "conversation": describe_conversation(task),
        "answers": describe_answers([texts[pk] for pk in by_letter.values()], list(by_letter)),
        "columns": [
            {"ranking": one, "name": one.annotator.username if "names" in request.GET else number}
            for number, one in enumerate(rankings, start=1)
        ],
        "rows": [
            {
                "letter": letter,
                "field": bound[f"place_{letter}"],
                "ranks": [
                    ranks_in(one).get(completion) if one.verdict == Ranking.Verdict.RANKED else None for one in rankings
                ],
            }
            for letter, completion in by_letter.items()
        ],
        "form": bound,
        "problem": first_problem(form) if form else "",
        "decision": decision,
        "agreement": "" if task.agreement is None else rounded(task.agreement, 2),
        "named": "names" in request.GET,
        "following": following,
    }
    return render(request, "annotate/decide.html", context, status=422 if form else 200)
