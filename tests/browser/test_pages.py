"""Every page: no violation of accessibility or of the content security policy, no error in the console, little weight."""

import pytest
from playwright.sync_api import expect

from annotate.models import Project
from annotate.services.webhooks import add_webhook, send_test
from tests.browser.pages import axe_violations, make_tasks, open_ranking, press, token_of, wait_for_task_after
from tests.conftest import PASSWORD, make_task

pytestmark = pytest.mark.browser

FOR_ADMINS = (
    "",
    "settings",
    "audit",
    "webhooks",
    "members",
    "prompts",
    "imports",
    "datasets",
    "runs",
    "pipelines",
    "pipelines/new?from=rlhf",
    "checkpoints",
    "flags",
    "guidelines",
    "known",
    "adjudication",
    "quality",
    "quality/leaderboard",
)
ANSWER = """A list, a table, code and maths:

1. **one**
2. `two`

| a | b |
|---|---|
| 1 | 2 |

```python
def double(x):
    return 2 * x  # twice
```

$$x = \\frac{1}{2}$$
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_ranking_page_is_accessible_in_every_state(open_page, project, bob, scheme):
    Project.objects.update(ask_comment=True, reasons=["clearer"], criteria=["Clarity", "Tone"])
    make_task(project, texts=[ANSWER, ANSWER * 6, "short", "other"])
    make_task(project, "Which?", texts=[ANSWER, "short"])
    # Colours are judged at rest, not on their way.
    page = open_ranking(open_page(bob, color_scheme=scheme, reduced_motion="reduce"), project)
    found = axe_violations(page)
    press(page, "a 1 b 1 c 2 d")
    found += axe_violations(page)
    press(page, "4")
    found += axe_violations(page)
    for key in ("r 3", "x", "?", "Escape f", "Escape g"):
        press(page, key)
        found += axe_violations(page)
    press(page, "Escape v")
    expect(page.locator("#difference-dialog .difference-summary")).to_be_visible()
    found += axe_violations(page)
    press(page, "Escape a e")
    page.get_by_text("Show what you changed").click()
    expect(page.locator(".edit .difference-summary")).to_be_visible()
    found += axe_violations(page)
    token = token_of(page)
    press(page, "Escape Enter")
    wait_for_task_after(page, token)
    found += axe_violations(page)
    press(page, "2")
    found += axe_violations(page)
    page.goto(f"/projects/{project.slug}/my-rankings")
    found += axe_violations(page)
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible(open_page, project, alice, scheme):
    make_tasks(project, 1)
    webhook = add_webhook(project=project, user=alice, url="https://example.org/", events=["run.ended"])[0]
    send_test(webhook=webhook)
    page = open_page(alice, color_scheme=scheme, reduced_motion="reduce")
    found = []
    for name in (*FOR_ADMINS, f"webhooks/{webhook.pk}"):
        answer = page.goto(f"/projects/{project.slug}/{name}")
        assert answer
        assert answer.status == 200, name
        found += axe_violations(page)
    for path in ("/", "/accounts/password/change/", "/accounts/logout/", "/nowhere"):
        page.goto(path)
        found += axe_violations(page)
    stranger = open_page(color_scheme=scheme, reduced_motion="reduce")
    for path in ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/"):
        stranger.goto(path)
        found += axe_violations(stranger)
    open_page.problems[:] = [problem for problem in open_page.problems if "/nowhere" not in problem]
    assert found == []


def test_no_page_is_wider_than_a_phone(open_page, project, alice):
    make_task(project, texts=[ANSWER, ANSWER + "x" * 200, "short", "other"])
    page = open_page(alice, viewport=(390, 844), has_touch=True, is_mobile=True)
    for name in (*FOR_ADMINS, "rank"):
        page.goto(f"/projects/{project.slug}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name


def test_it_signs_in_with_the_keyboard_and_out_again(open_page, project, bob):
    page = open_page()
    page.goto(f"/projects/{project.slug}/rank")
    page.keyboard.type("bob")
    press(page, "Tab")
    page.keyboard.type("wrong")
    press(page, "Enter")
    expect(page.locator(".errorlist")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    press(page, "Enter")
    expect(page.get_by_role("heading", name="Nothing to rank yet")).to_be_visible()
    page.get_by_text("bob", exact=True).click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_theme_is_remembered(open_page, bob):
    page = open_page(bob)
    page.goto("/")
    page.locator(".account-menu summary").click()
    page.get_by_role("button", name="Dark").click()
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.locator(".account-menu summary").click()
    page.get_by_role("button", name="Auto").click()
    page.reload()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"


def test_the_first_link_skips_to_the_content(open_page, bob):
    page = open_page(bob)
    page.goto("/")
    press(page, "Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()


def test_another_role_s_page_says_why_it_is_closed(open_page, project, bob):
    page = open_page(bob)
    page.goto(f"/projects/{project.slug}/settings")
    expect(page.get_by_role("heading", name="Your role does not allow this")).to_be_visible()
    assert axe_violations(page) == []
    open_page.problems.clear()


def test_the_ranking_page_weighs_under_100_kb_in_fewer_than_10_requests(open_page, project, bob):
    make_tasks(project, 1)
    page = open_page(bob)
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    sizes: list[float] = []
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    open_ranking(page, project)
    page.wait_for_load_state("networkidle")
    assert 0 < sum(sizes) < 100_000
    assert len(sizes) < 10
