"""Runs and checkpoints by the API: what the page does, with the same checks."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client

from annotate.models import ApiToken
from tests.annotate.test_tokens import bearer, get, make_token
from training.models import Promotion, Run


def post(path: str, token: str, body: object, key: str = ""):
    headers = bearer(token) | ({"Idempotency-Key": key} if key else {})
    return Client().post(path, body, content_type="application/json", headers=headers)


@pytest.fixture
def token(alice, project):
    return make_token(alice, "read", "train")


def test_a_run_is_started_followed_and_stopped(alice, project, base, dataset, token):
    runs = f"/api/v1/projects/{project.slug}/runs"
    answer = post(
        runs, token, {"method": "dpo", "inputs": {"policy": "base"}, "dataset": 1, "arguments": {"beta": 0.3}}
    )
    assert answer.status_code == 201, answer.content
    made = answer.json()
    run = Run.objects.get()
    assert (made["id"], made["state"], made["arguments"]["beta"]) == (run.pk, "queued", 0.3)
    assert (made["inputs"], made["dataset"], made["created_by"]) == ({"policy": "base"}, 1, alice.username)
    assert get(f"{runs}/{run.pk}", token).json() == made
    assert get(f"{runs}?method=dpo&state=queued", token).json() == {"items": [made], "next": None}
    assert get(f"{runs}?method=sft", token).json()["items"] == []
    assert get(f"{runs}?state=asleep", token).json()["errors"].keys() == {"state"}
    assert get(f"{runs}/{run.pk}/metrics", token).json() == {"names": [], "rows": [], "next": None}
    assert post(f"{runs}/{run.pk}/retry", token, {}).status_code == 409
    assert post(f"{runs}/{run.pk}/cancel", token, {}).json()["state"] == "cancelled"
    again = post(f"{runs}/{run.pk}/retry", token, {})
    assert (again.status_code, again.json()["retry_of"]) == (201, run.pk)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"method": "magic"}, "method"),
        ({"arguments": {"beta": -1}}, "beta"),
        ({"arguments": {"speed": 1}}, "speed"),
        ({"dataset": 9}, "dataset"),
        ({"dataset": "1"}, "dataset"),
        ({"dataset": None}, "dataset"),
        ({"inputs": {"policy": "nobody"}}, "inputs.policy"),
        ({"inputs": {"critic": "base"}}, "critic"),
        ({"note": "x" * 300}, "note"),
        ({"arguments": [1]}, "arguments"),
    ],
)
def test_what_is_wrong_is_named(project, base, dataset, token, change, field):
    body = {"method": "dpo", "inputs": {"policy": "base"}, "dataset": 1} | change
    answer = post(f"/api/v1/projects/{project.slug}/runs", token, body)
    assert answer.status_code == 422
    assert any(name == field or name.endswith(f".{field}") for name in answer.json()["errors"]), answer.json()
    assert not Run.objects.exists()


@pytest.mark.parametrize("letter", ["\0", "\ud800"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("note", "a{}"),
        ("method", "{}"),
        ("inputs", {"policy": "{}"}),
        ("arguments", {"reward_language": "{}"}),
        ("arguments", {"{}": [{"deep": "{}"}]}),
    ],
)
def test_a_text_that_cannot_be_stored_is_refused(project, base, token, field, value, letter):
    body = json.dumps({"method": "generate", "inputs": {"policy": "base"}} | {field: value})
    answer = Client().post(
        f"/api/v1/projects/{project.slug}/runs",
        body.replace("{}", json.dumps(letter)[1:-1]),
        content_type="application/json",
        headers=bearer(token),
    )
    assert answer.status_code == 422, answer.content
    assert any(name.split(".")[-1] == field for name in answer.json()["errors"]), answer.json()
    assert not Run.objects.exists()


def test_what_is_no_json_is_refused(project, token):
    answer = Client().post(
        f"/api/v1/projects/{project.slug}/runs", b"{", content_type="application/json", headers=bearer(token)
    )
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")


def test_only_admins_with_the_permission_start_runs(alice, bob, rita, project, base, dataset):
    runs, body = f"/api/v1/projects/{project.slug}/runs", {"method": "generate", "inputs": {"policy": "base"}}
    assert post(runs, make_token(alice, "read"), body).status_code == 403
    assert post(runs, make_token(rita, "read", "train"), body).status_code == 403
    assert get(runs, make_token(rita)).status_code == 200
    assert get(runs, make_token(bob)).status_code == 403
    assert not Run.objects.exists()
    assert post(runs, make_token(alice, "train"), body).status_code == 201


def test_the_same_request_again_makes_nothing_new(project, base, dataset, token):
    runs, body = f"/api/v1/projects/{project.slug}/runs", {"method": "generate", "inputs": {"policy": "base"}}
    first, second = (post(runs, token, body, key="k1") for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert post(runs, token, {**body, "note": "other"}, key="k1").status_code == 422
    assert post(runs, token, body, key="x" * 101).status_code == 422
    assert Run.objects.count() == 1
    refused = post(runs, token, {**body, "method": "magic"}, key="k2")
    assert refused.status_code == 422
    assert post(runs, token, body, key="k2").status_code == 201, "a refused request does not use its key up"


@pytest.mark.django_db(transaction=True)
def test_the_same_request_eight_times_at_once_is_done_once(alice, project, base, dataset):
    token = make_token(alice, "train")
    runs, body = f"/api/v1/projects/{project.slug}/runs", {"method": "generate", "inputs": {"policy": "base"}}

    def send(_number):
        try:
            return post(runs, token, body, key="once").json()["id"]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(8)))) == 1
    assert Run.objects.count() == 1
    assert ApiToken.objects.get().requests >= 1


def test_checkpoints_are_listed_and_promoted(project, base, token):
    checkpoints = f"/api/v1/projects/{project.slug}/checkpoints"
    listed = get(checkpoints, token).json()["items"]
    assert [(one["name"], one["kind"], one["is_promoted"]) for one in listed] == [("base", "causal_lm", False)]
    promoted = post(f"{checkpoints}/{base.pk}/promote", token, {"note": "first"})
    assert promoted.json()["is_promoted"] is True
    assert Promotion.objects.get().note == "first"
    again = post(f"{checkpoints}/{base.pk}/promote", token, {})
    assert (again.status_code, again.json()["detail"]) == (422, "base is the promoted checkpoint already.")
    assert post(f"{checkpoints}/999/promote", token, {}).status_code == 404


def test_methods_say_what_they_take(token):
    methods = {one["name"]: one for one in get("/api/v1/methods", token).json()}
    beta = next(item for item in methods["dpo"]["arguments"] if item["name"] == "beta")
    assert (beta["type"], beta["default"], beta["minimum"]) == ("float", 0.1, 0.001)
    assert methods["dpo"]["inputs"][0]["role"] == "policy"
