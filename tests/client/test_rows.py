"""Rows from a program, in requests that the server takes."""

import json
from datetime import UTC, datetime

import datasets
import pytest

from podium_client import Podium, PodiumError, RowsAdded
from podium_client.imports import BATCH_BYTES

from .conftest import Answer

PROJECT = Answer(200, b'{"slug": "tides"}')


def added(prompts: int, *refused: dict[str, object]) -> Answer:
    return Answer(201, json.dumps({"prompts": prompts, "tasks": prompts, "refused": refused}).encode())


def sent_rows(server) -> list[list[dict[str, object]]]:
    return [json.loads(body)["rows"] for _method, path, _headers, body in server.asked if path.endswith("/rows")]


def import_rows(server, rows, **options) -> RowsAdded:
    with Podium(server.url, "secret") as podium:
        return podium.project("tides").import_rows(rows, **options)


def test_many_rows_go_in_several_requests_and_refused_ones_keep_their_numbers(elsewhere):
    refused = {"row": 7, "field": "prompt", "reason": "Is empty."}
    server = elsewhere(PROJECT, added(999, refused), added(1000), added(499, refused))
    said = import_rows(server, ({"prompt": f"{number}?"} for number in range(2500)), preferences="ask")
    assert [len(rows) for rows in sent_rows(server)] == [1000, 1000, 500]
    assert (said.prompts, said.tasks) == (2498, 2498)
    assert [(one.row, one.field_name, one.reason) for one in said.refused] == [
        (7, "prompt", "Is empty."),
        (2007, "prompt", "Is empty."),
    ]
    bodies = [json.loads(body) for _method, path, _headers, body in server.asked if path.endswith("/rows")]
    assert {body["preferences"] for body in bodies} == {"ask"}
    keys = [headers["idempotency-key"] for _method, path, headers, _body in server.asked if path.endswith("/rows")]
    assert len(set(keys)) == 3


def test_long_rows_go_in_requests_of_some_megabytes(elsewhere):
    server = elsewhere(PROJECT, *[added(3)] * 4)
    import_rows(server, [{"prompt": "ü" * (BATCH_BYTES // 8)}] * 12)
    assert [len(rows) for rows in sent_rows(server)] == [3, 3, 3, 3]
    assert all(len(body) <= BATCH_BYTES + 200 for _method, _path, _headers, body in server.asked)


def test_a_dataset_is_rows(elsewhere):
    server = elsewhere(PROJECT, added(2))
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    rows = [
        {"prompt": "A?", "completions": ["x", "y"], "tags": None, "metadata": {"at": moment}},
        {"prompt": "B?", "completions": ["z"], "tags": ["t"], "metadata": {"at": moment}},
    ]
    import_rows(server, datasets.Dataset.from_list(rows))
    ((first, second),) = sent_rows(server)
    assert (first["prompt"], first["completions"], "tags" in first) == ("A?", ["x", "y"], False)
    assert (second["tags"], second["metadata"]) == (["t"], {"at": "2026-01-31T00:00:00+00:00"})


def test_nothing_is_sent_of_no_rows_and_what_json_cannot_say_is_named(elsewhere):
    server = elsewhere(PROJECT)
    assert import_rows(server, []).prompts == 0
    assert sent_rows(server) == []
    for odd in (object(), float("nan"), "half a pair: \ud83d"):
        with pytest.raises(PodiumError, match="JSON"):
            import_rows(elsewhere(PROJECT), [{"prompt": odd}])
