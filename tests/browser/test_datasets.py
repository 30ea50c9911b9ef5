"""Dataset versions' pages in a real browser: readable on a phone, by everybody, and a tag that is moved."""

import pytest

from annotate.services.datasets import Filters
from tests.annotate.rows import build, rank
from tests.browser.pages import axe_violations
from tests.conftest import make_task

pytestmark = pytest.mark.browser


def test_a_version_its_rows_and_differences_fit_a_phone_and_everybody(open_page, project, bob, rita):
    for number, seconds in enumerate((1, 30, 40)):
        texts = ["x" * 300, "```python\nprint('" + "long " * 60 + "')\n```", "short"]
        rank(make_task(project, f"Question {number}?", texts), bob, [3, 1, 1], seconds=seconds)
    build(project, rita, note="All of them", tag="release-1")
    build(project, rita, note="Without the fast ones", filters=Filters(min_seconds=5))
    page = open_page(rita, viewport=(390, 844), color_scheme="dark", reduced_motion="reduce")
    found = []
    for path in ("datasets/2", "datasets/2/rows", "datasets/1/diff/2"):
        page.goto(f"/projects/tides/{path}")
        for summary in page.locator("main details > summary").all():
            summary.evaluate("one => { one.parentElement.open = true }")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, path
        found += axe_violations(page)
    assert found == []


def test_a_tag_goes_over_once_its_holder_was_named(open_page, project, bob, rita):
    rank(make_task(project), bob, [1, 2, 3, 4])
    build(project, rita, tag="release-1")
    build(project, rita)
    page = open_page(rita)
    page.goto("/projects/tides/datasets/2")
    page.get_by_text("Tag and note", exact=True).click()
    page.get_by_label("Tag", exact=True).fill("release-1")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Move it from version 1 to this one").click()
    page.wait_for_url("**/datasets/2")
    assert page.locator("h1").inner_text() == "Version 2 release-1"
    open_page.problems[:] = [problem for problem in open_page.problems if "409" not in problem]
