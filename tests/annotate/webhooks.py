"""Webhooks and what they were told, for the tests."""

import pytest
from django.utils import timezone

from annotate.models import Delivery, OutboxEvent
from annotate.services.webhooks import (
    Event,
    add_webhook,
)
from tests.annotate.ranking_page import held, opened, submit
from tests.annotate.receiver import HOST, receiving
from tests.conftest import make_task

State = Delivery.State
EVERYTHING = Event.values


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


@pytest.fixture
def receiver(settings):
    settings.WEBHOOK_PRIVATE_HOSTS = frozenset({HOST})
    with receiving() as receiver:
        yield receiver


def submitted(project, bob):
    make_task(project)
    opened(bob, project)
    assignment = held(bob)
    assert submit(bob, assignment, ["A"], ["B", "C"], ["D"]).status_code == 200
    return assignment
