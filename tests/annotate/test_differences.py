import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from annotate.differences import TOKENS_LIMIT, TooLong, compare_texts
from annotate.models import Demonstration
from tests.annotate.ranking_page import held, opened, url
from tests.conftest import make_task, signed_in


def changes(first, second):
    return [
        (part.first.strip(), part.second.strip())
        for part in compare_texts(first, second).parts
        if part.kind == "changed"
    ]


TEXTS = st.lists(
    st.sampled_from(["sky", "blue ", "  ", "\n", "is", ", ", ".", "don’t ", "天", "空 ", "a\tb", "🙂", "\x00"])
).map("".join)


@given(st.one_of(TEXTS, st.text()), st.one_of(TEXTS, st.text()))
@example("  ", "\x00")
@settings(max_examples=300, deadline=None)
def test_the_parts_joined_are_both_texts(first, second):
    difference = compare_texts(first, second)
    assert "".join(part.first for part in difference.parts) == first
    assert "".join(part.second for part in difference.parts) == second
    for part in difference.parts:
        assert "".join(part.first.split()) == "".join(part.second.split()) or part.kind == "changed"
    assert 0 <= difference.shared <= 1


@given(st.one_of(TEXTS, st.text()))
@settings(deadline=None)
def test_a_text_differs_from_itself_in_nothing(text):
    difference = compare_texts(text, text)
    assert difference.is_none
    assert difference.shared == 1


def test_it_finds_the_words_that_differ():
    assert changes("The sky is blue at noon.", "The sky is deep blue at dusk.") == [("", "deep"), ("noon", "dusk")]
    assert changes("blue.", "blue!") == [(".", "!")]
    assert changes("return 1\n  # x", "return 1\n\n# x") == []
    assert changes("空は青い", "空は赤い") == [("青", "赤")]


def test_changes_with_a_comma_between_them_are_one():
    assert changes("see red, green and blue", "see one, two and blue") == [("red, green", "one, two")]


def test_it_says_how_much_is_shared():
    difference = compare_texts("one two three", "one two four, five")
    assert (difference.first_words, difference.second_words) == (3, 4)
    assert difference.shared == pytest.approx(4 / 7)
    assert compare_texts("", "").shared == 1
    assert compare_texts("", "word").shared == 0


def test_long_equal_stretches_are_folded_up_to_the_change():
    same = "word " * 500
    difference = compare_texts(f"{same}red {same}", f"{same}green {same}")
    assert [(part.kind, part.folded, len(part.first.split())) for part in difference.parts] == [
        ("equal", True, 488),
        ("equal", False, 12),
        ("changed", False, 1),
        ("equal", False, 12),
        ("equal", True, 488),
    ]
    inside = compare_texts(f"x {same}y", f"u {same}v").parts
    assert [part.folded for part in inside] == [False, False, True, False, False]


def test_a_megabyte_is_refused_at_once():
    started = time.monotonic()
    with pytest.raises(TooLong) as refused:
        compare_texts("word " * 200_000, "sword " * 200_000)
    assert refused.value.words == 200_000
    assert time.monotonic() - started < 5


def test_the_longest_that_is_compared_takes_a_moment():
    first = " ".join(str(number * 7919 % 997) for number in range(TOKENS_LIMIT))
    second = " ".join(str(number * 6007 % 991) for number in range(TOKENS_LIMIT))
    started = time.monotonic()
    assert 0 < compare_texts(first, second).shared < 1
    assert time.monotonic() - started < 5


@pytest.fixture
def compared(project, bob, db):
    """Bob's assignment of two answers, and the letters under which he sees the first and the second."""
    task = make_task(
        project, texts=["The sky is <b>blue</b> at noon.\n    code()", "The sky is deep blue at dusk.\n    code()"]
    )
    opened(bob, project)
    assignment = held(bob)
    blue, deep = (
        "AB"[assignment.shown_order.index(pk)] for pk in sorted(task.completions.values_list("pk", flat=True))
    )
    return assignment, blue, deep


def test_the_page_marks_what_only_one_answer_has_and_escapes_it(project, bob, compared):
    assignment, blue, deep = compared
    response = signed_in(bob).get(url(project, "difference", assignment), {"a": blue, "b": deep})
    assert response.status_code == 200
    html = response.content.decode()
    assert re.findall("<(?:del|ins)>.*?</(?:del|ins)>", html) == [
        "<del>&lt;b&gt;</del>",
        "<del>&lt;/b&gt;</del>",
        "<del>noon</del>",
        "<ins>deep</ins>",
        "<ins>dusk</ins>",
    ]
    assert f"Answer {blue}" in html
    assert "8 words" in html
    assert "\n    code()" in html


@pytest.mark.parametrize(
    ("a", "b", "words"), [("A", "A", "two different"), ("A", "C", "Second answer"), ("", "B", "First answer")]
)
def test_only_two_shown_answers_are_compared(project, bob, compared, a, b, words):
    response = signed_in(bob).get(url(project, "difference", compared[0]), {"a": a, "b": b})
    assert response.status_code == 422
    assert words in response.json()["message"]


def test_nobody_compares_another_person_s_answers(project, bob, alice, compared):
    for action in ("difference", "demonstration/difference"):
        path = url(project, action, compared[0])
        client = signed_in(alice)
        answer = client.get(path, {"a": "A", "b": "B"}) if action == "difference" else client.post(path, {"text": "x"})
        assert answer.status_code == 404


def test_answers_of_a_megabyte_are_refused_in_words(project, bob):
    make_task(project, texts=["word " * 200_000, "sword " * 200_000])
    opened(bob, project)
    response = signed_in(bob).get(url(project, "difference", held(bob)), {"a": "A", "b": "B"})
    assert response.status_code == 422
    assert response.json()["message"] == "These answers are too long to be compared: one has 200,000 words."


def test_an_ideal_answer_shows_what_was_changed_in_the_one_it_started_from(project, bob, compared):
    assignment, _, deep = compared
    path = url(project, "demonstration/difference", assignment)
    text = "The sky is very deep blue at dusk.\n    code()"
    html = signed_in(bob).post(path, {"text": text, "edited_from": deep}).content.decode()
    assert "<ins>very</ins>" in html
    assert "<del>" not in html
    same = signed_in(bob).post(path, {"text": text.replace("very ", ""), "edited_from": deep})
    assert "No word differs." in same.content.decode()
    from_nothing = signed_in(bob).post(path, {"text": text})
    assert (from_nothing.status_code, from_nothing.json()["code"]) == (422, "from_nothing")
    assert not Demonstration.objects.exists()
