import json

import pytest
from django.db import connection

from annotate.models import Assignment, AuditEvent, Completion, Membership, Project, Ranking
from tests.annotate.ranking_page import check_counts, held, opened, order, submit, url
from tests.conftest import make_task, signed_in

pytestmark = pytest.mark.django_db


def test_it_shows_a_task_without_betraying_completions(project, bob):
    make_task(project)
    response = opened(bob, project)
    task = response.context["task"]
    assert [card["letter"] for card in task["cards"]] == ["A", "B", "C", "D"]
    assert [turn["role"] for turn in task["conversation"]] == ["user"]
    html = response.content.decode()
    shown = held(bob).shown_order
    texts = [Completion.objects.get(pk=pk).text for pk in shown]
    assert sorted(texts, key=html.index) == texts
    assert "imported" not in html
    assert response.context["remaining"] == "0"
    check_counts()


def test_it_stores_a_ranking_with_ties_and_hands_out_the_next_task(project, bob):
    first = make_task(project)
    second = make_task(project, "And at dusk?")
    opened(bob, project)
    assignment = held(bob)
    assert assignment.task == first
    response = submit(bob, assignment, ["B"], ["A", "D"], ["C"], comment="close", reasons=[])
    assert response.status_code == 200
    assert b"<html" not in response.content
    assert response.context["task"]["assignment"].task_id == second.pk
    assert response.context["today"] == 1
    assert response.context["undo_token"] == assignment.token
    ranking = Ranking.objects.get()
    ranks = dict(ranking.ranked_completions.values_list("completion_id", "rank"))
    a, b, c, d = assignment.shown_order
    assert ranks == {b: 1, a: 2, d: 2, c: 3}
    assert ranking.comment == "close"
    assert AuditEvent.objects.get(verb="ranking.submitted").target == f"ranking:{ranking.pk}"
    check_counts()


def test_it_costs_at_most_ten_statements(project, bob, django_assert_max_num_queries):
    for number in range(3):
        make_task(project, f"Question {number}?")
    client = signed_in(bob)
    client.get(url(project))
    assignment = held(bob)
    statements = []

    def count(execute, sql, params, many, context):
        statements.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        response = client.post(url(project, "submit", assignment), order(assignment, ["A"], ["B"], ["C"], ["D"]))
    assert response.context["task"] is not None
    # The test's own transaction turns each atomic block into a savepoint; in production those are BEGIN and COMMIT.
    real = [sql for sql in statements if "SAVEPOINT" not in sql]
    assert len(real) <= 10, real


def test_it_stores_all_bad_without_an_order(project, bob):
    make_task(project)
    opened(bob, project)
    assert submit(bob, held(bob), verdict="all_bad").status_code == 200
    ranking = Ranking.objects.get()
    assert ranking.verdict == "all_bad"
    assert set(ranking.ranked_completions.values_list("rank", flat=True)) == {1}


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ('[["A"], ["B"], ["C"]]', "no place yet: D"),
        ('[["A"], ["B"], ["C"], ["D"], ["E"]]', "no answer “E”"),
        ('[["A"], ["B"], ["C"], ["D"], ["A"]]', "A has more than one place"),
        ('[["A", "A"], ["B"], ["C"], ["D"]]', "A has more than one place"),
        ('[["AB"], ["C"], ["D"]]', "no answer “AB”"),
        ('[["A"], [], ["B"], ["C"], ["D"]]', "could not be read"),
        ('["A", "B", "C", "D"]', "could not be read"),
        ('[[1], ["B"], ["C"], ["D"]]', "could not be read"),
        ("{}", "could not be read"),
        ("[", "could not be read"),
        ("[" * 1900, "could not be read"),
        ("", "could not be read"),
        ("[]", "no place yet: A, B, C, D"),
    ],
)
def test_it_refuses_what_is_no_weak_order_of_the_shown(project, bob, places, words):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    data = {"token": str(assignment.token), "verdict": "ranked", "places": places}
    response = signed_in(bob).post(url(project, "submit", assignment), data)
    assert response.status_code == 422
    assert response.json()["code"] == "invalid"
    assert words in response.json()["message"]
    assert not Ranking.objects.exists()
    assert held(bob) == assignment


def test_it_refuses_ties_and_all_bad_where_the_project_forbids_them(project, bob):
    project.allow_ties = project.allow_all_bad = False
    project.save()
    make_task(project)
    opened(bob, project)
    tied = submit(bob, held(bob), ["A", "B"], ["C"], ["D"])
    assert (tied.status_code, "no ties" in tied.json()["message"]) == (422, True)
    bad = submit(bob, held(bob), verdict="all_bad")
    assert (bad.status_code, "order" in bad.json()["message"]) == (422, True)


def test_it_refuses_reasons_that_the_project_does_not_name(project, bob):
    project.reasons = ["Wrong", "Rude"]
    project.save()
    make_task(project)
    opened(bob, project)
    full = (["A"], ["B"], ["C"], ["D"])
    assert submit(bob, held(bob), *full, reasons=["Wrong", "Ugly"]).status_code == 422
    assert submit(bob, held(bob), *full, reasons=["Wrong", "Rude"]).status_code == 200
    assert Ranking.objects.get().reasons == ["Wrong", "Rude"]


def test_it_stores_the_same_submission_once(project, bob):
    make_task(project)
    make_task(project, "And at dusk?")
    opened(bob, project)
    assignment = held(bob)
    first = submit(bob, assignment, ["A"], ["B"], ["C"], ["D"])
    again = submit(bob, assignment, ["A"], ["B"], ["C"], ["D"])
    assert first.status_code == again.status_code == 200
    assert again.context["task"]["assignment"].pk == first.context["task"]["assignment"].pk
    other = submit(bob, assignment, ["B"], ["A"], ["C"], ["D"])
    assert (other.status_code, other.json()["code"]) == (409, "already_submitted")
    assert Ranking.objects.count() == 1
    check_counts()


def test_it_shows_the_same_task_in_two_tabs(project, bob):
    make_task(project)
    make_task(project, "And at dusk?")
    first, second = opened(bob, project), opened(bob, project)
    assert first.context["task"]["assignment"].pk == second.context["task"]["assignment"].pk
    assert Assignment.objects.count() == 1


@pytest.mark.parametrize("action", ["submit", "skip", "flag", "draft", "demonstration"])
def test_nobody_reaches_another_persons_assignment_or_project(project, bob, alice, charlie, action):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    elsewhere = Project.objects.create(slug="winds", name="Winds", created_by=charlie)
    Membership.objects.create(project=elsewhere, user=bob, role="annotator")

    def post(user, path):
        if action == "draft":
            body = json.dumps({"token": str(assignment.token), "draft": {}})
            return signed_in(user).post(path, body, content_type="application/json").status_code
        data = {**order(assignment, ["A"], ["B"], ["C"], ["D"]), "reason": "other", "text": "mine"}
        return signed_in(user).post(path, data).status_code

    assert post(alice, url(project, action, assignment)) == 404
    assert post(bob, url(elsewhere, action, assignment)) == 404
    assert post(charlie, url(project, action, assignment)) == 404
    assert post(bob, f"/projects/{project.slug}/rank/999999/{action}") == 404
    assert not Ranking.objects.exists()
    assert held(bob) == assignment


def test_a_researcher_does_not_rank(project, rita):
    make_task(project)
    assert signed_in(rita).get(url(project)).status_code == 403
    assert not Assignment.objects.exists()


def test_whoever_is_signed_out_gets_json_from_a_script_and_the_sign_in_page_otherwise(project, bob, client):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    response = client.post(url(project, "submit", assignment), order(assignment, ["A"], ["B"], ["C"], ["D"]))
    assert (response.status_code, response.json()["code"]) == (401, "signed_out")
    assert client.get(url(project), headers={"HX-Request": "true"}).status_code == 401
    page = client.get(url(project))
    assert (page.status_code, page.url) == (302, f"/accounts/login/?next=/projects/{project.slug}/rank")


def test_it_says_why_there_is_nothing_to_rank(project, bob):
    assert opened(bob, project).context["empty_reason"] == "no_tasks"
    make_task(project)
    project.state = "paused"
    project.save()
    assert opened(bob, project).context["empty_reason"] == "paused"


def test_reasoning_is_shown_apart(project, bob):
    task = make_task(project, texts=["Yes.", "No."])
    Completion.objects.filter(pk=task.completions.order_by("pk")[0].pk).update(reasoning="Let me think twice.")
    cards = opened(bob, project).context["task"]["cards"]
    by_words = {card["reasoning_words"]: card["reasoning_html"] for card in cards}
    assert by_words == {0: "", 4: "<p>Let me think twice.</p>\n"}
