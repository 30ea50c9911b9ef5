"""Dataset versions pushed to a hub: huggingface_hub really pushes, to a small hub of ours."""

import io
import logging
import threading
import time
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from annotate import jobs
from annotate.models import AuditEvent, DatasetVersion, Publication
from annotate.services.assignments import Refused
from annotate.services.publications import cancel_publication, start_publication
from annotate.services.tokens import create_token
from annotate.tasks import publish_dataset, reap_jobs
from tests.annotate.hub_server import Hub, serve_hub
from tests.annotate.rows import build, rank
from tests.conftest import make_task, signed_in

TOKEN = "hf_a_token_that_nobody_may_see"


@pytest.fixture
def version(project, alice, bob) -> DatasetVersion:
    for number in range(12):
        rank(make_task(project, f"Question {number}?", ["Yes", "No", "Maybe"]), bob, [1, 2, 3])
    return build(project, alice, test_fraction=0.4)


@pytest.fixture
def hub(settings, monkeypatch):
    # Large files go the way of git LFS; the other one, xet, speaks a protocol of its own to servers that only the hub has.
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with serve_hub(TOKEN) as served:
        settings.HF_TOKEN, settings.HF_ENDPOINT = TOKEN, served.address
        yield served


def push(version: DatasetVersion, user, **options) -> Publication:
    publication = start_publication(
        version=version, user=user, **{"repository": "lab/tides", "shape": "preference", **options}
    )
    publish_dataset(publication.pk)
    publication.refresh_from_db()
    return publication


def test_a_version_is_pushed_whole_in_one_private_commit(version, alice, hub: Hub):
    publication = push(version, alice, license="cc-by-4.0")
    assert (publication.state, publication.error) == ("succeeded", "")
    assert publication.url == f"{hub.address}/datasets/lab/tides"
    assert len(publication.revision) == 40
    assert hub.private == {"lab/tides": True}
    files = hub.repositories["lab/tides"]
    assert set(files) == {"README.md", "data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"}
    assert 'license: "cc-by-4.0"' in files["README.md"].decode()
    rows = pq.read_table(io.BytesIO(files["data/train-00000-of-00001.parquet"])).num_rows
    assert rows == version.counts["train_pairs"]
    assert [one["summary"] for one in hub.commits] == [f"Tides, version 1 ({version.content_hash[:12]})"]
    event = AuditEvent.objects.get(verb="dataset.published")
    assert (event.actor, event.target) == (alice, "dataset:1")


def test_a_later_push_replaces_the_files_of_the_one_before(version, alice, hub: Hub):
    hub.repositories["lab/tides"] = {
        "README.md": b"old",
        "data/train-00000-of-00002.parquet": b"old",
        "data/train-00001-of-00002.parquet": b"old",
        "notes.txt": b"by hand",
    }
    assert push(version, alice, is_private=False).state == "succeeded"
    assert set(hub.repositories["lab/tides"]) == {
        "README.md",
        "notes.txt",
        "data/train-00000-of-00001.parquet",
        "data/test-00000-of-00001.parquet",
    }


def test_what_shall_be_private_is_not_pushed_where_everybody_may_see_it(version, alice, hub: Hub):
    hub.repositories["lab/tides"], hub.private["lab/tides"] = {}, False
    publication = push(version, alice)
    assert (publication.state, "everybody may see it" in publication.error) == ("failed", True)
    assert hub.repositories["lab/tides"] == {}
    assert push(version, alice, is_private=False).state == "succeeded"


def test_on_its_way_it_is_asked_for_again_only_alike(version, alice, hub: Hub):
    asked = {"version": version, "user": alice, "repository": "lab/tides", "shape": "preference"}
    first = start_publication(**asked, is_private=False)
    assert start_publication(**asked, is_private=False) == first
    for otherwise in ({"is_private": True}, {"is_private": False, "license": "mit"}):
        with pytest.raises(Refused, match="another visibility or licence"):
            start_publication(**asked, **otherwise)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "does not accept the token"), (403, "may not write there"), (413, "no room left"), (400, "refused it")],
)
def test_a_refusal_is_said_in_plain_words_without_the_token(version, alice, hub: Hub, caplog, status, words):
    hub.refuse = (status, f"No, not with {TOKEN}")
    with caplog.at_level(logging.DEBUG):
        publication = push(version, alice)
    assert publication.state == "failed"
    assert words in publication.error
    assert TOKEN not in publication.error + caplog.text
    assert hub.asked


def test_a_hub_that_cannot_be_reached_is_said_so(version, alice, hub: Hub, settings):
    settings.HF_ENDPOINT = "http://127.0.0.1:9"
    publication = push(version, alice)
    assert (publication.state, "cannot be reached" in publication.error) == ("failed", True)


def test_a_push_is_stopped_while_it_is_on_its_way(transactional_db, version, alice, hub: Hub):
    hub.hold.clear()
    publication = start_publication(version=version, user=alice, repository="lab/tides", shape="preference")

    def cancel() -> None:
        from django.db import connection

        ends = time.monotonic() + 30
        while not hub.asked and time.monotonic() < ends:
            time.sleep(0.05)
        cancel_publication(user=alice, publication=Publication.objects.get(pk=publication.pk))
        connection.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    publish_dataset(publication.pk)
    thread.join()
    publication.refresh_from_db()
    assert publication.state == "cancelled"
    hub.hold.set()
    assert hub.commits == []


def test_twice_is_once_and_a_lost_message_is_sent_again(version, alice, hub: Hub):
    first, second = (
        start_publication(version=version, user=alice, repository="lab/tides", shape="preference") for _ in range(2)
    )
    assert first == second
    assert AuditEvent.objects.filter(verb="dataset.published").count() == 1
    Publication.objects.update(queued_at=version.as_of - timedelta(minutes=1))
    reap_jobs()
    first.refresh_from_db()
    assert first.woken_at is not None
    assert jobs.claim(Publication, first.pk)
    assert jobs.claim(Publication, first.pk) is None


def test_the_command_pushes_and_says_where_it_is(version, alice, hub: Hub, settings):
    out = io.StringIO()
    call_command("push_dataset", "tides", "1", "lab/tides", "--shape", "ranking", stdout=out)
    assert f"{hub.address}/datasets/lab/tides" in out.getvalue()
    with pytest.raises(CommandError, match="OWNER/NAME"):
        call_command("push_dataset", "tides", "1", "tides")
    settings.HF_TOKEN = ""
    with pytest.raises(CommandError, match="must set HF_TOKEN"):
        call_command("push_dataset", "tides", "1", "lab/tides")


def test_an_admin_is_asked_once_and_told_where_it_goes(version, alice, rita, hub: Hub):
    client, url = signed_in(alice), reverse("dataset_publish", args=["tides", 1])
    data = {"repository": "lab/tides", "shape": "preference", "is_private": "on", "license": ""}
    asked = client.post(url, data)
    assert asked.status_code == 200
    assert f"{hub.address}/datasets/lab/tides" in asked.content.decode()
    assert not Publication.objects.exists()
    for _ in range(2):
        assert client.post(url, {**data, "sure": "yes"}).status_code == 302
    publication = Publication.objects.get()
    assert (publication.repository, publication.is_private) == ("lab/tides", True)
    page = client.get(reverse("dataset", args=["tides", 1])).content.decode()
    assert "lab/tides" in page
    assert signed_in(rita).post(url, data).status_code == 403
    cancel = reverse("publication_cancel", args=["tides", publication.pk])
    assert signed_in(rita).post(cancel).status_code == 403
    for _ in range(2):
        assert client.post(cancel).status_code == 302
    publication.refresh_from_db()
    assert publication.state == "cancelled"


@pytest.mark.parametrize(
    ("field", "value"),
    [("repository", "tides"), ("repository", "../etc/passwd"), ("shape", "x"), ("license", "My own words")],
)
def test_a_wrong_field_is_named(version, alice, hub: Hub, field, value):
    data = {"repository": "lab/tides", "shape": "preference", "license": "", field: value}
    response = signed_in(alice).post(reverse("dataset_publish", args=["tides", 1]), {**data, "sure": "yes"})
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert not Publication.objects.exists()


def test_without_a_token_the_page_says_what_to_do(version, alice, rita, settings):
    settings.HF_TOKEN = ""
    url = reverse("dataset", args=["tides", 1])
    assert "HF_TOKEN" in signed_in(alice).get(url).content.decode()
    assert "HF_TOKEN" not in signed_in(rita).get(url).content.decode()
    data = {"repository": "lab/tides", "shape": "preference", "sure": "yes"}
    refused = signed_in(alice).post(reverse("dataset_publish", args=["tides", 1]), data)
    assert refused.status_code == 409


def test_scripts_publish_and_follow(version, alice, rita, hub: Hub, client):
    url = "/api/v1/projects/tides/datasets/1/publications"

    def bearer(user) -> dict[str, str]:
        return {"Authorization": f"Bearer {create_token(user=user, name='s', scopes=['read', 'write'], days=1)[1]}"}

    body = {"repository": "lab/tides", "shape": "unpaired"}
    headers = {**bearer(alice), "Idempotency-Key": "once"}
    made = [client.post(url, body, "application/json", headers=headers) for _ in range(2)]
    assert [one.status_code for one in made] == [201, 201]
    assert made[0].json() == made[1].json()
    assert made[0].json()["is_private"] is True
    publish_dataset(made[0].json()["id"])
    (found,) = client.get(url, headers=bearer(rita)).json()["items"]
    assert (found["state"], found["url"]) == ("succeeded", f"{hub.address}/datasets/lab/tides")
    assert client.post(url, body, "application/json", headers=bearer(rita)).status_code == 403
    wrong = client.post(url, {**body, "repository": "x"}, "application/json", headers=bearer(alice))
    assert (wrong.status_code, list(wrong.json()["errors"])) == (422, ["repository"])
