"""Triggers start a pipeline when they should, once, and say why when they did not."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from annotate.models import AuditEvent, Project
from tests.annotate.known_orders import answer, make_known_tasks
from tests.annotate.rows import rank
from tests.conftest import make_task
from tests.training.pipeline_runs import FORK, make_pipeline, promoted_base
from tests.training.test_pipelines import at_once
from training import tasks
from training.models import PipelineRun, Run, Trigger
from training.services.pipelines import archive_pipeline, cancel_pipeline_run, start_pipeline
from training.services.triggers import (
    add_trigger,
    delete_trigger,
    fire,
    new_rankings,
    next_times,
    pause_trigger,
    resume_trigger,
    standing,
)


@pytest.fixture
def pipeline(project, alice, base):
    promoted_base(base, alice)
    make_task(project)
    return make_pipeline(project, alice, FORK)


def by_schedule(pipeline, user, **options) -> Trigger:
    """A trigger whose time has come."""
    added = add_trigger(
        pipeline=pipeline, kind="schedule", user=user, **{"cron": "30 3 * * *", "time_zone": "UTC", **options}
    )
    Trigger.objects.filter(pk=added.pk).update(next_at=timezone.now() - timedelta(seconds=5))
    added.refresh_from_db()
    return added


def by_rankings(pipeline, user, rankings=3, **options) -> Trigger:
    return add_trigger(pipeline=pipeline, kind="rankings", rankings=rankings, user=user, **options)


def rank_some(project, user, count) -> None:
    for _number in range(count):
        rank(make_task(project, f"Question {project.tasks.count()}?"), user, [1, 2, 3, 4])


def fired(trigger) -> PipelineRun:
    started = fire(pk=trigger.pk)
    assert started is not None
    return started


def end(pipeline_run, state="succeeded", ago=timedelta()):
    Run.objects.update(state=state, finished_at=timezone.now() - ago)
    PipelineRun.objects.filter(pk=pipeline_run.pk).update(state=state, finished_at=timezone.now() - ago)


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("30 3 * * 1-5", "UTC", "2026-11-20T12:00", ["2026-11-23T03:30", "2026-11-24T03:30", "2026-11-25T03:30"]),
        # The clocks in Berlin go forward on 29 March 2026, from 2:00 to 3:00, and back on 25 October, from 3:00 to 2:00.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:30", "2026-03-31T00:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30", "2026-10-27T01:30"]),
        ("0 12 29 2 *", "Asia/Tokyo", "2026-01-01T00:00", ["2028-02-29T03:00", "2032-02-29T03:00", "2036-02-29T03:00"]),
    ],
)  # fmt: skip
def test_a_schedule_keeps_the_time_of_its_zone(cron, zone, after, expected):
    times = next_times(cron, zone, after=datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert [time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M") for time in times] == expected


@pytest.mark.parametrize(
    ("cron", "zone", "field", "words"),
    [
        ("30 3 * *", "UTC", "cron", "Five fields"),
        ("0 30 3 * * *", "UTC", "cron", "Five fields"),
        ("60 3 * * *", "UTC", "cron", "Bad minute"),
        ("0 0 31 2 *", "UTC", "cron", "Bad day-of-month"),
        ("0 0 * * 1L/2", "UTC", "cron", "no schedule"),
        ("a b c d e", "UTC", "cron", "Bad minute"),
        ("*/0 * * * *", "UTC", "cron", "Bad minute"),
        ("9" * 5000 + " * * * *", "UTC", "cron", "no schedule"),
        ("30 3 * * *", "Middle/Earth", "time_zone", "no such time zone"),
        ("30 3 * * *", "../../etc/passwd", "time_zone", "no such time zone"),
    ],
    ids=lambda value: value[:20],
)
def test_a_schedule_that_means_nothing_is_refused(cron, zone, field, words):
    with pytest.raises(ValidationError) as refused:
        next_times(cron, zone)
    assert words in refused.value.message_dict[field][0]


@pytest.mark.django_db(transaction=True)
def test_two_beats_at_once_start_one_run(pipeline, alice):
    trigger = by_schedule(pipeline, alice)
    results = at_once(*[tasks.tend_pipelines] * 4)
    assert results == [None] * 4
    started = PipelineRun.objects.get()
    assert (started.trigger, started.started_because, started.created_by) == (trigger, "schedule", None)
    trigger.refresh_from_db()
    assert trigger.next_at
    assert trigger.next_at
    assert (trigger.next_at or timezone.now()) > timezone.now()
    assert trigger.fired_at
    event = AuditEvent.objects.get(verb="pipeline.started")
    assert (event.actor, event.details["trigger"]) == (None, trigger.pk)
    assert Run.objects.count() == 2


def test_new_rankings_start_it_and_are_counted_from_there(pipeline, project, alice, bob):
    rank_some(project, bob, 2)
    trigger = by_rankings(pipeline, alice, 3)
    assert new_rankings(trigger) == 0, "those before the trigger are not new"
    rank_some(project, bob, 2)
    assert fire(pk=trigger.pk) is None
    assert new_rankings(trigger) == 2
    rank_some(project, bob, 1)
    started = fired(trigger)
    assert started.started_because == "rankings"
    assert new_rankings(trigger) == 0
    assert fire(pk=trigger.pk) is None
    end(started)
    rank_some(project, bob, 2)
    end(start_pipeline(pipeline=pipeline, user=alice))
    assert new_rankings(trigger) == 0, "a start by hand counts as well"


def test_gold_imports_decisions_and_withdrawn_rankings_are_no_new_rankings(pipeline, project, alice, bob):
    trigger = by_rankings(pipeline, alice)
    rank_some(project, bob, 4)
    first, second, third, _fourth = project.rankings.order_by("pk")
    project.rankings.filter(pk=first.pk).update(role="imported")
    project.rankings.filter(pk=second.pk).update(role="adjudicator")
    project.rankings.filter(pk=third.pk).update(is_current=False, withdrawn_at=timezone.now())
    make_known_tasks(project, 1)
    Project.objects.update(gold_percent=50)
    answer(bob, project)
    gold = project.rankings.filter(task__purpose="gold").count()
    ordinary = project.rankings.current().filter(role="annotator", task__purpose="ranking").count()
    assert gold + ordinary == 2
    assert new_rankings(trigger) == ordinary


def test_a_scheduled_time_at_which_another_runs_is_skipped_and_rankings_wait(pipeline, project, alice, bob):
    running = start_pipeline(pipeline=make_pipeline(project, alice, FORK, name="other"), user=alice)
    scheduled, counted = by_schedule(pipeline, alice), by_rankings(pipeline, alice, 1)
    rank_some(project, bob, 1)
    tasks.tend_pipelines()
    for trigger in (scheduled, counted):
        trigger.refresh_from_db()
        assert trigger.skipped_because == "running"
        assert standing(trigger).obstacle == "running"
    assert scheduled.next_at
    assert scheduled.next_at > timezone.now()
    end(running)
    tasks.tend_pipelines()
    started = PipelineRun.objects.latest("pk")
    assert (started.pipeline, started.trigger) == (pipeline, counted), "the schedule's time has passed"


def test_a_time_that_passed_while_nothing_ran_is_made_up_for_once(pipeline, alice):
    trigger = by_schedule(pipeline, alice, cron="*/5 * * * *")
    Trigger.objects.update(next_at=timezone.now() - timedelta(days=3))
    started = fired(trigger)
    end(started)
    assert fire(pk=trigger.pk) is None


def test_it_rests_after_a_run_however_that_was_started(pipeline, alice):
    end(start_pipeline(pipeline=pipeline, user=alice), ago=timedelta(hours=1))
    trigger = by_schedule(pipeline, alice, cool_down_hours=2)
    assert fire(pk=trigger.pk) is None
    trigger.refresh_from_db()
    assert trigger.skipped_because == "cool_down"
    stands = standing(trigger)
    assert stands.obstacle == "cool_down"
    assert stands.free_at
    assert stands.free_at - timezone.now() < timedelta(hours=1)
    PipelineRun.objects.update(finished_at=timezone.now() - timedelta(hours=2))
    Trigger.objects.update(next_at=timezone.now())
    assert fire(pk=trigger.pk)


def test_it_starts_nothing_once_its_hours_are_used_up(pipeline, alice):
    earlier = start_pipeline(pipeline=pipeline, user=alice)
    end(earlier)
    now = timezone.now()
    first, second = Run.objects.order_by("pk")
    Run.objects.filter(pk=first.pk).update(started_at=now - timedelta(hours=3), finished_at=now - timedelta(hours=1))
    # Of this one only the last hour lies within the seven days.
    long_ago = now - timedelta(days=7)
    Run.objects.filter(pk=second.pk).update(
        started_at=long_ago - timedelta(hours=9), finished_at=long_ago + timedelta(hours=1)
    )
    trigger = by_schedule(pipeline, alice, budget_hours=3)
    assert standing(trigger).hours_used == pytest.approx(3, abs=0.01)
    Trigger.objects.update(budget_hours=2.9)
    assert fire(pk=trigger.pk) is None
    trigger.refresh_from_db()
    assert trigger.skipped_because == "budget"
    Trigger.objects.update(budget_hours=3.1, next_at=now)
    assert fire(pk=trigger.pk)


def test_it_does_nothing_while_it_is_paused_or_the_project_or_pipeline_is_put_away(pipeline, project, alice, bob):
    trigger = by_rankings(pipeline, alice, 1)
    rank_some(project, bob, 1)
    pause_trigger(trigger=trigger, user=alice)
    assert fire(pk=trigger.pk) is None
    resume_trigger(trigger=trigger, user=alice)
    archive_pipeline(pipeline=pipeline, archived=True, user=alice)
    assert fire(pk=trigger.pk) is None
    archive_pipeline(pipeline=pipeline, archived=False, user=alice)
    Project.objects.update(state="paused")
    assert fire(pk=trigger.pk) is None
    assert Trigger.objects.get().skipped_because == "project"
    Project.objects.update(state="active")
    assert fire(pk=trigger.pk), "rankings of the meantime count"


def test_a_resumed_schedule_does_not_make_up_for_its_pause(pipeline, alice):
    trigger = by_schedule(pipeline, alice)
    pause_trigger(trigger=trigger, user=alice)
    resume_trigger(trigger=trigger, user=alice)
    trigger.refresh_from_db()
    assert trigger.next_at
    assert (trigger.next_at or timezone.now()) > timezone.now()
    assert fire(pk=trigger.pk) is None


def test_a_pipeline_that_cannot_start_tells_its_trigger_why(pipeline, project, alice):
    trigger = by_schedule(pipeline, alice)
    project.promotions.all().delete()
    assert fire(pk=trigger.pk) is None
    trigger.refresh_from_db()
    assert trigger.skipped_because == "refused"
    assert "left, policy: No checkpoint is promoted yet" in trigger.skipped_error
    assert not PipelineRun.objects.exists()


def test_a_deleted_trigger_leaves_the_runs_that_it_started(pipeline, alice):
    trigger = by_schedule(pipeline, alice)
    started = fired(trigger)
    delete_trigger(trigger=trigger, user=alice)
    delete_trigger(trigger=trigger, user=alice)
    started.refresh_from_db()
    assert (started.trigger, started.started_because) == (None, "schedule")
    cancel_pipeline_run(pipeline_run=started, user=alice)
    assert AuditEvent.objects.filter(verb="trigger.deleted").count() == 1


def test_an_error_that_nobody_foresaw_is_told_and_tried_again_at_the_next_time_only(pipeline, alice, monkeypatch):
    def fail(**_):
        raise RuntimeError("a fault of ours")

    trigger = by_schedule(pipeline, alice)
    monkeypatch.setattr("training.services.triggers.start_pipeline", fail)
    assert fire(pk=trigger.pk) is None
    trigger.refresh_from_db()
    assert trigger.skipped_because == "refused"
    assert "the log has it as" in trigger.skipped_error
    assert (trigger.next_at or timezone.now()) > timezone.now()
    assert fire(pk=trigger.pk) is None, "not due any more"
    assert not PipelineRun.objects.exists()
