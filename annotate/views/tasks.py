"""One task with all that is known of it: where every number of the quality pages ends."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.flags import TaskStateForm
from annotate.forms.ranking import first_problem
from annotate.models import Completion, Demonstration, KnownOrder, Membership, Ranking, RankingTask, User
from annotate.models.rankings import RankingQuerySet
from annotate.numbers import rounded
from annotate.quality.tau import mean_tau
from annotate.services.adjudication import Ranks
from annotate.services.assignments import Refused
from annotate.services.flags import reopen_task, take_task_out
from annotate.services.rankings import letters
from annotate.text import render_markdown

from .prompts import ROLE_NAMES

RANKINGS_SHOWN = 20
REVISIONS_SHOWN = 100
PEOPLE_SHOWN = 100


@require_GET
@member_required(Role.RESEARCHER, Role.ADMIN)
def task(request: ProjectRequest, pk: int) -> HttpResponse:
    membership = request.membership
    project = membership.project
    task = get_object_or_404(project.tasks.select_related("prompt"), pk=pk)
    completions = list(task.completions.select_related("source").order_by("pk"))
    current = rankings_of(task).current()
    page = Paginator(current.order_by("-role", "pk"), RANKINGS_SHOWN).get_page(request.GET.get("page"))
    shown = list(page)
    withdrawn = list(rankings_of(task).filter(is_current=False).order_by("-withdrawn_at")[:REVISIONS_SHOWN])
    handed = list(task.assignments.select_related("annotator").order_by("pk")[:PEOPLE_SHOWN])
    flags = list(task.flags.select_related("raised_by", "settled_by").order_by("-pk"))
    people = {one.annotator for one in (*shown, *withdrawn)} | {one.annotator for one in handed}
    people |= {flag.raised_by for flag in flags}
    names = name_people(membership, people)
    known = KnownOrder.objects.filter(task=task).first()
    context = {
        "project": project,
        "membership": membership,
        "task": task,
        "agreement": "" if task.agreement is None else rounded(task.agreement, 2),
        "conversation": describe_conversation(task),
        "answers": describe_answers(completions),
        "columns": describe_columns(shown, names),
        "rows": describe_rows(completions, shown, known, project.criteria),
        "page": page,
        "is_decided": current.filter(role=Ranking.Role.ADJUDICATOR).exists(),
        "withdrawn": [describe_withdrawn(one, completions, names) for one in withdrawn],
        "handed": [{"name": names[one.annotator_id], "assignment": one} for one in handed],
        "known": known,
        "flags": [{"flag": flag, "name": names[flag.raised_by_id]} for flag in flags],
        "open_flag": next((flag for flag in flags if flag.settled_at is None), None),
        "ideal": Demonstration.objects.filter(completion__prompt=task.prompt, withdrawn_at=None).count(),
        "form": TaskStateForm(),
    }
    return render(request, "annotate/task.html", context)


@require_POST
@member_required(Role.ADMIN)
def task_state(request: ProjectRequest, pk: int) -> HttpResponse:
    """Flag, close or reopen a task as one who is not ranking it."""
    membership = request.membership
    task = get_object_or_404(membership.project.tasks, pk=pk)
    form = TaskStateForm(request.POST)
    if not form.is_valid():
        messages.error(request, first_problem(form))
        return redirect("task", membership.project.slug, task.pk)
    action = form.cleaned_data["action"]
    try:
        if action == "reopen":
            reopen_task(membership=membership, task=task)
            messages.success(request, _("The task is back in the queue."))
        else:
            take_task_out(
                membership=membership,
                task=task,
                reason=form.cleaned_data["reason"],
                comment=form.cleaned_data["comment"],
                close=action == "close",
            )
            messages.success(request, _("The task is out of the queue."))
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect("task", membership.project.slug, task.pk)


def rankings_of(task: RankingTask) -> RankingQuerySet:
    """With all that the page says of each."""
    rankings: RankingQuerySet = Ranking.objects.filter(task=task)
    rows = rankings.select_related("annotator", "assignment", "imported")
    return rows.prefetch_related("ranked_completions")


def name_people(membership: Membership, people: Iterable[User]) -> dict[int, str]:
    """{user id: what this member may call them}: admins see user names, everybody else pseudonyms."""
    if membership.is_admin:
        return {person.pk: person.username for person in people}
    pseudonyms = Membership.objects.filter(project_id=membership.project_id, user__in=people)
    known = dict(pseudonyms.values_list("user_id", "pseudonym"))
    return {person.pk: known.get(person.pk, _("a former member")) for person in people}


def describe_conversation(task: RankingTask) -> list[dict[str, Any]]:
    return [
        {
            "role": message["role"],
            "name": ROLE_NAMES.get(message["role"], message["role"]),
            "html": render_markdown(message["content"]),
        }
        for message in task.prompt.messages
    ]


def describe_answers(completions: Sequence[Completion], names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Named by `names`, else counted from 1."""
    return [
        {
            "name": name,
            "completion": completion,
            "source": completion.source.name,
            "html": render_markdown(completion.text),
            "words": len(completion.text.split()),
            "reasoning_html": render_markdown(completion.reasoning) if completion.reasoning else "",
        }
        for name, completion in zip(names or range(1, len(completions) + 1), completions, strict=True)
    ]


def ranks_in(ranking: Ranking) -> dict[int, int]:
    """{completion id: rank}."""
    places = sorted(ranking.ranked_completions.all(), key=lambda ranked: ranked.completion_id)
    return {ranked.completion_id: ranked.rank for ranked in places}


def describe_columns(rankings: Sequence[Ranking], names: dict[int, str]) -> list[dict[str, Any]]:
    """One ranking a column, with how far it agrees with each of the others: the mean τ-b, "" where there is none."""
    by_people = [one for one in rankings if one.role == Ranking.Role.ANNOTATOR]
    ranks: dict[int, Ranks] = {one.pk: ranks_in(one) for one in by_people}
    return [
        {
            "ranking": one,
            "name": one.imported.annotator if hasattr(one, "imported") else names[one.annotator_id],
            "is_decision": one.role == Ranking.Role.ADJUDICATOR,
            "accuracy": None if one.accuracy is None else 100 * one.accuracy,
            "tau": _tau_with_others(one.pk, ranks),
        }
        for one in rankings
    ]


def _tau_with_others(pk: int, ranks: dict[int, Ranks]) -> str:
    if pk not in ranks:
        return ""
    taus = [mean_tau([list(ranks[pk].values()), list(other.values())]) for key, other in ranks.items() if key != pk]
    defined = [tau for tau in taus if tau is not None]
    return rounded(sum(defined) / len(defined), 2) if defined else ""


def describe_rows(
    completions: Sequence[Completion], rankings: Sequence[Ranking], known: KnownOrder | None, criteria: list[str]
) -> list[dict[str, Any]]:
    """One completion a row; a cell for each ranking with the place it gave and the letter under which it was shown."""
    # The project's criteria in its order, then those that it had before.
    position = {name: number for number, name in enumerate(criteria)}
    places = [{ranked.completion_id: ranked for ranked in one.ranked_completions.all()} for one in rankings]
    shown = [one.assignment.shown_order if one.assignment else [] for one in rankings]
    rows = []
    for number, completion in enumerate(completions, start=1):
        cells = []
        for ranking, placed, order in zip(rankings, places, shown, strict=True):
            ranked = placed.get(completion.pk)
            cells.append(
                {
                    "rank": ranked.rank if ranked and ranking.verdict == Ranking.Verdict.RANKED else None,
                    "letter": letters(len(order))[order.index(completion.pk)] if completion.pk in order else "",
                    "ratings": sorted(
                        ranked.ratings.items(), key=lambda one: (position.get(one[0], len(position)), one)
                    )
                    if ranked
                    else [],
                }
            )
        known_rank = known.ranks.get(str(completion.pk)) if known else None
        rows.append({"number": number, "completion": completion, "cells": cells, "known": known_rank})
    return rows


def describe_withdrawn(ranking: Ranking, completions: Sequence[Completion], names: dict[int, str]) -> dict[str, Any]:
    """An earlier revision, as places of the answers' numbers."""
    numbers = {completion.pk: number for number, completion in enumerate(completions, start=1)}
    places: dict[int, list[int]] = {}
    for completion, rank in ranks_in(ranking).items():
        places.setdefault(rank, []).append(numbers.get(completion, 0))
    return {
        "ranking": ranking,
        "name": names[ranking.annotator_id],
        "places": [sorted(places[rank]) for rank in sorted(places)],
    }
