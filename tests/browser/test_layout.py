"""On every width the ranking page keeps its parts apart."""

import pytest
from playwright.sync_api import expect

from annotate.models import Project, Prompt
from tests.browser.pages import make_tasks, open_ranking, press
from tests.conftest import make_task

pytestmark = pytest.mark.browser

OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll(".tray .chip, .place, .verdicts button, .finish button, .pick, .puts button")]
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
    page.locator('[data-letter="A"] [data-put="2"], [data-prefer="B"]').tap()
    assert page.evaluate(OVERLAPS) == []
    widths = page.locator(".puts button, .place, .tray .chip, .verdicts button").evaluate_all(
        "all => all.map(one => one.offsetWidth)"
    )
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


ARABIC = "تبدو السماء زرقاء لأن الهواء يشتت الضوء الأزرق أكثر من غيره."
CODE = "```python\n" + "\n".join(f"value_{line} = compute({line}) ** 2  # {'x' * 140}" for line in range(60)) + "\n```"
UNSEEN = """box => {
  const inside = box.getBoundingClientRect();
  return [...box.querySelectorAll("button, select, input, summary")]
    .filter((one) => one.checkVisibility())
    .map((one) => [one.textContent.trim() || one.name, one.getBoundingClientRect()])
    .filter(([, b]) => b.right > inside.right + 1 || b.left < inside.left - 1)
    .map(([name]) => name);
}"""


def test_very_long_and_foreign_things_stay_usable_on_every_width(open_page, project, bob):
    Project.objects.update(criteria=["Clarity", "Tone"], ask_comment=True, reasons=["clearer"])
    task = make_task(project, texts=[CODE, f"{ARABIC}\n\nThen English.\n\n`ls -la`", "x" * 500, "word " * 3000])
    assert len(CODE) > 10_000
    turns = [{"role": "assistant" if n % 2 else "user", "content": f"Turn {n}. " * 20} for n in range(61)]
    Prompt.objects.filter(pk=task.prompt_id).update(messages=turns)
    page = open_ranking(open_page(bob, reduced_motion="reduce", has_touch=True), project)

    expect(page.get_by_text("Conversation, 61 turns")).to_be_visible()
    expect(page.locator(".turn:visible")).to_have_count(6)
    expect(page.locator(".turn[data-last]")).to_be_in_viewport()
    page.get_by_text("Show 55 earlier turns").click()
    expect(page.locator(".turn:visible")).to_have_count(61)

    ways = "all => all.map(one => one.matches(':dir(rtl)') ? 'rtl' : 'ltr')"
    card = page.locator(".answer", has_text=ARABIC[:20])
    assert card.evaluate_all(ways) == ["rtl"]
    assert card.locator("code").evaluate("one => getComputedStyle(one).direction") == "ltr"
    starts = card.locator("p").evaluate_all(
        """all => all.map((one) => {
          const range = document.createRange();
          range.selectNodeContents(one);
          return range.getBoundingClientRect().left - one.getBoundingClientRect().left;
        })"""
    )
    assert starts[1] == 0 < starts[0]
    assert page.locator("#submit").evaluate("one => getComputedStyle(one).transitionDuration") == "0s"

    press(page, "a 1 b 2 c 3 d 4")
    code = page.locator(".answer pre").first
    # 720 and 320 CSS pixels are a screen of 1440 and one of 640 at 200 %.
    for width, height in ((1440, 900), (720, 450), (390, 844), (320, 568)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert code.evaluate("one => one.scrollWidth > one.clientWidth")
        assert page.locator(".dock").evaluate(UNSEEN) == []
        dock = page.locator(".dock").bounding_box()
        assert dock
        assert dock["height"] < 0.55 * height, width
    page.get_by_role("button", name="Show all in full").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 320
