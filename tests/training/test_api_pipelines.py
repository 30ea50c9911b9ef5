"""Pipelines by the API."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from tests.annotate.test_tokens import get, make_token
from tests.training.test_api import post
from training.models import Pipeline, PipelineRun, Run

DEFINITION = """
[stages.frozen]
method = "dataset"

[stages.tuned]
method = "dpo"
policy = "checkpoint:base"
dataset = "frozen"
"""


@pytest.fixture
def token(alice, project):
    return make_token(alice, "read", "train")


@pytest.fixture
def pipelines(project):
    return f"/api/v1/projects/{project.slug}/pipelines"


def test_a_pipeline_is_kept_started_followed_and_stopped(alice, project, base, dataset, token, pipelines):
    made = post(pipelines, token, {"name": "Tune", "definition": DEFINITION})
    assert made.status_code == 201, made.content
    assert get(pipelines, token).json()["items"] == [made.json()]

    started = post(f"{pipelines}/{made.json()['id']}/start", token, None)
    assert started.status_code == 201, started.content
    run = started.json()
    assert (run["pipeline"], run["state"], run["created_by"], run["started_because"]) == (
        "Tune", "running", alice.username, "",
    )  # fmt: skip
    assert [(stage["name"], stage["state"], bool(stage["dataset"])) for stage in run["stages"]] == [
        ("frozen", "running", True),
        ("tuned", "waiting", False),
    ]
    runs = pipelines.replace("/pipelines", "/pipeline-runs")
    assert get(f"{runs}/{run['id']}", token).json() == run
    assert get(runs, token).json()["items"] == [run]

    busy = post(f"{pipelines}/{made.json()['id']}/start", token, None)
    assert (busy.status_code, busy.json()["title"]) == (409, "In conflict with what is there")
    assert post(f"{runs}/{run['id']}/cancel", token, None).json()["state"] in ("running", "cancelled")
    assert not Run.objects.exists()
    assert PipelineRun.objects.get().cancel_requested


def test_what_is_wrong_is_named_by_stage_and_field(project, base, token, pipelines):
    wrong = post(pipelines, token, {"name": "Tune", "definition": DEFINITION.replace("dpo", "magic")})
    assert wrong.status_code == 422
    assert any(name.startswith("tuned") for name in wrong.json()["errors"]), wrong.json()
    nameless = post(pipelines, token, {"name": "", "definition": DEFINITION})
    assert [name.rpartition(".")[2] for name in nameless.json()["errors"]] == ["name"]
    kept = post(
        pipelines, token, {"name": "Tune", "definition": DEFINITION.replace("checkpoint:base", "checkpoint:gone")}
    )
    started = post(f"{pipelines}/{kept.json()['id']}/start", token, None)
    assert started.json()["errors"].keys() == {"tuned.policy"}
    assert not PipelineRun.objects.exists()


def test_researchers_look_and_do_not_start(rita, project, base, token, pipelines):
    made = post(pipelines, token, {"name": "Tune", "definition": DEFINITION}).json()
    theirs = make_token(rita, "read", "train")
    assert get(pipelines, theirs).json()["items"] == [made]
    assert post(f"{pipelines}/{made['id']}/start", theirs, None).status_code == 403
    assert post(pipelines, theirs, {"name": "B", "definition": DEFINITION}).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_of_many_pipelines_with_one_name_at_once_the_first_is_kept(alice, project, base):
    token = make_token(alice, "read", "train")
    pipelines = f"/api/v1/projects/{project.slug}/pipelines"

    def send(_number):
        try:
            return post(pipelines, token, {"name": "Tune", "definition": DEFINITION}).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(send, range(8))) == [201, *[422] * 7]
    assert Pipeline.objects.count() == 1
