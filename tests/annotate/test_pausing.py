"""Who misses too many gold tasks is paused, and an admin decides what comes next."""

import pytest
from django.utils import timezone

from annotate.models import Assignment, AuditEvent, Membership, Project, Ranking, RankingTask
from tests.annotate.known_orders import address, answer, as_known, gold_project, make_known_tasks, member_of, turn_of
from tests.annotate.ranking_page import check_counts, held, opened, submit, undo, url
from tests.conftest import make_task, signed_in

__all__ = ["gold_project"]

pytestmark = pytest.mark.django_db


def pause(alice, member, action):
    return signed_in(alice).post(address(member.project, "member_pause", member.pk), {"action": action}, follow=True)


def answer_gold(user, project, *, right):
    Membership.objects.filter(user=user).update(served=turn_of(user, member_of(user).served))
    response = answer(user, project, right=right)
    assert Ranking.objects.latest("pk").accuracy == int(right)
    return response


def test_too_many_missed_gold_tasks_pause_somebody_who_is_told_what_to_do(gold_project, alice, bob):
    make_known_tasks(gold_project, 4)
    for number in range(3):
        make_task(gold_project, f"Question {number}?")
    answer_gold(bob, gold_project, right=True)
    assert member_of(bob).paused_at is None
    Assignment.objects.filter(annotator=bob, state="leased", task__purpose="ranking").delete()
    RankingTask.objects.filter(purpose="ranking").update(leased=0)
    page = answer_gold(bob, gold_project, right=False).content.decode()
    assert "Ranking is paused for you" in page
    assert "talk to an admin" in page
    member = member_of(bob)
    assert (member.pause_reason, bool(member.paused_at)) == ("gold", True)
    event = AuditEvent.objects.get(verb="member.paused")
    assert (event.actor, event.target) == (None, f"user:{bob.pk}")
    assert event.details == {"reason": "gold", "percent": 50.0, "tasks": 2, "needed": 60}
    assert "Ranking is paused for you" in opened(bob, gold_project).content.decode()
    assert not Assignment.objects.filter(annotator=bob, state="leased").exists()
    assert "Paused" in signed_in(alice).get(address(gold_project, "project_members")).content.decode()


def test_the_submission_that_paused_somebody_may_be_repeated_and_nothing_else(gold_project, bob):
    Project.objects.update(gold_window=1)
    gold_project.refresh_from_db()
    make_known_tasks(gold_project, 1)
    late = make_task(gold_project, "Late?")
    Membership.objects.update(served=turn_of(bob))
    opened(bob, gold_project)
    assignment = held(bob)
    wrong = as_known(assignment)[::-1]
    for _ in range(2):
        response = submit(bob, assignment, *wrong)
        assert response.status_code == 200
        assert "Ranking is paused for you" in response.content.decode()
    assert Ranking.objects.count() == 1
    assert AuditEvent.objects.filter(verb="member.paused").count() == 1
    refused = undo(bob, gold_project, assignment.token)
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_undo")
    # A task that ran out for them before stays as it was, draft included.
    lapsed = Assignment.objects.create(
        project=gold_project,
        task=late,
        annotator=bob,
        state="expired",
        lease_until="2001-01-01T00:00Z",
        shown_order=list(late.completions.values_list("pk", flat=True)),
    )
    refused = submit(bob, lapsed, ["A"], ["B"], ["C"], ["D"])
    assert (refused.status_code, refused.json()["code"]) == (409, "paused")
    draft = {"token": str(lapsed.token), "draft": {"places": [["A"]]}}
    refused = signed_in(bob).post(url(gold_project, "draft", lapsed), draft, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (409, "paused")
    lapsed.refresh_from_db()
    assert (lapsed.state, lapsed.draft) == ("expired", {"places": [["A"]]})


def test_resuming_starts_a_new_window(gold_project, alice, bob):
    make_known_tasks(gold_project, 5)
    answer_gold(bob, gold_project, right=False)
    answer_gold(bob, gold_project, right=False)
    assert member_of(bob).paused_at
    page = pause(alice, member_of(bob), "resume").content.decode()
    assert "is given tasks again" in page
    answer_gold(bob, gold_project, right=False)
    assert member_of(bob).paused_at is None
    answer_gold(bob, gold_project, right=True)
    assert member_of(bob).pause_reason == "gold"
    assert AuditEvent.objects.filter(verb="member.resumed", actor=alice).count() == 1


def test_a_threshold_of_zero_pauses_nobody(gold_project, bob):
    Project.objects.update(gold_threshold=0, gold_window=1)
    make_known_tasks(gold_project, 1)
    answer_gold(bob, gold_project, right=False)
    assert member_of(bob).paused_at is None


def test_an_admin_pauses_by_hand_and_the_draft_is_kept(project, alice, bob):
    task = make_task(project)
    opened(bob, project)
    assignment = held(bob)
    draft = {"token": str(assignment.token), "draft": {"places": [["C"]]}}
    signed_in(bob).post(url(project, "draft", assignment), draft, content_type="application/json")
    assert "is paused" in pause(alice, member_of(bob), "pause").content.decode()
    task.refresh_from_db()
    assert task.leased == 0
    refused = submit(bob, assignment, ["A"], ["B"], ["C"], ["D"])
    assert (refused.status_code, refused.json()["code"]) == (409, "paused")
    page = opened(bob, project).content.decode()
    assert "An admin of this project has paused you" in page
    assert "paused already" in pause(alice, member_of(bob), "pause").content.decode()
    pause(alice, member_of(bob), "resume")
    assert opened(bob, project).context["task"]["draft"] == {"places": [["C"]]}
    assert "is not paused" in pause(alice, member_of(bob), "resume").content.decode()
    assert "Say what is to be done" in pause(alice, member_of(bob), "promote").content.decode()
    verbs = AuditEvent.objects.filter(target=f"user:{bob.pk}").order_by("pk").values_list("verb", flat=True)
    assert list(verbs) == ["member.paused", "member.resumed"]
    check_counts()


def test_the_project_s_home_tells_the_admin_who_is_paused(project, alice, bob):
    make_task(project)
    Membership.objects.filter(user=bob).update(paused_at=timezone.now(), pause_reason="gold")
    page = signed_in(alice).get(address(project, "project"))
    assert "Too few of their answers were as known: bob." in [step.why for step in page.context["next_steps"]]
    assert signed_in(bob).get(address(project, "project")).context["next_steps"] == []
