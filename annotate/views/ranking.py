"""The ranking page and everything that it posts."""

import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.access import ProjectRequest, Role, member_required
from annotate.forms.ranking import DemonstrationForm, FlagForm, RankingForm, UndoForm, first_problem, read_draft
from annotate.models import Assignment, Flag, Membership, Project, RankingTask
from annotate.models.projects import RATING_MAX
from annotate.numbers import grouped
from annotate.services.assignments import (
    Refused,
    Shown,
    current_assignment,
    lease_next,
    load_shown,
    lock_assignment,
    save_draft,
)
from annotate.services.assignments import skip as skip_assignment
from annotate.services.demonstrations import write_demonstration
from annotate.services.flags import raise_flag
from annotate.services.progress import count_progress, next_midnight, reached_limit
from annotate.services.rankings import last_ranking, letters, submit_ranking, undo_last
from annotate.services.serving import must_practise
from annotate.text import render_markdown
from annotate.views.practice import describe_practice, is_practice, practice_feedback

TURNS_SHOWN = 6  # of a long conversation; the earlier ones are folded

ranker = member_required(Role.ANNOTATOR, Role.ADMIN)
ranking_script = member_required(Role.ANNOTATOR, Role.ADMIN, scripted=True)


def in_words(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Tell the page's script what was refused, and that there is no such assignment of this person."""

    @wraps(view)
    def wrapped(*args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(*args, **kwargs)
        except Assignment.DoesNotExist:
            raise Http404 from None
        except Refused as refused:
            return refusal(refused.code, refused.message, refused.status)

    return wrapped


@require_GET
@never_cache
@ranker
def rank(request: ProjectRequest) -> HttpResponse:
    membership = request.membership
    assignment = current_assignment(membership=membership)
    return show(request, assignment, undo_token=undoable(membership))


@require_POST
@ranking_script
@in_words
def rank_submit(request: ProjectRequest, pk: int) -> HttpResponse:
    membership = request.membership
    # One transaction: whoever is told that a ranking is stored also holds the next task.
    with transaction.atomic():
        assignment = lock_assignment(membership=membership, pk=pk)
        form = RankingForm(request.POST, project=membership.project, shown=letters(len(assignment.shown_order)))
        if not form.is_valid():
            return refusal("invalid", form.problem, 422)
        stored = submit_ranking(membership=membership, assignment=assignment, **form.cleaned_data)
        if is_practice(assignment):
            return practice_feedback(request, assignment)
        practises = must_practise(membership)
        was_held = stored and assignment.state == Assignment.State.LEASED
        # Practice is waited for, which nobody may do who has locked a task.
        following = None if practises else lease_next(membership=membership, may_hold=not was_held)
    if practises:
        return show_next(request)
    undo_token = assignment.token if stored else undoable(membership)
    return show(request, following, undo_token=undo_token, partial=True)


@require_POST
@ranking_script
@in_words
def rank_skip(request: ProjectRequest, pk: int) -> HttpResponse:
    skip_assignment(membership=request.membership, pk=pk)
    return show_next(request)


@require_POST
@ranking_script
@in_words
def rank_flag(request: ProjectRequest, pk: int) -> HttpResponse:
    form = FlagForm(request.POST)
    if not form.is_valid():
        return refusal("invalid", first_problem(form), 422)
    raise_flag(membership=request.membership, pk=pk, **form.cleaned_data)
    return show_next(request)


@require_POST
@ranking_script
@in_words
def rank_draft(request: ProjectRequest, pk: int) -> HttpResponse:
    try:
        token, draft = read_draft(request.body)
    except ValidationError as error:
        return refusal("invalid", error.messages[0], 422)
    save_draft(membership=request.membership, pk=pk, token=token, draft=draft)
    return HttpResponse(status=204)


@require_POST
@ranking_script
@in_words
def rank_demonstration(request: ProjectRequest, pk: int) -> HttpResponse:
    membership = request.membership
    assignment = my_assignment(membership=membership, pk=pk)
    form = DemonstrationForm(request.POST)
    if not form.is_valid():
        return refusal("invalid", first_problem(form), 422)
    try:
        write_demonstration(membership=membership, assignment=assignment, **form.cleaned_data)
    except ValueError:
        return refusal("invalid", _("The answer holds nothing but reasoning. Write what the reader should see."), 422)
    return HttpResponse(status=204)


@require_POST
@ranking_script
@in_words
def rank_undo(request: ProjectRequest) -> HttpResponse:
    form = UndoForm(request.POST)
    if not form.is_valid():
        return refusal("invalid", first_problem(form), 422)
    undo_last(membership=request.membership, **form.cleaned_data)
    return show_next(request)


def refusal(code: str, message: str, status: int) -> JsonResponse:
    return JsonResponse({"code": code, "message": message}, status=status)


def my_assignment(*, membership: Membership, pk: int) -> Assignment:
    """One's own assignment with its task. Raises Assignment.DoesNotExist for anybody else's."""
    mine = Assignment.objects.filter(annotator_id=membership.user_id, project_id=membership.project_id)
    return mine.select_related("task").get(pk=pk)


def show_next(request: ProjectRequest) -> HttpResponse:
    following = current_assignment(membership=request.membership)
    return show(request, following, undo_token=undoable(request.membership), partial=True)


def undoable(membership: Membership) -> uuid.UUID | None:
    """The token of the submission that undo would take back."""
    ranking = None if membership.paused_at else last_ranking(membership=membership)
    return ranking.token if ranking else None


def show(
    request: ProjectRequest, assignment: Assignment | None, *, undo_token: uuid.UUID | None, partial: bool = False
) -> HttpResponse:
    """The ranking page, or only its task when a script asked."""
    membership = request.membership
    project = membership.project
    progress = count_progress(membership=membership)
    practice = describe_practice(membership, assignment)
    context = {
        "project": project,
        "membership": membership,
        "task": describe(load_shown(assignment)) if assignment else None,
        "empty_reason": "" if assignment else explain_empty(membership),
        **what_is_asked(project),
        "today": progress.today,
        "remaining": f"{grouped(progress.remaining)}{'+' if progress.more else ''}",
        "undo_token": undo_token,
        "practice": practice,
        "practises": must_practise(membership),
        "introduce": practice and practice["is_first"] and "begin" not in request.GET,
        "resumes_at": next_midnight(),
    }
    return render(request, "annotate/rank.html#task" if partial else "annotate/rank.html", context)


def what_is_asked(project: Project) -> dict[str, Any]:
    """What the project's settings make of the page."""
    return {
        "allow_ties": project.allow_ties,
        "allow_all_bad": project.allow_all_bad,
        "ask_comment": project.ask_comment,
        "reasons": project.reasons,
        "criteria": tuple(project.criteria),
        "require_ratings": project.require_ratings,
        "rating_values": tuple(range(1, RATING_MAX + 1)),
        "flag_reasons": tuple(Flag.Reason.choices),
    }


def describe(shown: Shown) -> dict[str, Any]:
    """What the page may know of a task: letters and rendered texts, no ids or names of completions."""
    assignment = shown.assignment
    last = len(shown.messages) - 1
    latest = 0 if len(shown.messages) <= TURNS_SHOWN + 2 else len(shown.messages) - TURNS_SHOWN
    return {
        "assignment": assignment,
        "conversation": [
            {
                "role": message["role"],
                "html": render_markdown(message["content"]),
                "is_last": number == last,
                "is_early": number < latest,
            }
            for number, message in enumerate(shown.messages)
        ],
        "earlier_turns": latest,
        "cards": [
            {
                "letter": letter,
                "text": text,
                "html": render_markdown(text),
                "words": len(text.split()),
                "reasoning_html": render_markdown(reasoning) if reasoning else "",
                "reasoning_words": len(reasoning.split()),
            }
            for letter, (text, reasoning) in zip(letters(len(shown.completions)), shown.completions, strict=True)
        ],
        "letters": tuple(letters(len(shown.completions))),
        "places": tuple(range(1, len(shown.completions) + 1)),
        "is_pair": len(shown.completions) == 2,
        "draft": assignment.draft,
    }


def explain_empty(membership: Membership) -> str:
    if membership.project.state != Project.State.ACTIVE:
        return membership.project.state
    if membership.paused_at:
        return "member_paused"
    if limit := reached_limit(membership=membership):
        return limit
    return "none_left" if RankingTask.objects.filter(project=membership.project).exists() else "no_tasks"
