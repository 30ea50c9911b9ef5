"""A working hour without a mouse: ten tasks from the first page on, by keys alone."""

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Project, Ranking
from tests.browser.pages import press, shown_texts, stored_order, token_of, wait_for_task_after
from tests.conftest import make_task

pytestmark = pytest.mark.browser

# What is pressed for each task, by its number of answers, and the order that it means.
SESSION = [
    (4, "a 1 b 2 c 3 d 4", "A>B>C>D"),
    (4, "d 1 c 1 b 2 a 2", "C=D>A=B"),
    (3, "b 1 a 2 c 3 b 3", "A>B=C"),
    (2, "2", "B>A"),
    (4, "a 1 b 2 c 3 d 4 v Escape r 5 Tab 2 Tab ArrowRight", "A>B>C>D"),
    (2, "=", "A=B"),
    (4, "a 4 b 4 c 4 d 4 Escape Shift+C o k Escape", "A=B=C=D"),
    (3, "a 1 b 1 c 1 x", ""),
    (4, "a 1 ArrowRight Enter 2 c 3 d 4", "A>B>C>D"),
    (4, "c 1 Delete c 2 b 1 a 3 d 4 ? Escape", "B>C>A>D"),
]


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the link or button with this name has the focus."""
    for _ in range(60):
        press(page, "Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            return
    raise AssertionError(f"Tab never reaches {name}")


def test_a_session_of_ten_tasks_with_the_keyboard_alone(open_page, project, bob):
    Project.objects.update(criteria=["Clarity"], ask_comment=True)
    for number, (count, _keys, _order) in enumerate(SESSION):
        make_task(project, f"Question {number}?", [f"answer {letter} {number}" for letter in "wxyz"[:count]])
    page = open_page(bob)
    page.goto(f"/projects/{project.slug}/")
    tab_to(page, "Rank")
    press(page, "Enter")
    expected = []
    for count, keys, order in SESSION:
        expect(page.locator(".card")).to_have_count(count)
        texts, token = shown_texts(page), token_of(page)
        press(page, keys)
        expect(page.locator("#submit")).to_have_attribute("aria-disabled", "false")
        press(page, "Enter")
        wait_for_task_after(page, token)
        places = [order.split("=") for order in (order or "A=B=C").split(">")]
        expected.append([sorted(texts[letter] for letter in place) for place in places])
    rankings = list(Ranking.objects.order_by("pk"))
    assert [stored_order(ranking) for ranking in rankings] == expected
    assert [number for number, ranking in enumerate(rankings) if ranking.verdict == "all_bad"] == [7]
    assert [ranking.comment for ranking in rankings if ranking.comment] == ["ok"]
    rated = rankings[4].ranked_completions.order_by("rank").values_list("ratings", flat=True)
    assert list(rated) == [{"Clarity": 5}, {"Clarity": 2}, {"Clarity": 2}, {}]

    tab_to(page, "My rankings")
    press(page, "Enter")
    expect(page.get_by_role("listitem").filter(has_text="Question")).to_have_count(10)
    tab_to(page, "Revise")
    press(page, "Enter")
    token = token_of(page)
    press(page, "a 1 b 2 c 3 d 4 Enter")
    wait_for_task_after(page, token)
    assert stored_order(Ranking.objects.latest("pk")) != stored_order(rankings[9])
    assert Ranking.objects.current().count() == 10
