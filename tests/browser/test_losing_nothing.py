"""Connections drop, sessions end, laptops close: a ranking is stored once and a draft survives."""

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from annotate.models import Assignment, Ranking
from tests.browser.pages import (
    draft_with,
    make_tasks,
    open_ranking,
    places_on_page,
    press,
    token_of,
    wait_for_task_after,
)
from tests.conftest import PASSWORD

pytestmark = pytest.mark.browser


def sign_in_from(page: Page) -> None:
    """Follow the page's link to the sign-in page, in another tab, and sign in there."""
    with page.context.expect_page() as opened:
        page.locator("#trouble").get_by_role("link", name="Sign in").click()
    sign_in = opened.value
    sign_in.get_by_label("User name").fill("bob")
    sign_in.get_by_label("Password").fill(PASSWORD)
    sign_in.get_by_role("button", name="Sign in").click()
    expect(sign_in.locator("#ranking")).to_be_visible()


class Held:
    """Keeps back the first request to `**/<action>`, or its answer (`"answer"`), until `release`."""

    def __init__(self, page: Page, action: str, what: str) -> None:
        self.page, self.what = page, what
        self.routes: list[Route] = []
        self.answer: APIResponse | None = None
        page.route(f"**/{action}", self.hold, times=1)

    def hold(self, route: Route) -> None:
        if self.what == "answer":
            self.answer = route.fetch()
        self.routes.append(route)

    def wait(self) -> None:
        for _ in range(100):
            if self.routes:
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("nothing was sent")

    def release(self) -> int:
        """The status that the page was answered with."""
        with self.page.expect_response(lambda response: response.request == self.routes[0].request) as answered:
            if self.answer:
                self.routes[0].fulfill(response=self.answer)
            else:
                self.routes[0].continue_()
        self.page.wait_for_timeout(200)
        return answered.value.status


@pytest.fixture
def page(open_page, project, bob) -> Page:
    make_tasks(project, 3)
    return open_ranking(open_page(bob), project)


def test_a_draft_survives_a_reload(page, project, open_page, bob):
    token = token_of(page)
    press(page, "b 1 a 2 d 2")
    expect(page.locator("#draft-state")).to_have_text("Draft saved")
    draft_with(page, [["B"], ["A", "D"], [], []])
    page.reload()
    assert token_of(page) == token
    assert places_on_page(page) == [["B"], ["A", "D"], [], []]
    elsewhere = open_ranking(open_page(bob), project)
    assert places_on_page(elsewhere) == [["B"], ["A", "D"], [], []]


def test_a_draft_is_saved_when_the_page_is_left_at_once(page, project):
    press(page, "c 1")
    page.goto("about:blank")
    open_ranking(page, project)
    assert places_on_page(page) == [["C"], [], [], []]


def test_a_dropped_connection_is_said_and_the_ranking_is_stored_once_when_it_is_back(page, open_page):
    press(page, "a 1 b 2 c 3 d 4")
    token = token_of(page)
    page.context.set_offline(True)
    press(page, "Enter")
    expect(page.get_by_role("alert").first).to_contain_text("Connection lost. Your ranking is kept here")
    assert places_on_page(page) == [["A"], ["B"], ["C"], ["D"]]
    assert not Ranking.objects.exists()
    page.context.set_offline(False)
    wait_for_task_after(page, token)
    expect(page.locator("#trouble")).to_be_hidden()
    assert Ranking.objects.count() == 1
    open_page.problems.clear()


def test_an_answer_that_got_lost_on_its_way_is_asked_for_again_and_stored_once(page, open_page):
    answered: list[int] = []

    def lose_the_first_answer(route):
        if not answered:
            answered.append(route.fetch().status)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/submit", lose_the_first_answer)
    token = token_of(page)
    press(page, "a 1 b 2 c 3 d 4 Enter")
    wait_for_task_after(page, token)
    assert answered == [200]
    assert Ranking.objects.count() == 1
    open_page.problems.clear()


def test_an_undo_whose_answer_got_lost_takes_one_ranking_back(page, open_page):
    for _ in range(2):
        token = token_of(page)
        press(page, "a 1 b 2 c 3 d 4 Enter")
        wait_for_task_after(page, token)
    answered: list[int] = []

    def lose_the_first_answer(route):
        if not answered:
            answered.append(route.fetch().status)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/undo", lose_the_first_answer)
    token = token_of(page)
    press(page, "u")
    expect(page.locator("#trouble")).to_contain_text("Connection lost")
    press(page, "u")
    wait_for_task_after(page, token)
    expect(page.locator("#trouble")).to_be_hidden()
    assert places_on_page(page) == [["A"], ["B"], ["C"], ["D"]]
    assert answered == [200]
    assert Ranking.objects.current().count() == 1
    open_page.problems.clear()


def test_undo_on_a_page_that_is_behind_says_so_and_takes_nothing_back(page, project, open_page):
    token = token_of(page)
    press(page, "a 1 b 2 c 3 d 4 Enter")
    wait_for_task_after(page, token)
    other = page.context.new_page()
    open_ranking(other, project)
    token = token_of(other)
    press(other, "a 1 b 2 c 3 d 4 Enter")
    wait_for_task_after(other, token)
    press(page, "u")
    expect(page.locator("#trouble")).to_contain_text("Reload the page")
    assert Ranking.objects.current().count() == 2
    open_page.problems.clear()


def test_a_draft_written_offline_is_saved_when_the_connection_is_back(page, open_page):
    page.context.set_offline(True)
    press(page, "d 1")
    expect(page.locator("#draft-state")).to_have_text("Draft not saved yet")
    page.context.set_offline(False)
    expect(page.locator("#draft-state")).to_have_text("Draft saved")
    draft_with(page, [["D"], [], [], []])
    open_page.problems.clear()


def test_enter_pressed_twice_stores_one_ranking(page):
    token = token_of(page)
    press(page, "a 1 b 2 c 3 d 4 Enter Enter")
    wait_for_task_after(page, token)
    press(page, "Enter")
    expect(page.locator("#ranking")).to_be_visible()
    assert Ranking.objects.count() == 1


def test_two_tabs_submit_the_same_task_and_one_ranking_is_stored(page, project, open_page):
    press(page, "a 1 b 2 c 3 d 4")
    draft_with(page, [["A"], ["B"], ["C"], ["D"]])
    other = page.context.new_page()
    open_ranking(other, project)
    token = token_of(other)
    press(other, "Enter")
    wait_for_task_after(other, token)
    press(page, "d 1 Enter")
    expect(page.locator("#trouble")).to_contain_text("submitted")
    page.get_by_role("button", name="Go on to the next task").click()
    wait_for_task_after(page, token)
    assert Ranking.objects.count() == 1
    open_page.problems.clear()


def test_signed_out_in_between_nothing_is_lost(page, open_page):
    press(page, "d 1 c 2 b 3 a 4")
    expect(page.locator("#draft-state")).to_have_text("Draft saved")
    token = token_of(page)
    page.context.clear_cookies()
    press(page, "Enter")
    alert = page.locator("#trouble")
    expect(alert).to_contain_text("You are signed out")
    assert places_on_page(page) == [["D"], ["C"], ["B"], ["A"]]
    sign_in_from(page)
    page.bring_to_front()
    page.locator("#submit").click()
    wait_for_task_after(page, token)
    expect(alert).to_be_hidden()
    assert Ranking.objects.count() == 1
    open_page.problems.clear()


def test_signed_out_while_a_draft_is_saved_the_placements_survive_a_reload(page, open_page):
    page.context.clear_cookies(name="sessionid")
    press(page, "d 1 c 2")
    expect(page.locator("#trouble")).to_contain_text("You are signed out")
    sign_in_from(page)
    # As if the browser had died: nothing is sent on the way out.
    page.route("**/draft", lambda route: route.abort())
    page.reload()
    assert places_on_page(page) == [["D"], ["C"], [], []]
    page.unroute("**/draft")
    expect(page.locator("#draft-state")).to_have_text("Draft saved")
    open_page.problems.clear()


def test_a_draft_refused_while_signed_out_is_saved_after_signing_in(page, open_page):
    page.context.clear_cookies(name="sessionid")
    press(page, "d 1 c 2")
    expect(page.locator("#trouble")).to_contain_text("You are signed out")
    sign_in_from(page)
    # What a browser says when one comes back to a tab; without a screen every tab counts as seen.
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#draft-state")).to_have_text("Draft saved")
    expect(page.locator("#trouble")).to_be_hidden()
    draft_with(page, [["D"], ["C"], [], []])
    open_page.problems.clear()


def test_an_ideal_answer_too_long_for_a_draft_does_not_keep_the_order_from_being_saved(page):
    press(page, "e")
    # 30,000 characters, 90,000 bytes.
    page.get_by_label("The ideal answer").fill("—" * 30_000)
    press(page, "Escape b 1")
    expect(page.locator("#draft-state")).to_have_text("Order saved; the ideal answer is too long for a draft")
    assert "ideal" not in draft_with(page, [["B"], [], [], []])
    page.reload()
    press(page, "e")
    expect(page.get_by_label("The ideal answer")).to_have_value("—" * 30_000)


@pytest.mark.parametrize(("what", "status"), [("request", 409), ("answer", 204)])
def test_a_draft_that_a_submission_overtook_says_nothing_over_the_next_task(page, open_page, what, status):
    draft = Held(page, "draft", what)
    token = token_of(page)
    press(page, "a 1 b 2 c 3 d 4")
    draft.wait()
    press(page, "Enter")
    wait_for_task_after(page, token)
    assert draft.release() == status
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.locator("#draft-state")).to_have_text("")
    open_page.problems.clear()


def test_undo_waits_for_the_draft_that_is_being_saved(page):
    token = token_of(page)
    press(page, "a 1 b 2 c 3 d 4 Enter")
    wait_for_task_after(page, token)
    draft = Held(page, "draft", "request")
    token = token_of(page)
    press(page, "c 1")
    draft.wait()
    press(page, "d 2 u")
    page.wait_for_timeout(300)
    assert token_of(page) == token
    assert draft.release() == 204
    wait_for_task_after(page, token)
    left = Assignment.objects.get(token=token).draft
    assert left
    assert left["places"] == [["C"], ["D"], [], []]
