"""Webhooks as admins and scripts keep them: pages and the REST API."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from annotate import tasks
from annotate.models import Delivery, Membership, Project, Webhook
from annotate.services.tokens import create_token
from annotate.services.webhooks import Event, add_webhook, announce, send_test
from tests.annotate.receiver import HOST, receiving
from tests.conftest import signed_in

pytestmark = pytest.mark.django_db
URL = "https://example.org/hook"
LIST = "/projects/tides/webhooks"
API = "/api/v1/projects/tides/webhooks"


def add(user, **changes):
    fields = {"url": URL, "events": ["run.ended", "run.started"], "note": "for the bot", **changes}
    return signed_in(user).post(LIST, fields)


def page(user, path=LIST, **options):
    answer = signed_in(user).get(path, **options)
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.fixture
def webhook(project, alice):
    return add_webhook(project=project, user=alice, url=URL, events=["run.ended"])[0]


@pytest.fixture
def own(webhook):
    return f"{LIST}/{webhook.pk}"


def test_an_added_webhook_shows_its_secret_once(project, alice):
    assert "Nobody is told anything yet." in page(alice)
    answer = add(alice)
    secret, webhook = answer.context["secret"], Webhook.objects.get()
    assert secret in answer.content.decode()
    assert (webhook.url, webhook.events, webhook.note, webhook.created_by) == (
        URL,
        ["run.ended", "run.started"],
        "for the bot",
        alice,
    )
    for path in (LIST, f"{LIST}/{webhook.pk}"):
        assert URL in page(alice, path)
        assert secret not in page(alice, path)


def test_a_double_click_makes_one_webhook_with_one_secret(project, alice):
    assert add(alice).context["secret"] == add(alice).context["secret"]
    assert Webhook.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": ""}, "url"),
        ({"url": "http://example.org/"}, "url"),
        ({"url": "https://192.168.0.1/"}, "url"),
        ({"url": "https://example.org/\0"}, "url"),
        ({"events": []}, "events"),
        ({"events": ["everything"]}, "events"),
        ({"note": "x" * 121}, "note"),
    ],
)
def test_a_wrong_field_is_named_and_changes_nothing(project, alice, webhook, own, changes, field):
    for path in (LIST, own):
        fields = {"url": URL + "/2", "events": ["run.started"], "note": "", **changes}
        answer = signed_in(alice).post(path, fields)
        assert answer.status_code == 422
        assert answer.context["form"].errors.keys() == {field}
    webhook.refresh_from_db()
    assert (webhook.url, webhook.events) == (URL, ["run.ended"])
    assert Webhook.objects.count() == 1


def test_all_that_is_wrong_is_said_at_once(project, alice):
    answer = add(alice, url="http://example.org", events=[])
    assert answer.context["form"].errors.keys() == {"url", "events"}


def test_it_is_changed_paused_resumed_and_removed(project, alice, webhook, own):
    browser = signed_in(alice)
    browser.post(own, {"url": URL + "/2", "events": ["import.ended"], "note": "other"})
    webhook.refresh_from_db()
    assert (webhook.url, webhook.events, webhook.note) == (URL + "/2", ["import.ended"], "other")
    for action, paused in (("pause", True), ("pause", True), ("resume", False), ("dance", False)):
        assert browser.post(f"{own}/act", {"action": action}).status_code == 302
        webhook.refresh_from_db()
        assert bool(webhook.paused_at) is paused
        assert bool(Project.objects.get().announced) is not paused
    assert browser.post(f"{own}/act", {"action": "remove"}).headers["Location"] == LIST
    for again in (browser.get(own), browser.post(own), browser.post(f"{own}/act", {"action": "remove"})):
        assert again.status_code == 404


def test_a_new_secret_is_shown_once(project, alice, webhook, own):
    answer = signed_in(alice).post(f"{own}/act", {"action": "rotate"})
    assert answer.context["secret"] in answer.content.decode()
    assert "24 hours" in answer.content.decode()
    assert answer.context["secret"] not in page(alice, own)


def test_the_log_says_what_became_of_each_message(project, alice, settings):
    settings.WEBHOOK_PRIVATE_HOSTS = frozenset({HOST})
    with receiving() as receiver:
        receiver.statuses, receiver.answer = [500], b"<b>oops</b>"
        webhook, _ = add_webhook(project=project, user=alice, url=receiver.url, events=["run.ended"])
        own = f"{LIST}/{webhook.pk}"
        assert "Nothing was sent yet." in page(alice, own)
        signed_in(alice).post(f"{own}/act", {"action": "test"})
        assert "Not tried yet" in page(alice, own)
        tasks.deliver_events()
        log = page(alice, own)
        for words in ("webhook.test", "1 try", "status 500", "next try", "&lt;b&gt;oops", 'hx-trigger="every 2s"'):
            assert words in log
        fragment = page(alice, own, headers={"HX-Request": "true"})
        assert "status 500" in fragment
        assert "<h1" not in fragment
        assert "Failing" in page(alice)
        signed_in(alice).post(f"/projects/tides/deliveries/{Delivery.objects.get().pk}/resend")
        tasks.deliver_events()
        log = page(alice, own)
        assert "Delivered" in log
        assert "hx-trigger" not in log
        assert "Failing" not in page(alice)


def test_the_log_goes_on_page_by_page(project, alice, webhook, own):
    for number in range(30):
        announce(Project.objects.get(), Event.RUN_ENDED, run=number)
    first = signed_in(alice).get(own).context
    older = signed_in(alice).get(own, {"before": first["older"]}).context
    seen = [one["row"].event.payload["run"] for one in first["deliveries"] + older["deliveries"]]
    assert seen == list(reversed(range(30)))
    assert older["older"] is None
    for wrong in ("x", "-1", "9" * 30, "\0"):
        assert signed_in(alice).get(own, {"before": wrong}).status_code == 404


def test_admins_are_told_of_a_webhook_that_was_paused_for_failing(project, alice, bob, webhook):
    Webhook.objects.update(paused_at=timezone.now())
    assert "Look at a webhook" not in page(alice, "/projects/tides/")
    Webhook.objects.update(failing_since=timezone.now())
    assert "Look at a webhook" in page(alice, "/projects/tides/")
    assert "Look at a webhook" not in page(bob, "/projects/tides/")


def test_nobody_reaches_the_webhooks_of_another_project(project, alice, charlie, webhook):
    other = Project.objects.create(slug="winds", name="Winds", created_by=charlie)
    Membership.objects.create(project=other, user=charlie, role="admin")
    delivery = send_test(webhook=webhook)
    browser = signed_in(charlie)
    assert browser.get(f"/projects/winds/webhooks/{webhook.pk}").status_code == 404
    assert browser.post(f"/projects/winds/webhooks/{webhook.pk}/act", {"action": "rotate"}).status_code == 404
    assert browser.post(f"/projects/winds/deliveries/{delivery.pk}/resend").status_code == 404
    script = Script(charlie)
    assert script("get", f"/api/v1/projects/winds/webhooks/{webhook.pk}/deliveries").status_code == 404
    assert script("post", f"/api/v1/projects/winds/deliveries/{delivery.pk}/resend").status_code == 404


class Script:
    def __init__(self, user, *scopes):
        self.token = create_token(user=user, name="n", scopes=scopes or ("read", "write"), days=1)[1]

    def __call__(self, method, path, body=None, **headers):
        options: dict[str, Any] = {"headers": {"Authorization": f"Bearer {self.token}", **headers}}
        if body is not None:
            options |= {"data": body, "content_type": "application/json"}
        return getattr(Client(), method)(path, **options)


def test_a_script_keeps_webhooks(project, alice):
    script, body = Script(alice), {"url": URL, "events": ["run.ended"], "note": "n"}
    made = script("post", API, body)
    assert made.status_code == 201
    assert made.json()["secret"].startswith("whsec_")
    assert script("post", API, body).json() == made.json(), "the answer was lost, and is asked for again"
    (listed,) = script("get", API).json()["items"]
    assert listed == {name: value for name, value in made.json().items() if name != "secret"}
    one = f"{API}/{listed['id']}"
    changed = script("patch", one, {"events": ["import.ended"], "paused": True}).json()
    assert (changed["events"], changed["note"], bool(changed["paused_at"])) == (["import.ended"], "n", True)
    assert script("post", f"{one}/test").status_code == 409
    assert script("patch", one, {"paused": False}).json()["paused_at"] is None
    assert script("post", f"{one}/secret").json()["secret"] != made.json()["secret"]
    sent = script("post", f"{one}/test", **{"Idempotency-Key": "k"})
    assert sent.status_code == 201
    assert script("post", f"{one}/test", **{"Idempotency-Key": "k"}).json() == sent.json()
    (delivery,) = script("get", f"{one}/deliveries").json()["items"]
    assert (delivery["kind"], delivery["state"], delivery["payload"]["webhook"]) == (
        "webhook.test",
        "waiting",
        listed["id"],
    )
    again = script("post", f"/api/v1/projects/tides/deliveries/{delivery['id']}/resend")
    assert (again.status_code, again.json()["attempts"]) == (200, 0)
    assert script("delete", one).status_code == 204
    assert script("delete", one).status_code == 404
    assert script("get", API).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "https://127.0.0.1/", "events": ["run.ended"]}, "url"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": ["everything"]}, "events.0"),
        ({"url": URL, "events": ["run.ended"], "note": "\0"}, "note"),
        ({"events": ["run.ended"]}, "url"),
    ],
)
def test_a_script_is_told_which_field_is_wrong(project, alice, body, field):
    answer = Script(alice)("post", API, body)
    assert answer.status_code == 422
    assert [name.removeprefix("body.") for name in answer.json()["errors"]] == [field]
    assert not Webhook.objects.exists()


def test_a_script_needs_the_role_and_the_permission(project, alice, rita, webhook):
    body = {"url": URL + "/2", "events": ["run.ended"]}
    for script in (Script(rita), Script(alice, "read"), Script(alice, "train")):
        assert script("post", API, body).status_code == 403
        assert script("post", f"{API}/{webhook.pk}/secret").status_code == 403
        assert script("delete", f"{API}/{webhook.pk}").status_code == 403
    assert Script(rita)("get", API).status_code == 403
