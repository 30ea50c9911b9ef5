"""The steps by which a dataset version is chosen: what each drops, in which order, and what is made of what is left."""

import io
import uuid
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from django.core.management import CommandError, call_command

from annotate.formats.versions import screening
from annotate.formats.versions.consensus import Opinion, agree
from annotate.models import (
    Import,
    ImportedRanking,
    Membership,
    Prompt,
    RankedCompletion,
    Ranking,
    RankingTask,
    imported_user,
)
from annotate.quality.tau import mean_tau
from annotate.services.datasets import Filters
from tests.annotate.rows import build, rank, rankings_of
from tests.annotate.test_version_choices import decide, member, ranked
from tests.conftest import make_task

pytestmark = pytest.mark.django_db


def import_ranking(task, ranks, *, annotator="", job=None):
    ranking = Ranking.objects.create(
        project=task.project,
        task=task,
        annotator=imported_user(),
        role="imported",
        token=uuid.uuid4(),
        seconds=0,
    )
    RankedCompletion.objects.bulk_create(
        RankedCompletion(ranking=ranking, completion=completion, rank=place)
        for completion, place in zip(task.completions.order_by("pk"), ranks, strict=True)
    )
    ImportedRanking.objects.create(ranking=ranking, job=job, annotator=annotator)
    return ranking


def questions(version, storage):
    return sorted({row["prompt"][-1]["content"] for row in rankings_of(version, storage)})


def steps(version):
    return [(step["step"], step["dropped"], step["left"]) for step in version.counts["steps"]]


def test_every_step_counts_what_it_dropped_and_what_it_left(project, alice, bob, rita):
    carol = member(project, "carol")
    tasks = {name: make_task(project, name, ["short", "a longer answer"]) for name in ("Agreed?", "Disputed?", "Gold?")}
    tasks["Gold?"].purpose = RankingTask.Purpose.GOLD
    rank(tasks["Agreed?"], bob, [1, 2])
    rank(tasks["Agreed?"], carol, [1, 2])
    rank(tasks["Disputed?"], bob, [1, 2])
    rank(tasks["Disputed?"], carol, [2, 1])
    Ranking.objects.filter(pk=rank(tasks["Gold?"], bob, [1, 2]).pk).update(accuracy=0.5)
    Ranking.objects.filter(pk=rank(tasks["Gold?"], carol, [1, 2]).pk).update(accuracy=1)
    decide(tasks["Disputed?"], alice, [1, 2])
    import_ranking(tasks["Agreed?"], [1, 2])
    version = build(project, rita, filters=Filters(min_agreement=0.5, min_gold_accuracy=0.8, roles=("annotator",)))
    assert steps(version) == [
        ("known_tasks", 2, 6),
        ("decisions", 1, 5),
        ("roles", 1, 4),
        ("min_agreement", 2, 2),
        ("min_gold_accuracy", 1, 1),
    ]
    assert version.counts["dropped"] == {name: dropped for name, dropped, _left in steps(version)}
    nothing = build(project, rita, filters=Filters(min_length=100))
    assert "min_length: 5" in nothing.error
    assert nothing.counts["dropped"]["known_tasks"] == 2


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        (Filters(sources=("other", "imported")), ["Long?", "Rated?", "Tagged?"]),
        (Filters(sources=("other",)), []),
        (Filters(criterion="Clarity"), ["Rated?"]),
        (Filters(criterion="Clarity", min_rating=4), []),
        (Filters(min_rating=3), ["Rated?"]),
        (Filters(min_rating=3, criterion="Depth"), []),
        (Filters(min_length=2), ["Long?"]),
        (Filters(max_length=3), ["Rated?", "Tagged?"]),
        (Filters(tags=("maths",)), ["Tagged?"]),
    ],
)
def test_filters_of_what_was_ranked(project, bob, rita, storage, filters, kept):
    rank(make_task(project, "Long?", ["xxxx", "yyy"]), bob, [1, 2])
    rated = rank(make_task(project, "Rated?", ["x", "y"]), bob, [1, 2])
    RankedCompletion.objects.filter(ranking=rated, rank=1).update(ratings={"Clarity": 3})
    rank(make_task(project, "Tagged?", ["x", "y"]), bob, [1, 2])
    Prompt.objects.filter(messages__0__content="Tagged?").update(tags=["maths", "hard"])
    version = build(project, rita, filters=filters)
    assert (questions(version, storage) if kept else version.state) == (kept or "failed")


def test_imported_rankings_are_in_under_the_names_of_their_file(project, alice, bob, rita, storage):
    task = make_task(project, "Sky?", ["x", "y"])
    job = Import.objects.create(project=project, file="rows.jsonl", file_name="rows.jsonl", created_by=alice)
    rank(task, bob, [1, 2])
    import_ranking(task, [2, 1], annotator="imported-0a1b2c3d", job=job)
    import_ranking(task, [2, 1])
    version = build(project, rita)
    own = Membership.objects.get(user=bob).pseudonym
    rows = rankings_of(version, storage)
    assert {(row["annotator"], row["role"]) for row in rows} == {
        (own, "annotator"),
        ("imported-0a1b2c3d", "imported"),
        ("imported", "imported"),
    }
    assert version.statistics["imports"] == [
        {"import": job.pk, "file_name": "rows.jsonl", "rankings": 1},
        {"import": None, "file_name": "", "rankings": 1},
    ]
    without = build(project, rita, filters=Filters(exclude_annotators=("imported", "imported-0a1b2c3d")))
    assert without.counts["rankings"] == 1


def test_languages_are_told_by_the_last_turn(project, bob, rita, storage):
    for question in (
        "Why does the sky look so blue in the afternoon?",
        "Warum sieht der Himmel am Nachmittag so blau aus?",
        "2 + 2 = ?",
    ):
        rank(make_task(project, question, ["x", "y"]), bob, [1, 2])
    version = build(project, rita, filters=Filters(languages=("de", "fr")))
    assert questions(version, storage) == ["Warum sieht der Himmel am Nachmittag so blau aus?"]
    assert steps(version)[-1] == ("languages", 2, 1)
    assert version.statistics["languages"] == {"": 1, "de": 1, "en": 1}


LONG = "Please tell me in a few words why the sky over the northern sea looks blue on a clear winter afternoon at noon, and why"


def test_of_nearly_equal_prompts_one_stays_whatever_came_first(project, bob, rita, storage):
    texts = [f"{LONG} it is red.", f"{LONG.upper()}, it is red!", f"{LONG} it is red now.", "Something else entirely?"]
    for text in texts:
        rank(make_task(project, text, ["x", "y"]), bob, [1, 2])
    version = build(project, rita, filters=Filters(drop_duplicates=True))
    assert steps(version)[-1] == ("drop_duplicates", 2, 2)
    first = min(Prompt.objects.exclude(messages__0__content=texts[-1]), key=lambda prompt: prompt.content_hash)
    assert questions(version, storage) == sorted([texts[-1], first.messages[0]["content"]])
    # What an earlier version has stays, whatever is found beside it.
    Ranking.objects.filter(task__prompt__messages__0__content=texts[1]).update(
        created_at=datetime(2020, 1, 1, tzinfo=UTC)
    )
    parent = build(project, rita, as_of=datetime(2020, 1, 2, tzinfo=UTC))
    assert questions(parent, storage) == [texts[1]]
    child = build(project, rita, parent=parent, filters=Filters(drop_duplicates=True))
    assert questions(child, storage) == sorted([texts[-1], texts[1]])


def test_prompts_of_the_training_side_do_not_leak_what_is_held_out(project, bob, rita, storage):
    held = {"evaluation": f"{LONG} so?", "short": "What is 7 times 8?"}
    for text in held.values():
        rank(make_task(project, text, ["x", "y"]), bob, [1, 2])
    Prompt.objects.update(tags=["evaluation"])
    examined = build(project, rita, test_fraction=0.5)
    others = [f"Somebody asked me: {LONG.lower()}!", "what is 7 times 8", "What is 7 times 9?", "Fine."]
    for text in others:
        rank(make_task(project, text, ["x", "y"]), bob, [1, 2])
    version = build(project, rita, filters=Filters(held_out="tag:evaluation"), test_fraction=0)
    assert questions(version, storage) == ["Fine.", "What is 7 times 9?"]
    assert steps(version)[-1] == ("held_out", 4, 2)
    assert version.counts["contaminated_prompts"] == 4
    # A version's test side is no leak where it is tested on.
    tested = [row["prompt"][0]["content"] for row in rankings_of(examined, storage) if row["split"] == "test"]
    number = examined.number
    again = build(project, rita, filters=Filters(held_out=f"version:{number}"), test_fraction=0.5, parent=examined)
    sides = {row["prompt"][0]["content"]: row["split"] for row in rankings_of(again, storage)}
    assert {text for text in tested if sides[text] == "test"} == set(tested)
    assert (others[0] in sides and sides[others[0]] == "train") == (held["evaluation"] not in tested)


def test_similar_prompts_have_similar_signatures():
    words = [f"word{number}" for number in range(200)]
    changed = [*words[:100], "other", *words[101:]]
    one, two = (screening.signature(screening.word_hashes(" ".join(text))) for text in (words, changed))
    # 191 of 201 phrases are in both; 128 permutations tell that to some 0.02.
    assert abs((one == two).mean() - 191 / 201) < 0.06
    assert (one == screening.signature(screening.word_hashes(" ".join(words)))).all()
    assert [len(screening.word_hashes(text)) for text in ("It's 2 o'clock.", "你好 world", "_!")] == [5, 3, 0]


def opinion(ranks, *, weight=1.0, is_all_bad=False, **changes):
    return Opinion("a", "annotator", is_all_bad, weight, 10, datetime(2026, 1, 1, tzinfo=UTC), [], ranks, **changes)


def test_a_consensus_is_the_order_of_mean_places():
    first, second = {1: 1, 2: 1, 3: 2}, {1: 2, 2: 1, 3: 3}
    assert agree([opinion(first), opinion(second)]).ranks == {1: 2, 2: 1, 3: 3}
    # (1.5 + 2 · 3) / 3 = 2.5, (1.5 + 2 · 2) / 3 = 1.83…, (3 + 2 · 1) / 3 = 1.66…
    assert agree([opinion(first, weight=0.5), opinion({1: 3, 2: 2, 3: 1})]).ranks == {1: 3, 2: 2, 3: 1}
    assert agree([opinion({1: 1, 2: 2}), opinion({1: 2, 2: 1})]).ranks == {1: 1, 2: 1}
    assert agree([opinion({1: 1, 2: 2}, weight=0.0), opinion({1: 1, 2: 2}, weight=0.0)]).ranks == {1: 1, 2: 2}


def test_a_consensus_is_all_bad_where_most_say_so_and_means_its_ratings():
    good, bad = opinion({1: 1, 2: 2}, ratings={1: {"Clarity": 4}}), opinion({1: 1, 2: 1}, is_all_bad=True)
    half = agree([good, bad])
    assert (half.is_all_bad, half.ranks, half.ratings) == (False, {1: 1, 2: 2}, {1: {"Clarity": 4}, 2: {}})
    assert agree([good, bad, bad]).is_all_bad
    other = opinion({1: 2, 2: 1}, ratings={1: {"Clarity": 1, "Depth": 2}})
    assert agree([good, other]).ratings[1] == {"Clarity": 3, "Depth": 2}


def test_consensus_gives_each_task_one_row_and_decided_ones_their_decision(project, alice, bob, rita, storage):
    carol, dave = member(project, "carol"), member(project, "dave")
    disputed, other = make_task(project, "Sky?", ["x", "y", "z"]), make_task(project, "Sea?", ["x", "y"])
    rank(disputed, bob, [1, 2, 3], reasons=["b"])
    rank(disputed, carol, [1, 3, 2], reasons=["a"], seconds=60)
    rank(disputed, dave, [2, 1, 3])
    rank(other, bob, [1, 2])
    decide(other, alice, [2, 1])
    version = build(project, rita, filters=Filters(decisions="consensus"), test_fraction=0)
    rows = {row["prompt"][0]["content"]: row for row in rankings_of(version, storage)}
    assert {question: (row["role"], ranked(row)) for question, row in rows.items()} == {
        "Sky?": ("consensus", [("x", 1), ("y", 2), ("z", 3)]),
        "Sea?": ("adjudicator", [("x", 2), ("y", 1)]),
    }
    made = rows["Sky?"]
    assert (made["annotator"], made["reasons"], made["seconds"], made["weight"]) == ("consensus", ["a", "b"], 40, 1)
    assert uuid.UUID(made["ranking"]).version == 8
    assert steps(version)[-1] == ("decisions", 3, 2)
    assert version.statistics["annotators"][0]["rankings"] == 1
    assert len(version.statistics["annotators"]) == 4
    with pytest.raises(ValueError, match="no consensus"):
        Filters(decisions="consensus", ideal_on_top=True)


def test_agreement_of_many_tasks_is_that_of_each(project, bob, rita):
    carol, dave = member(project, "carol"), member(project, "dave")
    orders = [[1, 2, 2, 4], [1, 2, 3, 3], [2, 1, 1, 1]]
    task = make_task(project, "Sky?", ["a", "b", "c", "d"])
    for user, order in zip((bob, carol, dave), ([1, 2, 2, 3], [1, 2, 3, 3], [2, 1, 1, 1]), strict=True):
        rank(task, user, order)
    rank(make_task(project, "Alone?", ["a", "b"]), bob, [1, 2])
    tau = mean_tau(orders)
    assert tau
    assert build(project, rita, filters=Filters(min_agreement=tau - 1e-6)).counts["rankings"] == 3
    assert build(project, rita, filters=Filters(min_agreement=tau + 1e-6)).state == "failed"


def test_statistics_describe_what_is_in_the_version(project, bob, rita):
    carol = member(project, "carol")
    task = make_task(project, "Sky?", ["x" * 10, "y" * 30, "z" * 120])
    rank(task, bob, [1, 2, 2])
    rank(task, carol, [1, 2, 3])
    rank(make_task(project, "Sea?", ["x", "y"]), bob, [1, 1], verdict="all_bad")
    found = build(project, rita).statistics
    assert found["length"] == {"edges": [0, 25, 50, 100, 200], "chosen": [4, 1, 0, 0], "rejected": [0, 2, 0, 3]}
    assert (found["tie_rate"], found["all_bad_rate"]) == (pytest.approx(1 / 6), pytest.approx(1 / 3))
    assert (found["k"], found["prompts"]) == ({"2": 1, "3": 2}, 2)
    tau = mean_tau([[1, 2, 2], [1, 2, 3]])
    bins = [int(low <= tau < high) for low, high in pairwise(found["agreement"]["edges"])]
    assert found["agreement"]["tasks"] == bins
    assert found["sources"] == [{"source": "imported", "rankings": 3, "wins": 0, "ties": 0, "losses": 0}]
    assert sum(one["rankings"] for one in found["annotators"]) == 3
    assert "languages" not in found


def test_sources_are_compared_with_each_other_alone(project, bob, rita):
    task = make_task(project, "Sky?", ["x", "y", "z"])
    completion = task.completions.get(text="z")
    completion.source = project.sources.create(name="tuned", kind="checkpoint")
    completion.save()
    rank(task, bob, [2, 1, 1])
    assert build(project, rita).statistics["sources"] == [
        {"source": "imported", "rankings": 1, "wins": 0, "ties": 1, "losses": 1},
        {"source": "tuned", "rankings": 1, "wins": 1, "ties": 1, "losses": 0},
    ]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"roles": ["boss"]}, "roles must be of"),
        ({"min_agreement": 2}, "from -1 to 1"),
        ({"min_gold_accuracy": 80}, "from 0 to 1"),
        ({"min_rating": 6}, "from 0 to 5"),
        ({"languages": ["English"]}, "ISO codes"),
        ({"held_out": "3"}, "version:NUMBER or tag:NAME"),
        ({"min_length": 9, "max_length": 8}, "max_length"),
    ],
)
def test_impossible_filters_are_refused_in_words(values, reason):
    with pytest.raises(ValueError, match=reason):
        Filters.from_json(values)


def test_the_command_takes_the_steps_and_names_the_version(project, bob):
    rank(make_task(project, "Why is the sky blue above the sea?", ["x", "yy"]), bob, [1, 2])
    out = io.StringIO()
    call_command("build_dataset", project.slug, version_tag="latest", stdout=out)
    call_command(
        "build_dataset",
        project.slug,
        parent=1,
        version_tag="latest",
        stratify_by="tag",
        role=["annotator", "imported"],
        language=["en"],
        max_length=2,
        drop_duplicates=True,
        stdout=out,
    )
    version = project.dataset_versions.get(tag="latest")
    assert (version.number, version.parent.number, version.stratify_by) == (2, 1, "tag")
    assert version.filters["languages"] == ["en"]
    for options, reason in (
        ({"parent": 9}, "has no version 9"),
        ({"held_out": "version:9"}, "v9 is none"),
        ({"version_tag": "a b"}, "A tag has letters"),
        ({"max_length": 1}, "max_length: 1"),
    ):
        with pytest.raises(CommandError, match=reason):
            call_command("build_dataset", project.slug, **options)
