"""How requests are put, repeated and refused; against servers that answer as proxies and restarting servers do."""

import asyncio
import json
import logging
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from annotate.models import Import
from podium_client import (
    AsyncPodium,
    BadAnswer,
    NotFound,
    NotSignedIn,
    Podium,
    PodiumError,
    Refused,
    ServerFault,
    SettingsError,
    TooManyRequests,
    Unreachable,
)
from podium_client.settings import Settings, find_settings, keep, settings_file

from .conftest import Answer

ME = json.dumps({"username": "alice", "scopes": ["read"], "is_new": {"field": 1}}).encode()
SECRET = "pod_very-secret-token"
RUN = json.dumps({"id": 4, "method": "sft", "state": "queued"}).encode()
PROJECT = json.dumps({"slug": "tides"}).encode()


def client(server, **options) -> Podium:
    return Podium(server.url, SECRET, **options)


def test_a_request_carries_the_token_and_unknown_fields_are_kept(elsewhere):
    server = elsewhere(Answer(200, ME))
    me = client(server).me()
    assert (me.username, me.scopes, me.expires_at) == ("alice", ["read"], None)
    assert me.raw["is_new"] == {"field": 1}
    ((method, path, headers, _body),) = server.asked
    assert (method, path, headers["authorization"]) == ("GET", "/api/v1/me", f"Bearer {SECRET}")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [502, 503, 504, 429, 0])
def test_what_failed_in_passing_is_asked_again(elsewhere, status):
    server = elsewhere(Answer(status, b"<html>away</html>"), Answer(status), Answer(200, ME))
    assert client(server).me().username == "alice"
    assert len(server.asked) == 3


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answers", [[Answer(503)], [Answer(0)], [Answer(429)]])
def test_a_write_with_a_key_is_repeated_with_the_same_key(elsewhere, answers):
    server = elsewhere(Answer(200, PROJECT), *answers, Answer(201, RUN))
    run = client(server).project("tides").start_run("sft", dataset=3)
    assert run.id == 4
    (_project, first, second) = server.asked
    assert first[2]["idempotency-key"] == second[2]["idempotency-key"]
    assert first[3] == second[3]
    assert json.loads(first[3])["dataset"] == 3


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("answer", "error"), [(Answer(503), ServerFault), (Answer(0), Unreachable)])
def test_a_write_that_the_server_might_do_twice_is_not_repeated(elsewhere, answer, error):
    checkpoints = {"items": [{"id": 9, "name": "dpo", "is_promoted": False}], "next": None}
    server = elsewhere(Answer(200, PROJECT), Answer(200, json.dumps(checkpoints).encode()), answer)
    checkpoint = client(server).project("tides").checkpoint("dpo")
    with pytest.raises(error):
        checkpoint.promote()
    assert len(server.asked) == 3


@pytest.mark.usefixtures("impatient")
def test_it_gives_up_after_the_retries(elsewhere):
    server = elsewhere(*[Answer(503, b'{"title": "Away", "detail": "Come back later."}')] * 3)
    with pytest.raises(ServerFault, match=r"Come back later. \(503\)"):
        client(server, retries=2).me()
    assert len(server.asked) == 3


def test_a_server_that_asks_for_a_pause_gets_it(elsewhere):
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    server = elsewhere(Answer(429, Retry_After="1"), Answer(429, Retry_After=moment), Answer(200, ME))
    started = datetime.now(UTC)
    client(server).me()
    assert timedelta(seconds=1) <= datetime.now(UTC) - started < timedelta(seconds=5)


def test_a_server_that_asks_for_an_hour_is_not_waited_for(elsewhere):
    server = elsewhere(Answer(429, Retry_After="3600"))
    with pytest.raises(TooManyRequests):
        client(server).me()


def test_a_server_that_is_not_there_is_named(elsewhere):
    server = elsewhere()
    server.close()
    with pytest.raises(Unreachable, match=server.url) as raised:
        client(server, retries=0).me()
    assert not raised.value.was_sent


def test_errors_say_which_field_is_wrong(elsewhere):
    body = {"title": "No", "detail": "Some fields are wrong.", "errors": {"note": ["too long", "not ours"]}}
    server = elsewhere(Answer(200, PROJECT), Answer(422, json.dumps(body).encode()))
    with pytest.raises(Refused) as raised:
        client(server).project("tides").start_run("sft", note="x")
    assert raised.value.status == 422
    assert raised.value.title == "No"
    assert raised.value.errors == {"note": ["too long", "not ours"]}
    assert str(raised.value) == "Some fields are wrong. (422)\n  note: too long not ours"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(401), NotSignedIn),
        (Answer(404, b"<html>"), NotFound),
        (Answer(200, b"<html>hello"), BadAnswer),
        (Answer(200, b"[1]"), BadAnswer),
        (Answer(200, b"{}"), BadAnswer),
        (Answer(200, b'{"username": "a", "expires_at": "yesterday"}'), BadAnswer),
    ],
)
def test_answers_that_are_none_of_podiums_are_told_plainly(elsewhere, answer, error):
    with pytest.raises(error):
        client(elsewhere(answer)).me()


def test_it_does_not_take_the_token_to_another_address(elsewhere):
    other = elsewhere(Answer(200, ME))
    server = elsewhere(Answer(302, Location=f"{other.url}/api/v1/me"))
    with pytest.raises(PodiumError, match="sends on to"):
        client(server).me()
    assert other.asked == []


def test_the_token_is_nowhere_to_be_read(elsewhere, caplog):
    caplog.set_level(logging.DEBUG)
    server = elsewhere(Answer(200, PROJECT), Answer(500, b"no"))
    podium = client(server)
    project = podium.project("tides")
    with pytest.raises(ServerFault) as raised:
        project.refresh()
    told = [repr(podium), repr(podium.session), repr(project), str(vars(raised.value)), caplog.text]
    told += traceback.format_exception(raised.value)
    assert not any(SECRET in text for text in told)
    assert SECRET not in repr(find_settings(server.url, SECRET))


@pytest.mark.parametrize(
    "url", ["http://podium.example", "http://10.0.0.1", "http://localhost.example", "http://[2001:db8::1]:8000"]
)
def test_it_sends_no_token_in_clear_to_other_machines(url):
    with pytest.raises(SettingsError, match="not encrypted"):
        Podium(url, SECRET)
    Podium(url, SECRET, allow_insecure=True).close()


@pytest.mark.parametrize(
    "url", ["http://localhost:8000", "http://127.0.0.2", "http://[::1]:9", "https://podium.example/"]
)
def test_it_speaks_to_this_machine_and_to_encrypted_ones(url):
    Podium(url, SECRET).close()


@pytest.mark.parametrize(
    "url", ["podium.example", "ftp://a", "https://me:pw@a", "https://a/?x=1", "https://[", "https://a:b"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(SettingsError):
        Podium(url, SECRET)


def test_the_token_that_was_kept_goes_to_its_own_address_alone(monkeypatch):
    file = keep(Settings("https://podium.example", SECRET))
    assert file == settings_file()
    assert file.stat().st_mode & 0o777 == 0o600
    assert find_settings().token == SECRET
    with pytest.raises(SettingsError, match=r"no token for https://elsewhere\.example"):
        find_settings("https://elsewhere.example")
    monkeypatch.setenv("PODIUM_URL", "https://elsewhere.example")
    with pytest.raises(SettingsError):
        find_settings()
    monkeypatch.setenv("PODIUM_TOKEN", "other")
    assert find_settings() == Settings("https://elsewhere.example", "other")
    file.write_text("{")
    with pytest.raises(SettingsError, match="cannot be read"):
        find_settings()


@pytest.mark.parametrize("token", ["two words", "a\nb", "ü"])
def test_a_token_that_could_not_be_sent_is_refused(token):
    with pytest.raises(SettingsError):
        Podium("https://podium.example", token)


def test_pages_follow_their_cursors(elsewhere):
    pages = [{"items": [{"slug": "a"}, {"slug": "b"}], "next": "c=1"}, {"items": [{"slug": "c"}], "next": None}]
    server = elsewhere(*[Answer(200, json.dumps(page).encode()) for page in pages])
    assert [project.slug for project in client(server).projects()] == ["a", "b", "c"]
    assert [path for _, path, *_ in server.asked] == [
        "/api/v1/projects?limit=200",
        "/api/v1/projects?limit=200&cursor=c%3D1",
    ]


@pytest.mark.usefixtures("impatient")
def test_whoever_awaits_gets_the_same(elsewhere):
    page = {"items": [{"slug": "a"}, {"slug": "b"}], "next": None}
    server = elsewhere(Answer(503), Answer(200, ME), Answer(200, json.dumps(page).encode()), Answer(404))

    async def story() -> None:
        async with AsyncPodium(server.url, SECRET) as podium:
            assert (await podium.me()).username == "alice"
            assert [project.slug async for project in podium.projects()] == ["a", "b"]
            with pytest.raises(NotFound):
                await podium.project("c")

    asyncio.run(story())


def test_an_address_in_a_path_cannot_leave_its_place(elsewhere):
    server = elsewhere(Answer(200, PROJECT))
    client(server).project("../../x?y#z")
    assert server.asked[0][1] == "/api/v1/projects/..%2F..%2Fx%3Fy%23z"


def test_a_file_that_is_sent_twice_with_one_key_is_imported_once(podium, project, tmp_path, monkeypatch):
    """As when the connection breaks after the server has taken the file: the repetition is the same request, byte for byte."""
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "Rain?", "completions": ["Yes", "No"]}\n')
    monkeypatch.setattr("podium_client.wire.uuid.uuid4", lambda: "the-same-each-time")
    place = podium.project("tides")
    first, second = (place.import_file(file, wait=False) for _ in range(2))
    assert first.raw == second.raw
    assert Import.objects.count() == 1
