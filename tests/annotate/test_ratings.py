"""Ratings per criterion, given after the order."""

import json

import pytest

from annotate.models import Ranking
from tests.annotate.ranking_page import check_counts, held, opened, submit, undo
from tests.conftest import make_task

pytestmark = pytest.mark.django_db

FULL = (["A"], ["B"], ["C"], ["D"])


@pytest.fixture
def rated_project(project):
    project.criteria = ["Clarity", "Tone & style"]
    project.save()
    make_task(project)
    make_task(project, "And at dusk?")
    return project


def stored_ratings(ranking, assignment):
    """{letter: ratings} of each answer, the empty ones too."""
    rated = dict(ranking.ranked_completions.values_list("completion_id", "ratings"))
    return {letter: rated[pk] for letter, pk in zip("ABCD", assignment.shown_order, strict=True)}


def test_ratings_are_asked_for_only_where_the_project_has_criteria(rated_project, bob):
    assert opened(bob, rated_project).content.count(b'role="radiogroup"') == 8
    rated_project.criteria = []
    rated_project.save()
    assert b'role="radiogroup"' not in opened(bob, rated_project).content


def test_ratings_are_stored_with_each_answer_and_come_back_on_undo(rated_project, bob):
    opened(bob, rated_project)
    assignment = held(bob)
    ratings = {"A": {"Clarity": 4, "Tone & style": 1}, "C": {"Clarity": 5}}
    assert submit(bob, assignment, ["C"], ["B", "A"], ["D"], ratings=json.dumps(ratings)).status_code == 200
    ranking = Ranking.objects.get()
    assert stored_ratings(ranking, assignment) == {**ratings, "B": {}, "D": {}}
    draft = undo(bob, rated_project, assignment.token).context["task"]["draft"]
    assert draft["ratings"] == ratings
    assert draft["places"] == [["C"], ["A", "B"], ["D"]]
    check_counts()


def test_the_same_order_again_is_the_same_submission_whatever_its_ratings(rated_project, bob):
    opened(bob, rated_project)
    assignment = held(bob)
    assert submit(bob, assignment, *FULL, ratings='{"A": {"Clarity": 4}}').status_code == 200
    assert submit(bob, assignment, *FULL, ratings='{"A": {"Clarity": 2}}').status_code == 200
    assert stored_ratings(Ranking.objects.get(), assignment)["A"] == {"Clarity": 4}


def test_answers_that_are_all_bad_may_be_rated_and_need_not_be(rated_project, bob):
    rated_project.require_ratings = True
    rated_project.save()
    opened(bob, rated_project)
    assignment = held(bob)
    assert submit(bob, assignment, verdict="all_bad", ratings='{"B": {"Clarity": 1}}').status_code == 200
    assert stored_ratings(Ranking.objects.get(), assignment)["B"] == {"Clarity": 1}


def test_a_project_may_require_every_rating(rated_project, bob):
    rated_project.require_ratings = True
    rated_project.save()
    opened(bob, rated_project)
    ratings = {letter: {"Clarity": 3, "Tone & style": 2} for letter in "ABCD"}
    del ratings["C"]["Tone & style"]
    response = submit(bob, held(bob), *FULL, ratings=json.dumps(ratings))
    assert response.status_code == 422
    assert "Answer C is not rated by “Tone & style” yet." in response.json()["message"]
    assert submit(bob, held(bob), *FULL).status_code == 422
    ratings["C"]["Tone & style"] = 5
    assert submit(bob, held(bob), *FULL, ratings=json.dumps(ratings)).status_code == 200


@pytest.mark.parametrize(
    ("ratings", "words"),
    [
        ('{"E": {"Clarity": 3}}', "no answer “E”"),
        ('{"AB": {"Clarity": 3}}', "no answer “AB”"),
        ('{"A": {"Beauty": 3}}', "“Beauty” is no criterion"),
        ('{"A": {"Clarity": 6}}', "Answer A, Clarity: a rating is a whole number from 1 to 5"),
        ('{"A": {"Clarity": 0}}', "whole number"),
        ('{"A": {"Clarity": 2.5}}', "whole number"),
        ('{"A": {"Clarity": true}}', "whole number"),
        ('{"A": {"Clarity": "3"}}', "whole number"),
        ('{"A": 3}', "could not be read"),
        ("[]", "could not be read"),
        ("{", "could not be read"),
        ("[" * 9000, "could not be read"),
        ('{"A": {"' + "x" * 20_000 + '": 3}}', "20000 characters"),
    ],
)
def test_it_refuses_what_are_no_ratings(rated_project, bob, ratings, words):
    opened(bob, rated_project)
    response = submit(bob, held(bob), *FULL, ratings=ratings)
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert words in response.json()["message"]
    assert not Ranking.objects.exists()
