"""What each shape of an export holds, row by row."""

import gzip
import io
import json
import zipfile
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from annotate.formats.exporting import SHAPES, Export, InvalidExport, stream_export
from annotate.formats.exporting.card import measure_agreement
from annotate.models import Completion, DatasetVersion, RankedCompletion
from tests.annotate.rows import build, demonstrate, rank
from tests.conftest import make_task, make_user, signed_in
from training.recipes.unpaired import by_rank


def rows(version: DatasetVersion, **options: Any) -> list[dict[str, Any]]:
    content = b"".join(stream_export(version, Export(**{"split": "all", **options})))
    return [json.loads(line) for line in content.decode().splitlines()]


def files(version: DatasetVersion, **options: Any) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(stream_export(version, Export(**options)))))


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def version(project, alice, bob, rita) -> DatasetVersion:
    sky = make_task(project, "Sky?", ["Blue", "Red", "None"])
    Completion.objects.filter(text="Blue").update(reasoning="I look up.")
    rank(sky, bob, [1, 2, 2])
    rank(make_task(project, "Sea?", ["Wet", "Dry"]), bob, [1, 1], verdict="all_bad")
    rank(make_task(project, "Sun?", ["Hot", "Cold"]), bob, [1, 1])
    demonstrate(project, bob, "Moon?", "Far.")
    return build(project, alice, test_fraction=0)


@pytest.mark.parametrize("desirable", ["middle", "best"])
@pytest.mark.parametrize(
    ("ranks", "verdict"),
    [
        ([1, 2, 3, 4], "ranked"),
        ([2, 1, 2, 3], "ranked"),
        ([1, 1, 2], "ranked"),
        ([1, 2, 2, 2, 3], "ranked"),
        ([1, 1, 1], "ranked"),
        ([1, 1], "all_bad"),
        ([3, 1, 1, 2, 4, 4, 2, 1, 3], "ranked"),
    ],
)
def test_unpaired_labels_are_those_that_kto_learns_from(project, alice, bob, desirable, ranks, verdict):
    texts = [f"Answer {number}" for number in range(len(ranks))]
    rank(make_task(project, "Sky?", texts), bob, ranks, verdict=verdict)
    version = build(project, alice)
    found = rows(version, shape="unpaired", desirable=desirable)
    (whole,) = rows(version, shape="ranking")
    stored = [one["completion"] for one in whole["completions"]]
    expected = [
        (text, label) for text, label in zip(stored, by_rank(whole, desirable), strict=True) if label is not None
    ]
    assert sorted(stored) == sorted(texts)
    assert [(row["completion"][0]["content"], row["label"]) for row in found] == expected
    assert all(row["prompt"] == [{"role": "user", "content": "Sky?"}] for row in found)


def test_rankings_of_different_sizes_stay_in_their_order(project, alice, bob):
    for number, ranks in enumerate(([2, 1], [1, 2, 3], [2, 1], [3, 1, 2, 4])):
        rank(make_task(project, f"{number}?", [f"{number}.{at}" for at in range(len(ranks))]), bob, ranks)
    version = build(project, alice, test_fraction=0)
    whole = rows(version, shape="ranking")
    expected = [
        (row["prompt"][0]["content"], better["completion"], worse["completion"])
        for row in whole
        for rank_, better in sorted(zip(row["ranks"], row["completions"], strict=True), key=lambda one: one[0])
        for other, worse in sorted(zip(row["ranks"], row["completions"], strict=True), key=lambda one: one[0])
        if other > rank_
    ]
    assert len(expected) == 1 + 3 + 1 + 6
    assert [tuple(row.values()) for row in rows(version, shape="preference")] == expected


def test_reasoning_stands_before_the_answer_only_where_it_is_wanted(version):
    assert rows(version)[0]["chosen"] == "Blue"
    assert rows(version, reasoning="drop")[0]["chosen"] == "Blue"
    kept = rows(version, reasoning="keep")
    assert kept[0]["chosen"] == "<think>\nI look up.\n</think>\n\nBlue"
    assert kept[0]["rejected"] == "Red"
    best = rows(version, shape="sft", reasoning="keep")[1]
    assert best["completion"] == assistant("<think>\nI look up.\n</think>\n\nBlue")


def test_reward_bench_names_the_models(version):
    first, second = rows(version, shape="reward-bench")
    assert first == {
        "prompt": "Sky?",
        "chosen": "Blue",
        "rejected": "Red",
        "chosen_model": "imported",
        "rejected_model": "imported",
        "subset": "tides",
        "id": 0,
    }
    assert second["id"] == 1


def test_hh_is_dialogues_in_plain_text(project, alice, bob):
    task = make_task(project, "Sky?", ["Blue", "Red"])
    task.prompt.messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Sky?"},
    ]
    task.prompt.save()
    rank(task, bob, [1, 2])
    (row,) = rows(build(project, alice), shape="hh")
    before = "Be brief.\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Sky?\n\nAssistant: "
    assert row == {"chosen": before + "Blue", "rejected": before + "Red"}


def test_ultrafeedback_scores_by_place_and_by_ratings_where_all_were_rated(project, alice, bob):
    rank(make_task(project, "Sky?", ["Blue", "Red", "None"]), bob, [1, 2, 3])
    rated = rank(make_task(project, "Sea?", ["Wet", "Dry"]), bob, [1, 2])
    for place, ratings in ((1, {"Clarity": 5, "Quality": 4}), (2, {"Clarity": 1})):
        RankedCompletion.objects.filter(ranking=rated, rank=place).update(ratings=ratings)
    found = {row["prompt"]: row for row in rows(build(project, alice), shape="ultrafeedback")}
    sea = found["Sea?"]
    assert (sea["score_chosen"], sea["score_rejected"]) == (9.0, 2.0)
    assert sea["chosen"] == sea["messages"] == [{"role": "user", "content": "Sea?"}, *assistant("Wet")]
    assert len(sea["prompt_id"]) == 64
    scores = [
        (row["score_chosen"], row["score_rejected"])
        for row in rows(build(project, alice), shape="ultrafeedback")
        if row["prompt"] == "Sky?"
    ]
    assert scores == [(10.0, 5.5), (10.0, 1.0), (5.5, 1.0)]


def test_argilla_gets_records_with_a_suggested_order(version):
    found = {row["fields"]["prompt"]: row for row in rows(version, shape="argilla")}
    sky = found["Sky?"]
    fields = sky["fields"]
    assert fields.pop("prompt") == "Sky?"
    assert sorted(fields) == ["completion_1", "completion_2", "completion_3"]
    ranks = {
        fields[name]: int(rank) for name, rank in zip(sorted(fields), sky["metadata"]["ranks"].split(","), strict=True)
    }
    assert ranks == {"Blue": 1, "Red": 2, "None": 2}
    suggested = sky["suggestions"]["ranking"]
    assert fields[suggested["value"][0]] == "Blue"
    assert sorted(suggested["value"]) == sorted(fields)
    assert suggested["agent"] == sky["metadata"]["annotator"]
    assert found["Sea?"]["suggestions"] == {}


def test_each_file_is_the_same_whenever_it_is_made(version):
    for format in ("jsonl.gz", "parquet", "folder", "csv"):
        first, second = (b"".join(stream_export(version, Export(format=format))) for _ in range(2))
        assert first == second
    packed = b"".join(stream_export(version, Export(format="jsonl.gz", split="all")))
    assert gzip.decompress(packed).decode() == "".join(json.dumps(row) + "\n" for row in rows(version))


@pytest.fixture
def large(project, alice, bob) -> DatasetVersion:
    for number in range(60):
        rank(make_task(project, f"Question {number}?", ["Yes", "No", "Maybe", "Never"]), bob, [1, 2, 3, 4])
    return build(project, alice, test_fraction=0.3, note="With a “note”: 1")


def test_parquet_is_cut_into_files_of_a_set_size(large):
    whole = rows(large, split="train")
    archive = files(large, format="parquet", shard_rows=100)
    names = archive.namelist()
    assert names[0] == f"train-00000-of-{len(names):05d}.parquet"
    assert len(names) == -(-len(whole) // 100) > 1
    shards = [pq.read_table(io.BytesIO(archive.read(name))).to_pylist() for name in names]
    assert [len(shard) for shard in shards[:-1]] == [100] * (len(shards) - 1)
    assert [row for shard in shards for row in shard] == whole


def test_a_folder_says_what_it_is(large, project, rita):
    project.description = "Questions about *tides*."
    project.save()
    archive = files(large, format="folder", license="cc-by-4.0")
    assert archive.namelist() == ["README.md", "data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"]
    card = archive.read("README.md").decode()
    for words in (
        'pretty_name: "Tides, version 1"',
        'license: "cc-by-4.0"',
        'size_categories: ["n<1K"]',
        '{"split": "test", "path": "data/test-*.parquet"}',
        "Questions about *tides*.",
        large.content_hash,
        f"| train | {large.counts['train_pairs']} |",
        "With a “note”: 1",
        "agreement is not known",
        "pseudonyms",
    ):
        assert words in card
    assert "bob" not in card


def test_the_card_measures_agreement_as_the_quality_report_does(project, alice, bob, rita):
    people = [bob, *(make_user(f"person{number}") for number in range(3))]
    for number in range(6):
        task = make_task(project, f"Question {number}?", ["a", "b", "c", "d"])
        for at, person in enumerate(people):
            rank(task, person, [1, 2, 3, 4] if (at + number) % 3 else [2, 1, 4, 3])
    rank(make_task(project, "Alone?", ["a", "b"]), bob, [1, 2])
    found = measure_agreement(build(project, alice))
    assert (found.tasks, found.rankings, found.is_sample) == (6, 24, False)

    from annotate.quality.tau import mean_tau

    expected = []
    for number in range(6):
        orders = [[1, 2, 3, 4] if (at + number) % 3 else [2, 1, 4, 3] for at in range(4)]
        expected.append(mean_tau(orders) or 0)
    assert found.tau == pytest.approx(sum(expected) / 6)
    assert 0 < found.alpha < 1

    import krippendorff
    import numpy as np

    table = np.full((4, 24), np.nan)
    for number in range(6):
        for at in range(4):
            table[at, number * 4 : number * 4 + 4] = [1, 2, 3, 4] if (at + number) % 3 else [2, 1, 4, 3]
    assert found.alpha == pytest.approx(krippendorff.alpha(table, level_of_measurement="ordinal"))


def test_the_command_writes_every_kind_of_file(large, tmp_path):
    for name, options in (
        ("pairs.jsonl.gz", ["--format", "jsonl.gz"]),
        ("shards", ["--format", "parquet", "--shard-rows", "100"]),
        ("shards.zip", ["--format", "parquet", "--shard-rows", "100"]),
        ("folder", ["--format", "folder", "--shape", "ranking", "--license", "mit"]),
        ("labels.csv", ["--format", "csv", "--shape", "unpaired", "--desirable", "best", "--reasoning", "keep"]),
    ):
        call_command("export_dataset", "tides", "1", *options, str(tmp_path / name))
    assert zipfile.is_zipfile(tmp_path / "shards.zip")
    assert sorted(path.name for path in (tmp_path / "folder" / "data").iterdir())[1] == "train-00000-of-00001.parquet"
    with zipfile.ZipFile(tmp_path / "shards.zip") as archive:
        assert sorted(archive.namelist()) == sorted(path.name for path in (tmp_path / "shards").iterdir())
    with pytest.raises(CommandError, match="exists already"):
        call_command("export_dataset", "tides", "1", "--format", "folder", str(tmp_path / "folder"))
    with pytest.raises(CommandError, match="shard_rows must be 0 or from 100"):
        call_command("export_dataset", "tides", "1", "--format", "parquet", "--shard-rows", "7", str(tmp_path / "x"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "options",
    [
        {"shard_rows": 5, "format": "parquet"},
        {"shard_rows": 1000},
        {"reasoning": "maybe"},
        {"desirable": "ratings"},
        {"license": "My own words"},
    ],
)
def test_an_impossible_choice_is_refused(options):
    with pytest.raises(InvalidExport) as refused:
        Export(**options)
    assert refused.value.field in options


@pytest.mark.parametrize("shape", SHAPES)
def test_a_version_without_rankings_gives_files_without_rows(project, alice, bob, shape):
    demonstrate(project, bob, "Moon?", "Far.")
    version = build(project, alice, test_fraction=0)
    count = 1 if shape == "sft" else 0
    assert len(rows(version, shape=shape)) == count
    archive = files(version, shape=shape, format="folder")
    assert pq.read_table(io.BytesIO(archive.read("data/train-00000-of-00001.parquet"))).num_rows == count


def test_the_page_offers_every_shape(large, rita):
    page = signed_in(rita).get(reverse("dataset", args=["tides", 1])).content.decode()
    for shape in SHAPES:
        assert shape in page
