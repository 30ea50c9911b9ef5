"""Practice in a real browser, by the keyboard alone: from its explanation to the first real task."""

import pytest
from playwright.sync_api import expect

from annotate.models import Membership, Project
from tests.annotate.known_orders import make_known
from tests.browser.pages import axe_violations, press, shown_texts
from tests.conftest import make_task

pytestmark = pytest.mark.browser

ANSWERS = ["best", "good", "poor", "worst"]


def rank_as(page, wanted):
    """Put the answers in this order by their keys, and submit."""
    letter_of = {text: letter.lower() for letter, text in shown_texts(page).items()}
    press(page, " ".join(f"{letter_of[text]} {place}" for place, text in enumerate(wanted, 1)))
    press(page, "Enter")


def test_practice_leads_by_keyboard_from_its_explanation_to_the_first_real_task(open_page, project, bob):
    Project.objects.update(practice_tasks=2, practice_threshold=60, guidelines="Truth before style.")
    make_task(project, "Real?", ANSWERS)
    for number in range(3):
        task = make_task(project, f"Practice {number}?", ANSWERS)
        make_known(task, purpose="practice", explanation="The **best** one says so.")
    page = open_page(bob, reduced_motion="reduce")
    page.goto(f"/projects/{project.slug}/rank")
    expect(page.get_by_role("heading", name="First, some practice")).to_be_visible()
    found = axe_violations(page)
    press(page, "g")
    dialog = page.get_by_role("dialog", name="Guidelines")
    expect(dialog.get_by_role("heading", name="Worked examples")).to_be_visible()
    dialog.get_by_text("Practice 2?", exact=True).first.focus()
    press(page, "Enter")
    expect(dialog.get_by_text("The best one says so.")).to_be_visible()
    found += axe_violations(page)
    press(page, "Escape Enter")

    expect(page.get_by_text("Practice 1 of 2")).to_be_visible()
    rank_as(page, ["good", "best", "poor", "worst"])
    expect(page.get_by_role("heading", name="1 of 6 pairs is ordered otherwise")).to_be_focused()
    expect(page.locator("#live")).to_contain_text("The known order stands beside yours")
    expect(page.get_by_text("The best one says so.")).to_be_visible()
    found += axe_violations(page)
    press(page, "Enter")

    expect(page.get_by_text("Practice 2 of 2")).to_be_visible()
    expect(page.get_by_text("83 % so far, 60 % needed")).to_be_visible()
    rank_as(page, ANSWERS)
    expect(page.get_by_role("heading", name="Ordered as known")).to_be_focused()
    expect(page.get_by_text("Practice passed.")).to_be_visible()
    found += axe_violations(page)
    press(page, "Enter")

    expect(page.get_by_text("Real?")).to_be_visible()
    expect(page.get_by_text("Practice 3")).to_have_count(0)
    assert Membership.objects.get(user=bob).qualified_at
    assert found == []
