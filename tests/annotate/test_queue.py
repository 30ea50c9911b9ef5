"""Which task comes next, for whom, and how many one person gets."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from kombu import Queue

from annotate.formats.importing.errors import RowError
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.shapes import to_row
from annotate.models import Assignment, AuditEvent, Membership, Project, Prompt, Ranking, RankingTask, content_hash
from annotate.services import overlap, queue
from annotate.services.intake import add_rows
from annotate.services.overlap import overlap_of
from annotate.tasks import apply_overlap as apply_in_background
from annotate.views import settings
from config.celery import app
from tests.annotate.ranking_page import check_counts, held, lapse, opened, submit
from tests.annotate.test_settings import save, settings_of
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def fill(project, count, overlap=3):
    project.overlap = overlap
    project.save()
    return [make_task(project, f"Question {number}?", ["x", "y"]) for number in range(count)]


def given(user, project):
    """The task that the page gives this person."""
    return opened(user, project).context["task"]["assignment"].task


def ranks(user):
    """Submit what this person holds; the task they get next, if any."""
    assert submit(user, held(user), ["A"], ["B"]).status_code == 200
    following = Assignment.objects.filter(annotator=user, state="leased").select_related("task").first()
    return following and following.task


def newcomer(project, name):
    user = make_user(name)
    Membership.objects.create(project=project, user=user, role="annotator")
    return user


def already_ranked(user, tasks):
    """Rows as if this person had ranked these tasks, which wait for others."""
    Assignment.objects.bulk_create(
        Assignment(
            project=task.project,
            task=task,
            annotator=user,
            state="submitted",
            lease_until=timezone.now(),
            shown_order=[],
        )
        for task in tasks
    )
    RankingTask.objects.filter(pk__in=[task.pk for task in tasks]).update(submitted=1)


def test_what_fewest_people_have_ranked_comes_first(project, bob, alice):
    first, second, third = fill(project, 3)
    assert given(bob, project) == first
    assert given(alice, project) == second
    assert ranks(bob) == third
    # All are at one person now: the oldest that is new to them.
    assert ranks(bob) == second
    assert ranks(alice) == first
    check_counts()


def test_a_new_task_comes_before_one_that_somebody_has_ranked(project, bob, alice):
    fill(project, 2)
    given(bob, project)
    ranks(bob)
    ranks(bob)
    late = make_task(project, "Imported later?")
    assert given(alice, project) == late


def test_priority_comes_before_how_few_have_ranked_it(project, bob, alice):
    first, _second = fill(project, 2)
    given(bob, project)
    ranks(bob)
    RankingTask.objects.filter(pk=first.pk).update(priority=1)
    assert given(alice, project) == first


def test_whoever_has_ranked_the_head_of_the_queue_goes_on_behind_it(project, bob):
    tasks = fill(project, queue.HEAD + 8, overlap=2)
    RankingTask.objects.update(submitted=1)
    mine, others = tasks[:-3], tasks[-3:]
    already_ranked(bob, mine)
    assert given(bob, project) == others[0]
    assert [ranks(bob), ranks(bob), ranks(bob)] == [others[1], others[2], None]


def test_what_comes_free_behind_ones_place_is_found_within_so_many_steps(project, bob, monkeypatch):
    """32 tasks that everybody has skipped stay at the top for good; what is free behind them must not wait for ever."""
    monkeypatch.setattr(queue, "STEPS", 5)
    tasks = fill(project, queue.HEAD + 15)
    skipped, later = tasks[: queue.HEAD], tasks[queue.HEAD :]
    already_ranked(bob, skipped)
    RankingTask.objects.filter(pk__in=[task.pk for task in skipped]).update(submitted=0)
    RankingTask.objects.filter(pk__in=[task.pk for task in later]).update(submitted=1)
    task = given(bob, project)
    assert task == later[0]
    for _ in range(2):
        task = ranks(bob)
    fresh = make_task(project, "Imported meanwhile?", ["x", "y"])
    steps = 0
    while task != fresh:
        task = ranks(bob)
        steps += 1
    assert steps <= queue.STEPS


def test_the_place_moves_with_what_was_taken_there(project, bob):
    tasks = fill(project, 50, overlap=2)
    RankingTask.objects.update(submitted=1)
    already_ranked(bob, tasks[:40])
    given(bob, project)
    ranks(bob)
    place = Membership.objects.get(user=bob, project=project).queue_place
    assert place is not None
    assert (place["task"], place["steps"]) == (tasks[41].pk, 1)


def test_the_index_holds_the_order(project, bob):
    """A sort of the whole queue would cost more with every task."""
    fill(project, 3)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        cursor.execute(
            f"""
            EXPLAIN SELECT t.id FROM annotate_rankingtask t
            WHERE {queue.FREE} AND ({queue.ORDER}) > (0, 0.0, 1, 7) ORDER BY {queue.ORDER} LIMIT 1
            """,  # noqa: S608  # constants
            {"project": project.pk},
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "using task_next" in plan
    assert "Sort" not in plan
    assert "ROW(" in plan.partition("Index Cond")[2]


def limited(project, **limits):
    for name, value in limits.items():
        setattr(project, name, value)
    project.save()


def test_a_daily_limit_ends_the_day_calmly_and_the_next_day_goes_on(project, bob):
    fill(project, 4)
    limited(project, daily_limit=2)
    given(bob, project)
    ranks(bob)
    assert ranks(bob) is None
    page = opened(bob, project).content.decode()
    assert "Enough for today" in page
    assert "one person ranks 2 tasks a day" in page
    assert "00:00 UTC" in page
    Ranking.objects.filter(annotator=bob).update(created_at=timezone.now() - timedelta(days=1))
    assert given(bob, project)


def test_a_total_limit_ends_the_work_in_this_project(project, bob, alice):
    fill(project, 4)
    limited(project, total_limit=1)
    given(bob, project)
    assert ranks(bob) is None
    Ranking.objects.filter(annotator=bob).update(created_at=timezone.now() - timedelta(days=9))
    assert "You have done your share" in opened(bob, project).content.decode()
    assert given(alice, project)


def test_the_project_page_offers_no_ranking_beyond_the_limit(project, bob):
    fill(project, 3)
    limited(project, total_limit=1)
    address = f"/projects/{project.slug}/rank"
    assert address in signed_in(bob).get(project.get_absolute_url()).content.decode()
    given(bob, project)
    assert ranks(bob) is None
    assert "Start ranking" not in signed_in(bob).get(project.get_absolute_url()).content.decode()


def test_gold_counts_towards_a_limit_and_practice_does_not(project, bob):
    practice, gold, _rest = fill(project, 3)
    given(bob, project)
    ranks(bob)
    ranks(bob)
    for task, purpose in ((practice, "practice"), (gold, "gold")):
        RankingTask.objects.filter(pk=task.pk).update(purpose=purpose, overlap=32767)
        Ranking.objects.filter(task=task).update(accuracy=0.5)
    limited(project, daily_limit=3)
    assert opened(bob, project).context["today"] == 1
    assert ranks(bob) is None
    make_task(project, "One more?", ["x", "y"])
    assert given(bob, project)
    assert ranks(bob) is None
    assert "Enough for today" in opened(bob, project).content.decode()


def test_a_lapsed_lease_does_not_lead_beyond_the_limit(project, bob):
    fill(project, 3)
    limited(project, daily_limit=1)
    given(bob, project)
    lapsed = held(bob)
    lapse(lapsed)
    Assignment.objects.filter(pk=lapsed.pk).update(draft=None)
    RankingTask.objects.filter(pk=lapsed.task_id).update(state="flagged")
    given(bob, project)
    RankingTask.objects.filter(pk=lapsed.task_id).update(state="open")
    late = submit(bob, lapsed, ["A"], ["B"])
    assert (late.status_code, late.json()["code"]) == (409, "limit_reached")
    assert ranks(bob) is None
    assert submit(bob, lapsed, ["A"], ["B"]).json()["code"] == "limit_reached"
    assert Ranking.objects.count() == 1
    check_counts()


def test_a_project_with_gold_counts_its_turns_at_no_further_statement(project, bob):
    fill(project, 4)
    given(bob, project)
    with CaptureQueriesContext(connection) as without:
        ranks(bob)
    limited(project, gold_percent=5)
    # Not its turn: gold has one place among the first twenty tasks.
    Membership.objects.filter(user=bob).update(served=21)
    with CaptureQueriesContext(connection) as counted:
        ranks(bob)
    assert len(counted) == len(without)
    assert Membership.objects.get(user=bob).served == 22


def test_limits_cost_nothing_where_there_are_none(project, bob):
    fill(project, 4)
    given(bob, project)
    with CaptureQueriesContext(connection) as free:
        ranks(bob)
    limited(project, daily_limit=100, total_limit=1000)
    with CaptureQueriesContext(connection) as bounded:
        ranks(bob)
    assert len(bounded) == len(free) + 1


def test_a_share_of_the_tasks_goes_to_more_people_and_the_lot_of_each_is_stable(project):
    project.overlap, project.shared_percent, project.shared_overlap = 1, 30, 4
    hashes = [content_hash(number) for number in range(2000)]
    shared = {digest for digest in hashes if overlap_of(project, digest) == 4}
    assert 0.25 < len(shared) / len(hashes) < 0.35
    project.shared_percent = 60
    assert shared < {digest for digest in hashes if overlap_of(project, digest) == 4}
    project.shared_percent = 0
    assert {overlap_of(project, digest) for digest in hashes} == {1}


def test_imported_tasks_get_the_overlap_of_their_lot(project):
    project.overlap, project.shared_percent, project.shared_overlap = 1, 50, 3
    project.save()
    add_rows(project=project, rows=[row(number) for number in range(20)])
    overlaps = dict(RankingTask.objects.values_list("content_hash", "overlap"))
    assert overlaps == {digest: overlap_of(project, digest) for digest in overlaps}
    assert set(overlaps.values()) == {1, 3}


def row(number, **more):
    return to_row({"prompt": f"Question {number}?", "completions": ["x", "y"], **more}, Mapping())


def test_changed_settings_hold_for_what_is_there_but_never_below_what_is_taken(project, alice, bob, monkeypatch):
    monkeypatch.setattr(overlap, "BATCH", 7)
    tasks = fill(project, 30, overlap=1)
    given(bob, project)
    ranks(bob)
    closed, gold = tasks[-2:]
    RankingTask.objects.filter(pk=closed.pk).update(state="closed")
    RankingTask.objects.filter(pk=gold.pk).update(purpose="gold", overlap=32767)
    RankingTask.objects.filter(pk=tasks[0].pk).update(agreement=0.5, compared_at=timezone.now())
    others = RankingTask.objects.exclude(pk__in=[closed.pk, gold.pk])

    save(alice, project, overlap=2, shared_percent=40, shared_overlap=5)
    project.refresh_from_db()
    assert {task.pk: task.overlap for task in others} == {
        task.pk: overlap_of(project, task.content_hash) for task in others
    }
    assert [RankingTask.objects.get(pk=task.pk).overlap for task in (closed, gold)] == [1, 32767]
    first = RankingTask.objects.get(pk=tasks[0].pk)
    assert (first.agreement, first.compared_at) == (None, None)
    event = AuditEvent.objects.get(verb="tasks.overlap_changed")
    assert (event.actor, event.details) == (alice, {"tasks": 28})
    project.refresh_from_db()
    # The ranked one waits for somebody else again.
    assert first.overlap > first.submitted

    RankingTask.objects.filter(pk=tasks[5].pk).update(overlap=2, submitted=2)
    save(alice, project, overlap=1, shared_percent=0)
    assert RankingTask.objects.get(pk=tasks[5].pk).overlap == 2
    assert others.exclude(pk=tasks[5].pk).filter(overlap=1).count() == 27


def test_what_takes_too_long_for_a_page_is_done_in_the_background(
    project, alice, monkeypatch, django_capture_on_commit_callbacks
):
    """The page waits for no more than a moment; the rest is a task of a worker, called here as a worker calls it."""
    monkeypatch.setattr(settings, "AT_ONCE_SECONDS", 0)
    fill(project, 5, overlap=1)
    with app.connection_for_write() as broker, django_capture_on_commit_callbacks(execute=True):
        Queue("default", channel=broker.default_channel).purge()
        page = signed_in(alice).post(f"/projects/{project.slug}/settings", settings_of(project, overlap=3), follow=True)
    assert "in a while" in page.content.decode()
    with app.connection_for_write() as broker:
        message = broker.SimpleQueue("default").get(timeout=5)
        message.ack()
    # Nothing sends it again, so it must outlast whatever the worker has to do before.
    assert message.headers["task"] == "annotate.apply_overlap"
    assert not message.headers["expires"]
    assert set(RankingTask.objects.values_list("overlap", flat=True)) == {1}
    apply_in_background(project.pk)
    assert set(RankingTask.objects.values_list("overlap", flat=True)) == {3}


def test_an_imported_priority_sets_the_order(project, bob):
    add_rows(project=project, rows=[row(0), row(1, priority=" 2 "), row(2, priority=3.0), row(3, priority="")])
    assert list(RankingTask.objects.order_by("pk").values_list("priority", flat=True)) == [0, 2, 3, 0]
    assert given(bob, project).priority == 3


@pytest.mark.parametrize("priority", ["high", 1.5, "1001", float("nan"), True, [1]])
def test_a_priority_that_is_no_whole_number_is_refused_by_name(priority):
    with pytest.raises(RowError, match="whole number from -1000 to 1000") as refused:
        row(0, priority=priority)
    assert refused.value.field == "priority"


def change_priority(user, task, change, what=""):
    page = signed_in(user).post(
        f"/projects/{task.project.slug}/tasks/{task.pk}/priority",
        {"change": change, "what": what or task.pk},
        follow=True,
    )
    return page.content.decode()


def priorities():
    return list(RankingTask.objects.order_by("pk").values_list("priority", flat=True))


def test_an_admin_has_a_task_asked_earlier_or_later(project, alice, bob):
    tasks = fill(project, 3)
    assert "1 task has another priority now" in change_priority(alice, tasks[2], "raise")
    change_priority(alice, tasks[0], "lower")
    assert priorities() == [-10, 0, 10]
    assert [given(bob, project), ranks(bob), ranks(bob)] == [tasks[2], tasks[1], tasks[0]]
    change_priority(alice, tasks[2], "raise")
    change_priority(alice, tasks[0], "normal")
    assert priorities() == [0, 0, 20]
    assert "Select a valid choice" in change_priority(alice, tasks[0], "sideways")
    events = AuditEvent.objects.filter(verb="tasks.priority_changed", actor=alice).order_by("pk")
    assert events.values_list("target", "details")[0] == (
        f"task:{tasks[2].pk}",
        {"tasks": 1, "priorities": [10]},
    )
    assert events.count() == 4


def test_a_whole_tag_is_asked_earlier_at_once(project, alice):
    tasks = fill(project, 4)
    Prompt.objects.filter(tasks__in=tasks[:3]).update(tags=["maths", 'hard, "odd"'])
    RankingTask.objects.filter(pk=tasks[1].pk).update(state="closed")
    page = change_priority(alice, tasks[0], "raise", "tag:maths")
    assert "2 tasks have another priority now" in page
    assert "all tasks tagged “maths”" in page
    change_priority(alice, tasks[0], "raise", 'tag:hard, "odd"')
    assert priorities() == [20, 0, 20, 0]
    assert "has no task or tag" in change_priority(alice, tasks[3], "lower", "tag:maths")
    assert priorities() == [20, 0, 20, 0]


def test_priorities_have_bounds_and_hold_in_their_own_project_alone(project, alice):
    (task,) = fill(project, 1)
    other = Project.objects.create(slug="other", name="Other", created_by=alice)
    assert queue.set_priorities(project=other, priorities={task.pk: 3}) == 0
    with pytest.raises(ValueError, match=f"task {task.pk} is 1001"):
        queue.set_priorities(project=project, priorities={task.pk: 1001})
    assert priorities() == [0]


def test_what_models_disagree_about_is_asked_first_among_equal_priorities(project, bob, monkeypatch):
    monkeypatch.setattr(queue, "BATCH", 2)
    tasks = fill(project, 5)
    queue.set_priorities(project=project, priorities={tasks[4].pk: 1})
    scores = {tasks[0].pk: 0.1, tasks[1].pk: 0.7, tasks[2].pk: 0.3}
    assert queue.order_by_disagreement(project=project, scores=scores) == 3
    assert [given(bob, project), *(ranks(bob) for _ in range(4))] == [tasks[4], tasks[1], tasks[2], tasks[0], tasks[3]]
    # Scores of other models take the place of these.
    assert queue.order_by_disagreement(project=project, scores={tasks[3].pk: 0.2, tasks[1].pk: 0.7}) == 3
    assert list(RankingTask.objects.order_by("pk").values_list("disagreement", flat=True)) == [0, 0.7, 0, 0.2, 0]


@pytest.mark.parametrize("score", [-0.1, float("nan"), float("inf")])
def test_a_score_that_orders_nothing_is_refused(project, score):
    (task,) = fill(project, 1)
    with pytest.raises(ValueError, match=f"score of task {task.pk}"):
        queue.order_by_disagreement(project=project, scores={task.pk: score})
