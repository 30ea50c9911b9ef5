import json
from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Assignment, AuditEvent, Flag, Membership, Ranking, RankingTask
from tests.annotate.ranking_page import check_counts, held, lapse, opened, submit, url
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def test_a_lapsed_task_comes_back_with_its_draft_while_there_is_room(project, bob):
    make_task(project)
    make_task(project, "And at dusk?")
    opened(bob, project)
    assignment = held(bob)
    Assignment.objects.update(draft={"places": [["A"]]})
    lapse(assignment)
    check_counts()
    task = opened(bob, project).context["task"]
    assert task["assignment"].pk == assignment.pk
    assert task["draft"] == {"places": [["A"]]}
    check_counts()


def test_a_late_submission_counts_while_there_is_room(project, bob):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    lapse(assignment)
    assert submit(bob, assignment, ["A"], ["B"], ["C"], ["D"]).status_code == 200
    assert Ranking.objects.count() == 1
    check_counts()


def test_a_late_submission_is_refused_once_others_have_the_task_and_the_draft_stays(project, bob, alice):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    Assignment.objects.update(draft={"places": [["A"]]})
    lapse(assignment)
    opened(alice, project)
    submit(alice, held(alice), ["A"], ["B"], ["C"], ["D"])
    response = submit(bob, assignment, ["B"], ["A"], ["C"], ["D"])
    assert (response.status_code, response.json()["code"]) == (409, "lease_lost")
    assignment.refresh_from_db()
    assert assignment.draft == {"places": [["A"]]}
    assert Ranking.objects.count() == 1
    body = json.dumps({"token": str(assignment.token), "draft": {"places": [["D"]]}})
    late = signed_in(bob).post(url(project, "draft", assignment), body, content_type="application/json")
    assert (late.status_code, late.json()["code"]) == (409, "lease_lost")
    assignment.refresh_from_db()
    assert assignment.draft == {"places": [["D"]]}
    check_counts()


def test_leases_that_ran_out_are_given_to_others_on_demand(project, bob, alice):
    make_task(project)
    opened(bob, project)
    assert opened(alice, project).context["empty_reason"] == "none_left"
    Assignment.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert opened(alice, project).context["task"] is not None
    check_counts()


def test_a_skipped_task_goes_to_others_and_never_comes_back(project, bob, alice):
    task = make_task(project)
    opened(bob, project)
    assignment = held(bob)
    response = signed_in(bob).post(url(project, "skip", assignment))
    assert (response.status_code, b"All done" in response.content) == (200, True)
    again = signed_in(bob).post(url(project, "skip", assignment))
    assert again.status_code == 200
    assignment.refresh_from_db()
    assert assignment.state == "skipped"
    assert submit(bob, assignment, ["A"], ["B"], ["C"], ["D"]).status_code == 409
    assert opened(alice, project).context["task"]["assignment"].task_id == task.pk
    check_counts()


def test_a_flagged_task_leaves_the_queue_until_it_is_settled(project, bob, alice):
    project.overlap = 3
    project.save()
    task = make_task(project)
    opened(bob, project)
    opened(alice, project)
    assignment, of_alice = held(bob), held(alice)
    assert signed_in(bob).post(url(project, "flag", assignment), {"reason": ""}).status_code == 422
    unknown = signed_in(bob).post(url(project, "flag", assignment), {"reason": "Boring"})
    assert unknown.status_code == 422
    assert unknown.json()["message"].startswith("What is wrong: ")
    flag_it = {"reason": "shown_wrongly", "comment": "cut off"}
    assert signed_in(bob).post(url(project, "flag", assignment), flag_it).status_code == 200
    assert signed_in(bob).post(url(project, "flag", assignment), flag_it).status_code == 200
    flag = Flag.objects.get()
    task.refresh_from_db()
    assert (task.state, flag.reason, flag.comment) == ("flagged", "shown_wrongly", "cut off")
    late = submit(alice, of_alice, ["A"], ["B"], ["C"], ["D"])
    assert (late.status_code, late.json()["code"]) == (409, "task_closed")
    assert opened(alice, project).context["task"] is None
    check_counts()

    page = signed_in(alice).get(f"/projects/{project.slug}/flags")
    assert "It is shown wrongly" in page.content.decode()
    settle = f"/projects/{project.slug}/flags/{flag.pk}"
    assert signed_in(bob).post(settle, {"decision": "reopen"}).status_code == 403
    signed_in(alice).post(settle, {"decision": "reopen", "resolution": "it is fine"})
    task.refresh_from_db()
    flag.refresh_from_db()
    assert (task.state, flag.settled_by, flag.resolution) == ("open", alice, "it is fine")
    assert opened(alice, project).context["task"]["assignment"].pk == of_alice.pk
    assert opened(bob, project).context["task"] is None
    check_counts()


def test_a_closed_task_is_never_shown_nor_taken(project, bob, alice):
    task = make_task(project)
    opened(bob, project)
    assignment = held(bob)
    signed_in(bob).post(url(project, "flag", assignment), {"reason": "other"})
    signed_in(alice).post(f"/projects/{project.slug}/flags/{Flag.objects.get().pk}", {"decision": "close"})
    task.refresh_from_db()
    assert task.state == "closed"
    assert opened(alice, project).context["empty_reason"] == "none_left"
    assert {"task.flagged", "task.closed"} <= set(AuditEvent.objects.values_list("verb", flat=True))


def test_a_held_task_that_was_closed_behind_ones_back_is_not_shown(project, bob):
    make_task(project)
    other = make_task(project, "And at dusk?")
    opened(bob, project)
    RankingTask.objects.filter(pk=held(bob).task_id).update(state="closed")
    assert opened(bob, project).context["task"]["assignment"].task_id == other.pk
    check_counts()


def test_tasks_of_higher_priority_come_first_wherever_one_is(project, bob):
    project.overlap = 2
    project.save()
    for number in range(3):
        make_task(project, f"Question {number}?")
    opened(bob, project)
    submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
    urgent = make_task(project, "Urgent?")
    RankingTask.objects.filter(pk=urgent.pk).update(priority=5)
    submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
    assert held(bob).task == urgent


def test_one_person_works_through_everything_exactly_once(project, bob):
    project.overlap = 3
    project.save()
    tasks = [make_task(project, f"Question {number}?", ["x", "y"]) for number in range(80)]
    opened(bob, project)
    skipped = 0
    while assignment := Assignment.objects.filter(annotator=bob, state="leased").first():
        if assignment.task_id % 7 == 0:
            skipped += 1
            assert signed_in(bob).post(url(project, "skip", assignment)).status_code == 200
        else:
            assert submit(bob, assignment, ["A"], ["B"]).status_code == 200
    assert Ranking.objects.count() + skipped == len(tasks)
    # What an admin reopens behind them is found again.
    RankingTask.objects.filter(pk=tasks[40].pk).update(priority=0)
    Assignment.objects.filter(task=tasks[40]).update(state="expired")
    RankingTask.objects.filter(pk=tasks[40].pk).update(submitted=0)
    assert opened(bob, project).context["task"]["assignment"].task_id == tasks[40].pk


def test_someone_new_starts_at_the_head(project, bob):
    tasks = [make_task(project, f"Question {number}?", ["x", "y"]) for number in range(2)]
    opened(bob, project)
    dora = make_user("dora")
    Membership.objects.create(project=project, user=dora, role="annotator")
    assert opened(dora, project).context["task"]["assignment"].task == tasks[1]
