"""Who is told, and what the outbox holds."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from annotate.models import AuditEvent, Delivery, OutboxEvent, Project, Webhook
from annotate.services.assignments import Refused
from annotate.services.webhooks import (
    Event,
    add_webhook,
    announce,
    change_webhook,
    pause_webhook,
    remove_webhook,
    resume_webhook,
)
from tests.annotate.ranking_page import held, opened, submit
from tests.annotate.webhooks import EVERYTHING, listen, receiver, submitted, told
from tests.conftest import make_task

__all__ = ["receiver"]

pytestmark = pytest.mark.django_db


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
