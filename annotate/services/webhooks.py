"""Webhooks: addresses that are told what happens in a project, and the outbox in which it is written down first.

An event and its deliveries are rows of the transaction in which the thing happened: what was rolled back is told to nobody, what
was committed is told at least once. annotate/services/delivering.py sends them.
"""

import base64
import json
import secrets
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from annotate import jobs
from annotate.addresses import read_address
from annotate.models import Delivery, Membership, OutboxEvent, Project, Ranking, RankingTask, User, Webhook, record

from .assignments import Refused

Event = Webhook.Event
TEST = "webhook.test"
MOST = 20
BOTH_SIGN = timedelta(hours=24)
REPEATED_WITHIN = timedelta(minutes=1)
# Rankings come by the second: nobody who ranks waits for the broker, and the next round, seconds later, tells many at once.
UNHURRIED = {Event.RANKING_SUBMITTED, Event.RANKING_WITHDRAWN}
ANNOUNCE = """
WITH wanting AS (
    SELECT id FROM annotate_webhook
    WHERE project_id = %(project)s AND %(kind)s = ANY(events) AND paused_at IS NULL AND removed_at IS NULL
), event AS (
    INSERT INTO annotate_outboxevent (uid, project_id, kind, payload, created_at)
    SELECT %(uid)s, %(project)s, %(kind)s, %(payload)s::jsonb, %(now)s WHERE EXISTS (SELECT FROM wanting)
    RETURNING id
)
INSERT INTO annotate_delivery (webhook_id, event_id, state, attempts, next_at, answer, error)
SELECT wanting.id, event.id, 'waiting', 0, %(now)s, '', '' FROM wanting, event
"""


def announce(project: Project, kind: str, **payload: Any) -> None:
    """Write down that something happened, for the webhooks that want to know; in the transaction in which it does.

    One statement where `project.announced` has the kind, none at all otherwise. The row at hand may be as old as the request: a
    webhook that was added since hears of it from the next request on, one that was removed or paused since is told nothing.
    `payload` holds ids, counts and addresses of ours (`api`: below the project's, made whole here), never texts or names.
    """
    if kind not in project.announced:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            ANNOUNCE,
            {
                "project": project.pk,
                "kind": kind,
                "uid": uuid.uuid4(),
                "payload": json.dumps(_whole(project, payload)),
                "now": timezone.now(),
            },
        )
    if kind not in UNHURRIED:
        _wake(project)


def announce_submitted(membership: Membership, task: RankingTask, *, uid: uuid.UUID, role: str, verdict: str) -> None:
    """A ranking of the membership's was stored."""
    told = {**_ranking(task, uid, role), "verdict": verdict, "annotator": membership.pseudonym}
    announce(membership.project, Event.RANKING_SUBMITTED, **told)


def announce_withdrawn(project: Project, task: RankingTask, ranking: Ranking) -> None:
    """A ranking does not count any more."""
    announce(project, Event.RANKING_WITHDRAWN, **_ranking(task, ranking.uid, ranking.role))


def _ranking(task: RankingTask, uid: uuid.UUID, role: str) -> dict[str, Any]:
    told = {"ranking": uid.hex, "task": task.pk, "purpose": task.purpose, "prompt": task.prompt_id, "role": role}
    return {**told, "api": f"rankings?prompt={task.prompt_id}"}


def _whole(project: Project, payload: dict[str, Any]) -> dict[str, Any]:
    whole = {"project": project.slug, **payload}
    if "api" in whole:
        whole["api"] = urljoin(settings.PUBLIC_URL, f"/api/v1/projects/{project.slug}/{whole['api']}")
    return whole


def _wake(project: Project) -> None:
    from annotate.tasks import deliver_events  # the tasks import the services that announce

    jobs.wake(deliver_events, project.pk)


def message_of(event: OutboxEvent) -> dict[str, Any]:
    """What a receiver is sent of an event."""
    return {"type": event.kind, "timestamp": event.created_at.isoformat(), "data": event.payload}


def signing_secret(nonce: str) -> str:
    """`whsec_…`, as the receiver has it. It takes SECRET_KEY, too: what the database holds signs nothing by itself."""
    key = salted_hmac("annotate.webhooks", nonce, algorithm="sha256").digest()
    return "whsec_" + base64.b64encode(key).decode()


def signing_secrets(webhook: Webhook) -> list[str]:
    """What signs a delivery now: for a day after a rotation also the secret before."""
    nonces = [webhook.secret]
    if webhook.former_secret and webhook.rotated_at and timezone.now() < webhook.rotated_at + BOTH_SIGN:
        nonces.append(webhook.former_secret)
    return [signing_secret(nonce) for nonce in nonces]


def standing(project: Project) -> QuerySet[Webhook]:
    """The project's webhooks that were not removed, oldest first."""
    return project.webhooks.filter(removed_at=None).select_related("created_by").order_by("pk")


@transaction.atomic
def add_webhook(
    *, project: Project, user: User, url: str, events: Sequence[str], note: str = ""
) -> tuple[Webhook, str]:
    """The webhook and its secret, which is shown this once. The same again within a minute is one.

    ValidationError names the field; Refused for one beyond MOST.
    """
    _lock(project)
    # A repeated click, or a script that lost the answer, is not left without the secret.
    again = {"url": url, "events": sorted(set(events)), "note": note, "created_by": user, "rotated_at": None}
    just_now = timezone.now() - REPEATED_WITHIN
    if same := standing(project).filter(**again, created_at__gt=just_now).first():
        return same, signing_secret(same.secret)
    _check(project, url=url, events=events)
    if standing(project).count() >= MOST:
        raise Refused("too_many", _("A project has at most %(count)s webhooks.") % {"count": MOST})
    webhook = Webhook.objects.create(
        project=project,
        url=url,
        events=sorted(set(events)),
        note=note,
        secret=secrets.token_urlsafe(32),
        created_by=user,
    )
    _keep_announced(project)
    _record(user, "added", webhook, events=webhook.events)
    return webhook, signing_secret(webhook.secret)


@transaction.atomic
def change_webhook(
    *,
    webhook: Webhook,
    user: User,
    url: str | None = None,
    events: Sequence[str] | None = None,
    note: str | None = None,
) -> Webhook:
    """What is None stays. ValidationError names the field, Refused when it was removed meanwhile."""
    webhook = _locked(webhook)
    _check(webhook.project, url=url, events=events, but=webhook)
    given = {"url": url, "events": None if events is None else sorted(set(events)), "note": note}
    changes = {name: value for name, value in given.items() if value is not None and value != getattr(webhook, name)}
    if not changes:
        return webhook
    for name, value in changes.items():
        setattr(webhook, name, value)
    webhook.save(update_fields=list(changes))
    _keep_announced(webhook.project)
    _record(user, "changed", webhook, fields=sorted(changes), events=webhook.events)
    return webhook


@transaction.atomic
def pause_webhook(*, webhook: Webhook, user: User | None) -> Webhook:
    """Tell it nothing from here on; what is on its way waits. Twice is once. Without a user Podium itself does it."""
    webhook = _locked(webhook)
    if webhook.paused_at is None:
        webhook.paused_at = timezone.now()
        webhook.save(update_fields=["paused_at"])
        _keep_announced(webhook.project)
        _record(user, "paused", webhook)
    return webhook


@transaction.atomic
def resume_webhook(*, webhook: Webhook, user: User) -> Webhook:
    """Tell it again what happens from here on, and at once what waited. Twice is once."""
    webhook = _locked(webhook)
    if webhook.paused_at is not None:
        webhook.paused_at = webhook.failing_since = None
        webhook.save(update_fields=["paused_at", "failing_since"])
        _at_rest(webhook.deliveries.filter(state=Delivery.State.WAITING)).update(next_at=timezone.now(), attempts=0)
        _keep_announced(webhook.project)
        _record(user, "resumed", webhook)
        _wake(webhook.project)
    return webhook


@transaction.atomic
def rotate_secret(*, webhook: Webhook, user: User) -> str:
    """A new secret, which can be shown this once. The one before signs, too, for a day."""
    webhook = _locked(webhook)
    webhook.former_secret, webhook.secret = webhook.secret, secrets.token_urlsafe(32)
    webhook.rotated_at = timezone.now()
    webhook.save(update_fields=["former_secret", "secret", "rotated_at"])
    _record(user, "changed", webhook, fields=["secret"])
    return signing_secret(webhook.secret)


@transaction.atomic
def remove_webhook(*, webhook: Webhook, user: User) -> None:
    """It is told nothing any more, and forgotten but for the audit log. Twice is once."""
    project = _lock(webhook.project)
    if Webhook.objects.filter(pk=webhook.pk, removed_at=None).update(
        removed_at=timezone.now(), secret="", former_secret=""
    ):
        webhook.deliveries.filter(state=Delivery.State.WAITING).update(state=Delivery.State.GIVEN_UP)
        _keep_announced(project)
        _record(user, "removed", webhook)


@transaction.atomic
def send_test(*, webhook: Webhook) -> Delivery:
    """An event `webhook.test` on its way to this webhook alone. Refused while it is paused."""
    webhook = _locked(webhook)
    _check_listens(webhook)
    event = OutboxEvent.objects.create(
        project=webhook.project, kind=TEST, payload=_whole(webhook.project, {"webhook": webhook.pk, "api": "webhooks"})
    )
    _wake(webhook.project)
    return Delivery.objects.create(webhook=webhook, event=event)


@transaction.atomic
def resend(*, delivery: Delivery) -> Delivery:
    """Send it again, from the first try on. One that is being sent just now is left alone; Refused while its webhook is paused."""
    webhook = _locked(delivery.webhook)
    _check_listens(webhook)
    _at_rest(Delivery.objects.filter(pk=delivery.pk)).update(
        state=Delivery.State.WAITING, attempts=0, next_at=timezone.now()
    )
    _wake(webhook.project)
    return Delivery.objects.select_related("event", "webhook").get(pk=delivery.pk)


def _at_rest(deliveries: QuerySet[Delivery]) -> QuerySet[Delivery]:
    """Those that no worker is sending just now: a try that has begun has no length yet."""
    return deliveries.exclude(state=Delivery.State.WAITING, attempts__gt=0, seconds=None, next_at__gt=timezone.now())


def _check_listens(webhook: Webhook) -> None:
    if webhook.paused_at is not None:
        raise Refused("paused", _("The webhook is paused. Resume it first."))


def _check(project: Project, *, url: str | None, events: Sequence[str] | None, but: Webhook | None = None) -> None:
    errors: dict[str, Any] = {}
    if url is not None:
        try:
            read_address(url)
        except ValidationError as error:
            errors["url"] = error.messages
        others = standing(project).filter(url=url).exclude(pk=but.pk if but else 0)
        if not errors and others.exists():
            errors["url"] = _("There is a webhook with this address already: tick more events there.")
    if events is not None and not events:
        errors["events"] = _("Choose at least one event.")
    if events is not None and (unknown := sorted(set(events) - set(Event.values))):
        errors["events"] = _("There is no event “%(name)s”.") % {"name": unknown[0]}
    if errors:
        raise ValidationError(errors)


def host_of(webhook: Webhook) -> str:
    """What the log and a mail call it: the rest of an address is often a secret of the receiver's."""
    return urlsplit(webhook.url).hostname or ""


def _record(user: User | None, act: str, webhook: Webhook, **details: object) -> None:
    target = f"webhook:{webhook.pk}"
    record(user, f"webhook.{act}", target, project=webhook.project, host=host_of(webhook), **details)


def _lock(project: Project) -> Project:
    # Foreign keys to the project need only its key, so nobody who ranks waits.
    return Project.objects.select_for_update(no_key=True).get(pk=project.pk)


def _locked(webhook: Webhook) -> Webhook:
    """The webhook as it is now, its project locked against all other changes of webhooks."""
    project = _lock(webhook.project)
    found: Webhook | None = standing(project).filter(pk=webhook.pk).first()
    if found is None:
        raise Refused("removed", _("The webhook was removed meanwhile."), 404)
    found.project = project
    return found


def _keep_announced(project: Project) -> None:
    listening = standing(project).filter(paused_at=None).values_list("events", flat=True)
    wanted = sorted({event for events in listening for event in events})
    Project.objects.filter(pk=project.pk).update(announced=wanted)
