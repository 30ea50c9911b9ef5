"""Tasks with a known order, and people who answer them as known or not."""

from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import reverse

from annotate.models import Assignment, KnownOrder, Membership, Project, RankingTask, User
from annotate.services.overlap import ENDLESS
from annotate.services.rankings import letters
from annotate.services.serving import is_gold_turn
from tests.annotate.ranking_page import held, opened, submit
from tests.conftest import make_task, signed_in


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


def address(project: Project, name: str, *arguments: Any) -> str:
    return reverse(name, args=[project.slug, *arguments])


def member_of(user: User) -> Membership:
    return Membership.objects.select_related("project").get(user=user)


@pytest.fixture
def gold_project(project: Project) -> Project:
    """Gold at every second turn; accuracy is taken over two of them."""
    Project.objects.update(gold_percent=50, gold_window=2, gold_threshold=60)
    project.refresh_from_db()
    return project


def turn_of(user: User, after: int = 0) -> int:
    """A count of served tasks at which this member's next one is gold."""
    member = member_of(user)
    for member.served in range(after, after + 1000):
        if is_gold_turn(member):
            return member.served
    raise AssertionError("no turn of gold")


def change(admin: User, task: RankingTask, places: Any, **more: Any) -> Any:
    """Give the task another order by its page."""
    completions = task.completions.order_by("pk")
    data = {f"place_{one.pk}": place for one, place in zip(completions, places, strict=True)}
    return signed_in(admin).post(
        address(task.project, "known_task", task.pk), {"purpose": "gold", **data, **more}, follow=True
    )
