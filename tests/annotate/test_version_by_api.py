"""A dataset version asked for by the API."""

import pytest

from annotate.tasks import build_dataset_version
from tests.annotate.rows import build, rank
from tests.annotate.test_tokens import make_token
from tests.conftest import make_task
from tests.training.test_api import post


@pytest.fixture
def address(project) -> str:
    return f"/api/v1/projects/{project.slug}/datasets"


@pytest.fixture
def token(rita) -> str:
    return make_token(rita, "read", "write")


def test_a_version_is_built_with_what_was_asked_for(project, bob, rita, address, token):
    rank(make_task(project, "Why is the sky blue above the sea?", ["x", "y"]), bob, [1, 2])
    build(project, rita)
    asked = {
        "note": "By a script",
        "tag": "latest",
        "parent": 1,
        "test_fraction": 0.2,
        "stratify_by": "source",
        "filters": {"languages": ["en"], "min_length": 1, "since": "2026-01-01T00:00:00Z"},
    }
    answer = post(address, token, asked)
    assert answer.status_code == 201, answer.content
    told = answer.json()
    assert (told["number"], told["state"], told["tag"], told["parent"]) == (2, "queued", "latest", 1)
    version = project.dataset_versions.get(number=2)
    assert (version.filters["languages"], version.filters["since"]) == (["en"], "2026-01-01T00:00:00+00:00")
    assert (version.created_by, version.stratify_by, version.test_fraction) == (rita, "source", 0.2)
    build_dataset_version(version.pk)
    version.refresh_from_db()
    assert (version.state, version.error) == ("succeeded", "")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"test_fraction": 0.6}, "test_fraction"),
        ({"parent": 7}, "no such version"),
        ({"tag": "a b"}, "tag"),
        ({"filters": {"colour": "red"}}, "filters.colour"),
        ({"filters": {"since": "2026-01-01T00:00:00"}}, "filters.since"),
        ({"as_of": "0001-01-01T00:00:00+14:00"}, "from 1970"),
        ({"as_of": "9999-12-31T23:59:59-14:00"}, "from 1970"),
        ({"as_of": "2999-01-01T00:00:00Z"}, "until now"),
        ({"filters": {"until": "9999-12-31T23:59:59-14:00"}}, "filters.until"),
        ({"filters": {"languages": ["English"]}}, "ISO codes"),
        ({"filters": {"held_out": "version:9"}}, "v9 is none"),
        ({"filters": {"decisions": "consensus", "ideal_on_top": True}}, "no consensus"),
    ],
)
def test_what_cannot_be_built_is_refused_and_says_why(project, address, token, body, reason):
    answer = post(address, token, body)
    assert answer.status_code == 422, answer.content
    assert reason in answer.content.decode()
    assert not project.dataset_versions.exists()


def test_whoever_may_build_none_any_more_is_not_given_the_answer_of_before(project, rita, address, token):
    assert [post(address, token, {}, "once").status_code for _again in range(2)] == [201, 201]
    role = project.memberships.filter(user=rita)
    role.update(role="annotator")
    assert post(address, token, {}, "once").status_code == 403
    role.delete()
    assert post(address, token, {}, "once").status_code == 404


def test_annotators_and_readers_build_none(project, bob, rita, address):
    assert post(address, make_token(bob, "read", "write"), {}).status_code == 403
    assert post(address, make_token(rita), {}).status_code == 403
