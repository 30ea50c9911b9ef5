"""The shapes in which others publish preferences: each is recognised, and read as what it says."""

import gzip
import io
import json
import zipfile
from typing import Any

import pytest

from annotate.formats.errors import RowError
from annotate.formats.mapping import Mapping
from annotate.formats.public import SHAPES, columns_of, detect, recognised
from annotate.formats.reading import open_records
from annotate.formats.records import Record
from annotate.formats.shapes import GivenRanking, Row, to_row


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read(*values: dict[str, Any], **mapping) -> tuple[str, list[Row]]:
    """The shape that is recognised, and the rows."""
    found, records = recognised((Record(line, value) for line, value in enumerate(values, 1)), Mapping(**mapping))
    return found.shape, [to_row(one.value or {}, found) for one in records]


def refusal(value: dict[str, Any], shape: str) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        to_row(value, Mapping(shape=shape))
    return caught.value.field, caught.value.reason


HH = {
    "chosen": "\n\nHuman: Is salt bad?\n\nAssistant: For whom?\n\nHuman: For me.\n\nAssistant: In excess.",
    "rejected": "\n\nHuman: Is salt bad?\n\nAssistant: For whom?\n\nHuman: For me.\n\nAssistant: No idea.",
}
ULTRAFEEDBACK = {
    "source": "evol",
    "instruction": "Why is the sea salty?",
    "models": ["big", "small", "tiny"],
    "completions": [
        {
            "model": model,
            "principle": "honesty",
            "response": text,
            "overall_score": score,
            "fine-grained_score": 1.0,
            "annotations": {"helpfulness": {"Rating": rating, "Rationale": "…"}, "honesty": {"Rating": "N/A"}},
        }
        for model, text, score, rating in (
            ("big", "Rivers.", 8.5, "5"),
            ("small", "Rain.", "3", "1"),
            ("tiny", "?", 3, "2"),
        )
    ],
}
ARENA = {
    "question_id": "q1",
    "model_a": "alpha",
    "model_b": "beta",
    "winner": "model_b",
    "judge": "person-7",
    "conversation_a": [user("Hi"), said("Yo")],
    "conversation_b": [user("Hi"), said("Hello!")],
    "turn": 1,
    "language": "English",
    "tstamp": 1682351591.1322,
}
PAIRWISE = {
    "id": 5,
    "data": {"prompt": "Why?", "answer1": "So.", "answer2": "No.", "topic": "sea"},
    "annotations": [
        {
            "id": 71,
            "completed_by": {"id": 3, "email": "ann@example.org"},
            "was_cancelled": False,
            "created_at": "2026-01-31T12:00:00.5Z",
            "lead_time": 4.25,
            "result": [
                {"from_name": "c", "to_name": "a,b", "type": "pairwise", "value": {"selected": "right"}},
                {"from_name": "why", "to_name": "a", "type": "textarea", "value": {"text": ["Shorter."]}},
            ],
        },
        {"id": 72, "completed_by": 4, "was_cancelled": True, "result": []},
    ],
}
RANKER = {
    "id": 6,
    "data": {
        "prompt": "Why?",
        "items": [{"id": "m1", "title": "M1", "body": "a"}, {"id": "m2", "body": "b"}, {"id": "m3", "body": "c"}],
    },
    "annotations": [
        {"id": 1, "completed_by": 2, "result": [{"type": "ranker", "value": {"ranker": ["m2", "m3", "m1"]}}]}
    ],
}
NESTED = {
    "id": "r1",
    "fields": {"instruction": "Why?", "response_1": "a", "response_2": "b"},
    "metadata": {"topic": "sea"},
    "suggestions": {"ranking": {"value": ["response_1", "response_2"], "score": None, "agent": "llm"}},
    "responses": {
        "ranking": [
            {"value": [{"value": "response_2", "rank": 1}, {"value": "response_1", "rank": 2}], "user_id": "u1"},
            {"value": ["response_1", "response_2"], "user_id": "u2"},
        ],
        "clarity_1": [{"value": 4, "user_id": "u1"}],
        "clarity_2": [{"value": 5, "user_id": "u1"}],
        "why": [{"value": "Clearer.", "user_id": "u1"}],
    },
}
FLAT = {
    "prompt": "Why?",
    "reply_1": "a",
    "reply_2": "b",
    "reply-ranking": [
        {"user_id": "u1", "status": "submitted", "value": {"rank": [1, 1], "value": ["reply-1", "reply-2"]}},
        {"user_id": "u2", "status": "discarded", "value": None},
    ],
    "reply-ranking-suggestion": None,
    "reply-ranking-suggestion-metadata": {"type": None, "score": None, "agent": None},
    "external_id": "x7",
    "metadata": "{}",
}
PAIR = {"instruction": "Why?", "a": "So.", "b": "No."}
ONE_TO_TWO = [GivenRanking((1, 2))]


@pytest.mark.parametrize(
    ("shape", "value", "prompt", "answers", "rankings"),
    [
        (
            "hh",
            HH,
            [user("Is salt bad?"), said("For whom?"), user("For me.")],
            [("In excess.", "imported"), ("No idea.", "imported")],
            ONE_TO_TWO,
        ),
        (
            "ultrafeedback",
            ULTRAFEEDBACK,
            [user("Why is the sea salty?")],
            [("Rivers.", "big"), ("Rain.", "small"), ("?", "tiny")],
            [GivenRanking((1, 2, 2), ratings=({"helpfulness": 5}, {"helpfulness": 1}, {"helpfulness": 2}))],
        ),
        (
            "scored-pairs",
            {
                "prompt": "Hi",
                "prompt_id": "p",
                "chosen": [user("Hi"), said("Hello!")],
                "rejected": [user("Hi"), said("Yo")],
                "messages": [user("Hi"), said("Hello!")],
                "score_chosen": 7.0,
                "score_rejected": 7.0,
            },
            [user("Hi")],
            [("Hello!", "imported"), ("Yo", "imported")],
            [GivenRanking((1, 1))],
        ),
        (
            "scored-pairs",
            {
                "source": "evol",
                "prompt": "Hi",
                "chosen": "Hello!",
                "chosen-rating": 4.5,
                "chosen-model": "m1",
                "rejected": "Yo",
                "rejected-rating": 2,
                "rejected-model": "m2",
            },
            [user("Hi")],
            [("Hello!", "m1"), ("Yo", "m2")],
            ONE_TO_TWO,
        ),
        (
            "scored-pairs",
            {
                "prompt": "Hi",
                "chosen": "a",
                "rejected": "b",
                "chosen_model": "m1",
                "rejected_model": "m2",
                "subset": "chat",
            },
            [user("Hi")],
            [("a", "m1"), ("b", "m2")],
            ONE_TO_TWO,
        ),
        (
            "scored-list",
            {"instruction": "Hi", "generations": ["a", "b", "c"], "ratings": [2, 5, 2], "model_names": ["x", "y", "z"]},
            [user("Hi")],
            [("a", "x"), ("b", "y"), ("c", "z")],
            [GivenRanking((2, 1, 2))],
        ),
        (
            "helpsteer-preference",
            {
                "domain": "stem",
                "context": [user("Hi")],
                "response1": "Yo",
                "response2": "Hello!",
                "overall_preference": 2,
                "individual_preference": [
                    {"score": 3, "reasoning": "Politer.", "feedback1": "", "feedback2": ""},
                    {"score": 0, "reasoning": "Same.", "feedback1": "", "feedback2": ""},
                ],
            },
            [user("Hi")],
            [("Yo", "imported"), ("Hello!", "imported")],
            [GivenRanking((2, 1), comment="Politer."), GivenRanking((1, 1), comment="Same.")],
        ),
        (
            "helpsteer-preference",
            {
                "prompt": "Hi",
                "response_1": "Yo",
                "response_2": "H",
                "preference_strength": -1,
                "preference_statement": "Ok",
            },
            [user("Hi")],
            [("Yo", "imported"), ("H", "imported")],
            [GivenRanking((1, 2), comment="Ok")],
        ),
        (
            "argilla",
            NESTED,
            [user("Why?")],
            [("a", "imported"), ("b", "imported")],
            [
                GivenRanking((2, 1), annotator="u1", comment="Clearer.", ratings=({"clarity": 4}, {"clarity": 5})),
                GivenRanking((1, 2), annotator="u2"),
            ],
        ),
        (
            "argilla",
            {**NESTED, "responses": {}},
            [user("Why?")],
            [("a", "imported"), ("b", "imported")],
            [GivenRanking((1, 2), annotator="llm")],
        ),
        (
            "argilla",
            {
                "fields": {"prompt": "Why?", "response-1": "a", "response-2": "b"},
                "responses": [
                    {
                        "user_id": "u1",
                        "status": "submitted",
                        "values": {
                            "order": {"value": [{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 2}]}
                        },
                    },
                    {"user_id": "u2", "status": "draft", "values": {"order": {"value": []}}},
                ],
            },
            [user("Why?")],
            [("a", "imported"), ("b", "imported")],
            [GivenRanking((2, 1), annotator="u1")],
        ),
        (
            "argilla",
            FLAT,
            [user("Why?")],
            [("a", "imported"), ("b", "imported")],
            [GivenRanking((1, 1), annotator="u1")],
        ),
        (
            "argilla",
            {
                "prompt": "Why?",
                "response_1": "a",
                "response_2": "b",
                "score_1.responses": [2],
                "score_1.responses.users": ["u9"],
                "score_1.responses.status": ["submitted"],
                "score_2.responses": [5],
                "score_2.responses.users": ["u9"],
                "score_2.responses.status": ["submitted"],
            },
            [user("Why?")],
            [("a", "imported"), ("b", "imported")],
            [GivenRanking((2, 1), annotator="u9", ratings=({"score": 2}, {"score": 5}))],
        ),
        (
            "label-studio",
            RANKER,
            [user("Why?")],
            [("a", "imported"), ("b", "imported"), ("c", "imported")],
            [GivenRanking((3, 1, 2), annotator="2", original="1")],
        ),
        (
            "label-studio",
            {
                **RANKER,
                "annotations": [
                    {"id": 1, "result": [{"type": "ranker", "value": {"ranker": {"good": ["m3"], "bad": ["m1"]}}}]}
                ],
            },
            [user("Why?")],
            [("a", "imported"), ("b", "imported"), ("c", "imported")],
            [GivenRanking((2, 3, 1), original="1")],
        ),
        (
            "label-studio",
            {"id": 5, "prompt": "Why?", "answer1": "So.", "answer2": "No.", "comparison": "left", "annotator": 3}
            | {"annotation_id": 9, "created_at": None, "updated_at": None, "lead_time": 2},
            [user("Why?")],
            [("So.", "imported"), ("No.", "imported")],
            [GivenRanking((1, 2), annotator="3", original="9", seconds=2.0)],
        ),
        (
            "openai-preference",
            {
                "input": {"messages": [{"role": "developer", "content": "Be kind."}, user("Hi")], "tools": []},
                "preferred_output": [said("Hello!")],
                "non_preferred_output": [said("Yo")],
            },
            [{"role": "system", "content": "Be kind."}, user("Hi")],
            [("Hello!", "imported"), ("Yo", "imported")],
            ONE_TO_TWO,
        ),
        (
            "sharegpt",
            {
                "id": "s1",
                "conversations": [
                    {"from": "system", "value": "Be kind."},
                    {"from": "human", "value": "Hi"},
                    {"from": "gpt", "value": "Hello!"},
                ],
            },
            [{"role": "system", "content": "Be kind."}, user("Hi")],
            [("Hello!", "imported")],
            [],
        ),
        (
            "sharegpt",
            {
                "conversations": [{"from": "human", "value": "Hi"}],
                "chosen": {"from": "gpt", "value": "Hello!"},
                "rejected": {"from": "gpt", "value": "Yo"},
            },
            [user("Hi")],
            [("Hello!", "imported"), ("Yo", "imported")],
            ONE_TO_TWO,
        ),
        (
            "chat",
            {
                "messages": [
                    user("Hi"),
                    said("Yo"),
                    {"role": "user", "content": [{"type": "text", "text": "Hm?"}]},
                    said("Ok"),
                ]
            },
            [user("Hi"), said("Yo"), user("Hm?")],
            [("Ok", "imported")],
            [],
        ),
        (
            "alpaca",
            {"instruction": "Add.", "input": "1 1", "output": "2"},
            [user("Add.\n\n1 1")],
            [("2", "imported")],
            [],
        ),
        (
            "stepwise",
            {"prompt": "Add 1, 1 and 1.", "completions": ["1 + 1 = 2", "2 + 1 = 4"], "labels": [True, False]},
            [user("Add 1, 1 and 1.")],
            [("1 + 1 = 2\n\n2 + 1 = 4", "imported")],
            [],
        ),
        ("unpaired", {"prompt": "Hi", "completion": "Yo", "label": False}, [user("Hi")], [("Yo", "imported")], []),
        ("text", {"text": HH["chosen"]}, None, [("In excess.", "imported")], []),
        ("", {"prompt": "Hi"}, [user("Hi")], [], []),
        ("", {"prompt": [user("Hi")], "completion": [said("Yo")]}, [user("Hi")], [("Yo", "imported")], []),
        (
            "",
            {"prompt": "Hi", "chosen": "a", "rejected": "b"},
            [user("Hi")],
            [("a", "imported"), ("b", "imported")],
            ONE_TO_TWO,
        ),
    ],
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


def test_columns_come_with_an_example_for_each():
    columns = columns_of(
        [{"q": "Why?", "answers": []}, {"q": "x" * 500, "answers": [{"text": "So.", "s": 1}], "n": None}]
    )
    assert [(one.path, one.example) for one in columns] == [
        ("q", "Why?"),
        ("answers", "[]"),
        ("answers.text", "So."),
        ("answers.s", "1"),
        ("n", ""),
    ]
    assert len(columns_of([{"q": "x" * 500}])[0].example) == 120


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_tasks_is_read_from_a_file_as_exported(indent):
    content = "\ufeff" + json.dumps([PAIRWISE, RANKER, {"id": 7, "data": {}}], indent=indent)
    records = open_records(io.BytesIO(content.encode()), "project-1.json").records
    mapping, records = recognised(records, Mapping())
    found = list(records)
    assert mapping.shape == "label-studio"
    assert [one.line for one in found] == [1, 2, 3]
    assert [len(to_row(one.value or {}, mapping).rankings) for one in found[:2]] == [1, 1]
    assert json.loads(found[2].original) == {"id": 7, "data": {}}


def test_an_archives_files_are_read_one_after_another():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/", "")
        archive.writestr("README.md", "about")
        archive.writestr("__MACOSX/data/._a.jsonl", "junk")
        archive.writestr("data/a.jsonl", '{"prompt": "A"}\nbroken\n')
        archive.writestr("data/b.csv.gz", gzip.compress(b"prompt\nB\n"))
        archive.writestr("../../c.json", '[{"prompt": "C"}]')
        archive.writestr("empty.jsonl", "")
        archive.writestr("inner.zip", "PK")
    file = open_records(packed, "all.zip")
    found = [(one.member, one.line, (one.value or {}).get("prompt"), one.original) for one in file.records]
    assert found == [
        ("data/a.jsonl", 1, "A", '{"prompt": "A"}'),
        ("data/a.jsonl", 2, None, "broken"),
        ("data/b.csv.gz", 2, "B", "B"),
        ("../../c.json", 1, "C", '{"prompt": "C"}'),
        ("inner.zip", 0, None, "inner.zip"),
    ]
    assert file.share() == 1.0
