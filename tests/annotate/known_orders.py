"""Tasks with a known order, and people who answer them as known or not."""

from typing import Any

from django.http import HttpResponse

from annotate.models import Assignment, KnownOrder, Project, RankingTask, User
from annotate.services.overlap import ENDLESS
from annotate.services.rankings import letters
from tests.annotate.ranking_page import held, opened, submit
from tests.conftest import make_task


def make_known(task: RankingTask, *, purpose: str = "gold", explanation: str = "") -> RankingTask:
    """A task whose completions are best in the order in which they were stored."""
    ranks = {str(pk): rank for rank, pk in enumerate(task.completions.order_by("pk").values_list("pk", flat=True), 1)}
    RankingTask.objects.filter(pk=task.pk).update(purpose=purpose, overlap=ENDLESS)
    KnownOrder.objects.create(task=task, ranks=ranks, explanation=explanation)
    task.refresh_from_db()
    return task


def make_known_tasks(project: Project, count: int, *, purpose: str = "gold") -> list[RankingTask]:
    return [
        make_known(make_task(project, f"{purpose} {number}?"), purpose=purpose, explanation=f"Because {number}.")
        for number in range(count)
    ]


def as_known(assignment: Assignment) -> list[list[str]]:
    """The known order in the letters under which it is shown."""
    by_completion = dict(zip(assignment.shown_order, letters(9), strict=False))
    return [[by_completion[pk]] for pk in sorted(assignment.shown_order)]


def answer(user: User, project: Project, *, right: bool = True, **more: Any) -> HttpResponse:
    """Open the page and submit what it shows: the order in which the completions were stored, or its reverse."""
    opened(user, project)
    assignment = held(user)
    order = as_known(assignment)
    response: HttpResponse = submit(user, assignment, *(order if right else order[::-1]), **more)
    return response
