"""Two answers have a layout of their own: which one is better, or neither."""

import pytest
from playwright.sync_api import expect

from annotate.models import Project, Ranking
from tests.browser.pages import open_ranking, press, shown_texts, stored_order, token_of, wait_for_task_after
from tests.conftest import make_task

pytestmark = pytest.mark.browser


def make_pairs(project, count):
    for number in range(count):
        make_task(project, f"Which {number}?", [f"left {number}", f"right {number}"])


def test_one_press_judges_both_with_keys_and_with_letters(open_page, project, bob):
    make_pairs(project, 6)
    page = open_ranking(open_page(bob), project)
    expect(page.locator(".place, .tray, .puts")).to_have_count(0)
    boxes = [box for card in page.locator(".card").all() if (box := card.bounding_box())]
    assert len(boxes) == 2
    assert boxes[0]["y"] == boxes[1]["y"]
    assert min(box["width"] for box in boxes) > 600
    expected = []
    keys = {"1": "A>B", "2": "B>A", "=": "A=B", "a 2": "B>A", "b 1": "B>A", "= 1": "A>B"}
    for pressed, order in keys.items():
        texts, token = shown_texts(page), token_of(page)
        press(page, pressed)
        spoken = "Both are equally good." if "=" in order else f"Answer {order[0]} is better."
        expect(page.locator("#live")).to_have_text(f"{spoken} All are placed. Press Enter to submit.")
        expect(page.locator('.verdicts [aria-pressed="true"]')).to_have_count(1)
        press(page, "Enter")
        wait_for_task_after(page, token)
        expected.append([sorted(texts[letter] for letter in place.split("=")) for place in order.split(">")])
    assert [stored_order(ranking) for ranking in Ranking.objects.order_by("pk")] == expected


def test_a_finger_judges_on_a_phone_and_nothing_is_equal_where_ties_are_not_allowed(open_page, project, bob):
    Project.objects.update(allow_ties=False)
    make_pairs(project, 2)
    page = open_ranking(open_page(bob, viewport=(390, 844), has_touch=True, is_mobile=True), project)
    texts, token = shown_texts(page), token_of(page)
    expect(page.get_by_role("button", name="Equal")).to_have_count(0)
    press(page, "= 7 Enter")
    expect(page.locator("#submit")).to_have_attribute("aria-disabled", "true")
    page.get_by_role("button", name="A is better").tap()
    page.get_by_role("button", name="B is better").tap()
    expect(page.locator("#state-B")).to_have_text("The better one")
    page.locator("#submit").tap()
    wait_for_task_after(page, token)
    assert stored_order(Ranking.objects.get()) == [[texts["B"]], [texts["A"]]]
    token = token_of(page)
    page.get_by_role("button", name="Both bad").tap()
    page.locator("#submit").tap()
    wait_for_task_after(page, token)
    assert Ranking.objects.latest("pk").verdict == "all_bad"
