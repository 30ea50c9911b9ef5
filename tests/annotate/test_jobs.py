"""The transitions that imports, dataset versions and runs share."""

from datetime import timedelta

import pytest
from django.utils import timezone

from annotate import jobs
from annotate.jobs import Job
from annotate.models import Import
from annotate.tasks import run_import

State = Job.State


@pytest.fixture
def job(project, alice) -> Import:
    return Import.objects.create(project=project, created_by=alice, file_name="prompts.jsonl", file="imports/x.jsonl")


def lapse(job: Import) -> None:
    Import.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def age(job: Import) -> None:
    Import.objects.filter(pk=job.pk).update(queued_at=timezone.now() - timedelta(minutes=5))


def test_it_is_claimed_once(job):
    first, second = jobs.claim(Import, job.pk), jobs.claim(Import, job.pk)
    assert first is not None
    assert (first.state, first.attempt) == (State.RUNNING, 1)
    assert second is None


def test_a_lapsed_lease_can_be_claimed_and_fences_its_former_holder(job):
    former = jobs.claim(Import, job.pk)
    assert former is not None
    lapse(job)
    current = jobs.claim(Import, job.pk)
    assert current is not None
    assert current.attempt == 2
    with pytest.raises(jobs.Fenced):
        jobs.beat(former)
    with pytest.raises(jobs.Fenced):
        jobs.finish(former, State.SUCCEEDED)
    jobs.finish(current, State.SUCCEEDED)
    job.refresh_from_db()
    assert (job.state, job.progress) == (State.SUCCEEDED, 1)


def test_a_finished_job_is_not_claimed_again(job):
    held = jobs.claim(Import, job.pk)
    assert held is not None
    jobs.finish(held, State.FAILED, error="no")
    assert jobs.claim(Import, job.pk) is None


def test_cancelling_a_queued_job_ends_it_at_once(job):
    jobs.request_cancel(job)
    assert job.state == State.CANCELLED
    assert job.finished_at is not None
    assert jobs.claim(Import, job.pk) is None


def test_cancelling_a_running_job_asks_its_holder_to_stop(job):
    held = jobs.claim(Import, job.pk)
    assert held is not None
    jobs.request_cancel(job)
    assert job.state == State.RUNNING
    with pytest.raises(jobs.Cancelled):
        jobs.beat(held)
    jobs.finish(held, State.CANCELLED)
    assert held.state == State.CANCELLED


def test_cancelling_a_finished_job_changes_nothing(job):
    held = jobs.claim(Import, job.pk)
    assert held is not None
    jobs.finish(held, State.SUCCEEDED)
    jobs.request_cancel(job)
    assert (job.state, job.cancel_requested) == (State.SUCCEEDED, False)


def test_a_released_job_can_be_claimed_and_has_lost_no_attempt(job):
    for _ in range(5):
        held = jobs.claim(Import, job.pk)
        assert held is not None
        jobs.release(held)
    job.refresh_from_db()
    assert (job.state, job.max_attempts - job.attempt) == (State.QUEUED, 3)


def test_a_release_that_counts_gives_no_attempt_back(job):
    states = []
    for _ in range(job.max_attempts):
        held = jobs.claim(Import, job.pk)
        assert held is not None
        jobs.release(held, counts=True)
        job.refresh_from_db()
        states.append(job.state)
    assert states == [State.QUEUED, State.QUEUED, State.FAILED]
    assert job.error == jobs.INTERRUPTED_TOO_OFTEN
    assert job.finished_at is not None


def test_a_job_released_after_a_cancel_is_cancelled(job):
    held = jobs.claim(Import, job.pk)
    assert held is not None
    jobs.request_cancel(job)
    jobs.release(held)
    job.refresh_from_db()
    assert job.state == State.CANCELLED
    assert job.finished_at is not None


def test_the_reaper_gives_back_the_job_of_a_dead_worker(job):
    jobs.claim(Import, job.pk)
    age(job)
    lapse(job)
    assert jobs.reap(Import, run_import) == [job.pk]
    job.refresh_from_db()
    assert job.state == State.QUEUED
    assert jobs.claim(Import, job.pk) is not None


def test_the_reaper_leaves_a_living_worker_alone(job):
    jobs.claim(Import, job.pk)
    age(job)
    assert jobs.reap(Import, run_import) == []
    job.refresh_from_db()
    assert job.state == State.RUNNING


def test_the_reaper_fails_a_job_that_is_out_of_attempts(job):
    for _ in range(job.max_attempts):
        assert jobs.claim(Import, job.pk) is not None
        lapse(job)
    jobs.reap(Import, run_import)
    job.refresh_from_db()
    assert job.state == State.FAILED
    assert "stopped answering" in job.error


def test_the_reaper_cancels_what_was_cancelled_while_its_worker_died(job):
    jobs.claim(Import, job.pk)
    jobs.request_cancel(job)
    lapse(job)
    jobs.reap(Import, run_import)
    job.refresh_from_db()
    assert job.state == State.CANCELLED


def test_the_reaper_wakes_a_queued_job_once_a_minute_and_keeps_its_place_in_the_queue(job):
    age(job)
    job.refresh_from_db()
    queued_at = job.queued_at
    assert jobs.reap(Import, run_import) == [job.pk]
    assert jobs.reap(Import, run_import) == []
    job.refresh_from_db()
    assert job.queued_at == queued_at
