"""Known orders as admins give, change and forget them."""

import re

import pytest

from annotate.models import Assignment, AuditEvent, KnownOrder, Membership, Project, Ranking, RankingTask
from annotate.services.assignments import Refused
from annotate.services.known import change_known, forget_known
from annotate.services.overlap import ENDLESS
from tests.annotate.known_orders import (
    address,
    answer,
    as_known,
    change,
    make_known,
    make_known_tasks,
    turn_of,
)
from tests.annotate.ranking_page import check_counts, held, opened, submit, url
from tests.annotate.rows import rank
from tests.conftest import make_task, signed_in

pytestmark = pytest.mark.django_db


def add(alice, task, places, **more):
    completions = task.completions.order_by("pk")
    data = {f"place_{one.pk}": place for one, place in zip(completions, places, strict=True)}
    path = f"{address(task.project, 'known_task_add')}?task={task.pk}"
    return signed_in(alice).post(path, {"purpose": "gold", **data, **more}, follow=True)


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
