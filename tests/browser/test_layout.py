"""On every width the ranking page keeps its parts apart."""

import pytest
from playwright.sync_api import expect

from tests.browser.pages import make_tasks, open_ranking, press
from tests.conftest import make_task

pytestmark = pytest.mark.browser

OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll(".tray .chip, .place, .finish button, .pick, .puts button")]
    .map((element) => [element, element.getBoundingClientRect()]);
  const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const dock = document.querySelector(".dock");
  return boxes.flatMap(([one, a], index) => boxes.slice(index + 1)
    .filter(([other, b]) => dock.contains(one) === dock.contains(other) && meet(a, b))
    .map(([other]) => `${one.textContent.trim()} | ${other.textContent.trim()}`));
}"""


@pytest.mark.parametrize("answers", [2, 4, 9])
def test_nothing_on_the_page_covers_anything_else(open_page, project, bob, answers):
    make_task(project, texts=[f"answer {number}" for number in range(answers)])
    page = open_ranking(open_page(bob, has_touch=True), project)
    for width in (320, 390, 768, 1024, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate(OVERLAPS) == [], width
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator('[data-pick="A"]').tap()
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator('[data-letter="A"] [data-put="2"]').tap()
    assert page.evaluate(OVERLAPS) == []
    widths = page.locator(".puts button, .place, .tray .chip").evaluate_all("all => all.map(one => one.offsetWidth)")
    assert min(widths) >= 32


def test_the_end_s_words_keep_off_the_edges_of_a_phone(open_page, project, bob):
    make_tasks(project, 1)
    page = open_ranking(open_page(bob, viewport=(390, 844), has_touch=True, is_mobile=True), project)
    press(page, "a 1 b 2 c 3 d 4 Enter")
    expect(page.get_by_role("heading", name="All done")).to_be_visible()
    for paragraph in page.locator("#no-task p").all():
        box = paragraph.bounding_box()
        assert box
        assert box["x"] >= 12
        assert box["x"] + box["width"] <= 378
