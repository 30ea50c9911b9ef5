"""People rank in a real browser; what they meant is what is stored."""

import pytest
from playwright.sync_api import FloatRect, Page, expect

from annotate.models import Assignment, Demonstration, Flag, Project, Ranking
from tests.browser.pages import (
    make_tasks,
    open_ranking,
    places_on_page,
    press,
    shown_texts,
    stored_order,
    token_of,
    wait_for_task_after,
)
from tests.conftest import make_task

pytestmark = pytest.mark.browser


def submit_and_wait(page: Page) -> None:
    token = token_of(page)
    page.locator("#submit").click()
    wait_for_task_after(page, token)


def box_of(page: Page, selector: str) -> FloatRect:
    box = page.locator(selector).bounding_box()
    assert box, selector
    return box


def drag(page: Page, start: str, end: str) -> None:
    source, goal = box_of(page, start), box_of(page, end)
    page.mouse.move(source["x"] + source["width"] / 2, source["y"] + source["height"] / 2)
    page.mouse.down()
    page.mouse.move(goal["x"] + goal["width"] / 2, goal["y"] + goal["height"] / 2, steps=6)
    page.mouse.up()


@pytest.fixture
def page(open_page, project, bob) -> Page:
    make_tasks(project, 3)
    return open_ranking(open_page(bob), project)


def test_it_ranks_with_the_keyboard_alone(page):
    texts, token = shown_texts(page), token_of(page)
    press(page, "b 1 a 3 d 3 c 4")
    expect(page.locator("#live")).to_contain_text("All are placed")
    press(page, "Enter")
    wait_for_task_after(page, token)
    expect(page.locator("#live")).to_have_text("Saved. Next task.")
    ranking = Ranking.objects.get()
    assert stored_order(ranking) == [[texts["B"]], sorted([texts["A"], texts["D"]]), [texts["C"]]]
    assert places_on_page(page) == [[], [], [], []]


def test_it_speaks_what_was_picked_and_placed(page):
    live = page.locator("#live")
    press(page, "c")
    expect(live).to_have_text("Answer C picked. Press a digit or click a place.")
    expect(page.locator("#state-C")).to_have_text("Picked")
    press(page, "2")
    expect(live).to_have_text("Answer C is on place 2. Still to place: A, B, D.")
    press(page, "a 2")
    expect(live).to_have_text("Answer A is on place 2, tied with C. Still to place: B, D.")
    press(page, "c Delete")
    expect(live).to_have_text("Answer C has no place.")
    press(page, "Escape 1")
    expect(live).to_contain_text("Pick an answer first")


def test_it_ranks_by_dragging_cards_and_chips(page):
    texts = shown_texts(page)
    drag(page, '[data-pick="A"]', '[data-place="1"]')
    drag(page, ".card[data-letter='B'] .state", '[data-place="2"]')
    drag(page, '.tray [data-chip="C"]', '[data-place="3"]')
    drag(page, '.tray [data-chip="D"]', '[data-place="3"]')
    assert places_on_page(page) == [["A"], ["B"], ["C", "D"], []]
    drag(page, '.place [data-chip="D"]', '[data-gap="0"]')
    assert places_on_page(page) == [["D"], ["A"], ["B"], ["C"]]
    drag(page, '.place [data-chip="D"]', ".tray")
    expect(page.locator("#submit")).to_have_attribute("aria-disabled", "true")
    drag(page, '.tray [data-chip="D"]', '[data-place="1"]')
    submit_and_wait(page)
    assert stored_order(Ranking.objects.get()) == [[texts["D"]], [texts["A"]], [texts["B"]], [texts["C"]]]


def test_it_ranks_by_clicking(page):
    texts = shown_texts(page)
    page.locator('[data-pick="A"]').click()
    page.locator('[data-place-button="4"]').click()
    page.locator('.card[data-letter="B"] [data-put="1"]').click()
    page.locator('.card[data-letter="C"] [data-put="2"]').click()
    page.locator('.card[data-letter="D"] [data-put="2"]').click()
    assert places_on_page(page) == [["B"], ["C", "D"], [], ["A"]]
    submit_and_wait(page)
    assert stored_order(Ranking.objects.get()) == [[texts["B"]], sorted([texts["C"], texts["D"]]), [texts["A"]]]


def test_it_does_not_submit_before_every_answer_has_a_place(page):
    press(page, "a 1 b 2 c 3 Enter")
    page.locator("#submit").click(force=True)
    expect(page.locator("#live")).to_have_text("Still to place: D.")
    assert not Ranking.objects.exists()


def test_it_submits_all_bad(page):
    token = token_of(page)
    press(page, "a 1 x")
    expect(page.get_by_role("button", name="All bad")).to_have_attribute("aria-pressed", "true")
    press(page, "Enter")
    wait_for_task_after(page, token)
    assert Ranking.objects.get().verdict == "all_bad"


def test_without_ties_an_occupied_place_pushes_the_others_down(open_page, project, bob):
    Project.objects.update(allow_ties=False)
    make_tasks(project, 2)
    page = open_ranking(open_page(bob), project)
    press(page, "a 1 b 2 c 1")
    assert places_on_page(page) == [["C"], ["A"], ["B"], []]
    press(page, "d 4 d 1")
    assert places_on_page(page) == [["D"], ["C"], ["A"], ["B"]]
    submit_and_wait(page)
    assert [len(place) for place in stored_order(Ranking.objects.get())] == [1, 1, 1, 1]


def test_it_skips_at_once_and_asks_first_when_something_was_placed(page):
    token = token_of(page)
    press(page, "s")
    wait_for_task_after(page, token)
    token = token_of(page)
    press(page, "a 1 s")
    page.get_by_role("button", name="Skip it").click()
    wait_for_task_after(page, token)
    assert Assignment.objects.filter(state="skipped").count() == 2


def test_it_reports_a_task_with_a_reason(page):
    token = token_of(page)
    press(page, "f")
    page.get_by_label("Harmful or private content").check()
    page.get_by_role("dialog").get_by_label("Comment").fill("It names a real person.")
    page.get_by_role("button", name="Report and go on").click()
    wait_for_task_after(page, token)
    flag = Flag.objects.get()
    assert (flag.reason, flag.comment) == ("harmful", "It names a real person.")


def test_undo_brings_the_order_back(page):
    texts, token = shown_texts(page), token_of(page)
    press(page, "b 1 a 2 d 2 c 3 Enter")
    wait_for_task_after(page, token)
    token = token_of(page)
    press(page, "u")
    wait_for_task_after(page, token)
    expect(page.locator("#live")).to_contain_text("Taken back")
    assert shown_texts(page) == texts
    assert places_on_page(page) == [["B"], ["A", "D"], ["C"], []]
    token = token_of(page)
    press(page, "c 1 Enter")
    wait_for_task_after(page, token)
    assert stored_order(Ranking.objects.current().get())[0] == sorted([texts["B"], texts["C"]])
    assert Ranking.objects.count() == 2


def test_a_card_s_letter_comes_before_a_command_and_shift_gives_the_command(open_page, project, bob):
    Project.objects.update(ask_comment=True, reasons=["clearer", "shorter"])
    make_tasks(project, 2)
    page = open_ranking(open_page(bob), project)
    press(page, "c")
    expect(page.locator("#state-C")).to_have_text("Picked")
    press(page, "Shift+C")
    expect(page.locator(".dock textarea")).to_be_focused()
    page.keyboard.type("close call, a b 1")
    press(page, "Escape 1 a 2 b 3 d 4")
    page.get_by_label("shorter").check()
    submit_and_wait(page)
    ranking = Ranking.objects.get()
    assert (ranking.comment, ranking.reasons) == ("close call, a b 1", ["shorter"])


def test_an_ideal_answer_starts_from_the_picked_one(page):
    texts = shown_texts(page)
    press(page, "b e")
    field = page.get_by_label("The ideal answer")
    expect(field).to_have_value(texts["B"])
    field.fill("A better answer.")
    page.get_by_role("button", name="Save the answer").click()
    expect(page.locator("#ideal-dialog")).to_be_hidden()
    demonstration = Demonstration.objects.select_related("completion", "edited_from").get()
    assert demonstration.completion.text == "A better answer."
    assert demonstration.edited_from
    assert demonstration.edited_from.text == texts["B"]


def test_guidelines_and_keys_are_one_key_away(open_page, project, bob):
    Project.objects.update(guidelines="Prefer the **shorter** one.")
    make_tasks(project, 1)
    page = open_ranking(open_page(bob), project)
    press(page, "g")
    expect(page.locator("#guidelines-body strong")).to_have_text("shorter")
    press(page, "Escape ?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("submit, once all are placed")


def test_long_answers_fold_at_one_height_and_unfold_together(open_page, project, bob):
    make_task(project, texts=["short", "long words " * 400, "longer words " * 600])
    page = open_ranking(open_page(bob), project)

    def heights_of_long_answers() -> list[int]:
        return [answer.evaluate("answer => answer.offsetHeight") for answer in page.locator(".card.long .answer").all()]

    heights = heights_of_long_answers()
    assert len(heights) == 2
    assert heights[0] == heights[1] < 700
    page.locator(".unfold:visible").first.click()
    assert min(heights_of_long_answers()) > heights[0]


def test_the_hint_for_newcomers_goes_away_once_they_have_ranked(page):
    expect(page.locator("#first-hint")).to_be_visible()
    press(page, "a 1 b 2 c 3 d 4")
    submit_and_wait(page)
    press(page, "a 1")
    page.reload()
    expect(page.locator("#first-hint")).to_be_hidden()


def test_it_says_when_nothing_is_left(open_page, project, bob):
    make_tasks(project, 1)
    page = open_ranking(open_page(bob), project)
    press(page, "a 1 b 2 c 3 d 4 Enter")
    expect(page.get_by_role("heading", name="All done")).to_be_visible()
    press(page, "u")
    expect(page.locator("#ranking")).to_be_visible()
    assert places_on_page(page) == [["A"], ["B"], ["C"], ["D"]]


def test_a_finger_ranks_on_a_phone(open_page, project, bob):
    make_tasks(project, 2)
    page = open_ranking(open_page(bob, viewport=(390, 844), has_touch=True, is_mobile=True), project)
    texts = shown_texts(page)
    for letter, place in zip("ABCD", "2143", strict=True):
        page.locator(f'[data-pick="{letter}"]').tap()
        page.locator(f'[data-place-button="{place}"]').tap(position={"x": 12, "y": 12})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    token = token_of(page)
    page.locator("#submit").tap()
    wait_for_task_after(page, token)
    assert stored_order(Ranking.objects.get()) == [[texts["B"]], [texts["A"]], [texts["D"]], [texts["C"]]]


def test_a_finger_drags_a_chip_on_a_phone(open_page, project, bob):
    make_tasks(project, 1)
    page = open_ranking(open_page(bob, viewport=(390, 844), has_touch=True, is_mobile=True), project)
    start, goal = box_of(page, '.tray [data-chip="C"]'), box_of(page, '[data-place="2"]')
    touch = page.context.new_cdp_session(page)
    x, y = start["x"] + 15, start["y"] + 15
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 6):
        point = {"x": x + (goal["x"] + 20 - x) * step / 5, "y": y + (goal["y"] + 20 - y) * step / 5}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert places_on_page(page) == [[], ["C"], [], []]
