"""What only a browser can show of a project's pages: the live preview, the copied link, and pages on a phone."""

import pytest
from playwright.sync_api import expect

from annotate.models import Assignment, Invitation, Membership, Project, User
from tests.browser.pages import axe_violations, make_tasks

pytestmark = pytest.mark.browser


def test_the_preview_follows_the_form_and_can_only_be_looked_at(open_page, project, alice):
    make_tasks(project, 1)
    page = open_page(alice, reduced_motion="reduce")
    page.goto(f"/projects/{project.slug}/settings")
    preview = page.locator("#preview")
    expect(preview.get_by_text("What decided it?")).to_have_count(0)
    page.get_by_label("Reasons", exact=True).fill("Truer\nKinder")
    expect(preview.get_by_text("Kinder")).to_be_visible()
    page.get_by_label("“All bad”").uncheck()
    expect(preview.get_by_text("All bad")).to_have_count(0)
    assert (
        page.evaluate(
            """() => {
            const button = document.querySelector("#preview button[type=submit]");
            button.focus();
            return document.activeElement === button;
        }"""
        )
        is False
    )
    assert axe_violations(page) == []
    page.get_by_role("button", name="Use the usual four").click()
    expect(page.get_by_label("Criteria")).to_have_value("Quality\nClarity\nHelpfulness\nAlignment")
    expect(page.get_by_label("Reasons", exact=True)).to_have_value("Truer\nKinder")
    expect(preview.get_by_text("Helpfulness")).to_be_visible()
    page.get_by_label("Name", exact=True).press("Enter")
    expect(page.get_by_text("The settings are saved.")).to_be_visible()
    project.refresh_from_db()
    assert project.criteria == ["Quality", "Clarity", "Helpfulness", "Alignment"]
    assert Assignment.objects.count() == 0


def test_an_admin_copies_a_link_and_a_newcomer_joins_by_it_on_a_phone(open_page, project, alice):
    page = open_page(alice, permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce")
    page.goto(f"/projects/{project.slug}/members")
    page.get_by_label("Note").fill("For Dora")
    page.get_by_role("button", name="Make a link").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert axe_violations(page) == []
    phone = open_page(viewport=(390, 844), has_touch=True, is_mobile=True, color_scheme="dark", reduced_motion="reduce")
    phone.goto(link)
    assert "/join/" not in phone.url
    assert axe_violations(phone) == []
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    phone.get_by_label("User name").fill("dora")
    phone.get_by_label("Password", exact=True).fill("a tide comes in twice")
    phone.get_by_label("Password confirmation").fill("a tide comes in twice")
    phone.get_by_role("button", name="Make the account and join").click()
    expect(phone.get_by_text("Welcome to Tides")).to_be_visible()
    assert Membership.objects.get(user=User.objects.get(username="dora")).role == "annotator"
    assert Invitation.objects.get().uses == 1


def test_five_hundred_members_are_paged_found_and_fit_a_phone(open_page, project, alice):
    people = User.objects.bulk_create(User(username=f"person-{number:03}") for number in range(500))
    Membership.objects.bulk_create(Membership(project=project, user=person, role="annotator") for person in people)
    Project.objects.update(practice_tasks=2)
    page = open_page(alice, viewport=(390, 844), has_touch=True, is_mobile=True, reduced_motion="reduce")
    page.goto(f"/projects/{project.slug}/members")
    assert page.locator(".rows tbody tr").count() == 50
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert axe_violations(page) == []
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("Page 2 of 11")).to_be_visible()
    page.get_by_label("User name", exact=True).fill("person-49")
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".rows tbody tr")).to_have_count(10)


def test_an_archive_is_confirmed_and_can_be_undone(open_page, project, alice):
    page = open_page(alice)
    page.goto(f"/projects/{project.slug}/settings")
    page.get_by_text("Archive…").click()
    expect(page.get_by_text("An admin can make it active again")).to_be_visible()
    page.get_by_role("button", name="Archive Tides").click()
    page.get_by_role("button", name="Make the project active").click()
    expect(page.get_by_text("people can rank")).to_be_visible()
