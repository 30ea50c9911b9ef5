"""What somebody has ranked: looked at, and revised."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Assignment, AuditEvent, Membership, Project, Ranking, RankingTask
from tests.annotate.known_orders import as_known, make_known
from tests.annotate.ranking_page import check_counts, held, opened, submit
from tests.conftest import make_task, signed_in

pytestmark = pytest.mark.django_db


def my_page(user, project, **query):
    response = signed_in(user).get(f"/projects/{project.slug}/my-rankings", query)
    assert response.status_code == 200
    return response


def revise(user, project, token):
    """The messages that the person is shown afterwards."""
    response = signed_in(user).post(f"/projects/{project.slug}/my-rankings/revise", {"token": str(token)}, follow=True)
    assert response.status_code == 200
    return [str(message) for message in response.context["messages"]]


def rank_tasks(user, project, count):
    """Tokens of as many rankings, in their order."""
    for number in range(count):
        make_task(project, f"Question {number}?")
    opened(user, project)
    tokens = []
    for _ in range(count):
        assignment = held(user)
        tokens.append(assignment.token)
        assert submit(user, assignment, ["B"], ["A", "D"], ["C"]).status_code == 200
    return tokens


def test_it_lists_one_s_own_rankings_newest_first_in_letters(project, bob, alice):
    tokens = rank_tasks(bob, project, 2)
    make_task(project, "All bad?")
    opened(bob, project)
    submit(bob, held(bob), verdict="all_bad")
    response = my_page(bob, project)
    history = response.context["history"]
    assert [past.prompt for past in history] == ["All bad?", "Question 1?", "Question 0?"]
    assert [past.token for past in history[1:]] == [str(token) for token in reversed(tokens)]
    assert history[1].places == [["B"], ["A", "D"], ["C"]]
    html = response.content.decode()
    assert "B &gt; A = D &gt; C" in html
    assert "<div>All bad" in html
    assert "imported" not in html
    assert "Nothing ranked yet" in my_page(alice, project).content.decode()


def test_it_counts_today_and_the_week_and_says_the_usual_pace(project, bob):
    tokens = rank_tasks(bob, project, 4)
    for token, seconds, days in zip(tokens, (10, 30, 20, 1000), (0, 0, 3, 9), strict=True):
        made = timezone.now() - timedelta(days=days)
        Ranking.objects.filter(token=token).update(seconds=seconds, created_at=made)
    response = my_page(bob, project)
    pace = response.context["pace"]
    assert (pace.today, pace.today_seconds, pace.week, pace.week_seconds) == (2, 20, 3, 20)
    assert "half of them within 20 s" in response.content.decode()


def test_pages_follow_each_other_without_gaps(project, bob):
    same_time = timezone.now()
    for _ in range(45):
        copy = make_task(project, f"Question {uuid.uuid4()}?")
        assignment = Assignment.objects.create(
            project=project,
            task=copy,
            annotator=bob,
            state="submitted",
            lease_until=same_time,
            shown_order=list(copy.completions.values_list("pk", flat=True)),
        )
        Ranking.objects.create(
            project=project, task=copy, assignment=assignment, annotator=bob, token=assignment.token, seconds=1
        )
    Ranking.objects.update(created_at=same_time)
    seen, before = [], ""
    while before is not None:
        context = my_page(bob, project, **({"before": before} if before else {})).context
        seen += [past.token for past in context["history"]]
        before = context["following"]
    assert len(seen) == len(set(seen)) == 45
    assert signed_in(bob).get(f"/projects/{project.slug}/my-rankings?before=x").status_code == 404


def test_revising_opens_an_old_ranking_and_keeps_the_history(project, bob):
    tokens = rank_tasks(bob, project, 3)
    make_task(project, "Being read?")
    opened(bob, project)
    reading = held(bob)
    Ranking.objects.filter(token=tokens[0]).update(created_at=timezone.now() - timedelta(days=40))
    for _ in range(2):
        assert revise(bob, project, tokens[0]) == []
    reopened = held(bob)
    assert reopened.task.prompt.messages[0]["content"] == "Question 0?"
    assert reopened.draft["places"] == [["B"], ["A", "D"], ["C"]]
    assert Ranking.objects.current().count() == 2
    assert AuditEvent.objects.filter(verb="ranking.taken_back").count() == 1
    check_counts()
    assert submit(bob, reopened, ["C"], ["A"], ["B"], ["D"]).status_code == 200
    assert held(bob).pk == reading.pk
    newest = my_page(bob, project).context["history"][0]
    assert newest.places == [["C"], ["A"], ["B"], ["D"]]
    assert [past.places for past in newest.earlier] == [[["B"], ["A", "D"], ["C"]]]
    assert "already" in revise(bob, project, tokens[0])[0]
    assert held(bob).pk == reading.pk
    check_counts()


def test_revising_is_refused_with_the_reason(project, bob, alice):
    tokens = rank_tasks(bob, project, 1)
    assert "no such ranking" in revise(alice, project, tokens[0])[0]
    assert "no such ranking" in revise(bob, project, uuid.uuid4())[0]
    assert "UUID" in revise(bob, project, "x")[0]
    Project.objects.update(state="paused")
    assert "not active" in revise(bob, project, tokens[0])[0]
    Project.objects.update(state="active")
    Membership.objects.filter(user=bob).update(paused_at=timezone.now(), pause_reason="admin")
    assert "no tasks just now" in revise(bob, project, tokens[0])[0]
    Membership.objects.filter(user=bob).update(paused_at=None, pause_reason="")
    for state in ("flagged", "closed"):
        RankingTask.objects.update(state=state)
        assert "out of the queue" in revise(bob, project, tokens[0])[0]
        assert b">Revise<" not in my_page(bob, project).content
    assert Ranking.objects.current().count() == 1
    check_counts()


def test_practice_and_decided_tasks_are_refused(project, bob, alice):
    tokens = rank_tasks(bob, project, 2)
    make_known(Ranking.objects.get(token=tokens[0]).task, purpose="practice")
    decided = Ranking.objects.get(token=tokens[1]).task
    Ranking.objects.create(
        project=project, task=decided, annotator=alice, role="adjudicator", token=uuid.uuid4(), seconds=1
    )
    for token in tokens:
        refused = ["This ranking has been evaluated already; it can no longer be changed."]
        assert revise(bob, project, token) == refused
    assert my_page(bob, project).content.count(b">Revise<") == 1
    assert Ranking.objects.current().filter(annotator=bob).count() == 2


def test_gold_is_revised_like_any_other_and_measured_anew(project, bob):
    tokens = rank_tasks(bob, project, 1)
    make_known(Ranking.objects.get(token=tokens[0]).task, purpose="gold")
    assert revise(bob, project, tokens[0]) == []
    assignment = held(bob)
    assert submit(bob, assignment, *as_known(assignment)).status_code == 200
    assert Ranking.objects.current().get().accuracy == 1
    check_counts()


def test_the_ranking_page_leads_to_one_s_rankings(project, bob, rita):
    make_task(project)
    link = f'href="/projects/{project.slug}/my-rankings"'
    assert opened(bob, project).content.decode().count(link) == 2
    assert link not in signed_in(rita).get(f"/projects/{project.slug}/").content.decode()
