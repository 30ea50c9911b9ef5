"""Many people at once: real connections, real commits, one small project."""

import json
import queue
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from annotate.models import Assignment, Membership, Project, Ranking, RankingTask, User
from annotate.services.assignments import expire_leases
from config.processes import wait_until
from tests.annotate.known_orders import make_known
from tests.conftest import make_task, signed_in

pytestmark = pytest.mark.django_db(transaction=True)

PEOPLE, THREADS, TASKS, OVERLAP = 64, 16, 40, 3


@pytest.fixture
def crowd(alice):
    project = Project.objects.create(
        slug="crowd", name="Crowd", created_by=alice, overlap=OVERLAP, gold_percent=5, gold_threshold=0
    )
    for number in range(TASKS):
        make_task(project, f"Question {number}?", ["x", "y", "z"])
    for number in range(3):
        make_known(make_task(project, f"Known {number}?", ["x", "y", "z"]))
    people = User.objects.bulk_create(User(username=f"person{n}", password="!") for n in range(PEOPLE))
    # Each is somewhere else in their turns, so that gold comes to some of them whatever the secret of the turns is.
    Membership.objects.bulk_create(
        Membership(project=project, user=user, role="annotator", served=number % 20)
        for number, user in enumerate(people)
    )
    return project, people


def in_threads(work, items, workers):
    def closing(item):
        try:
            return work(item)
        finally:
            connection.close()

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(closing, items))


def post_order(client, assignment, *places):
    data = {"token": str(assignment.token), "verdict": "ranked", "places": json.dumps(places)}
    return client.post(f"/projects/{assignment.project.slug}/rank/{assignment.pk}/submit", data)


def take_turns(people):
    """Let all of them work, each with a task open, until nobody finds one. Returns how many rankings were acknowledged.

    Fewer threads than people: a person waits while others act, as people who read do.
    """
    turns: queue.SimpleQueue[tuple[User, Client, int]] = queue.SimpleQueue()
    for user in people:
        client = Client()
        client.force_login(user)
        turns.put((user, client, 0))
    counts: Counter[str] = Counter()
    troubles: list[Exception] = []

    def act(_):
        while not troubles:
            try:
                user, client, step = turns.get_nowait()
            except queue.Empty:
                return
            try:
                status = take_turn(user, client, step)
            except Exception as trouble:
                troubles.append(trouble)
                raise
            counts[status] += 1
            if status != "done":
                turns.put((user, client, step + 1))

    in_threads(act, range(THREADS), THREADS)
    return counts


def take_turn(user, client, step):
    """Every fifth task is skipped; every seventh runs out before it is submitted."""
    assignment = Assignment.objects.filter(annotator=user, state="leased").select_related("project").first()
    if assignment is None:
        assert client.get("/projects/crowd/rank").status_code == 200
        return "opened" if Assignment.objects.filter(annotator=user, state="leased").exists() else "done"
    if (user.pk + step) % 5 == 0:
        assert client.post(f"/projects/crowd/rank/{assignment.pk}/skip").status_code in (200, 409)
        return "skipped"
    if (user.pk + step) % 7 == 0:
        Assignment.objects.filter(pk=assignment.pk, state="leased").update(lease_until="2001-01-01T00:00Z")
        expire_leases()
    response = post_order(client, assignment, ["B"], ["A", "C"])
    assert response.status_code in (200, 409), response.content
    return "acknowledged" if response.status_code == 200 else "refused"


def test_sixty_four_people_fill_every_task_exactly(crowd):
    _, people = crowd
    counts = take_turns(people)
    # Whoever found nothing comes back later: what the last ones skipped is theirs to rank.
    while (more := take_turns(people))["opened"]:
        counts += more
    gold = Ranking.objects.filter(task__purpose="gold")
    ordinary = Ranking.objects.filter(task__purpose="ranking")
    assert ordinary.count() == TASKS * OVERLAP
    assert 0 < gold.count() == counts["acknowledged"] - TASKS * OVERLAP
    tasks = RankingTask.objects.filter(purpose="ranking")
    assert set(tasks.values_list("leased", "submitted")) == {(0, OVERLAP)}
    assert set(Counter(ordinary.values_list("task", flat=True)).values()) == {OVERLAP}
    assert sum(RankingTask.objects.filter(purpose="gold").values_list("submitted", flat=True)) == gold.count()
    assert Ranking.objects.values("task", "annotator").distinct().count() == counts["acknowledged"]
    assert not Assignment.objects.filter(state="leased").exists()


def test_the_same_submission_eight_times_at_once_is_stored_once(crowd):
    _, people = crowd
    client = Client()
    client.force_login(people[0])
    client.get("/projects/crowd/rank")
    assignment = Assignment.objects.select_related("project").get(annotator=people[0])
    cookies = client.cookies
    start = threading.Barrier(8)

    def submit(_):
        tab = Client()
        tab.cookies = cookies
        start.wait()
        return post_order(tab, assignment, ["C"], ["A"], ["B"]).status_code

    assert in_threads(submit, range(8), 8) == [200] * 8
    assert Ranking.objects.count() == 1
    assert RankingTask.objects.get(pk=assignment.task_id).submitted == 1
    assert Assignment.objects.filter(annotator=people[0], state="leased").count() == 1


def test_two_tabs_opened_at_once_hold_one_task(crowd):
    _, people = crowd
    client = Client()
    client.force_login(people[0])
    start = threading.Barrier(6)

    def open_page(_):
        tab = Client()
        tab.cookies = client.cookies
        start.wait()
        return tab.get("/projects/crowd/rank").context["task"]["assignment"].pk

    assert len(set(in_threads(open_page, range(6), 6))) == 1
    assert sum(RankingTask.objects.values_list("leased", flat=True)) == 1


def while_locked(member, act, **changes):
    """The response to `act()`, which was let in but waits for the member's row while `changes` are made to it."""
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Membership.objects.select_for_update().get(pk=member.pk)
            response = pool.submit(lambda: in_threads(lambda _: act(), [0], 1)[0])
            assert wait_until(somebody_waits, 10)
            Membership.objects.filter(pk=member.pk).update(**changes)
        return response.result(20)


def somebody_waits():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))")
        return cursor.fetchone() is not None


@pytest.mark.parametrize(
    ("action", "role", "status"),
    [("submit", "annotator", 404), ("skip", "researcher", 403), ("open", "annotator", 404)],
)
def test_whoever_is_removed_meanwhile_is_told_so(project, bob, action, role, status):
    make_task(project)
    client, member = signed_in(bob), Membership.objects.get(user=bob)
    if action == "open":
        act = lambda: client.get(f"/projects/{project.slug}/rank")  # noqa: E731
    else:
        client.get(f"/projects/{project.slug}/rank")
        assignment = Assignment.objects.select_related("project").get(annotator=bob)
        path = f"/projects/{project.slug}/rank/{assignment.pk}/skip"
        act = (lambda: post_order(client, assignment, "A")) if action == "submit" else (lambda: client.post(path))
    changes = {"role": role} if status == 403 else {"left_at": timezone.now()}
    response = while_locked(member, act, **changes)
    assert response.status_code == status
    assert action == "open" or response.json()["message"]
    assert not Ranking.objects.exists()


def test_two_admins_remove_the_same_person_at_once(project, alice, bob):
    member = Membership.objects.get(user=bob)

    def remove():
        page = f"/projects/{project.slug}/members/{member.pk}"
        return signed_in(alice).post(page, {"action": "remove"}, follow=True)

    response = while_locked(member, remove, left_at=timezone.now())
    assert response.status_code == 200
    assert "bob is not a member any more" in response.content.decode()
    again = remove()
    assert again.status_code == 200
    assert "bob is not a member any more" in again.content.decode()
