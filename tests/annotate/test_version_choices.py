"""What a dataset version does with decisions, reliability, ideal answers and known orders: chosen, recorded, counted."""

import io
import uuid
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from annotate.formats.versions import selection
from annotate.models import DatasetVersion, Membership, RankedCompletion, Ranking, RankingTask
from annotate.services.datasets import Filters
from tests.annotate.rows import build, demonstrate, files_of, rank, rankings_of
from tests.annotate.test_exports import rows as exported
from tests.conftest import make_task, make_user, signed_in

pytestmark = pytest.mark.django_db


def decide(task, reviewer, ranks, **changes):
    """A reviewer's decision as the review page stores it."""
    decision = Ranking.objects.create(
        project=task.project,
        task=task,
        annotator=reviewer,
        role="adjudicator",
        token=uuid.uuid4(),
        seconds=0.5,
        **changes,
    )
    RankedCompletion.objects.bulk_create(
        RankedCompletion(ranking=decision, completion=completion, rank=place)
        for completion, place in zip(task.completions.order_by("pk"), ranks, strict=True)
    )
    return decision


def member(project, name):
    user = make_user(name)
    Membership.objects.create(project=project, user=user, role="annotator")
    return user


@pytest.fixture
def carol(project):
    return member(project, "carol")


@pytest.fixture
def decided(project, alice, bob, carol):
    """One task that bob and carol dispute and alice decided, one that waits for no decision."""
    disputed, other = make_task(project, "Sky?", ["x", "y"]), make_task(project, "Sea?", ["x", "y"])
    rank(disputed, bob, [1, 2])
    rank(disputed, carol, [2, 1])
    rank(other, bob, [1, 2])
    decide(disputed, alice, [2, 1])
    return disputed


def summary(version, storage):
    """(question, role, ranks in the alphabetical order of the answers)"""
    return sorted(
        (row["prompt"][0]["content"], row["role"], [rank for _text, rank in ranked(row)])
        for row in rankings_of(version, storage)
    )


def ranked(row):
    return sorted(zip((one["completion"] for one in row["completions"]), row["ranks"], strict=True))


def test_decisions_are_left_out_unless_they_are_asked_for(project, rita, decided, storage):
    version = build(project, rita)
    assert summary(version, storage) == [
        ("Sea?", "annotator", [1, 2]),
        ("Sky?", "annotator", [1, 2]),
        ("Sky?", "annotator", [2, 1]),
    ]
    assert version.counts["dropped"] == {"decisions": 1}
    assert version.counts["decisions"] == 0


def test_a_decided_task_gives_its_decision_alone(project, rita, decided, storage):
    version = build(project, rita, filters=Filters(decisions="decided", min_seconds=2))
    assert summary(version, storage) == [("Sea?", "annotator", [1, 2]), ("Sky?", "adjudicator", [2, 1])]
    assert version.counts["dropped"] == {"decisions": 2}
    assert (version.counts["decisions"], version.counts["rankings"]) == (1, 2)
    pairs = [(row["prompt"], row["chosen"]) for row in exported(rita, version, "preference")]
    assert sorted(pairs) == [("Sea?", "x"), ("Sky?", "y")]


def test_rankings_per_prompt_counts_people_not_decisions(project, rita, decided, storage):
    enough = build(project, rita, filters=Filters(decisions="decided", min_rankings=2))
    assert summary(enough, storage) == [("Sky?", "adjudicator", [2, 1])]
    assert enough.counts["dropped"] == {"decisions": 2, "min_rankings": 1}
    many = build(project, rita, filters=Filters(decisions="decided", min_rankings=3))
    assert many.state == "failed"
    assert many.counts["dropped"] == {"min_rankings": 4}


def test_a_decision_that_a_filter_drops_settles_nothing(project, alice, rita, decided, storage):
    reviewer = Membership.objects.get(user=alice).pseudonym
    version = build(project, rita, filters=Filters(decisions="decided", exclude_annotators=(reviewer,)))
    assert version.counts["dropped"] == {"exclude_annotators": 1}
    assert version.counts["rankings"] == 3


def test_a_version_as_of_an_earlier_time_has_the_decision_of_then(project, alice, rita, decided, storage):
    first = build(project, rita, filters=Filters(decisions="decided"))
    now = timezone.now()
    Ranking.objects.filter(role="adjudicator").update(is_current=False, withdrawn_at=now)
    decide(decided, alice, [1, 1], revision=2)
    again = build(project, rita, filters=Filters(decisions="decided"), as_of=first.as_of)
    assert files_of(again, storage) == files_of(first, storage)
    later = build(project, rita, filters=Filters(decisions="decided"))
    assert ("Sky?", "adjudicator", [1, 1]) in summary(later, storage)


def test_gold_and_practice_tasks_are_left_out_unless_asked_for(project, bob, rita, storage):
    for purpose in ("ranking", "gold", "practice"):
        task = make_task(project, f"{purpose}?", ["x", "y"])
        rank(task, bob, [1, 2])
        RankingTask.objects.filter(pk=task.pk).update(purpose=purpose)
    version = build(project, rita)
    assert version.counts["dropped"] == {"known_tasks": 2}
    assert [row["prompt"][0]["content"] for row in rankings_of(version, storage)] == ["ranking?"]
    assert build(project, rita, filters=Filters(known_tasks=True)).counts["rankings"] == 3


def test_an_ideal_answer_leads_its_authors_ranking(project, bob, carol, rita, storage):
    task = make_task(project, "Sky?", ["x", "y", "z"])
    rank(task, bob, [1, 2, 2])
    rank(task, carol, [1, 1, 1], verdict="all_bad")
    demonstrate(project, bob, "Sky?", "Better than all.")
    plain = build(project, rita)
    assert all(len(row["completions"]) == 3 for row in rankings_of(plain, storage))
    version = build(project, rita, filters=Filters(ideal_on_top=True))
    by_size = {len(row["completions"]): row for row in rankings_of(version, storage)}
    assert ranked(by_size[4]) == [("Better than all.", 1), ("x", 2), ("y", 3), ("z", 3)]
    assert by_size[4]["completions"][-1]["completion"] == "Better than all."
    assert by_size[4]["ratings"] == [[], [], [], []]
    assert by_size[3]["verdict"] == "all_bad"
    assert (version.counts["ideal_on_top"], version.counts["pairs"], version.counts["all_bad"]) == (1, 5, 1)

    demonstrate(project, carol, "Sky?", "Mine.")
    both = build(project, rita, filters=Filters(ideal_on_top=True))
    better = next(row for row in rankings_of(both, storage) if row["completions"][-1]["completion"] == "Mine.")
    assert (better["ranks"], better["verdict"]) == ([2, 2, 2, 1], "ranked")
    assert (both.counts["all_bad"], both.counts["ideal_on_top"]) == (0, 2)
    again = build(project, rita, filters=Filters(ideal_on_top=True), as_of=version.as_of)
    assert files_of(again, storage) == files_of(version, storage)


def test_an_ideal_answer_that_was_ranked_already_moves_to_the_top_and_a_withdrawn_one_does_not(
    project, bob, rita, storage
):
    task = make_task(project, "Sky?", ["x", "y", "z"])
    rank(task, bob, [1, 1, 2])
    ideal = demonstrate(project, bob, "Sky?", "z")
    (row,) = rankings_of(build(project, rita, filters=Filters(ideal_on_top=True)), storage)
    assert ranked(row) == [("x", 2), ("y", 2), ("z", 1)]
    ideal.withdrawn_at = timezone.now()
    ideal.save()
    (row,) = rankings_of(build(project, rita, filters=Filters(ideal_on_top=True)), storage)
    assert ranked(row) == [("x", 1), ("y", 1), ("z", 2)]


@pytest.fixture
def crowd(project, bob):
    """Five who agree and one who turns each order around, and bob alone on a task of his own."""
    people = [member(project, f"person{number}") for number in range(6)]
    for number in range(12):
        task = make_task(project, f"Question {number}?", ["best", "middle", "worst"])
        for user in people[:5]:
            rank(task, user, [1, 2, 3])
        rank(task, people[5], [3, 2, 1])
    rank(make_task(project, "Alone?", ["x", "y"]), bob, [1, 2])
    return {user.username: Membership.objects.get(user=user).pseudonym for user in [*people, bob]}


def test_reliability_weighs_annotators_and_is_recorded(project, rita, alice, crowd, storage):
    version = build(project, rita, filters=Filters(weights="reliability"), test_fraction=0)
    weights = version.counts["weights"]
    assert weights[crowd["person0"]] > 0.6
    assert weights[crowd["person5"]] == 0
    assert weights[""] == pytest.approx(sum(weights[crowd[f"person{number}"]] for number in range(6)) / 6, abs=1e-3)
    assert crowd["bob"] not in weights
    for row in rankings_of(version, storage):
        assert row["weight"] == weights.get(row["annotator"], weights[""])
    same = build(project, rita, filters=Filters(weights="reliability"), test_fraction=0, as_of=version.as_of)
    assert (same.content_hash, same.counts) == (version.content_hash, version.counts)
    rank(make_task(project, "Later?", ["x", "y"]), alice, [1, 2])
    again = build(project, rita, filters=Filters(weights="reliability"), test_fraction=0, as_of=version.as_of)
    assert files_of(again, storage) == files_of(version, storage)
    equal = build(project, rita, test_fraction=0, as_of=version.as_of)
    assert "weights" not in equal.counts
    assert {row["weight"] for row in rankings_of(equal, storage)} == {1.0}


def test_exports_of_a_weighted_version_carry_the_weights(project, rita, crowd):
    version = build(project, rita, filters=Filters(weights="reliability"), test_fraction=0)
    turned = [row for row in exported(rita, version, "preference") if row["rejected"] == "best"]
    assert {row["weight"] for row in turned} == {0.0}
    assert all("weight" in row for row in exported(rita, version, "sft"))
    equal = build(project, rita, test_fraction=0)
    assert all("weight" not in row for row in exported(rita, equal, "preference"))


def test_a_decision_weighs_one(project, alice, rita, crowd, storage):
    task = RankingTask.objects.get(prompt__messages__0__content="Question 0?")
    decide(task, alice, [1, 2, 3])
    version = build(project, rita, filters=Filters(weights="reliability", decisions="decided"))
    (decision,) = (row for row in rankings_of(version, storage) if row["role"] == "adjudicator")
    assert decision["weight"] == 1.0


def test_nothing_that_leaves_names_a_person(project, alice, bob, rita, carol, decided, storage):
    demonstrate(project, bob, "Sky?", "Ideal.")
    Membership.objects.filter(user=carol).delete()
    version = build(
        project, rita, filters=Filters(decisions="decided", weights="reliability", ideal_on_top=True), test_fraction=0
    )
    people = [alice, bob, rita, carol]
    leaving = b"".join(files_of(version, storage))
    for shape in ("preference", "preference-implicit", "preference-conversational", "ranking", "sft"):
        for format in ("jsonl", "csv", "parquet"):
            url = reverse("dataset_download", args=[project.slug, version.number])
            response = signed_in(rita).get(url, {"shape": shape, "format": format, "split": "all"})
            leaving += b"".join(response)
    for row in rankings_of(version, storage):
        leaving += repr(row).encode()
    page = signed_in(rita).get(reverse("dataset", args=[project.slug, version.number])).content
    for user in people:
        assert user.username.encode() not in leaving
        assert user.email.encode() not in leaving + page


def test_the_form_records_the_choices_and_starts_from_the_projects(project, rita, decided):
    client = signed_in(rita)
    url = reverse("datasets", args=[project.slug])
    assert client.get(url).context["form"]["ideal_on_top"].value() is False
    project.ideal_on_top = True
    project.save()
    assert client.get(url).context["form"]["ideal_on_top"].value() is True
    data = {"test_fraction": "0", "decisions": "decided", "weights": "reliability", "ideal_on_top": "on"}
    assert client.post(url, data).status_code == 302
    version = project.dataset_versions.get()
    chosen = {name: version.filters[name] for name in ("decisions", "weights", "ideal_on_top", "known_tasks")}
    assert chosen == {"decisions": "decided", "weights": "reliability", "ideal_on_top": True, "known_tasks": False}
    bad = client.post(url, {"test_fraction": "0", "weights": "by mood"})
    assert bad.status_code == 422


def test_the_page_says_what_was_chosen_and_what_it_dropped(project, rita, decided):
    version = build(project, rita, filters=Filters(decisions="decided", weights="reliability"))
    html = signed_in(rita).get(reverse("dataset", args=[project.slug, version.number])).content.decode()
    assert "The decision alone" in html
    assert "Everybody who ranked no task that others ranked too" in html
    raw = build(project, rita)
    html = signed_in(rita).get(reverse("dataset", args=[project.slug, raw.number])).content.decode()
    assert "no decisions" in html
    assert "weigh the same" in html


def test_filters_of_before_these_choices_still_read(project):
    assert Filters.from_json({"min_seconds": 2}) == Filters(min_seconds=2)
    for name in ("decisions", "weights"):
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            Filters.from_json({name: "?"})


def test_the_command_takes_the_choices(project, decided):
    out = io.StringIO()
    options = {"decisions": "decided", "weights": "reliability", "ideal_on_top": True, "known_tasks": True}
    call_command("build_dataset", project.slug, **options, stdout=out)
    assert "dropped by decisions: 2" in out.getvalue()
    assert project.dataset_versions.get().filters["weights"] == "reliability"


def test_a_time_before_the_decision_has_the_raw_rankings(project, rita, decided, storage):
    Ranking.objects.filter(role="annotator").update(created_at=timezone.now() - timedelta(days=2))
    version = build(project, rita, filters=Filters(decisions="decided"), as_of=timezone.now() - timedelta(days=1))
    assert version.counts["dropped"] == {}
    assert version.counts["rankings"] == 3


def test_whoever_chooses_among_millions_is_not_taken_for_dead(project, bob, monkeypatch):
    rank(make_task(project), bob, [1, 2, 3, 4])
    left = []

    def looked_at(*args):
        until = DatasetVersion.objects.get().lease_until
        assert until
        left.append(until - timezone.now())
        return run(*args)

    run = selection._run
    monkeypatch.setattr(selection, "_run", looked_at)
    assert build(project, bob, filters=Filters(weights="reliability")).state == "succeeded"
    # Each statement may last that long.
    assert min(left) > timedelta(minutes=5)
