"""What the outbox holds is sent at least once, signed, ever more slowly, and given up after days."""

import json
import re
import threading
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from annotate import tasks
from annotate.models import AuditEvent, Delivery, OutboxEvent, Project, Webhook
from annotate.outgoing import Answer
from annotate.services import delivering
from annotate.services.assignments import Refused
from annotate.services.webhooks import (
    Event,
    announce,
    remove_webhook,
    resend,
    resume_webhook,
    rotate_secret,
    send_test,
)
from tests.annotate.receiver import HOST, receiving
from tests.annotate.webhooks import EVERYTHING, State, due_now, listen, receiver, submitted

__all__ = ["receiver"]

pytestmark = pytest.mark.django_db


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
