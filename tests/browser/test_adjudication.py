"""A reviewer decides by keyboard alone; the pages of tasks are accessible and fit a phone."""

import itertools
from typing import Literal

import pytest
from playwright.sync_api import expect

from annotate.models import Flag, RankingTask
from annotate.services.adjudication import compare_rankings
from tests.annotate.rows import rank
from tests.browser.pages import axe_violations, press
from tests.conftest import make_task, make_user

pytestmark = pytest.mark.browser


@pytest.fixture
def disputed(project, bob):
    project.adjudicate_below = 0.5
    project.overlap = 2
    project.save()
    task = make_task(project, texts=["first " * 60, "second", "third"])
    rank(task, bob, [1, 2, 3], comment="Long, but right.")
    rank(task, make_user("carol"), [3, 2, 1])
    compare_rankings()
    return task


def test_a_reviewer_decides_by_keyboard(open_page, project, alice, disputed):
    page = open_page(alice)
    page.goto(f"/projects/{project.slug}/adjudication")
    page.get_by_role("link", name="Review the first").press("Enter")
    expect(page.get_by_role("heading", name="Rankings and your decision")).to_be_visible()
    press(page, "b 1 a 3 c 3 c 9")
    page.get_by_label("Note").fill("a and b stay text here")
    page.get_by_role("button", name="Store the decision").press("Enter")
    expect(page.get_by_text("The decision is stored.")).to_be_visible()
    decision = disputed.rankings.get(role="adjudicator")
    assert sorted(decision.ranked_completions.values_list("rank", flat=True)) == [1, 2, 2]
    assert decision.comment == "a and b stay text here"


def test_the_pages_of_tasks_are_accessible_and_fit_a_phone(open_page, project, alice, disputed):
    flagged = make_task(project, "Flagged?")
    RankingTask.objects.filter(pk=flagged.pk).update(state="flagged")
    Flag.objects.create(project=project, task=flagged, raised_by=alice, reason="other", comment="x" * 200)
    page = open_page(alice, viewport=(390, 844), reduced_motion="reduce")
    found = []
    schemes: tuple[Literal["dark"], Literal["light"]] = ("dark", "light")
    paths = (
        "adjudication",
        f"tasks/{disputed.pk}",
        f"tasks/{flagged.pk}",
        f"tasks/{disputed.pk}/decide",
        "flags",
        "flags?show=settled",
        "datasets",
    )
    for path, scheme in zip(paths, itertools.cycle(schemes), strict=False):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.goto(f"/projects/{project.slug}/{path}")
        page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, path
        found += axe_violations(page)
    assert found == []
