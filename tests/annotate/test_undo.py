import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Assignment, AuditEvent, Membership, Ranking
from annotate.services.assignments import Refused
from annotate.services.rankings import undo_last
from tests.annotate.ranking_page import check_counts, held, opened, submit, undo
from tests.conftest import make_task

pytestmark = pytest.mark.django_db


def test_undo_opens_the_task_as_it_was_and_the_old_submission_counts_no_more(project, bob):
    make_task(project)
    make_task(project, "And at dusk?")
    opened(bob, project)
    old = held(bob)
    submit(bob, old, ["B"], ["A", "D"], ["C"], comment="first")
    following = held(bob)
    Assignment.objects.filter(pk=following.pk).update(draft={"places": [["A"]]})
    response = undo(bob, project, old.token)
    assert response.status_code == 200
    reopened = held(bob)
    assert reopened.pk == old.pk
    assert reopened.shown_order == old.shown_order
    assert reopened.token != old.token
    assert response.context["task"]["draft"]["places"] == [["B"], ["A", "D"], ["C"]]
    assert response.context["task"]["draft"]["comment"] == "first"
    ranking = Ranking.objects.get()
    assert not ranking.is_current
    assert ranking.withdrawn_at
    check_counts()

    replay = submit(bob, old, ["B"], ["A", "D"], ["C"], comment="first")
    assert (replay.status_code, replay.json()["code"]) == (409, "taken_back")
    assert not Ranking.objects.current().exists()

    assert submit(bob, reopened, ["A"], ["B"], ["C"], ["D"]).status_code == 200
    assert list(Ranking.objects.order_by("revision").values_list("revision", "is_current")) == [(1, False), (2, True)]
    # The task that was open when undo was pressed comes back, with its draft.
    assert held(bob).pk == following.pk
    assert held(bob).draft == {"places": [["A"]]}
    check_counts()


def test_undo_asked_for_twice_takes_one_ranking_back(project, bob):
    for number in range(3):
        make_task(project, f"Question {number}?")
    opened(bob, project)
    tokens = []
    for _ in range(2):
        tokens.append(held(bob).token)
        response = submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
        assert response.context["undo_token"] == tokens[-1]
    first = undo(bob, project, tokens[1])
    again = undo(bob, project, tokens[1])
    assert first.status_code == again.status_code == 200
    assert again.context["task"]["assignment"].pk == first.context["task"]["assignment"].pk
    assert list(Ranking.objects.current().values_list("token", flat=True)) == tokens[:1]
    assert AuditEvent.objects.filter(verb="ranking.taken_back").count() == 1
    # The next one back is offered by name.
    assert again.context["undo_token"] == tokens[0]
    assert undo(bob, project, tokens[0]).status_code == 200
    assert not Ranking.objects.current().exists()
    check_counts()


def test_undo_from_a_page_that_is_behind_takes_nothing_back(project, bob):
    for number in range(3):
        make_task(project, f"Question {number}?")
    opened(bob, project)
    behind = held(bob).token
    submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
    submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
    holds = held(bob)
    for token in (behind, uuid.uuid4()):
        response = undo(bob, project, token)
        assert (response.status_code, response.json()["code"]) == (409, "stale")
    response = undo(bob, project, "")
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert Ranking.objects.current().count() == 2
    assert held(bob) == holds


def test_a_repeated_submission_names_the_latest_ranking_for_undo(project, bob):
    for number in range(3):
        make_task(project, f"Question {number}?")
    opened(bob, project)
    first = held(bob)
    submit(bob, first, ["A"], ["B"], ["C"], ["D"])
    latest = held(bob).token
    submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
    assert submit(bob, first, ["A"], ["B"], ["C"], ["D"]).context["undo_token"] == latest


def test_undo_is_refused_when_there_is_nothing_recent(project, bob, alice):
    make_task(project)
    opened(bob, project)
    token = held(bob).token
    assert undo(bob, project, token).json()["code"] == "nothing_to_undo"
    submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
    assert undo(alice, project, token).json()["code"] == "nothing_to_undo"
    Ranking.objects.update(created_at=timezone.now() - timedelta(minutes=project.lease_minutes + 1))
    response = undo(bob, project, token)
    assert (response.status_code, response.json()["code"]) == (409, "nothing_to_undo")
    assert Ranking.objects.current().count() == 1


def test_a_decided_task_is_not_opened_again_by_undo(project, alice, bob):
    task = make_task(project)
    opened(bob, project)
    token = held(bob).token
    submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
    Ranking.objects.create(
        project=project, task=task, annotator=alice, role="adjudicator", token=uuid.uuid4(), seconds=1
    )
    response = undo(bob, project, token)
    assert (response.status_code, response.json()["code"]) == (409, "settled")
    assert Ranking.objects.current().count() == 2
    check_counts()


def test_whoever_became_a_researcher_meanwhile_takes_nothing_back(project, bob):
    make_task(project)
    opened(bob, project)
    token = held(bob).token
    submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
    # As the request read it, before the role was changed.
    behind = Membership.objects.select_related("project").get(user=bob)
    Membership.objects.filter(user=bob).update(role="researcher")
    with pytest.raises(Refused, match="role"):
        undo_last(membership=behind, token=token)
    assert not Assignment.objects.filter(state="leased").exists()
