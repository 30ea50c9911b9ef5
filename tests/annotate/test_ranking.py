import json
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from annotate.models import (
    Assignment,
    AuditEvent,
    Completion,
    Demonstration,
    Flag,
    Membership,
    Project,
    Ranking,
    RankingTask,
)
from annotate.services.assignments import expire_leases
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def url(project, action="", assignment=None):
    path = f"/projects/{project.slug}/rank"
    if assignment is not None:
        path += f"/{assignment.pk}"
    return f"{path}/{action}" if action else path


def opened(user, project):
    """What the person sees: their held assignment after opening the page."""
    response = signed_in(user).get(url(project))
    assert response.status_code == 200
    return response


def held(user):
    return Assignment.objects.get(annotator=user, state="leased")


def order(assignment, *places, verdict="ranked", **more):
    return {"token": str(assignment.token), "verdict": verdict, "places": json.dumps(list(places)), **more}


def submit(user, assignment, *places, **more):
    return signed_in(user).post(url(assignment.project, "submit", assignment), order(assignment, *places, **more))


def undo(user, project, token):
    """Take back the ranking that was submitted with this token."""
    return signed_in(user).post(url(project, "undo"), {"token": str(token)})


def check_counts():
    """Every task's counts agree with its assignments."""
    for task in RankingTask.objects.all():
        states = list(task.assignments.values_list("state", flat=True))
        assert (task.leased, task.submitted) == (states.count("leased"), states.count("submitted"))


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


def test_a_draft_is_kept_and_renews_the_lease(project, bob):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    Assignment.objects.update(lease_until=timezone.now() + timedelta(seconds=5))
    draft = {"places": [["C"], []], "comment": "so far, with the letters \\u0000 as typed"}
    body = json.dumps({"token": str(assignment.token), "draft": draft})
    response = signed_in(bob).post(url(project, "draft", assignment), body, content_type="application/json")
    assert response.status_code == 204
    assert held(bob).lease_until > timezone.now() + timedelta(minutes=project.lease_minutes - 1)
    assert opened(bob, project).context["task"]["draft"] == draft


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 422),
        ("[]", 422),
        ('{"draft": {}}', 422),
        ('{"token": "x", "draft": {}}', 422),
        ('{"token": "TOKEN", "draft": []}', 422),
        ('{"token": "TOKEN", "draft": {"places": "A"}}', 422),
        ('{"token": "TOKEN", "draft": {"comment": "a\\u0000b"}}', 422),
        (r'{"token": "TOKEN", "draft": {"comment": "\ud800"}}', 422),
        ('{"token": "TOKEN", "draft": {"seconds": NaN}}', 422),
        ('{"token": "TOKEN", "draft": {"seconds": 1e999}}', 422),
        ('{"token": "TOKEN", "draft": {"deep": ' + "[" * 20_000 + "]" * 20_000 + "}}", 422),
        ('{"token": "TOKEN", "draft": {"comment": "\udcff"}}', 422),
        ('{"token": "TOKEN", "draft": {"comment": "' + "x" * 70_000 + '"}}', 422),
        ('{"token": "' + str(uuid.uuid4()) + '", "draft": {}}', 409),
    ],
)
def test_it_refuses_what_is_no_draft(project, bob, body, status):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    body = body.replace("TOKEN", str(assignment.token)).encode(errors="surrogateescape")
    response = signed_in(bob).post(url(project, "draft", assignment), body, content_type="application/json")
    assert response.status_code == status
    assert response.json()["message"]
    assert held(bob).draft is None


def lapse(assignment):
    Assignment.objects.filter(pk=assignment.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert expire_leases() == 1


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


def test_a_late_draft_takes_the_lease_again_while_there_is_room(project, bob):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    lapse(assignment)
    body = json.dumps({"token": str(assignment.token), "draft": {"places": [["D"]]}})
    response = signed_in(bob).post(url(project, "draft", assignment), body, content_type="application/json")
    assert response.status_code == 204
    assert held(bob) == assignment
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


def test_an_ideal_answer_is_stored_once(project, bob):
    task = make_task(project)
    opened(bob, project)
    assignment = held(bob)
    for _ in range(2):
        response = signed_in(bob).post(
            url(project, "demonstration", assignment),
            {"text": "<think>short waves</think>Because of scattering.", "edited_from": "B"},
        )
        assert response.status_code == 204
    demonstration = Demonstration.objects.get()
    assert demonstration.edited_from_id == assignment.shown_order[1]
    assert demonstration.author == bob
    completion = demonstration.completion
    assert (completion.text, completion.reasoning, completion.prompt_id) == (
        "Because of scattering.",
        "short waves",
        task.prompt_id,
    )
    assert (completion.source.name, completion.source.kind) == ("people", "person")
    empty = signed_in(bob).post(url(project, "demonstration", assignment), {"text": "<think>hm</think>"})
    assert empty.status_code == 422
    assert held(bob) == assignment


def test_reasoning_is_shown_apart(project, bob):
    task = make_task(project, texts=["Yes.", "No."])
    Completion.objects.filter(pk=task.completions.order_by("pk")[0].pk).update(reasoning="Let me think twice.")
    cards = opened(bob, project).context["task"]["cards"]
    by_words = {card["reasoning_words"]: card["reasoning_html"] for card in cards}
    assert by_words == {0: "", 4: "<p>Let me think twice.</p>\n"}


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
