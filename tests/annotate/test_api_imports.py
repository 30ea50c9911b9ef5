"""Rows and files come in by the API."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from annotate.models import Completion, Import, Prompt, Ranking, RankingTask
from annotate.tasks import run_import
from tests.annotate.test_imports import lines, row
from tests.annotate.test_tokens import bearer, get, make_token
from tests.training.test_api import post

PAIR = {"prompt": "Why is the sea salty?", "chosen": "Rivers.", "rejected": "Rain."}


@pytest.fixture
def data(project) -> str:
    return f"/api/v1/projects/{project.slug}"


@pytest.fixture
def token(alice, project) -> str:
    return make_token(alice, "read", "write")


def send(data: str, token: str, content: bytes, name: str = "rows.jsonl", key: str = "", **fields: str):
    headers = bearer(token) | ({"Idempotency-Key": key} if key else {})
    return Client().post(f"{data}/imports", {"file": SimpleUploadedFile(name, content), **fields}, headers=headers)


def test_rows_are_added_at_once_and_each_refused_one_is_named(data, token):
    nasty = {
        "prompt": "tab\t new\nline \\N \\. ümläut\r",
        "completions": ["\\", "a\tb\nc", '"'],
        "tags": ['a"b', "c,d", "{e}", "\\f"],
    }
    answer = post(f"{data}/rows", token, {"rows": [PAIR, {"prompt": " "}, nasty, {"prompt": "a\0b"}]})
    assert answer.status_code == 201, answer.content
    assert answer.json() == {
        "prompts": 2,
        "completions": 5,
        "tasks": 2,
        "rankings": 1,
        "duplicates": 0,
        "refused": [
            {"row": 1, "field": "prompt", "reason": "Is empty."},
            {"row": 3, "field": "prompt", "reason": "Contains a NUL character."},
        ],
    }
    assert RankingTask.objects.filter(state="closed").count() == 1
    prompt = Prompt.objects.get(messages__0__content=nasty["prompt"])
    assert prompt.tags == nasty["tags"]
    assert set(prompt.completions.values_list("text", flat=True)) == set(nasty["completions"])
    again = post(f"{data}/rows", token, {"rows": [PAIR], "preferences": "ask"})
    assert again.json()["duplicates"] == 1
    assert Ranking.objects.count() == 1


@pytest.mark.parametrize(
    "body", [{"rows": []}, {"rows": [{}] * 1001}, {"rows": ["Why?"]}, {"rows": [PAIR], "preferences": "lose"}, {}]
)
def test_a_request_that_is_no_rows_is_refused_whole(data, token, body):
    assert post(f"{data}/rows", token, body).status_code == 422
    assert not Prompt.objects.exists()


def test_rows_with_an_idempotency_key_are_added_once(data, token):
    first = post(f"{data}/rows", token, {"rows": [PAIR]}, key="one")
    second = post(f"{data}/rows", token, {"rows": [PAIR]}, key="one")
    assert first.json() == second.json()
    assert second.json()["prompts"] == 1


def test_a_file_is_counted_then_imported(data, token):
    answer = send(data, token, lines(PAIR, row(1), {"prompt": ""}), dry_run="true")
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert (made["state"], made["is_dry_run"], made["forecast"]) == ("queued", True, None)
    run_import(made["id"])
    counted = get(f"{data}/imports/{made['id']}", token).json()
    assert (counted["state"], counted["forecast"]["prompts_added"], counted["prompts_added"]) == ("draft", 2, 0)
    started = post(f"{data}/imports/{made['id']}/start", token, {"mapping": {"preferences": "ignore"}})
    assert (started.status_code, started.json()["state"]) == (200, "queued")
    assert post(f"{data}/imports/{made['id']}/start", token, {}).status_code == 409
    run_import(made["id"])
    done = get(f"{data}/imports/{made['id']}", token).json()
    assert (done["state"], done["tasks_added"], done["rankings_added"], done["rows_refused"]) == ("succeeded", 2, 0, 1)
    assert done["progress"] == 1
    refused = get(f"{data}/imports/{made['id']}/refused", token)
    assert refused.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(one)["line"] for one in refused.getvalue().splitlines()] == [3]
    assert [one["id"] for one in get(f"{data}/imports", token).json()["items"]] == [made["id"]]


def test_a_file_with_a_mapping_waits_as_a_draft_and_is_cancelled_once_started(data, token):
    content = lines({"question": "Why?", "a": {"text": "So."}, "b": {"text": "No."}})
    mapping = json.dumps({"prompt": "question", "completions": ["a.text", "b.text"]})
    made = send(data, token, content, mapping=mapping, start="false").json()
    assert (made["state"], made["mapping"]["prompt"]) == ("draft", "question")
    assert post(f"{data}/imports/{made['id']}/start", token, {}).json()["state"] == "queued"
    assert post(f"{data}/imports/{made['id']}/cancel", token, {}).json()["state"] == "cancelled"
    assert post(f"{data}/imports/{made['id']}/cancel", token, {}).json()["state"] == "cancelled"
    run_import(made["id"])
    assert not Completion.objects.exists()


@pytest.mark.parametrize(
    ("name", "mapping", "field"),
    [
        ("rows.xlsx", "", "file"),
        ("rows.jsonl", "{", "mapping"),
        ("rows.jsonl", '{"colour": "red"}', "mapping"),
        ("rows.jsonl", '{"shape": "nonsense"}', "shape"),
        ("rows.jsonl", '{"chosen": "a"}', "rejected"),
    ],
)
def test_a_file_or_mapping_of_no_use_is_named(data, token, name, mapping, field):
    answer = send(data, token, lines(row(1)), name=name, mapping=mapping)
    assert answer.status_code == 422
    assert field in answer.json()["errors"]
    assert not Import.objects.exists()


def test_a_file_beyond_the_limit_is_refused(data, token, settings):
    settings.UPLOAD_LIMIT_BYTES = 10
    assert send(data, token, lines(row(1))).status_code in (413, 422)


def test_a_file_with_an_idempotency_key_is_taken_once(data, token):
    first = send(data, token, lines(row(1)), key="one")
    second = send(data, token, lines(row(1)), key="one")
    assert first.json() == second.json()
    assert Import.objects.count() == 1
    assert send(data, token, lines(row(2)), key="one").status_code == 422


def test_only_admins_with_the_permission_bring_data_in(data, alice, bob, rita, charlie, project):
    for user, status in ((bob, 403), (rita, 403), (charlie, 404)):
        strange = make_token(user, "read", "write")
        assert post(f"{data}/rows", strange, {"rows": [PAIR]}).status_code == status
        assert send(data, strange, lines(PAIR)).status_code == status
        assert get(f"{data}/imports", strange).status_code == status
    reader = make_token(alice, "read")
    assert post(f"{data}/rows", reader, {"rows": [PAIR]}).status_code == 403
    assert send(data, reader, lines(PAIR)).status_code == 403
    assert not Prompt.objects.exists()
