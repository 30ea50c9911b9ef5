"""Known orders: kept by admins, served as gold without a sign, measured, and pausing whoever misses them."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from annotate.models import Assignment, AuditEvent, KnownOrder, Membership, Project, Ranking, RankingTask, User
from annotate.services.assignments import Refused
from annotate.services.known import change_known, forget_known
from annotate.services.overlap import ENDLESS
from annotate.services.serving import is_gold_turn
from tests.annotate.known_orders import answer, as_known, make_known, make_known_tasks
from tests.annotate.ranking_page import check_counts, held, opened, order, submit, undo, url
from tests.annotate.rows import rank
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def address(project, name, *arguments):
    return reverse(name, args=[project.slug, *arguments])


def add(alice, task, places, **more):
    completions = task.completions.order_by("pk")
    data = {f"place_{one.pk}": place for one, place in zip(completions, places, strict=True)}
    path = f"{address(task.project, 'known_task_add')}?task={task.pk}"
    return signed_in(alice).post(path, {"purpose": "gold", **data, **more}, follow=True)


def change(alice, task, places, **more):
    completions = task.completions.order_by("pk")
    data = {f"place_{one.pk}": place for one, place in zip(completions, places, strict=True)}
    return signed_in(alice).post(
        address(task.project, "known_task", task.pk), {"purpose": "gold", **data, **more}, follow=True
    )


def pause(alice, member, action):
    return signed_in(alice).post(address(member.project, "member_pause", member.pk), {"action": action}, follow=True)


def member_of(user):
    return Membership.objects.select_related("project").get(user=user)


@pytest.fixture
def gold_project(project):
    """Gold at every second turn; accuracy is taken over two of them."""
    Project.objects.update(gold_percent=50, gold_window=2, gold_threshold=60)
    project.refresh_from_db()
    return project


# Giving an order


def test_a_known_order_takes_the_task_out_of_the_queue_and_keeps_the_draft(project, alice, bob):
    task = make_task(project)
    opened(bob, project)
    draft = {"token": str(held(bob).token), "draft": {"places": [["A"]]}}
    signed_in(bob).post(url(project, "draft", held(bob)), draft, content_type="application/json")
    page = add(alice, task, [2, 1, 4, 4], explanation="**B** answers the question.")
    assert "has left the queue" in page.content.decode()
    task.refresh_from_db()
    assert (task.purpose, task.overlap, task.leased) == ("gold", ENDLESS, 0)
    first, second, third, fourth = task.completions.order_by("pk")
    # Without gaps: two that share the last place share the third.
    assert task.known_order.ranks == {str(first.pk): 2, str(second.pk): 1, str(third.pk): 3, str(fourth.pk): 3}
    assert Assignment.objects.get(annotator=bob).draft == {"places": [["A"]]}
    assert AuditEvent.objects.get(verb="known.added").target == f"task:{task.pk}"
    check_counts()
    make_task(project, "Another?")
    assert "1" not in opened(alice, project).context["remaining"]


def test_a_task_may_be_practice_and_rankings_that_it_has_stay_as_they_are(project, alice, bob):
    task = make_task(project)
    opened(bob, project)
    submit(bob, held(bob), ["A"], ["B"], ["C"], ["D"])
    add(alice, task, [1, 2, 3, 4], purpose="practice")
    task.refresh_from_db()
    assert (task.purpose, task.submitted) == ("practice", 1)
    ranking = Ranking.objects.get()
    assert (ranking.is_current, ranking.accuracy) == (True, None)


def test_forgetting_the_order_puts_the_task_back_into_the_queue(project, alice, bob):
    Project.objects.update(gold_percent=50)
    Membership.objects.update(served=turn_of(bob))
    task = make_known_tasks(project, 1)[0]
    assert answer(bob, project).status_code == 200
    assert Ranking.objects.get().accuracy == 1
    page = signed_in(alice).post(address(project, "known_task", task.pk), {"action": "remove"}, follow=True)
    assert "ordinary one again" in page.content.decode()
    task.refresh_from_db()
    assert (task.purpose, task.overlap, task.submitted) == ("ranking", 1, 1)
    assert not KnownOrder.objects.exists()
    assert Ranking.objects.get().accuracy is None
    assert AuditEvent.objects.get(verb="known.removed").details["purpose"] == "gold"
    check_counts()


def test_changing_the_order_measures_the_answers_anew(project, alice, bob):
    Project.objects.update(gold_percent=50)
    Membership.objects.update(served=turn_of(bob))
    task = make_known_tasks(project, 1)[0]
    answer(bob, project)
    change(alice, task, [4, 3, 2, 1], purpose="practice", explanation="The other way round.")
    task.refresh_from_db()
    assert (task.purpose, task.known_order.explanation) == ("practice", "The other way round.")
    assert Ranking.objects.get().accuracy == 0
    change(alice, task, [1, 2, 2, 2])
    # Three pairs are ordered strictly now, and each of them was.
    assert Ranking.objects.get().accuracy == 1
    details = AuditEvent.objects.filter(verb="known.changed").latest("pk").details
    assert details["before"]["purpose"] == "practice"
    assert set(details["after"]["ranks"].values()) == {1, 2}


@pytest.mark.parametrize(
    ("places", "more", "words"),
    [
        (["1", "2", "3", ""], {}, "Give this answer a place"),
        (["1", "2", "3", "5"], {}, "not one of the available choices"),
        (["1", "2", "3", "x"], {}, "not one of the available choices"),
        (["1", "1", "1", "1"], {}, "nobody can miss a tie of all"),
        (["1", "2", "3", "4"], {"purpose": "ranking"}, "not one of the available choices"),
        (["1", "2", "3", "4"], {"purpose": ""}, "whether it is gold or practice"),
        (["1", "2", "3", "4"], {"explanation": "x" * 20_001}, "at most 20000"),
        (["1", "2", "3", "4"], {"explanation": "a\0b"}, "Null characters"),
    ],
)
def test_it_says_what_is_wrong_with_an_order(project, alice, places, more, words):
    task = make_task(project)
    page = add(alice, task, places, **more)
    assert words in page.content.decode()
    assert not KnownOrder.objects.exists()
    task.refresh_from_db()
    assert task.purpose == "ranking"


@pytest.mark.parametrize("number", ["999999999", "x", "-1", "9" * 30, "²"])
def test_it_says_that_there_is_no_such_task(project, alice, number):
    page = signed_in(alice).get(f"{address(project, 'known_task_add')}?task={number}", follow=True)
    assert page.status_code == 200
    assert "There is no task" in page.content.decode()


def test_a_task_of_another_project_is_out_of_reach(project, alice, charlie):
    other = Project.objects.create(slug="other", name="Other", created_by=charlie)
    task = make_task(other)
    assert "There is no task" in add_path(alice, project, task)
    make_known(task)
    assert signed_in(alice).get(address(project, "known_task", task.pk)).status_code == 404
    stranger = Membership.objects.create(project=other, user=charlie, role="annotator")
    path = address(project, "member_pause", stranger.pk)
    assert signed_in(alice).post(path, {"action": "pause"}).status_code == 404


def add_path(alice, project, task):
    path = f"{address(project, 'known_task_add')}?task={task.pk}"
    return signed_in(alice).get(path, follow=True).content.decode()


def test_a_flagged_task_is_refused_and_a_known_one_leads_to_its_page(project, alice):
    task = make_task(project)
    RankingTask.objects.update(state="flagged")
    assert "flagged or closed" in add(alice, task, [1, 2, 3, 4]).content.decode()
    RankingTask.objects.update(state="open")
    make_known(task)
    response = signed_in(alice).get(f"{address(project, 'known_task_add')}?task={task.pk}")
    assert response.headers["Location"] == address(project, "known_task", task.pk)


def test_the_page_says_what_gold_is_for_and_proposes_tasks_on_which_all_agree(project, alice, bob):
    Project.objects.update(overlap=2)
    project.refresh_from_db()
    agreed, disputed = make_task(project, "Agreed?"), make_task(project, "Disputed?")
    page = signed_in(alice).get(address(project, "known_tasks")).content.decode()
    assert "No known orders yet" in page
    assert "Agreed?" not in page
    for user in (alice, bob):
        for _ in range(2):
            opened(user, project)
            assignment = held(user)
            right = assignment.task == agreed or user == alice
            places = as_known(assignment)
            submit(user, assignment, *(places if right else places[::-1]))
    RankingTask.objects.filter(pk=agreed.pk).update(agreement=1.0)
    RankingTask.objects.filter(pk=disputed.pk).update(agreement=1.0)
    page = signed_in(alice).get(address(project, "known_tasks")).content.decode()
    assert "Agreed?" in page
    assert "2 equal rankings" in page
    # Its figure says that all agree, but its rankings do not.
    assert "Disputed?" not in page
    form = add_path(alice, project, agreed)
    assert "filled in below" in form
    assert re.findall(r'<option value="(\d)" selected>', form) == ["1", "2", "3", "4"]


def test_proposing_tasks_costs_the_same_however_many_agree(project, alice, bob, django_assert_max_num_queries):
    for number in range(30):
        task = make_task(project, f"Agreed {number}?")
        for user in (alice, bob):
            rank(task, user, [1, 2, 3, 4])
    RankingTask.objects.update(agreement=1.0)
    client = signed_in(alice)
    with django_assert_max_num_queries(16):
        page = client.get(address(project, "known_tasks")).content.decode()
    assert page.count("2 equal rankings") == 20


def test_an_order_that_was_forgotten_meanwhile_is_neither_changed_nor_forgotten_again(project, alice, bob):
    task = make_known_tasks(project, 1)[0]
    mine = Membership.objects.select_related("project").get(user=alice)
    # As two requests read it before either had the task's lock.
    first, second = KnownOrder.objects.get(), KnownOrder.objects.get()
    forget_known(membership=mine, known=first)
    opened(bob, project)
    ranks = {pk: rank for rank, pk in enumerate(task.completions.order_by("-pk").values_list("pk", flat=True), 1)}
    with pytest.raises(Refused, match="ordinary one again"):
        change_known(membership=mine, known=second, ranks=ranks, purpose="gold")
    with pytest.raises(Refused, match="ordinary one again"):
        forget_known(membership=mine, known=second)
    assert held(bob).task == task
    assert AuditEvent.objects.filter(verb="known.removed").count() == 1


def test_the_list_shows_how_each_is_answered(project, alice, bob, django_assert_max_num_queries):
    Project.objects.update(gold_percent=50)
    task = make_known_tasks(project, 1)[0]
    make_known_tasks(project, 3, purpose="practice")
    Membership.objects.update(served=turn_of(bob))
    answer(bob, project, right=False)
    client = signed_in(alice)
    with django_assert_max_num_queries(16):
        page = client.get(address(project, "known_tasks")).content.decode()
    assert "0 %" in page
    assert "1 of 1" in page
    assert task.prompt.messages[0]["content"] in page
    only = signed_in(alice).get(address(project, "known_tasks") + "?purpose=practice&page=7").content.decode()
    assert "gold 0?" not in only
    assert "practice 2?" in only


# Serving gold


def turn_of(user, after=0):
    """A count of served tasks at which this member's next one is gold."""
    member = member_of(user)
    for member.served in range(after, after + 1000):
        if is_gold_turn(member):
            return member.served
    raise AssertionError("no turn of gold")


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


# Accuracy


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


# Pausing


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


# Many at once


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
