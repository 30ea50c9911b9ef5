"""Flags from the admins' side: seen together, settled without leaving the page, told apart once settled."""

import pytest

from annotate.models import AuditEvent, Flag, Membership, Project
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def flag_by(user, project, reason, comment=""):
    """As the person does it, on the ranking page."""
    client = signed_in(user)
    client.get(f"/projects/{project.slug}/rank")
    assignment = user.assignments.get(state="leased")
    path = f"/projects/{project.slug}/rank/{assignment.pk}/flag"
    assert client.post(path, {"reason": reason, "comment": comment}).status_code == 200
    return assignment


@pytest.fixture
def carol(project):
    carol = make_user("carol")
    Membership.objects.create(project=project, user=carol, role="annotator")
    return carol


def test_all_open_flags_of_a_task_are_shown_and_settled_together(project, alice, bob, carol):
    project.overlap = 2
    project.save()
    task = make_task(project, "Why?", ["An answer to read.", "Another."])
    signed_in(carol).get(f"/projects/{project.slug}/rank")
    flag_by(bob, project, "harmful", "a phone number")
    of_carol = carol.assignments.get()
    late = signed_in(carol).post(
        f"/projects/{project.slug}/rank/{of_carol.pk}/flag", {"reason": "no_sense", "comment": "or is it?"}
    )
    assert late.status_code == 200
    page = signed_in(alice).get(f"/projects/{project.slug}/flags")
    assert [len(row["flags"]) for row in page.context["tasks"]] == [2]
    html = page.content.decode()
    for text in ("a phone number", "or is it?", "bob", "carol", "An answer to read.", f"/tasks/{task.pk}"):
        assert text in html, text
    shown = page.context["tasks"][0]["flags"][0]
    settled = signed_in(alice).post(
        f"/projects/{project.slug}/flags/{shown.pk}", {"decision": "close", "resolution": "removed"}
    )
    assert settled.headers["Location"] == f"/projects/{project.slug}/flags"
    assert set(Flag.objects.values_list("resolution", "settled_by__username")) == {("removed", "alice")}
    assert "No open flags" in signed_in(alice).get(f"/projects/{project.slug}/flags").content.decode()
    assert AuditEvent.objects.filter(verb="task.closed", target=f"task:{task.pk}").count() == 1


def test_settled_flags_have_a_list_of_their_own(project, alice, bob):
    make_task(project, "Why?")
    empty = signed_in(alice).get(f"/projects/{project.slug}/flags?show=settled").content.decode()
    assert "No flag has been settled yet." in empty
    flag_by(bob, project, "other", "look at this")
    flag = Flag.objects.get()
    signed_in(alice).post(
        f"/projects/{project.slug}/flags/{flag.pk}", {"decision": "reopen", "resolution": "it is fine"}
    )
    html = signed_in(alice).get(f"/projects/{project.slug}/flags?show=settled").content.decode()
    for text in ("Something else", "look at this", "it is fine", "alice", f"/tasks/{flag.task_id}"):
        assert text in html, text


def test_settling_twice_tells_the_second_admin(project, alice, bob):
    make_task(project)
    flag_by(bob, project, "other")
    path = f"/projects/{project.slug}/flags/{Flag.objects.get().pk}"
    signed_in(alice).post(path, {"decision": "close"})
    again = signed_in(alice).post(path, {"decision": "reopen", "back": "task"}, follow=True)
    assert "settled already" in again.content.decode()
    assert again.request["PATH_INFO"].endswith(f"/tasks/{Flag.objects.get().task_id}")
    assert Flag.objects.get().task.state == "closed"
    unsaid = signed_in(alice).post(path, {}, follow=True)
    assert "goes back into the queue or is closed" in unsaid.content.decode()


def test_many_flagged_tasks_come_in_pages_the_latest_first(project, alice, bob, monkeypatch):
    monkeypatch.setattr("annotate.views.flags.PER_PAGE", 2)
    for number in range(3):
        make_task(project, f"Question {number}?")
        flag_by(bob, project, "other")
    pages = [signed_in(alice).get(f"/projects/{project.slug}/flags?page={number}") for number in (1, 2)]
    shown = [row["task"].prompt.messages[0]["content"] for page in pages for row in page.context["tasks"]]
    assert shown == ["Question 2?", "Question 1?", "Question 0?"]
    assert "3 tasks were taken out" in pages[0].content.decode()


def test_flags_of_another_project_are_not_seen(project, alice, charlie):
    elsewhere = Project.objects.create(slug="elsewhere", name="Elsewhere", created_by=charlie)
    Membership.objects.create(project=elsewhere, user=charlie, role="admin")
    make_task(elsewhere)
    flag_by(charlie, elsewhere, "other")
    assert signed_in(alice).get(f"/projects/{project.slug}/flags").context["tasks"] == []
