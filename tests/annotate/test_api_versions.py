"""Dataset versions by the REST API: listed, named, read row by row, compared."""

from typing import Any

import pytest
from django.test import Client

from annotate.api.base import cursor_of
from annotate.models import DatasetVersion, Ranking
from annotate.services.datasets import Filters, create_version
from annotate.tasks import compare_versions
from tests.annotate.rows import build, rank
from tests.annotate.test_tokens import bearer, get, make_token
from tests.conftest import make_task

BASE = "/api/v1/projects/tides/datasets"


@pytest.fixture
def token(rita):
    return make_token(rita, "read", "write")


def send(method, path, token, body=None):
    return getattr(Client(), method)(path, body or {}, content_type="application/json", headers=bearer(token))


def follow(path, token):
    found: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        page = get(f"{path}limit=2&cursor={cursor}", token).json()
        found, cursor = found + page["items"], page["next"]
    return found


def test_versions_are_listed_named_and_found_by_their_tag(project, bob, rita, token):
    rank(make_task(project), bob, [1, 2, 3, 4])
    for number in (1, 2, 3):
        build(project, rita, note=f"Number {number}")
    assert [one["number"] for one in follow(f"{BASE}?", token)] == [3, 2, 1]
    assert send("patch", f"{BASE}/1", token, {"tag": "stable"}).json()["tag"] == "stable"
    moved = send("patch", f"{BASE}/2", token, {"tag": "stable", "note": "Now this one"})
    assert (moved.json()["tag"], moved.json()["note"]) == ("stable", "Now this one")
    assert [one["number"] for one in follow(f"{BASE}?tag=stable&", token)] == [2]
    assert get(f"{BASE}/1", token).json()["tag"] == ""
    refused = send("patch", f"{BASE}/1", token, {"tag": "no good"})
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["tag"])
    assert get(f"{BASE}/9", token).status_code == 404
    reader = make_token(rita, "read")
    assert send("patch", f"{BASE}/1", reader, {"note": ""}).status_code == 403
    assert get(BASE, make_token(bob, "read")).status_code == 403


def test_one_that_is_not_finished_can_be_cancelled_but_not_read(project, rita, token):
    create_version(project=project, user=rita)
    assert get(f"{BASE}/1/rows", token).status_code == 409
    for _again in range(2):
        assert send("post", f"{BASE}/1/cancel", token).json()["state"] == "cancelled"


def test_rows_come_whole_and_by_side(project, bob, rita, token, storage):
    rankings = [
        rank(make_task(project, f"Question {number}?", ["Yes", "No"]), bob, [2, 1], comment="Close.")
        for number in range(7)
    ]
    version = build(project, rita, test_fraction=0.4)
    rows = follow(f"{BASE}/1/rows?", token)
    assert [row["ranking"] for row in rows] == sorted(one.uid.hex for one in rankings)
    assert rows[0]["completions"][1] == {"completion": "No", "reasoning": "", "source": "imported"}
    assert (rows[0]["ranks"], rows[0]["comment"], rows[0]["weight"]) == ([2, 1], "Close.", 1.0)
    for split in ("train", "test"):
        assert follow(f"{BASE}/1/rows?split={split}&", token) == [row for row in rows if row["split"] == split]
    assert get(f"{BASE}/1/rows?split=half", token).status_code == 422
    assert get(f"{BASE}/1/rows?cursor=nonsense", token).status_code == 422
    (storage / version.folder / "rankings.parquet").unlink()
    assert get(f"{BASE}/1/rows", token).status_code == 409


def test_a_page_of_long_rows_ends_early(project, bob, rita, token, monkeypatch):
    for number in range(3):
        rank(make_task(project, f"Question {number}?", ["Yes" * 50, "No"]), bob, [2, 1])
    build(project, rita)
    monkeypatch.setattr("annotate.api.versions.PAGE_CHARACTERS", 200)
    assert len(get(f"{BASE}/1/rows?limit=200", token).json()["items"]) == 1
    assert len(follow(f"{BASE}/1/rows?", token)) == 3


def test_what_another_version_has_otherwise(project, bob, rita, token, monkeypatch):
    rankings = [rank(make_task(project, f"Question {number}?", ["Yes", "No"]), bob, [1, 2]) for number in range(5)]
    build(project, rita)
    Ranking.objects.filter(pk__in=[one.pk for one in rankings[:3]]).update(seconds=1)
    build(project, rita, filters=Filters(min_seconds=5))
    found = get(f"{BASE}/1/diff?with=2", token).json()
    wanted = {"same": 2, "added": 0, "removed": 3, "changed": 0}
    assert {name: found["counts"][name] for name in wanted} == wanted
    assert found["removed"] == {"count": 3, "reasons": {"min_seconds": 3}}
    assert found["settings"]["min_seconds"] == [0, 5]
    rows = follow(f"{BASE}/1/diff?with=2&", token)
    assert [row["ranking"] for row in rows] == sorted(one.uid.hex for one in rankings[:3])
    assert rows[0] == {"ranking": rows[0]["ranking"], "change": "removed", "reasons": ["min_seconds"]}
    for wrong in ("with=1", "with=9", "", "with=2&cursor=MTo1", f"with=2&cursor={cursor_of(2**63 - 1)}"):
        assert get(f"{BASE}/1/diff?{wrong}", token).status_code == 422
    monkeypatch.setattr("annotate.services.comparisons.AT_ONCE_ROWS", 0)
    asked = []
    monkeypatch.setattr(compare_versions, "delay", lambda *args: asked.append(args))
    waiting = get(f"{BASE}/2/diff?with=1", token)
    assert (waiting.status_code, waiting["Retry-After"]) == (503, "5")
    compare_versions(*asked[0])
    assert get(f"{BASE}/2/diff?with=1", token).json()["counts"]["added"] == 3
    DatasetVersion.objects.filter(number=2).update(origin="run:7")
    assert get(f"{BASE}/1/diff?with=2", token).status_code == 422
