"""What the browser tests do and see on the ranking page."""

import json
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from annotate.models import Assignment, Project, Ranking
from tests.conftest import make_task

ANSWERS = ["alpha", "beta", "gamma", "delta"]


def make_tasks(project: Project, count: int) -> None:
    for number in range(count):
        make_task(project, f"Question {number}?", [f"{word} {number}" for word in ANSWERS])


def open_ranking(page: Page, project: Project) -> Page:
    page.goto(f"/projects/{project.slug}/rank")
    expect(page.locator("#ranking")).to_be_visible()
    return page


def shown_texts(page: Page) -> dict[str, str]:
    """{letter: the answer's text} of the task on the screen."""
    cards = page.locator(".card").all()
    return {str(card.get_attribute("data-letter")): card.locator(".answer").inner_text().strip() for card in cards}


def places_on_page(page: Page) -> list[list[str]]:
    return [place.locator(".chip").all_inner_texts() for place in page.locator(".place").all()]


def press(page: Page, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


def wait_for_task_after(page: Page, token: str) -> None:
    """Until another task, or the end of them, has taken the place of the one with this token."""
    expect(page.locator(f'#ranking[data-token="{token}"]')).to_have_count(0)


def token_of(page: Page) -> str:
    return str(page.locator("#ranking").get_attribute("data-token"))


def draft_with(page: Page, places: list[list[str]]) -> dict[str, Any]:
    """The server's draft of the one open task, once it holds these places: an earlier state may be saved on the way there."""
    for _ in range(200):
        draft: dict[str, Any] | None = Assignment.objects.get(state="leased").draft
        if draft and draft["places"] == places:
            return draft
        page.wait_for_timeout(50)
    raise AssertionError(f"the draft never had {places}: {draft}")


def stored_order(ranking: Ranking) -> list[list[str]]:
    """The texts of a stored ranking, best place first."""
    places: dict[int, list[str]] = {}
    for ranked in ranking.ranked_completions.select_related("completion"):
        places.setdefault(ranked.rank, []).append(ranked.completion.text)
    return [sorted(places[rank]) for rank in sorted(places)]


def axe_violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{page.url}: {violation['id']}: {json.dumps([node['target'] for node in violation['nodes']][:3])}"
        for violation in found
    ]
