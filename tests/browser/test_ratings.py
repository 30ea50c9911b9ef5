"""After the order, people rate the answers: with keys, with a mouse, and nothing of it is lost."""

import pytest
from playwright.sync_api import expect

from annotate.models import Project, Ranking
from tests.browser.pages import make_tasks, open_ranking, press, token_of, wait_for_task_after

pytestmark = pytest.mark.browser


def test_it_rates_with_the_keyboard_alone_and_only_after_the_order(open_page, project, bob):
    Project.objects.update(criteria=["Clarity", "Tone"], require_ratings=True)
    make_tasks(project, 2)
    page = open_ranking(open_page(bob), project)
    expect(page.locator(".ratings")).to_be_hidden()
    press(page, "a 1 b 2 c 3 d 4")
    expect(page.locator(".ratings")).to_be_visible()
    expect(page.locator("#finish-state")).to_have_text("Still to rate: 8.")
    token = token_of(page)
    # Enter goes to what is missing, instead of submitting.
    press(page, "Enter")
    expect(page.get_by_role("radiogroup", name="Clarity of answer A").get_by_label("1")).to_be_focused()
    press(page, "4 Tab 5 Tab 3 ArrowRight Tab 1 Delete 2 9")
    page.get_by_role("radiogroup", name="Tone of answer A").get_by_label("2").check(force=True)
    page.reload()
    press(page, "r")
    expect(page.get_by_role("radiogroup", name="Tone of answer B").get_by_label("1")).to_be_focused()
    press(page, "1 Tab 1 Tab 1 Enter")
    wait_for_task_after(page, token)
    rated = {ranked.rank: ranked.ratings for ranked in Ranking.objects.get().ranked_completions.order_by("rank")}
    assert rated == {
        1: {"Clarity": 4, "Tone": 2},
        2: {"Clarity": 5, "Tone": 1},
        3: {"Clarity": 4, "Tone": 1},
        4: {"Clarity": 2, "Tone": 1},
    }
    expect(page.locator(".ratings")).to_be_hidden()
