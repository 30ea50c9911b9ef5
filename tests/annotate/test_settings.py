import pytest

from annotate.models import Assignment, AuditEvent, Project
from tests.conftest import make_task, signed_in

pytestmark = pytest.mark.django_db


def settings_of(project, **changes):
    """What the form sends when nothing but `changes` was touched."""
    sent = {
        "name": project.name,
        "completions_per_task": project.completions_per_task,
        "allow_ties": "on",
        "allow_all_bad": "on",
        "overlap": project.overlap,
        "shared_percent": project.shared_percent,
        "shared_overlap": project.shared_overlap,
        "lease_minutes": project.lease_minutes,
        "practice_tasks": project.practice_tasks,
        "practice_threshold": project.practice_threshold,
        "gold_percent": project.gold_percent,
        "gold_window": project.gold_window,
        "gold_threshold": project.gold_threshold,
    }
    return {**sent, **changes}


def save(user, project, **changes):
    return signed_in(user).post(f"/projects/{project.slug}/settings", settings_of(project, **changes))


def test_an_admin_changes_the_settings_and_the_log_keeps_them_as_they_were_and_are(project, alice):
    assert save(alice, project, name="Ebb", overlap=3, reasons="Wrong\n\n Rude \n", gold_percent=5).status_code == 302
    project.refresh_from_db()
    assert (project.name, project.overlap, project.reasons) == ("Ebb", 3, ["Wrong", "Rude"])
    assert AuditEvent.objects.get(verb="settings.changed").details["changes"] == {
        "name": {"before": "Tides", "after": "Ebb"},
        "overlap": {"before": 1, "after": 3},
        "reasons": {"before": [], "after": ["Wrong", "Rude"]},
        "gold_percent": {"before": 0, "after": 5},
    }


def test_saving_what_was_not_changed_logs_nothing(project, alice):
    assert save(alice, project).status_code == 302
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"overlap": 0}, "overlap", "greater than or equal to 1"),
        ({"completions_per_task": 10}, "completions_per_task", "less than or equal to 9"),
        ({"lease_minutes": "soon"}, "lease_minutes", "whole number"),
        ({"reasons": "same\nsame"}, "reasons", "stands there twice"),
        ({"reasons": "x" * 61}, "reasons", "longer than 60"),
        ({"criteria": "\n".join("abcdefghi")}, "criteria", "At most 8 lines"),
        ({"name": ""}, "name", "required"),
        ({"require_ratings": "on"}, "require_ratings", "no criteria"),
        ({"overlap": 3, "shared_percent": 10, "shared_overlap": 3}, "shared_overlap", "more than 3"),
        ({"daily_limit": 0}, "daily_limit", "Leave it empty"),
        ({"daily_limit": 20, "total_limit": 10}, "daily_limit", "in all"),
        ({"adjudicate_below": 0.3}, "adjudicate_below", "two people per task"),
        ({"adjudicate_below": 1.5, "overlap": 2}, "adjudicate_below", "less than or equal to 1"),
        ({"gold_percent": 51}, "gold_percent", "less than or equal to 50"),
    ],
)
def test_it_refuses_impossible_settings_at_their_field(project, alice, changes, field, words):
    response = save(alice, project, **changes)
    assert response.status_code == 200
    assert [wrong.name for wrong in response.context["form"].wrong()] == [field]
    assert words in str(response.context["form"][field].errors)
    assert f'href="#id_{field}"' in response.content.decode()
    project.refresh_from_db()
    assert (project.name, project.overlap) == ("Tides", 1)
    assert not AuditEvent.objects.exists()


def test_settings_that_go_together_are_taken(project, alice):
    together = {"criteria": "Tone\nTruth", "require_ratings": "on", "shared_percent": 10, "adjudicate_below": "0.2"}
    assert save(alice, project, **together, daily_limit=50, total_limit=50).status_code == 302
    project.refresh_from_db()
    assert (project.criteria, project.require_ratings, project.adjudicate_below) == (["Tone", "Truth"], True, 0.2)


def test_the_usual_criteria_are_filled_in_but_not_saved_and_other_edits_stay(project, alice):
    response = save(alice, project, name="Ebb", usual_criteria="1")
    page = response.content.decode()
    assert "Quality\nClarity\nHelpfulness\nAlignment</textarea>" in page
    assert 'value="Ebb"' in page
    project.refresh_from_db()
    assert (project.name, project.criteria) == ("Tides", [])


def test_an_admin_pauses_archives_and_brings_back(project, alice, bob):
    make_task(project)
    client, page = signed_in(alice), f"/projects/{project.slug}/settings"
    for state, says in (("paused", "This project is paused"), ("archived", "This project is archived")):
        assert says in client.post(f"{page}/state", {"state": state}, follow=True).content.decode()
        assert "Why is the sky blue?" not in signed_in(bob).get(f"/projects/{project.slug}/rank").content.decode()
    assert "Pause ranking" in client.post(f"{page}/state", {"state": "active"}, follow=True).content.decode()
    assert "Why is the sky blue?" in signed_in(bob).get(f"/projects/{project.slug}/rank").content.decode()
    log = AuditEvent.objects.filter(verb="settings.changed").order_by("pk")
    states = [event.details["changes"]["state"]["after"] for event in log]
    assert states == ["paused", "archived", "active"]
    refused = client.post(f"{page}/state", {"state": "deleted"}, follow=True).content.decode()
    assert "active, paused or archived" in refused
    assert Project.objects.get().state == "active"


def preview(user, project, **changes):
    page = signed_in(user).post(
        f"/projects/{project.slug}/settings/preview", settings_of(project, **changes), headers={"HX-Request": "true"}
    )
    assert page.status_code == 200
    return page.content.decode()


def test_the_preview_is_the_ranking_page_with_settings_that_are_not_saved(project, alice):
    make_task(project, "Why is the sea salt?")
    before = preview(alice, project)
    assert "Why is the sea salt?" in before
    assert "All bad" in before
    assert "What decided it?" not in before
    after = preview(alice, project, allow_all_bad="", reasons="Truer", criteria="Tone", ask_comment="on")
    assert "All bad" not in after
    for words in ("What decided it?", "Truer", "Tone", "Comment (optional)"):
        assert words in after
    assert "<html" not in after
    project.refresh_from_db()
    assert (project.allow_all_bad, project.reasons, project.criteria) == (True, [], [])


def test_a_setting_that_cannot_be_is_shown_as_it_is_stored(project, alice):
    make_task(project)
    shown = preview(alice, project, criteria="Tone", reasons="same\nsame", overlap="many")
    assert "Tone" in shown
    assert "What decided it?" not in shown


def test_the_preview_holds_no_task_and_can_submit_nothing(project, alice):
    task = make_task(project)
    shown = (
        preview(alice, project, name="Ebb")
        + signed_in(alice).get(f"/projects/{project.slug}/settings").content.decode()
    )
    assert shown.count('<div class="ranking" inert>') == 2
    task.refresh_from_db()
    assert (task.leased, Assignment.objects.count(), AuditEvent.objects.count()) == (0, 0, 0)
    nothing = {"token": "", "verdict": "all_bad", "places": "[]"}
    assert signed_in(alice).post(f"/projects/{project.slug}/rank/0/submit", nothing).status_code == 404


@pytest.mark.parametrize(("wanted", "cards"), [(2, 2), (4, 4), (9, 4)])
def test_a_project_without_tasks_is_previewed_with_a_sample(project, alice, wanted, cards):
    shown = preview(alice, project, completions_per_task=wanted)
    assert "Why is the sky blue?" in shown
    assert shown.count('class="card"') == cards
    assert ("Both bad" in shown) == (cards == 2)
