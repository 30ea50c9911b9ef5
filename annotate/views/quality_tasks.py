"""The rankings behind a number of the quality report."""

from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.core.paginator import Page, Paginator
from django.db.models import Exists, F, Func, OuterRef, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from annotate.access import ProjectRequest, Role, member_required
from annotate.figures import People, number, percent
from annotate.forms.quality import ListForm
from annotate.models import Project, QualityReport, RankedCompletion, Ranking, RankingTask
from annotate.services.rankings import letters
from annotate.services.reports import latest_report

Purpose = RankingTask.Purpose
PAGE = 50
LISTS: dict[str, str | Promise] = {
    "all": gettext_lazy("All rankings"),
    "shared": gettext_lazy("Rankings of tasks that others have ranked too"),
    "pair": gettext_lazy("Tasks that both have ranked"),
    "too_fast": gettext_lazy("Rankings faster than anybody reads"),
    "straight": gettext_lazy("Rankings by whoever gives one order suspiciously often"),
    "as_shown": gettext_lazy("Answers left in the order shown"),
    "first": gettext_lazy("The answer shown first on top"),
    "all_bad": gettext_lazy("Answered by “all bad”"),
    "gold": gettext_lazy("Rankings of gold tasks"),
    "gold_wrong": gettext_lazy("Gold tasks not answered as known"),
}
GOLD = ("gold", "gold_wrong")
BY_TASK = ("shared", "pair")
OF_A_PERSON = ("shared", "pair", "as_shown", "first")
# Kept by the report, the most telling ones first.
STORED = ("too_fast", "straight")


@require_safe
@member_required(Role.RESEARCHER, Role.ADMIN)
def quality_tasks(request: ProjectRequest) -> HttpResponse:
    """`?list=too_fast&annotator=12` with the report's filters; `pair` takes `&other=13`."""
    membership = request.membership
    form = ListForm(request.GET, lists=LISTS, project=membership.project, is_admin=membership.is_admin)
    context: dict[str, Any] = {"project": membership.project, "form": form}
    if not form.is_valid():
        return render(request, "annotate/quality_tasks.html", context, status=422)
    people = People(membership.project, by_name=membership.is_admin)
    kind = form.cleaned_data["list"]
    if len(form.people()) < (2 if kind == "pair" else kind in OF_A_PERSON):
        raise Http404(_("This list is of one person’s rankings, and nobody is named."))
    chosen = [people[pk] for pk in form.people()]
    found = rankings_behind(membership.project, kind, form.filters(), [one.membership.user_id for one in chosen])
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    query = request.GET.copy()
    query.pop("page", None)
    context |= {
        "title": LISTS[kind],
        "people": [one.name for one in chosen],
        "page": page,
        "rows": describe(page, people, shows_gold=kind in GOLD),
        "query": query.urlencode(),
        "shows_gold": kind in GOLD,
        "is_cut": kind in STORED,
    }
    return render(request, "annotate/quality_tasks.html", context)


def rankings_behind(project: Project, kind: str, filters: dict[str, Any], user_ids: list[int]) -> QuerySet[Ranking]:
    """Current rankings on the list `kind` within a report's filters, of these people, if any are named; newest first."""
    found = _within(project, filters)
    if kind in GOLD:
        found = found.filter(task__purpose=Purpose.GOLD, accuracy__isnull=False)
    else:
        found = found.filter(task__purpose=Purpose.RANKING)
    if user_ids:
        found = found.filter(annotator__in=user_ids)
    others = Ranking.objects.current().filter(task=OuterRef("task"), role=Ranking.Role.ANNOTATOR)
    if kind == "pair":
        for user_id in user_ids:
            found = found.filter(Exists(others.filter(annotator=user_id)))
    elif kind == "shared":
        found = found.filter(Exists(others.exclude(annotator=OuterRef("annotator"))))
    elif kind == "all_bad":
        found = found.filter(verdict=Ranking.Verdict.ALL_BAD)
    elif kind == "gold_wrong":
        found = found.filter(accuracy__lt=1)
    elif kind == "first":
        first = OuterRef("assignment__shown_order__0")
        on_top = RankedCompletion.objects.filter(ranking=OuterRef("pk"), rank=1, completion=first)
        found = found.filter(Exists(on_top), verdict=Ranking.Verdict.RANKED)
    elif kind == "as_shown":
        found = _as_shown(found)
    elif kind in STORED:
        report = latest_report(project=project, kind=QualityReport.Kind.QUALITY, filters=filters)
        found = found.filter(pk__in=report.results["task_lists"][kind] if report else [])
    order = ("-task", "pk") if kind in BY_TASK else ("-created_at", "-pk")
    return found.select_related("task__prompt", "assignment").order_by(*order)


def _within(project: Project, filters: dict[str, Any]) -> QuerySet[Ranking]:
    found = project.rankings.current().filter(role=Ranking.Role.ANNOTATOR)
    if "since" in filters:
        found = found.filter(created_at__gte=filters["since"])
    if "until" in filters:
        found = found.filter(created_at__lt=filters["until"])
    if "annotators" in filters:
        members = project.memberships.filter(pk__in=filters["annotators"])
        found = found.filter(annotator__in=members.values("user"))
    if "tag" in filters:
        found = found.filter(task__prompt__tags__contains=[filters["tag"]])
    return found


def _as_shown(found: QuerySet[Ranking]) -> QuerySet[Ranking]:
    """Those whose ranks do not fall from A on, unless everything is tied."""
    ranked = RankedCompletion.objects.filter(ranking=OuterRef("pk"))
    place = Func(OuterRef("assignment__shown_order"), F("completion_id"), function="array_position")
    orders = found.annotate(
        as_shown=ArraySubquery(ranked.annotate(place=place).order_by("place").values("rank")),
        rising=ArraySubquery(ranked.order_by("rank").values("rank")),
    )
    return orders.filter(Exists(ranked.filter(rank__gt=1)), as_shown=F("rising"))


def describe(page: Page[Ranking], people: People, *, shows_gold: bool) -> list[dict[str, Any]]:
    """What the table says of each ranking; the order in the letters under which the answers were shown."""
    places: dict[int, dict[int, int]] = {}
    ranked = RankedCompletion.objects.filter(ranking__in=[ranking.pk for ranking in page])
    for ranking, completion, rank in ranked.values_list("ranking", "completion", "rank"):
        places.setdefault(ranking, {})[completion] = rank
    return [
        {
            "ranking": ranking,
            "name": people.of_user(ranking.annotator_id),
            "order": order_of(ranking, places),
            "figure": percent(ranking.accuracy) if shows_gold else number(ranking.task.agreement),
        }
        for ranking in page
    ]


def order_of(ranking: Ranking, places: dict[int, dict[int, int]]) -> str:
    """“B > A = C”, best first."""
    ranks, assignment = places.get(ranking.pk, {}), ranking.assignment
    if ranking.verdict == Ranking.Verdict.ALL_BAD:
        return _("All bad")
    if assignment is None:
        return ""
    shown = assignment.shown_order
    by_rank: dict[int, list[str]] = {}
    for completion, letter in zip(shown, letters(len(shown)), strict=True):
        by_rank.setdefault(ranks[completion], []).append(letter)
    return " > ".join(" = ".join(by_rank[rank]) for rank in sorted(by_rank))
