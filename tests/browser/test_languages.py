"""The ranking page in German: as accessible as in English, and no wider, though its words are longer."""

import pytest
from playwright.sync_api import expect

from annotate.models import Project
from tests.browser.pages import axe_violations, make_tasks, open_ranking, press

pytestmark = pytest.mark.browser


def test_a_phone_ranks_in_german_and_goes_back_to_english(open_page, project, bob):
    Project.objects.update(ask_comment=True, criteria=["Klarheit"], reasons=["verständlicher"])
    make_tasks(project, 1)
    page = open_page(bob, viewport=(390, 844), is_mobile=True, has_touch=True, locale="de-DE", reduced_motion="reduce")
    open_ranking(page, project)
    assert page.evaluate("document.documentElement.lang") == "de"
    found = axe_violations(page)
    press(page, "a 1 b 2 c 2 d 4")
    expect(page.locator("#live")).to_contain_text("Antwort D steht auf Platz 4.")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    found += axe_violations(page)
    page.locator(".account-menu summary").click()
    found += axe_violations(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("button", name="Skip")).to_be_visible()
    assert page.url.endswith("/rank")
    assert found == []
