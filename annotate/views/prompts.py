from typing import Any

from django.contrib import messages
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.priority import PriorityForm
from annotate.forms.ranking import first_problem
from annotate.models import Demonstration, Membership, Prompt, Ranking, RankingTask
from annotate.numbers import grouped
from annotate.services.demonstrations import withdraw_demonstration
from annotate.services.queue import set_priorities
from annotate.text import render_markdown

PER_PAGE = 50
RANKINGS_SHOWN = 100
ROLE_NAMES = {"system": _("System"), "user": _("Person"), "assistant": _("Assistant")}


@require_GET
@member_required(Role.RESEARCHER, Role.ADMIN)
def prompts(request: ProjectRequest) -> HttpResponse:
    """Newest first. `?before=<id>` goes on, so that the last page costs what the first does."""
    project = request.membership.project
    found = project.prompts.order_by("-pk")
    before = request.GET.get("before", "")
    if before.isdecimal() and len(before) < 19:
        found = found.filter(pk__lt=int(before))
    rows = list(found[: PER_PAGE + 1])
    shown = rows[:PER_PAGE]
    counts = dict(
        Prompt.objects.filter(pk__in=[prompt.pk for prompt in shown])
        .annotate(answers=Count("completions"))
        .values_list("pk", "answers")
    )
    context = {
        "project": project,
        "membership": request.membership,
        "prompts": [{"prompt": prompt, "answers": counts[prompt.pk]} for prompt in shown],
        "more": shown[-1].pk if len(rows) > PER_PAGE else None,
        "is_first": not before,
    }
    return render(request, "annotate/prompts.html", context)


@require_GET
@member_required(Role.RESEARCHER, Role.ADMIN)
def prompt(request: ProjectRequest, pk: int) -> HttpResponse:
    project = request.membership.project
    prompt = get_object_or_404(project.prompts, pk=pk)
    completions = list(prompt.completions.select_related("source").order_by("pk")[:200])
    tasks = list(prompt.tasks.order_by("pk")[:100])
    ideal = {row.completion_id: row for row in Demonstration.objects.filter(completion__prompt=prompt)}
    context = {
        "project": project,
        "membership": request.membership,
        "prompt": prompt,
        "conversation": [
            {
                "role": message["role"],
                "name": ROLE_NAMES.get(message["role"], message["role"]),
                "html": render_markdown(message["content"]),
            }
            for message in prompt.messages
        ],
        "completions": [
            {
                "completion": completion,
                "demonstration": ideal.get(completion.pk),
                "html": render_markdown(completion.text),
                "reasoning_html": render_markdown(completion.reasoning) if completion.reasoning else "",
            }
            for completion in completions
        ],
        "tasks": tasks,
        "movable": [
            task
            for task in tasks
            if task.purpose == RankingTask.Purpose.RANKING and task.state != RankingTask.State.CLOSED
        ],
        "rankings": describe_rankings(prompt),
    }
    return render(request, "annotate/prompt.html", context)


@require_POST
@member_required(Role.ADMIN)
def demonstration_withdraw(request: ProjectRequest, pk: int) -> HttpResponse:
    """Take the ideal answer `pk` back."""
    membership = request.membership
    demonstration = get_object_or_404(membership.project.demonstrations.select_related("completion"), pk=pk)
    withdraw_demonstration(membership=membership, demonstration=demonstration)
    return redirect("prompt", membership.project.slug, demonstration.completion.prompt_id)


@require_POST
@member_required(Role.ADMIN)
def task_priority(request: ProjectRequest, pk: int) -> HttpResponse:
    """Ask tasks earlier, as any other, or later: one of this task's prompt, or all that bear one of its tags."""
    project = request.membership.project
    tasks = project.tasks.filter(purpose=RankingTask.Purpose.RANKING).exclude(state=RankingTask.State.CLOSED)
    task = get_object_or_404(tasks.select_related("prompt"), pk=pk)
    siblings = tasks.filter(prompt_id=task.prompt_id).values_list("pk", flat=True)
    form = PriorityForm(request.POST, tasks=siblings, tags=task.prompt.tags)
    if not form.is_valid():
        messages.error(request, first_problem(form))
        return redirect("prompt", project.slug, task.prompt_id)
    chosen = tasks.filter(**form.cleaned_data["what"])
    moved = {key: form.moved(priority) for key, priority in chosen.values_list("pk", "priority").iterator()}
    changed = set_priorities(project=project, priorities=moved, actor=request.membership.user)
    messages.success(
        request,
        ngettext("%(count)s task has another priority now.", "%(count)s tasks have another priority now.", changed)
        % {"count": grouped(changed)},
    )
    return redirect("prompt", project.slug, task.prompt_id)


def describe_rankings(prompt: Prompt) -> list[dict[str, Any]]:
    """Current rankings as lists of places of completion ids, under the annotators' pseudonyms."""
    rankings = (
        Ranking.objects.current()
        .filter(task__prompt=prompt)
        .select_related("imported")
        .prefetch_related("ranked_completions")
        .order_by("-pk")[:RANKINGS_SHOWN]
    )
    pseudonyms = dict(Membership.objects.filter(project_id=prompt.project_id).values_list("user_id", "pseudonym"))
    described = []
    for ranking in rankings:
        places: dict[int, list[int]] = {}
        for ranked in ranking.ranked_completions.all():
            places.setdefault(ranked.rank, []).append(ranked.completion_id)
        described.append(
            {
                "ranking": ranking,
                "annotator": ranking.imported.annotator
                if hasattr(ranking, "imported")
                else pseudonyms.get(ranking.annotator_id, ""),
                "places": [places[rank] for rank in sorted(places)],
            }
        )
    return described
