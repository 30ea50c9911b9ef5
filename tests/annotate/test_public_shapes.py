"""The shapes in which others publish preferences: each is recognised, and read as what it says."""

import json
import time
from typing import Any

import pytest

from annotate.formats.importing.errors import RowError
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.public import SHAPES, detect, recognised
from annotate.formats.importing.records import Record
from annotate.formats.importing.shapes import GivenRanking, Row, to_row
from tests.annotate.public_rows import ARENA, CASES, HH, ONE_TO_TWO, PAIR, PAIRWISE, said, user


def read(*values: dict[str, Any], **mapping) -> tuple[str, list[Row]]:
    """The shape that is recognised, and the rows."""
    found, records = recognised((Record(line, value) for line, value in enumerate(values, 1)), Mapping(**mapping))
    return found.shape, [to_row(one.value or {}, found) for one in records]


def refusal(value: dict[str, Any], shape: str) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        to_row(value, Mapping(shape=shape))
    return caught.value.field, caught.value.reason


@pytest.mark.parametrize(
    ("shape", "value", "prompt", "answers", "rankings"),
    CASES,
)
def test_a_public_shape_is_recognised_and_read(shape, value, prompt, answers, rankings):
    found, [row] = read(value)
    assert found == shape
    assert prompt in (None, row.messages)
    assert [(one.text, one.source) for one in row.answers] == answers
    assert row.rankings == rankings
    assert shape in ("", row.shape)


def test_a_pairwise_annotation_keeps_who_when_how_long_and_why():
    _shape, [row] = read(PAIRWISE)
    [ranking] = row.rankings
    assert (ranking.ranks, ranking.annotator, ranking.original) == ((2, 1), "ann@example.org", "71")
    assert (ranking.seconds, ranking.comment) == (4.25, "Shorter.")
    assert ranking.created
    assert ranking.created.isoformat() == "2026-01-31T12:00:00.500000+00:00"
    assert json.loads(row.metadata) == {"topic": "sea"}


@pytest.mark.parametrize(
    ("more", "ranks", "verdict"),
    [
        ({}, (2, 1), "ranked"),
        ({"winner": "model_a"}, (1, 2), "ranked"),
        ({"winner": "tie"}, (1, 1), "ranked"),
        ({"winner": "tie (bothbad)"}, (1, 1), "all_bad"),
        ({"winner": "both_bad"}, (1, 1), "all_bad"),
    ],
)
def test_a_vote_of_the_arena_is_a_ranking_of_two(more, ranks, verdict):
    shape, [row] = read({**ARENA, **more})
    assert shape == "arena"
    [ranking] = row.rankings
    assert (ranking.ranks, ranking.verdict, ranking.annotator, ranking.original) == (ranks, verdict, "person-7", "q1")
    assert [(one.text, one.source) for one in row.answers] == [("Yo", "alpha"), ("Hello!", "beta")]
    assert ranking.created
    assert ranking.created.year == 2023


def test_newer_votes_have_a_column_for_each_outcome():
    vote = {
        "id": 30192,
        "model_a": "alpha",
        "model_b": "beta",
        "prompt": '["Hi", "And you?"]',
        "response_a": '["Yo", "Fine"]',
        "response_b": '["Yo", "Well"]',
        "winner_model_a": "0",
        "winner_model_b": "0",
        "winner_tie": "1",
    }
    shape, [row] = read(vote)
    assert (shape, row.rankings) == ("arena", [GivenRanking((1, 1), original="30192")])
    assert row.messages == [user("Hi"), said("Yo"), user("And you?")]
    assert refusal({**vote, "winner_tie": "0"}, "arena")[0] == "winner_model_a"
    assert "part before their last answer" in refusal({**vote, "response_b": '["Ay", "Well"]'}, "arena")[1]


def test_neighbouring_rows_of_one_prompt_are_ranked_together():
    def steer(prompt: str, text: str, helpfulness: int) -> dict[str, Any]:
        return {"prompt": prompt, "response": text, "helpfulness": helpfulness, "correctness": 4, "verbosity": 1}

    shape, rows = read(steer("Hi", "Yo", 1), steer("Hi", "Hello!", 4), steer("Hm", "Ok", 2), steer("Hi", "Hey", 3))
    assert shape == "helpsteer"
    assert [[one.text for one in row.answers] for row in rows] == [["Yo", "Hello!"], ["Ok"], ["Hey"]]
    assert rows[0].rankings == [
        GivenRanking(
            (2, 1),
            ratings=(
                {"helpfulness": 2, "correctness": 5, "verbosity": 2},
                {"helpfulness": 5, "correctness": 5, "verbosity": 2},
            ),
        )
    ]
    assert json.loads(rows[1].metadata) == {"helpfulness": 2, "correctness": 4, "verbosity": 1}
    assert rows[1].rankings == []


@pytest.mark.parametrize(
    ("labels", "ranks", "verdict"),
    [
        ((True, False, True), (1, 2, 1), "ranked"),
        ((False, False, False), (1, 1, 1), "all_bad"),
        ((True, True, True), (1, 1, 1), "ranked"),
    ],
)
def test_labels_of_one_prompts_completions_order_them(labels, ranks, verdict):
    rows = [{"prompt": "Hi", "completion": str(number), "label": label} for number, label in enumerate(labels)]
    shape, [row] = read(*rows)
    assert shape == "unpaired"
    assert [(one.ranks, one.verdict) for one in row.rankings] == [(ranks, verdict)]


def test_a_dataset_versions_own_rows_are_recognised():
    row = {
        "ranking": "a",
        "prompt": [user("Hi")],
        "completions": [{"completion": "a"}, {"completion": "b"}],
        "ranks": [2, 1],
    }
    shape, [read_row] = read(row)
    assert (shape, read_row.rankings) == ("ranking", [GivenRanking((2, 1), original="a")])


def test_dialogues_that_part_too_early_are_refused_and_doubled_turns_are_joined():
    early = {**HH, "rejected": "\n\nHuman: Is sand bad?\n\nAssistant: No."}
    assert refusal(early, "hh")[0] == "rejected"
    assert refusal({**HH, "rejected": HH["chosen"]}, "hh") == ("rejected", "Is the same as chosen.")
    assert "begins with “Human:”" in refusal({**HH, "rejected": "Well: " + HH["rejected"]}, "hh")[1]
    doubled = {**HH, "rejected": HH["rejected"] + "\n\nAssistant: None at all."}
    assert to_row(doubled, Mapping(shape="hh")).answers[1].text == "No idea.\n\nNone at all."


def test_dialogues_of_a_great_many_turns_take_no_more_than_moments():
    turns = "\n\nHuman:a" * 250_000
    begun = time.thread_time()
    row = to_row({name: f"{turns}\n\nAssistant: {name}" for name in ("chosen", "rejected")}, Mapping(shape="hh"))
    assert len(row.messages[0]["content"]) == 749_998
    assert time.thread_time() - begun < 2


def test_empty_turns_leave_nothing_between_those_they_are_joined_with():
    text = "Human: a\n\nHuman:\n\nHuman: b\n\nAssistant:\n\nAssistant: c"
    row = to_row({"text": text}, Mapping(shape="text"))
    assert (row.messages, [one.text for one in row.answers]) == ([user("a\n\nb")], ["c"])


@pytest.mark.parametrize("value", ["ranking", "rating"])
def test_records_of_a_great_many_fields_take_no_more_than_moments(value):
    count = 3000
    fields = {"prompt": "Why?", **{f"a{number}": "x" for number in range(count)}}
    answers = {
        "ranking": {"q": {"value": [{"value": f"a{number}", "rank": 1} for number in range(count)]}},
        "rating": {f"a{number} good": {"value": 3} for number in range(count)},
    }
    begun = time.thread_time()
    found = refusal({"fields": fields, "responses": [{"user_id": "u", "values": answers[value]}]}, "argilla")
    assert found == ("fields", "3000 completions; a task has 9 at most.")
    assert time.thread_time() - begun < 2


@pytest.mark.parametrize(
    ("shape", "value", "field", "reason"),
    [
        ("arena", {**ARENA, "winner": "nobody"}, "winner", "Must be model_a"),
        ("text", {"text": "Once upon a time"}, "text", "which part of it is the prompt"),
        ("helpsteer-preference", {"prompt": "a", "response1": "b", "response2": "c"}, "overall_preference", "−3 to 3"),
        ("ultrafeedback", {"instruction": "a", "completions": ["b"]}, "completions", "objects with response"),
        ("scored-list", {"prompt": "a", "responses": ["b"], "scores": ["good"]}, "scores", "list of numbers"),
        ("stepwise", {"prompt": "a", "completions": "b"}, "completions", "list of texts"),
        ("chat", {"messages": "Hi"}, "messages", "list of messages"),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[1]", "no text"),
        ("label-studio", {"data": {"prompt": "a", "b": "c"}}, "data", "could not be told"),
        (
            "openai-preference",
            {"input": {"messages": [user("a")]}, "preferred_output": []},
            "preferred_output",
            "one message",
        ),
        ("sharegpt", {"conversations": [{"from": "robot", "value": "a"}]}, "prompt[1].role", "one of system"),
    ],
)
def test_a_row_that_is_not_of_its_shape_is_refused_with_its_reason(shape, value, field, reason):
    found, said_of_it = refusal(value, shape)
    assert found == field
    assert reason in said_of_it


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "value",
    [
        {},
        {"prompt": None},
        dict.fromkeys(("chosen", "rejected", "messages", "conversations", "completions", "data", "fields", "text"), 7),
        {
            name: [{"a": [None]}]
            for name in ("prompt", "completions", "conversations", "messages", "annotations", "labels")
        },
        {"data": {"items": [{"id": None}]}, "annotations": [None, {"result": [None, {"type": "ranker", "value": 3}]}]},
        {"fields": {"a": {"b": 1}}, "responses": [None, {"values": {"q": None}}], "suggestions": [{}], "metadata": 3},
        {"rows": [{}, {"label": 3}], "model_a": [], "winner": {}, "conversation_a": {}, "response_a": None},
    ],
)
def test_no_shape_fails_on_what_it_does_not_expect(shape, value):
    with pytest.raises(RowError):
        to_row(value, Mapping(shape=shape))


def test_a_shape_must_fit_most_of_the_first_rows():
    other = {"prompt": "Hi", "completions": ["a", "b"]}
    assert detect([HH] * 6 + [other] * 4) is SHAPES["hh"]
    assert detect([HH] * 5 + [other] * 5) is None
    assert detect([]) is None


def test_columns_are_renamed_before_a_shape_is_looked_for():
    row = {"good": HH["chosen"], "bad": HH["rejected"], "who": "ann"}
    shape, [read_row] = read(row, chosen="good", rejected="bad", annotator="who")
    assert (shape, read_row.rankings) == ("hh", [GivenRanking((1, 2), annotator="ann")])
    assert read(PAIR, prompt="instruction", completions=("a", "b"))[1][0].messages == [user("Why?")]


def test_a_shape_that_is_named_is_not_recognised_again():
    shape, [row] = read(
        {"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 1}, shape="podium"
    )
    assert (shape, row.rankings) == ("podium", ONE_TO_TWO)
