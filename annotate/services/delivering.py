"""Sending what the outbox holds: claimed, signed, posted, tried again with back-off, given up after days.

At least once, in no promised order. A claim moves `next_at` into the future: if the worker dies, somebody sends it again then. Workers that
meet at one delivery are told apart by `attempts`, so that only the latest try's result is stored.
"""

import base64
import hashlib
import hmac
import json
import logging
import random
import smtplib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta

from django.core.mail import send_mail
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_noop

from annotate.formats.importing.errors import printable
from annotate.models import Delivery, Webhook
from annotate.outgoing import Answer, post

from .assignments import Refused
from .webhooks import host_of, message_of, pause_webhook, signing_secrets

logger = logging.getLogger("podium.webhooks")

State = Delivery.State
AT_ONCE = 16
# So that one slow receiver holds up its own events alone, and a project its own; one that fails is asked one thing at a time.
AT_ONCE_PROJECT, AT_ONCE_EACH, AT_ONCE_FAILING = 8, 4, 1
ROUND_SECONDS = 5.0
LEASE = timedelta(seconds=60)
GONE = 410
MINUTE, HOUR = 60, 3600
# From one try to the next, in seconds, as Standard Webhooks suggests; with jitter.
BACK_OFF = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
LONGEST_ASKED = 24 * HOUR
PAUSE_AFTER = timedelta(days=3)
KEPT = timedelta(days=30)
FORGET_BATCH = 10_000
ONE_AT_A_TIME = 0x706F6469  # of all workers one sends; an arbitrary number of ours
# Each webhook and each project gives at most what it may have in flight, the one that has waited longest first, of all projects too.
CLAIM = """
WITH offered AS (
    SELECT found.id, found.next_at, row_number() OVER (PARTITION BY w.project_id ORDER BY found.next_at) + coalesce(
        (SELECT sum(busy.flying) FROM unnest(%(webhooks)s::bigint[], %(flying)s::int[]) AS busy(id, flying)
        JOIN annotate_webhook other ON other.id = busy.id WHERE other.project_id = w.project_id), 0) AS place
    FROM annotate_webhook w CROSS JOIN LATERAL (
        SELECT d.id, d.next_at FROM annotate_delivery d
        WHERE d.webhook_id = w.id AND d.state = 'waiting' AND d.next_at <= %(now)s
        ORDER BY d.next_at
        LIMIT greatest(0, CASE WHEN w.failing_since IS NULL THEN %(each)s ELSE %(failing)s END - coalesce(
            (SELECT busy.flying FROM unnest(%(webhooks)s::bigint[], %(flying)s::int[]) AS busy(id, flying)
            WHERE busy.id = w.id), 0))
        FOR UPDATE OF d SKIP LOCKED
    ) found
    WHERE w.paused_at IS NULL AND w.removed_at IS NULL
), due AS (SELECT id FROM offered WHERE place <= %(project)s ORDER BY next_at LIMIT %(room)s)
UPDATE annotate_delivery d SET next_at = %(until)s, attempts = d.attempts + 1, tried_at = %(now)s, seconds = NULL
FROM due WHERE d.id = due.id RETURNING d.id
"""
FORGET = """
WITH old AS (SELECT id FROM annotate_outboxevent WHERE created_at < %(before)s ORDER BY id LIMIT %(most)s),
    gone AS (DELETE FROM annotate_delivery WHERE event_id IN (SELECT id FROM old))
DELETE FROM annotate_outboxevent WHERE id IN (SELECT id FROM old)
"""


def deliver_due() -> bool:
    """Send what is due for ROUND_SECONDS, or until nothing is. Returns whether some is left; False, too, while another worker sends."""
    with _alone() as alone:
        return alone and _round()


def _round() -> bool:
    ends, flying = time.monotonic() + ROUND_SECONDS, dict[Future[Answer], Delivery]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while True:
            in_time = time.monotonic() < ends
            if in_time:
                for delivery in _claim(flying):
                    flying[pool.submit(_send, delivery)] = delivery
            if not flying:
                return not in_time
            done, _pending = wait(flying, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                _settle(flying.pop(future), future.result())


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether no other worker sends just now; the connection's end gives the lock back, too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ONE_AT_A_TIME])
        alone = bool(cursor.fetchone()[0])
        try:
            yield alone
        finally:
            if alone:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [ONE_AT_A_TIME])


def _claim(flying: dict[Future[Answer], Delivery]) -> list[Delivery]:
    room = AT_ONCE - len(flying)
    if not room:
        return []
    busy, now = Counter(delivery.webhook_id for delivery in flying.values()), timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(
            CLAIM,
            {
                "now": now,
                "until": now + LEASE,
                "room": room,
                "project": AT_ONCE_PROJECT,
                "each": AT_ONCE_EACH,
                "failing": AT_ONCE_FAILING,
                "webhooks": list(busy),
                "flying": list(busy.values()),
            },
        )
        claimed = [pk for (pk,) in cursor.fetchall()]
    return list(Delivery.objects.select_related("webhook__project", "event").filter(pk__in=claimed).order_by("pk"))


def body_of(delivery: Delivery) -> bytes:
    """What is posted: the same bytes at every try."""
    return json.dumps(message_of(delivery.event), ensure_ascii=False, separators=(",", ":")).encode()


def sign(secret: str, uid: str, timestamp: int, body: bytes) -> str:
    """A signature as standardwebhooks.com has it: `v1,` and base64 of HMAC-SHA256 over "id.timestamp.body"."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{uid}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def _send(delivery: Delivery) -> Answer:
    """In a thread of its own: asks the database nothing."""
    uid, timestamp, body = str(delivery.event.uid), int(time.time()), body_of(delivery)
    signatures = [sign(secret, uid, timestamp, body) for secret in signing_secrets(delivery.webhook)]
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Podium-Webhooks/1",
        "Accept-Encoding": "identity",
        "webhook-id": uid,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
    try:
        return post(delivery.webhook.url, headers, body)
    except Exception:
        logger.exception("delivery %s", delivery.pk)
        return Answer(None, "", gettext_noop("Something went wrong on our side."), 0, 0)


def _settle(delivery: Delivery, answer: Answer) -> None:
    """Note what came of a try. One that another worker has taken over meanwhile, or that was removed, is left alone."""
    well = answer.status is not None and 200 <= answer.status < 300
    given_up = not well and (delivery.attempts > len(BACK_OFF) or answer.status == GONE)
    now = timezone.now()
    mine = Delivery.objects.filter(pk=delivery.pk, state=State.WAITING, attempts=delivery.attempts)
    if not mine.update(
        state=State.DELIVERED if well else State.GIVEN_UP if given_up else State.WAITING,
        next_at=now if well or given_up else now + _pause(delivery.attempts, answer.retry_after),
        status=answer.status,
        answer=printable(answer.text, 500),
        error=printable(answer.error, 300),
        seconds=answer.seconds,
    ):
        return
    # A statement of its own: whoever changes the webhook locks it before its deliveries.
    webhook = Webhook.objects.filter(pk=delivery.webhook_id)
    if well:
        webhook.exclude(failing_since=None).update(failing_since=None)
    else:
        webhook.filter(failing_since=None).update(failing_since=delivery.tried_at or now)
    if not well:
        _pause_if_hopeless(delivery.webhook_id, gone=answer.status == GONE)


def _pause(attempts: int, asked: float) -> timedelta:
    """Until the next try: longer each time, a fifth more or less so that not all come back at once, and not before it asked."""
    usual = BACK_OFF[min(attempts, len(BACK_OFF)) - 1] * random.uniform(0.8, 1.2)  # noqa: S311 - spreads the tries
    return timedelta(seconds=max(usual, min(asked, LONGEST_ASKED)))


def _pause_if_hopeless(pk: int, *, gone: bool) -> None:
    """Pause a webhook that has failed for days, or that said that it is gone (410), and tell whoever made it."""
    webhook = Webhook.objects.filter(pk=pk, paused_at=None, removed_at=None).select_related("project").first()
    if webhook is None or webhook.failing_since is None:
        return
    if gone or webhook.failing_since < timezone.now() - PAUSE_AFTER:
        try:
            paused = pause_webhook(webhook=webhook, user=None)
        except Refused:
            return
        _tell(paused)


def _tell(webhook: Webhook) -> None:
    """By e-mail: whoever made it, or the project's admins where that person is none any more. What cannot be sent is logged."""
    admins = webhook.project.memberships.present().filter(role="admin").select_related("user")
    people = [admin.user for admin in admins if admin.user_id == webhook.created_by_id] or [one.user for one in admins]
    emails = [person.email for person in people if person.email]
    subject = f"Podium: a webhook of {webhook.project.name} is paused"
    text = (
        f"Podium could not deliver events to {host_of(webhook)} since {webhook.failing_since:%Y-%m-%d %H:%M} UTC, and tells it nothing "
        "any more.\n\nSee the log on the webhook's page in the project's settings. When the receiver works again, resume the webhook "
        "there: what waited is sent at once, what happened in the meantime is not."
    )
    try:
        if emails:
            send_mail(" ".join(subject.split()), text, None, emails)
    except (OSError, smtplib.SMTPException) as error:
        logger.warning("webhook %s: whoever made it could not be told: %s", webhook.pk, error)


def forget_events() -> int:
    """Delete events, and how they were delivered, after 30 days. Returns how many events."""
    forgotten = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(FORGET, {"before": timezone.now() - KEPT, "most": FORGET_BATCH})
            batch = int(cursor.rowcount)
        forgotten += batch
        if batch < FORGET_BATCH:
            return forgotten
