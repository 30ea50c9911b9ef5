"""What somebody has ranked: to look at, and to revise."""

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.access import ProjectRequest
from annotate.forms.ranking import UndoForm, first_problem
from annotate.services.assignments import Refused
from annotate.services.history import measure_pace, my_history
from annotate.services.rankings import revise

from .ranking import ranker


@require_GET
@never_cache
@ranker
def my_rankings(request: ProjectRequest) -> HttpResponse:
    membership = request.membership
    before = request.GET.get("before", "")
    if before and not (before.isascii() and before.isdigit() and len(before) < 19):
        raise Http404
    history, following = my_history(membership=membership, before=int(before) if before else None)
    context = {
        "project": membership.project,
        "membership": membership,
        "history": history,
        "before": before,
        "following": following,
        "pace": measure_pace(membership=membership),
    }
    return render(request, "annotate/my_rankings.html", context)


@require_POST
@ranker
def ranking_revise(request: ProjectRequest) -> HttpResponse:
    slug = request.membership.project.slug
    form = UndoForm(request.POST)
    if not form.is_valid():
        messages.error(request, first_problem(form))
        return redirect("my_rankings", slug)
    try:
        revise(membership=request.membership, **form.cleaned_data)
    except Refused as refused:
        messages.error(request, refused.message)
        return redirect("my_rankings", slug)
    return redirect("rank", slug)
