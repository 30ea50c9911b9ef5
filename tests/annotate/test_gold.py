"""Gold: served without a sign at its turns, and the accuracy that it measures."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from annotate.models import Assignment, Membership, Project, Ranking, RankingTask, User
from annotate.services.serving import is_gold_turn
from tests.annotate.known_orders import (
    answer,
    as_known,
    change,
    gold_project,
    make_known,
    make_known_tasks,
    member_of,
    turn_of,
)
from tests.annotate.ranking_page import check_counts, held, opened, order, submit, undo, url
from tests.conftest import make_task, make_user, signed_in

__all__ = ["gold_project"]

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("percent", [1, 5, 7, 33, 50])
def test_each_block_of_tasks_has_its_share_of_gold_at_a_place_of_each_person_s_own(project, bob, alice, percent):
    Project.objects.update(gold_percent=percent)
    Membership.objects.update(role="annotator")
    turns: dict[User, list[int]] = {}
    for user in (bob, alice):
        member = member_of(user)
        turns[user] = []
        for member.served in range(1000):
            if is_gold_turn(member):
                turns[user].append(member.served)
        assert len(turns[user]) == 10 * percent
        blocks = [turn * percent // 100 for turn in turns[user]]
        assert blocks == list(range(10 * percent))
    assert turns[bob] != turns[alice]


def test_gold_comes_at_its_turns_and_ordinary_tasks_go_on_when_none_is_left(gold_project, bob):
    Project.objects.update(gold_threshold=0)
    for number in range(4):
        make_task(gold_project, f"Question {number}?")
    make_known_tasks(gold_project, 2)
    seen = []
    for _ in range(6):
        assert answer(bob, gold_project).status_code == 200
        seen.append(Ranking.objects.latest("pk").task.purpose)
    assert seen.count("gold") == 2
    assert set(seen[:2]) == set(seen[2:4]) == {"gold", "ranking"}
    assert "All done" in opened(bob, gold_project).content.decode()
    assert member_of(bob).served == 6
    check_counts()


def test_no_sign_of_gold_reaches_the_page(gold_project, bob):
    make_task(gold_project, "One?", ["same", "other"])
    make_known(make_task(gold_project, "Two?", ["same", "other"]))
    pages = {}
    for turn in range(2):
        html = opened(bob, gold_project).content.decode()
        assignment = held(bob)
        pages[assignment.task.purpose] = html
        submit(bob, assignment, *as_known(assignment))
        assert turn or Ranking.objects.count() == 1

    def bare(html):
        html = re.sub(
            r'X-CSRFToken": "\w+"|/rank/\d+/|value=\"\w{64}\"|[0-9a-f]{8}-[0-9a-f-]{27}|One\?|Two\?|same|other',
            "",
            html,
        )
        html = re.sub(r'<button[^>]*data-act="undo".*?</button>', "", html)
        return re.sub(r"<strong>\d+</strong>", "", html)

    assert bare(pages["gold"]) == bare(pages["ranking"])
    assert "gold" not in pages["gold"].lower()


def test_the_number_of_tasks_left_falls_by_one_with_each_gold_or_not(gold_project, bob):
    Project.objects.update(gold_threshold=0, gold_percent=30)
    gold_project.refresh_from_db()
    for number in range(5):
        make_task(gold_project, f"Question {number}?")
    make_known_tasks(gold_project, 2)
    left, purposes = [], []
    for _ in range(7):
        left.append(int(opened(bob, gold_project).context["remaining"]))
        purposes.append(held(bob).task.purpose)
        answer(bob, gold_project)
    assert purposes.count("gold") == 2
    assert left == list(range(6, -1, -1))


def test_an_ordinary_task_costs_one_statement_more_where_there_is_gold(gold_project, bob):
    for number in range(6):
        make_task(gold_project, f"Question {number}?")
    client = signed_in(bob)
    client.get(url(gold_project))
    costs: dict[bool, list[int]] = {True: [], False: []}
    for _ in range(5):
        assignment = held(bob)
        was_turn = is_gold_turn(member_of(bob))
        statements: list[str] = []

        def count(execute, sql, params, many, context, statements=statements):
            statements.append(sql)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(count):
            client.post(url(gold_project, "submit", assignment), order(assignment, *as_known(assignment)))
        costs[was_turn].append(len([sql for sql in statements if "SAVEPOINT" not in sql]))
    assert max(costs[False]) <= 11, costs
    # The turn of gold looks for one, in vain here.
    assert max(costs[True]) <= 12, costs


def test_admins_are_given_no_gold_since_they_know_it(gold_project, alice):
    make_known_tasks(gold_project, 2)
    assert "There is nothing left for you to rank here" in opened(alice, gold_project).content.decode()
    assert not Assignment.objects.exists()


@pytest.mark.parametrize(
    ("places", "known", "accuracy"),
    [
        ([[1], [2], [3], [4]], [1, 2, 3, 4], 1),
        ([[4], [3], [2], [1]], [1, 2, 3, 4], 0),
        ([[1], [2], [4], [3]], [1, 2, 3, 4], 5 / 6),
        ([[1, 2], [3], [4]], [1, 2, 3, 4], 5.5 / 6),
        ([[1, 2, 3, 4]], [1, 2, 3, 4], 0.5),
        # Pairs that the known order ties say nothing.
        ([[4], [1], [2], [3]], [1, 1, 1, 2], 0),
        ([[3], [2], [1], [4]], [1, 1, 1, 2], 1),
        ("all_bad", [1, 2, 3, 4], 0),
    ],
)
def test_accuracy_is_the_share_of_known_pairs_that_are_ordered_alike(project, alice, bob, places, known, accuracy):
    Project.objects.update(gold_percent=50, gold_threshold=0)
    task = make_known_tasks(project, 1)[0]
    change(alice, task, known)
    Membership.objects.update(served=turn_of(bob))
    opened(bob, project)
    assignment = held(bob)
    letter = dict(enumerate((place[0] for place in as_known(assignment)), 1))
    if places == "all_bad":
        response = submit(bob, assignment, verdict="all_bad")
    else:
        response = submit(bob, assignment, *[[letter[one] for one in place] for place in places])
    assert response.status_code == 200
    assert Ranking.objects.get().accuracy == pytest.approx(accuracy)


def test_gold_can_be_taken_back_and_its_next_order_is_measured(gold_project, bob):
    make_known_tasks(gold_project, 1)
    Membership.objects.update(served=turn_of(bob))
    opened(bob, gold_project)
    token = held(bob).token
    answer(bob, gold_project, right=False)
    assert Ranking.objects.get().accuracy == 0
    assert undo(bob, gold_project, token).status_code == 200
    answer(bob, gold_project)
    accuracies = Ranking.objects.order_by("revision").values_list("revision", "is_current", "accuracy")
    assert list(accuracies) == [(1, False, 0.0), (2, True, 1.0)]
    check_counts()


@pytest.mark.django_db(transaction=True)
def test_two_tabs_submit_one_gold_task_once(gold_project, bob):
    make_known_tasks(gold_project, 1)
    Membership.objects.update(served=turn_of(bob))
    opened(bob, gold_project)
    assignment = held(bob)
    places = as_known(assignment)

    def post(_):
        try:
            return submit(bob, assignment, *places).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(post, range(4))) == [200] * 4
    assert Ranking.objects.get().accuracy == 1
    check_counts()


@pytest.mark.django_db(transaction=True)
def test_eight_people_share_gold_and_ordinary_tasks_without_a_wrong_count(gold_project):
    Project.objects.update(gold_threshold=0, overlap=3)
    gold_project.refresh_from_db()
    people = [make_user(f"person{number}") for number in range(8)]
    Membership.objects.bulk_create(
        Membership(project=gold_project, user=user, role="annotator", pseudonym=user.username) for user in people
    )
    for number in range(4):
        make_task(gold_project, f"Question {number}?", ["x", "y"])
    make_known_tasks(gold_project, 2)

    def work(user):
        done = 0
        try:
            # What a response rendered is not asked for: the test client hears of other threads' pages too.
            signed_in(user).get(url(gold_project))
            while assignment := Assignment.objects.filter(annotator=user, state="leased").first():
                assert submit(user, assignment, *as_known(assignment)).status_code == 200
                done += 1
        finally:
            connection.close()
        return done

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, people)) == Ranking.objects.count()
    ordinary = RankingTask.objects.filter(purpose="ranking")
    assert set(ordinary.values_list("leased", "submitted")) == {(0, 3)}
    assert Ranking.objects.filter(task__purpose="gold").count() > 0
    check_counts()
