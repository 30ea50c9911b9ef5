"""Preferences that a row brings along."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.formats.importing.errors import RowError, UnknownColumns
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.shapes import GivenRanking, Row, to_row
from annotate.spreadsheets import csv_cell, plain_cell

TWO = {"prompt": "Why is the sea salty?", "completions": ["Rivers.", "Rain."]}


def row_of(value, **mapping) -> Row:
    return to_row(value, Mapping(**mapping))


def refusal(value, **mapping) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        to_row(value, Mapping(**mapping))
    return caught.value.field, caught.value.reason


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
        {
            "chosen": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}],
            "rejected": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "No."}],
        },
        {"prompt": "Why?", "completions": ["So.", "No."], "rankings": [{"ranks": [1, 2]}]},
        {"prompt": "Why?", "completions": ["So.", "No."], "rankings": [{"ranks": [3.0, 7.0]}]},
    ],
)
def test_a_preference_is_a_ranking_of_the_rows_answers(row):
    row = row_of(row)
    assert [answer.text for answer in row.answers] == ["So.", "No."]
    assert row.rankings == [GivenRanking(ranks=(1, 2))]


def test_everything_that_is_said_of_a_ranking_is_kept():
    given_row = {
        "ranks": [2, 1],
        "verdict": "ranked",
        "annotator": "ann@example.org",
        "ranking": "7f",
        "reasons": ["more precise", "more precise"],
        "comment": "Rain has\nno salt.",
        "seconds": "12.5",
        "created": "2026-01-31T12:00:00+02:00",
        "ratings": [{"Clarity": 4, "Quality": None}, [{"criterion": "Clarity", "rating": 5}]],
        "role": "adjudicator",
    }
    assert row_of({**TWO, "rankings": [given_row, {"ranks": [1, 1]}]}).rankings == [
        GivenRanking(
            ranks=(2, 1),
            annotator="ann@example.org",
            original="7f",
            reasons=("more precise",),
            comment="Rain has\nno salt.",
            seconds=12.5,
            created=datetime(2026, 1, 31, 10, tzinfo=UTC),
            ratings=({"Clarity": 4}, {"Clarity": 5}),
            role="adjudicator",
        ),
        GivenRanking(ranks=(1, 1)),
    ]


def test_all_bad_needs_no_ranks():
    assert row_of({**TWO, "rankings": [{"verdict": "all_bad"}]}).rankings[0] == GivenRanking((1, 1), "all_bad")


def test_completions_that_are_the_same_count_once_with_the_rank_they_share():
    row = row_of({"prompt": "Why?", "completions": ["a", "b", "a", "c"], "rankings": [{"ranks": [2, 1, 2, 9]}]})
    assert [answer.text for answer in row.answers] == ["a", "b", "c"]
    assert row.rankings[0].ranks == (2, 1, 3)


def test_a_row_of_a_dataset_version_gives_back_its_ranking_and_nothing_that_was_computed():
    row = row_of(
        {
            "ranking": "8c1d",
            "prompt_id": "a" * 64,
            "prompt": [{"role": "user", "content": "Why?"}],
            "completions": [{"completion": text, "reasoning": "", "source": "m"} for text in ("a", "b", "c")],
            "ranks": [1, 2, 1],
            "ratings": [[{"criterion": "Quality", "rating": 5}], [], []],
            "verdict": "ranked",
            "annotator": "annotator-0123abcd",
            "role": "annotator",
            "weight": 0.5,
            "reasons": [],
            "comment": "",
            "seconds": 3.25,
            "created": "2026-01-31T12:00:00.000001+00:00",
            "split": "train",
        }
    )
    assert (row.shape, row.metadata, row.others) == ("ranking", "{}", ())
    assert row.rankings == [
        GivenRanking(
            ranks=(1, 2, 1),
            annotator="annotator-0123abcd",
            original="8c1d",
            seconds=3.25,
            created=datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC),
            ratings=({"Quality": 5}, {}, {}),
            role="annotator",
        )
    ]


def test_a_comment_comes_back_from_our_csv_without_the_apostrophe_that_kept_it_from_being_a_formula():
    ranking = {"ranking": "8c1d", "ranks": [1, 2], "verdict": "ranked", "seconds": "3.5"}
    for comment in ("=1+1", "'-quoted", "plain", "'"):
        row = row_of({**TWO, **ranking, "comment": csv_cell(comment)})
        assert row.rankings == [GivenRanking((1, 2), original="8c1d", seconds=3.5, comment=comment)]


def test_a_known_order_is_no_preference():
    row = row_of({"prompt": "Why?", "chosen": "a", "rejected": "b", "known_order": [2, 1]})
    assert row.known
    assert row.rankings == []


def test_a_pair_beside_more_completions_is_only_more_completions():
    assert row_of({**TWO, "chosen": "a", "rejected": "b"}).rankings == []


@pytest.mark.parametrize(
    ("more", "field", "reason"),
    [
        ({"rankings": {"ranks": [1, 2]}}, "rankings", "Must be a list"),
        ({"rankings": [[1, 2]]}, "rankings[1]", "an object with ranks, not a list"),
        ({"rankings": [{}]}, "rankings[1].ranks", "Must be a list of whole numbers"),
        ({"rankings": [{"ranks": [1, 2]}, {"ranks": [0, 1]}]}, "rankings[2].ranks", "whole numbers from 1"),
        ({"rankings": [{"ranks": [1, True]}]}, "rankings[1].ranks", "whole numbers from 1"),
        ({"rankings": [{"ranks": [1, float("inf")]}]}, "rankings[1].ranks", "whole numbers from 1"),
        ({"rankings": [{"ranks": [1]}]}, "rankings[1].ranks", "1 places for 2 completions"),
        ({"rankings": [{"ranks": [1, 2], "verdict": "good"}]}, "rankings[1].verdict", "ranked or all_bad"),
        ({"rankings": [{"ranks": [1, 2], "verdict": "all_bad"}]}, "rankings[1].ranks", "all ranks must be 1"),
        ({"rankings": [{"ranks": [1, 2], "seconds": -1}]}, "rankings[1].seconds", "from 0"),
        ({"rankings": [{"ranks": [1, 2], "seconds": 1.7e308}]}, "rankings[1].seconds", "to 1,000,000,000"),
        ({"rankings": [{"ranks": [1, 2], "created": "now"}]}, "rankings[1].created", "2026-01-31T12:00:00Z"),
        ({"rankings": [{"ranks": [1, 2], "created": 1e20}]}, "rankings[1].created", "2026-01-31T12:00:00Z"),
        ({"rankings": [{"ranks": [1, 2], "ratings": [{"A": 9}, {}]}]}, "rankings[1].ratings[1].A", "from 1 to 5"),
        ({"rankings": [{"ranks": [1, 2], "ratings": [{}]}]}, "rankings[1].ratings", "one object for each"),
        ({"rankings": [{"ranks": [1, 2], "ratings": [5, 4]}]}, "rankings[1].ratings[1]", "Must be an object like"),
        ({"rankings": [{"ranks": [1, 2], "reasons": ["x" * 61]}]}, "rankings[1].reasons[1]", "60 characters"),
        ({"rankings": [{"ranks": [1, 2], "annotator": "a\u202eb"}]}, "rankings[1].annotator", "text's direction"),
        ({"rankings": [{"ranks": [1, 2], "annotator": "a\nb"}]}, "rankings[1].annotator", "a line break"),
        ({"rankings": [{"ranks": [1, 2]}] * 101}, "rankings", "more than 100"),
        ({"completions": ["a", "a"], "rankings": [{"ranks": [1, 1]}]}, "rankings[1]", "two different completions"),
        ({"completions": ["a", "b", "a"], "rankings": [{"ranks": [1, 2, 3]}]}, "rankings[1].ranks", "are the same"),
        ({"completions": None, "chosen": "a", "rejected": "a"}, "rejected", "the same as chosen"),
        ({"known_order": [1, 2], "rankings": [{"ranks": [1, 2]}]}, "rankings", "either a known order or rankings"),
    ],
)
def test_a_bad_ranking_is_refused_by_field_and_reason(more, field, reason):
    found, said = refusal({**TWO, **more})
    assert found == field
    assert reason in said


def test_a_time_in_the_future_is_refused():
    later = (timezone.now() + timedelta(days=2)).isoformat()
    assert "between 1970 and now" in refusal({**TWO, "rankings": [{"ranks": [1, 2], "created": later}]})[1]


def test_columns_are_read_under_the_names_that_the_mapping_gives_them():
    row = row_of(
        {"q": "Why?", "win": "a", "lose": "b", "who": "ann", "kind": "sea, salt", "meta": {"topic": "t"}},
        prompt="q",
        chosen="win",
        rejected="lose",
        annotator="who",
        tags="kind",
    )
    assert row.rankings == [GivenRanking((1, 2), annotator="ann")]
    assert (row.tags, json.loads(row.metadata)) == (["sea", "salt"], {"meta": {"topic": "t"}})


def test_a_conversation_that_is_named_as_the_prompt_ends_in_a_completion():
    row = row_of({"talk": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}, prompt="talk")
    assert [one["content"] for one in row.messages] == ["Hi"]
    assert [answer.text for answer in row.answers] == ["Yo"]


@pytest.mark.parametrize(
    ("row", "mapping"),
    [
        ({"a": "x", "b": "y", "c": "z", "s": [1, 3, 1]}, {"completions": ("a", "b", "c"), "scores": ("s",)}),
        ({"a": "x", "b": "y", "c": "z", "s": "[1, 3, 1]"}, {"completions": ("a", "b", "c"), "scores": ("s",)}),
        (
            {"a": "x", "b": "y", "c": "z", "d": "", "1": "1.0", "2": "3", "3": 1, "4": ""},
            {"completions": ("a", "b", "c", "d"), "scores": ("1", "2", "3", "4")},
        ),
        (
            {"all": [{"text": "x", "s": 1}, {"text": "y", "s": 3}, {"text": "z", "s": 1}]},
            {"completions": ("all",), "scores": ("all.s",)},
        ),
        ({"all": ["x", "y", "z"], "s": [-0.5, 0, -0.5]}, {"completions": ("all",), "scores": ("s",)}),
    ],
)
def test_scores_rank_the_completions_higher_is_better_and_equal_is_a_tie(row, mapping):
    row = row_of({"prompt": "Why?", **row}, **mapping)
    assert [answer.text for answer in row.answers] == ["x", "y", "z"]
    assert row.rankings == [GivenRanking((2, 1, 2))]


def test_what_is_wrong_is_named_as_the_file_names_it():
    assert refusal({"q": 7}, prompt="q")[0] == "q"
    assert refusal({"q": ""}, prompt="q") == ("q", "Is empty.")
    assert refusal({"q": "Why?", "a": {"text": " "}, "b": "x"}, prompt="q", completions=("a.text", "b"))[0] == "a.text"
    assert refusal({"q": "Why?", "a": "x", "b": "x"}, prompt="q", chosen="a", rejected="b")[0] == "b"
    assert refusal({**TWO, "s": ["good", 2]}, scores=("s",)) == ("s", "Must be a number.")
    assert refusal({**TWO, "s": [1, 2, 3]}, scores=("s",))[0] == "s"
    with pytest.raises(UnknownColumns):
        to_row({"question": "Why?"}, Mapping(prompt="q"))


@given(st.text(alphabet="'=+-@\t\n ab", max_size=6))
@settings(max_examples=100)
def test_a_cell_gives_back_the_text_it_was_made_of(text):
    assert plain_cell(csv_cell(text)) == text
    assert csv_cell(text)[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n")
