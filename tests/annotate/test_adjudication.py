"""How far rankings agree, which tasks wait for a reviewer, and what becomes of a decision."""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from scipy.stats import kendalltau

from annotate.models import AuditEvent, Membership, Ranking, RankingTask
from annotate.quality.tau import mean_tau
from annotate.services.adjudication import compare_rankings
from annotate.services.rankings import undo_last
from annotate.tasks import compare_rankings as compare_in_background
from tests.annotate.rows import rank
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def disputed(project, users, *orders, question="Why is the sky blue?", **changes):
    """A task that the users ranked in these orders, compared."""
    task = make_task(project, question, ["one", "two", "three"])
    for user, ranks in zip(users, orders, strict=True):
        rank(task, user, ranks, **changes)
    compare_rankings()
    task.refresh_from_db()
    return task


def address(task):
    return f"/projects/{task.project.slug}/tasks/{task.pk}/decide"


def opened(user, task, query=""):
    response = signed_in(user).get(address(task) + query)
    assert response.status_code == 200
    return response


def filled(page, **changes):
    """What the form on the page would post, with changes: places by letter."""
    form = page.context["form"]
    data = {name: form[name].value() if form[name].value() is not None else "" for name in form.fields}
    return {**data, "verdict": "ranked", **changes}


def order_of(ranking):
    places = ranking.ranked_completions.order_by("completion_id")
    return list(places.values_list("rank", flat=True))


def by_text(page):
    """{text: letter} of the answers on the review page."""
    return {answer["completion"].text: answer["name"] for answer in page.context["answers"]}


@pytest.fixture
def carol(project):
    carol = make_user("carol")
    Membership.objects.create(project=project, user=carol, role="annotator")
    return carol


@pytest.fixture
def strict(project):
    project.adjudicate_below = 0.5
    project.overlap = 2
    project.save()
    return project


def test_tau_b_is_scipys():
    orders = list(itertools.product(range(1, 4), repeat=4))
    for first, second in random.Random(0).sample(list(itertools.product(orders, orders)), 300):
        theirs = float(kendalltau(first, second, variant="b").statistic)
        ours = mean_tau([first, second])
        assert ours is None if theirs != theirs else ours == pytest.approx(theirs), (first, second)


def test_a_task_is_compared_once_it_has_all_its_rankings(strict, bob, carol):
    full = make_task(strict, "Full?", ["x", "y"])
    waits = make_task(strict, "Waits?", ["x", "y"])
    for task in (full, waits):
        rank(task, bob, [1, 2])
    rank(full, carol, [2, 1])
    compare_in_background()
    for task in (full, waits):
        task.refresh_from_db()
    assert (full.agreement, waits.agreement, waits.compared_at) == (-1, None, None)


def test_what_has_no_order_is_compared_once_and_no_more(strict, bob, carol):
    task = make_task(strict, "Bad?", ["x", "y"])
    for user in (bob, carol):
        rank(task, user, [1, 1], verdict="all_bad")
    assert compare_rankings() == 1
    task.refresh_from_db()
    assert task.agreement is None
    assert task.compared_at is not None
    assert compare_rankings() == 0


def test_taking_a_ranking_back_and_submitting_another_compares_anew(strict, bob, carol):
    task = make_task(strict, "Sky?", ["x", "y"])
    rank(task, carol, [1, 2])
    client = signed_in(bob)
    client.get("/projects/tides/rank")
    assignment = task.assignments.get(annotator=bob)
    by_completion = dict(zip(assignment.shown_order, "AB", strict=True))
    x, y = (by_completion[pk] for pk in task.completions.order_by("pk").values_list("pk", flat=True))

    def submit(first, second):
        assignment.refresh_from_db()
        data = {"token": str(assignment.token), "verdict": "ranked", "places": f'[["{first}"], ["{second}"]]'}
        assert client.post(f"/projects/tides/rank/{assignment.pk}/submit", data).status_code == 200
        compare_rankings()
        task.refresh_from_db()
        return task.agreement

    assert submit(y, x) == -1
    undo_last(membership=Membership.objects.get(user=bob), token=Ranking.objects.get(annotator=bob).token)
    task.refresh_from_db()
    assert (task.agreement, task.compared_at) == (None, None)
    assert compare_rankings() == 0
    assert submit(x, y) == 1


def test_many_tasks_are_compared_in_batches(strict, bob, carol, monkeypatch):
    monkeypatch.setattr("annotate.services.adjudication.COMPARED_AT_ONCE", 2)
    for number in range(5):
        task = make_task(strict, f"Question {number}?", ["x", "y"])
        rank(task, bob, [1, 2])
        rank(task, carol, [1, 2] if number % 2 else [2, 1])
    assert compare_rankings() == 5
    assert list(RankingTask.objects.order_by("pk").values_list("agreement", flat=True)) == [-1, 1, -1, 1, -1]


def test_the_queue_holds_what_agrees_least_first_page_by_page(strict, alice, bob, carol, monkeypatch):
    monkeypatch.setattr("annotate.views.adjudication.PER_PAGE", 2)
    agreed = disputed(strict, [bob, carol], [1, 2, 3], [1, 2, 3], question="Agreed?")
    half = disputed(strict, [bob, carol], [1, 2, 3], [1, 3, 2], question="Half?")
    opposed = [
        disputed(strict, [bob, carol], [1, 2, 3], [3, 2, 1], question=f"Opposed {number}?") for number in range(3)
    ]
    closed = disputed(strict, [bob, carol], [1, 2, 3], [3, 2, 1], question="Closed?")
    RankingTask.objects.filter(pk=closed.pk).update(state="closed")
    client = signed_in(alice)
    shown, query = [], ""
    for _page in range(2):
        page = client.get(f"/projects/tides/adjudication{query}")
        shown += [task.pk for task in page.context["tasks"]]
        query = f"?after={page.context['more']}"
    assert shown == [*(task.pk for task in opposed), half.pk]
    assert page.context["more"] == ""
    assert "4 tasks wait" in client.get("/projects/tides/adjudication").content.decode()
    assert agreed.agreement == 1
    for nonsense in ("x", "1,", "nan,3", ",", "1e999,9999999999999999999999"):
        assert client.get("/projects/tides/adjudication", {"after": nonsense}).status_code == 200


def test_the_empty_queue_says_whether_it_is_off_or_done(project, alice):
    page = signed_in(alice).get("/projects/tides/adjudication").content.decode()
    assert "Adjudication is off" in page
    assert "/projects/tides/settings#id_adjudicate_below" in page
    project.adjudicate_below = 0
    project.save()
    assert "Nothing waits for a decision" in signed_in(alice).get("/projects/tides/adjudication").content.decode()


def test_the_review_page_is_blind_and_proposes_the_most_agreed_order(strict, alice, bob, carol):
    task = disputed(strict, [bob, carol], [1, 2, 3], [1, 3, 2])
    page = opened(alice, task)
    html = page.content.decode()
    assert "bob" not in html
    assert "imported" not in html
    letters = by_text(page)
    form = page.context["form"]
    assert {text: form[f"place_{letter}"].value() for text, letter in letters.items()} == {
        "one": 1,
        "two": 2,
        "three": 2,
    }
    assert list(by_text(opened(alice, task))) == list(letters)
    assert "bob" in opened(alice, task, "?names=1").content.decode()
    strict.allow_ties = False
    strict.save()
    proposed = opened(alice, task).context["form"]
    assert sorted(proposed[f"place_{letter}"].value() for letter in "ABC") == [1, 2, 3]


def test_a_decision_is_stored_beside_the_rankings_and_the_next_task_comes(strict, alice, bob, carol):
    first = disputed(strict, [bob, carol], [1, 2, 3], [3, 2, 1], question="First?")
    second = disputed(strict, [bob, carol], [1, 2, 3], [3, 2, 1], question="Second?")
    before = list(Ranking.objects.order_by("pk").values("uid", "is_current", "role"))
    page = opened(alice, first)
    letters = by_text(page)
    places = {f"place_{letters[text]}": place for text, place in (("one", 3), ("two", 1), ("three", 3))}
    response = signed_in(alice).post(address(first), filled(page, comment="Two is right.", **places))
    assert response.headers["Location"] == address(second)
    decision = Ranking.objects.get(role="adjudicator")
    assert order_of(decision) == [2, 1, 2]
    assert (decision.annotator, decision.assignment, decision.comment) == (alice, None, "Two is right.")
    assert (decision.task, decision.revision, decision.is_current) == (first, 1, True)
    assert 0 < decision.seconds < 60
    assert (
        list(Ranking.objects.exclude(role="adjudicator").order_by("pk").values("uid", "is_current", "role")) == before
    )
    event = AuditEvent.objects.get(verb="ranking.decided")
    assert (event.actor, event.target, event.details["task"]) == (alice, f"ranking:{decision.pk}", first.pk)
    queue = signed_in(alice).get("/projects/tides/adjudication")
    assert [task.pk for task in queue.context["tasks"]] == [second.pk]
    assert "Two is right." in queue.content.decode()
    assert "Adjudicator" in signed_in(alice).get(f"/projects/tides/tasks/{first.pk}").content.decode()
    first.refresh_from_db()
    assert (first.submitted, first.agreement) == (2, -1)
    last = signed_in(alice).post(address(second), filled(opened(alice, second), verdict="all_bad"))
    assert last.headers["Location"] == "/projects/tides/adjudication"
    assert order_of(Ranking.objects.get(task=second, role="adjudicator")) == [1, 1, 1]


def test_the_same_form_twice_is_one_decision(strict, alice, bob, carol):
    task = disputed(strict, [bob, carol], [1, 2, 3], [3, 2, 1])
    data = filled(opened(alice, task))
    for _again in range(2):
        assert signed_in(alice).post(address(task), data).status_code == 302
    assert Ranking.objects.filter(role="adjudicator").count() == 1
    assert AuditEvent.objects.filter(verb="ranking.decided").count() == 1


def test_deciding_again_is_a_revision(strict, alice, bob, carol):
    task = disputed(strict, [bob, carol], [1, 2, 3], [3, 2, 1])
    signed_in(alice).post(address(task), filled(opened(alice, task)))
    page = opened(alice, task)
    assert "takes the place of that decision" in page.content.decode()
    signed_in(alice).post(address(task), filled(page, place_A=1, place_B=2, place_C=3))
    first, second = Ranking.objects.filter(role="adjudicator").order_by("pk")
    assert (first.is_current, first.withdrawn_at is None, first.revision) == (False, False, 1)
    assert (second.is_current, second.revision) == (True, 2)
    assert sorted(order_of(second)) == [1, 2, 3]


def test_of_two_reviewers_the_second_is_told(strict, alice, bob, carol):
    Membership.objects.filter(user=carol).update(role="admin")
    task = disputed(strict, [bob, carol], [1, 2, 3], [3, 2, 1])
    alices, carols = filled(opened(alice, task)), filled(opened(carol, task))
    signed_in(alice).post(address(task), alices)
    told = signed_in(carol).post(address(task), carols, follow=True)
    assert "Somebody else decided this task meanwhile" in told.content.decode()
    assert "alice decided this task" in told.content.decode()
    assert Ranking.objects.get(role="adjudicator").annotator == alice


@pytest.mark.django_db(transaction=True)
def test_eight_decisions_at_once_store_one(strict, alice, bob, carol):
    task = disputed(strict, [bob, carol], [1, 2, 3], [3, 2, 1])
    forms = [filled(opened(alice, task)) for _ in range(4)]
    clients = [signed_in(alice) for _ in range(8)]

    def post(number):
        try:
            return clients[number].post(address(task), forms[number % 4]).headers["Location"]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert Ranking.objects.filter(role="adjudicator").count() == 1
    # Both copies of the form that came first are told that it is stored, the others that somebody was faster.
    assert sorted(answers) == sorted(["/projects/tides/adjudication"] * 2 + [address(task)] * 6)


@pytest.mark.parametrize(("changes", "problem"), [
    ({"place_B": ""}, "These answers have no place yet: B."),
    ({"place_A": "7"}, "not one of the available choices"),
    ({"verdict": "maybe"}, "not one of the available choices"),
    ({"token": "forged"}, "This page is out of date"),
])  # fmt: skip
def test_a_decision_that_is_none_is_refused_in_words(strict, alice, bob, carol, changes, problem):
    task = disputed(strict, [bob, carol], [1, 2, 3], [3, 2, 1])
    response = signed_in(alice).post(address(task), filled(opened(alice, task), **changes))
    assert response.status_code == 422
    assert problem in response.content.decode()
    assert not Ranking.objects.filter(role="adjudicator").exists()


def test_a_decision_keeps_to_what_the_project_allows(strict, alice, bob, carol):
    strict.allow_ties = strict.allow_all_bad = False
    strict.save()
    task = disputed(strict, [bob, carol], [1, 2, 3], [3, 2, 1])
    data = filled(opened(alice, task), place_A=1, place_B=1, place_C=2)
    assert "no ties" in signed_in(alice).post(address(task), data).content.decode()
    assert "asks for an order" in signed_in(alice).post(address(task), {**data, "verdict": "all_bad"}).content.decode()


def test_what_cannot_be_decided_says_why(strict, alice, bob):
    def told(task):
        return signed_in(alice).get(address(task), follow=True).content.decode()

    task = make_task(strict)
    assert "Nobody has ranked this task yet." in told(task)
    rank(task, bob, [1, 2, 3, 4])
    data = filled(opened(alice, task))
    RankingTask.objects.filter(pk=task.pk).update(state="flagged")
    assert "taken out of the queue" in told(task)
    refused = signed_in(alice).post(address(task), data, follow=True)
    assert "taken out of the queue" in refused.content.decode()
    RankingTask.objects.filter(pk=task.pk).update(purpose="gold", state="open")
    assert "The order of this task is known" in told(task)
    assert not Ranking.objects.filter(role="adjudicator").exists()
