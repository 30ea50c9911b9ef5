"""The form of a run in a real browser."""

import pytest
from django.urls import reverse


@pytest.mark.browser
def test_the_estimate_follows_the_form(open_page, project, alice, base, dataset):
    page = open_page(alice)
    page.goto(reverse("run_new", args=[project.slug, "dpo"]))
    assert "1 step over 4 training rows" in page.locator("#estimate").inner_text()
    page.fill("[name=num_train_epochs]", "8")
    page.press("[name=num_train_epochs]", "Tab")
    page.locator("#estimate", has_text="8 steps over 4 training rows").wait_for()
