"""In which words two answers differ, and what was changed in an ideal one."""

import pytest
from playwright.sync_api import expect

from tests.browser.pages import open_ranking, press, shown_texts
from tests.conftest import make_task

pytestmark = pytest.mark.browser


def test_it_marks_the_words_in_which_two_answers_differ(open_page, project, bob):
    make_task(project, texts=[f"The sky is {colour} at noon." for colour in ("red", "green", "blue", "grey")])
    page = open_ranking(open_page(bob), project)
    colours = {letter: text.split()[3] for letter, text in shown_texts(page).items()}
    press(page, "b v")
    dialog = page.get_by_role("dialog", name="Differences of two answers")
    expect(dialog.locator("section del")).to_have_text(colours["B"])
    expect(dialog.locator("section ins")).to_have_text(colours["C"])
    expect(dialog.get_by_role("status")).to_contain_text("83 % of the words are shared.")
    dialog.get_by_label("Second").select_option("A")
    expect(dialog.locator("section ins")).to_have_text(colours["A"])
    dialog.get_by_label("Second").select_option("B")
    expect(dialog.locator(".difference")).to_have_text("Second answer: Choose two different answers.")
    press(page, "Escape")
    expect(page.locator("#state-B")).to_have_text("Picked")
    # What is marked is seen without colours: the lines under it differ.
    press(page, "v")
    lines = [
        dialog.locator(f"section {mark}").evaluate("mark => getComputedStyle(mark).textDecorationStyle")
        for mark in ("del", "ins")
    ]
    assert lines == ["dotted", "solid"]
    press(page, "Escape e")
    page.get_by_label("The ideal answer").fill(f"The sky is deep {colours['B']} at noon.")
    page.get_by_text("Show what you changed").click()
    change = page.get_by_role("region", name="What you changed")
    expect(change.locator("ins")).to_have_text("deep ")
    page.get_by_label("The ideal answer").fill(f"The sky is pale {colours['B']} at noon.")
    expect(change.locator("ins")).to_have_text("pale ")
    page.get_by_label("Start from").select_option("")
    expect(change).to_contain_text("You started from nothing")
    open_page.problems.clear()  # the refusals of the server
