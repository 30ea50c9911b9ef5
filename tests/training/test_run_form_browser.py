"""The form of a run in a real browser."""

import pytest
from django.urls import reverse

from tests.training.conftest import make_checkpoint, queue_run


@pytest.mark.browser
def test_the_estimate_follows_the_form(open_page, project, alice, base, dataset):
    page = open_page(alice)
    page.goto(reverse("run_new", args=[project.slug, "dpo"]))
    assert "1 step over 4 training rows" in page.locator("#estimate").inner_text()
    page.fill("[name=num_train_epochs]", "8")
    page.press("[name=num_train_epochs]", "Tab")
    page.locator("#estimate", has_text="8 steps over 4 training rows").wait_for()


@pytest.mark.browser
def test_the_watchdog_follows_the_reward_model(open_page, project, alice, base):
    rewarding = queue_run(base, "reward")
    for output in ("", "watchdog"):
        make_checkpoint(
            project,
            base.location.partition(":")[2],
            f"scorer{output}",
            kind="reward_model",
            run=rewarding,
            output=output,
        )
    page = open_page(alice)
    page.goto(reverse("run_new", args=[project.slug, "grpo"]))
    page.select_option("[name=reward_model]", label="scorer")
    page.locator("[name=watchdog] option:checked", has_text="scorerwatchdog").wait_for(state="attached")
