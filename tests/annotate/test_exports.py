"""Exports of a dataset version, loaded as its page says and trained on with TRL."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.urls import reverse

from annotate.formats.exporting import SHAPES, TRAINABLE, loading_lines
from annotate.models import DatasetVersion, Prompt, content_hash
from annotate.services.datasets import Filters
from tests.annotate.rows import build, demonstrate, rank
from tests.conftest import make_task, signed_in
from tests.recipes.tiny import ENVIRONMENT, FORKS, save_tiny_model


def download(user, version: DatasetVersion, shape: str, format: str = "jsonl", split: str = "all"):
    url = reverse("dataset_download", args=[version.project.slug, version.number])
    return signed_in(user).get(url, {"shape": shape, "format": format, "split": split})


def rows(user, version: DatasetVersion, shape: str, split: str = "all") -> list[dict[str, Any]]:
    content = b"".join(download(user, version, shape, split=split).streaming_content).decode()
    return [json.loads(line) for line in content.splitlines()]


def make_turns(task) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *task.prompt.messages]
    Prompt.objects.filter(pk=task.prompt_id).update(messages=messages, content_hash=content_hash(messages))


@pytest.fixture
def version(project, alice, bob) -> DatasetVersion:
    rank(make_task(project, "Sky?", ["Blue", "Red", "None"]), bob, [1, 2, 2])
    rank(make_task(project, "Sea?", ["Wet", "Dry"]), bob, [1, 1], verdict="all_bad")
    rank(make_task(project, "Sun?", ["Hot", "Cold"]), bob, [1, 1])
    demonstrate(project, bob, "Moon?", "Far.")
    return build(project, alice, test_fraction=0)


def test_preferences_leave_out_ties_and_all_bad(version, rita):
    assert rows(rita, version, "preference") == [
        {"prompt": "Sky?", "chosen": "Blue", "rejected": "Red"},
        {"prompt": "Sky?", "chosen": "Blue", "rejected": "None"},
    ]


def test_implicit_and_conversational_preferences_are_messages(version, rita):
    question = [{"role": "user", "content": "Sky?"}]
    blue, red = ([{"role": "assistant", "content": text}] for text in ("Blue", "Red"))
    assert rows(rita, version, "preference-implicit")[0] == {"chosen": question + blue, "rejected": question + red}
    assert rows(rita, version, "preference-conversational")[0] == {"prompt": question, "chosen": blue, "rejected": red}


def test_sft_takes_demonstrations_and_best_completions(version, rita):
    assert [(row["prompt"][0]["content"], row["completion"][0]["content"]) for row in rows(rita, version, "sft")] == [
        ("Moon?", "Far."),
        ("Sky?", "Blue"),
    ]


def test_rankings_are_exported_whole(version, rita):
    exported = {row["prompt"][0]["content"]: row for row in rows(rita, version, "ranking")}
    sky = exported["Sky?"]
    ranks = zip((one["completion"] for one in sky["completions"]), sky["ranks"], strict=True)
    assert dict(ranks) == {"Blue": 1, "Red": 2, "None": 2}
    assert exported["Sea?"]["verdict"] == "all_bad"
    assert len(exported) == 3


def test_a_prompt_of_several_turns_makes_all_preferences_conversational(project, alice, bob):
    task = make_task(project, "Sky?", ["Blue", "Red"])
    make_turns(task)
    rank(task, bob, [1, 2])
    rank(make_task(project, "Sea?", ["Wet", "Dry"]), bob, [1, 2])
    exported = rows(alice, build(project, alice), "preference")
    assert len(exported) == 2
    assert all(isinstance(row["prompt"], list) for row in exported)


def test_splits_divide_the_whole(project, alice, bob):
    for number in range(60):
        rank(make_task(project, f"Question {number}?", ["Yes", "No"]), bob, [1, 2])
    version = build(project, alice, test_fraction=0.5)
    train, test, whole = (rows(alice, version, "preference", split) for split in ("train", "test", "all"))
    assert train
    assert test
    assert len(train) + len(test) == len(whole) == 60
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in test}
    assert (len(train), len(test)) == (version.counts["train_pairs"], version.counts["test_pairs"])


def test_cells_that_look_like_formulas_are_defused(project, alice, bob):
    rank(make_task(project, "=1+1", ["@SUM(A1)", "-2"]), bob, [1, 2])
    content = b"".join(download(alice, build(project, alice), "preference", "csv").streaming_content).decode()
    assert content == "prompt,chosen,rejected\n'=1+1,'@SUM(A1),'-2\n"


def test_a_download_streams_under_a_telling_name(version, rita):
    response = download(rita, version, "preference", "parquet", "train")
    assert response.streaming
    assert response.headers["Content-Disposition"] == 'attachment; filename="tides-v1-preference-train.parquet"'
    parts = list(response.streaming_content)
    assert parts[0] == b"PAR1"
    assert pq.read_table(io.BytesIO(b"".join(parts))).num_rows == 2


def test_an_export_comes_from_the_files_never_from_live_tables(version, project, bob, rita):
    before = rows(rita, version, "ranking")
    rank(make_task(project, "Later?", ["Yes", "No"]), bob, [1, 2])
    assert rows(rita, version, "ranking") == before


@pytest.mark.parametrize(("name", "value"), [("shape", "pickle"), ("format", "../x"), ("split", "validation")])
def test_an_unknown_shape_format_or_split_is_not_found(version, rita, name, value):
    url = reverse("dataset_download", args=[version.project.slug, version.number])
    assert signed_in(rita).get(url, {name: value}).status_code == 404


def test_a_version_without_its_files_says_so(version, rita, storage):
    (storage / version.folder / "rankings.parquet").unlink()
    assert download(rita, version, "ranking").status_code == 404
    page = signed_in(rita).get(reverse("dataset", args=[version.project.slug, version.number]))
    assert "not on the storage" in page.content.decode()


PRELUDE = """
import os, pathlib, sys
os.chdir(sys.argv[1])
import datasets, trl
datasets.disable_progress_bars()
datasets.config.HF_DATASETS_CACHE = pathlib.Path("cache")
SETTINGS = dict(output_dir="out", max_steps=1, per_device_train_batch_size=2, report_to="none", use_cpu=True, bf16=False,
    gradient_checkpointing=False, save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False, max_length=64)
def quick(name):
    trainer = getattr(trl, name + "Trainer")
    class Quick(trainer):
        def __init__(self, model, **options):
            super().__init__(model, args=getattr(trl, name + "Config")(**SETTINGS), **options)
        def train(self):
            result = super().train()
            assert result.global_step == 1, result
            print("trained", name, len(self.train_dataset))
    return Quick
def same(one, other):
    # A spreadsheet's cells have no types, and a text that it would take for a formula has an apostrophe in front.
    return one == other or str(one).removeprefix("'") == str(other)
loaded = {}
def compare(shape, format, data):
    rows = data.to_list()
    first = loaded.setdefault(shape, rows)
    for row, expected in zip(rows, first, strict=True):
        differing = [name for name in expected if not same(row[name], expected[name])]
        assert not differing, (shape, format, differing, row, expected)
    print("loaded", shape, format, len(rows), *sorted(data.column_names))
"""
LOADED = [
    (shape, format)
    for shape in SHAPES
    for format in ("jsonl", "csv", "parquet", "folder")
    if (shape, format) not in (("argilla", "jsonl"), ("argilla", "csv"))
]


def script(version: DatasetVersion, model: Path, trained: set[str], exports: list[tuple[str, str]]) -> str:
    """Runs the very lines that the page shows, for each shape and format, with a quick trainer in place of TRL's."""
    parts = [PRELUDE]
    for shape, format in exports:
        lines = loading_lines(version, shape, format)
        if shape in TRAINABLE and (shape not in trained or format != "jsonl"):
            lines = "\n".join(line for line in lines.splitlines() if "Trainer" not in line)
        for name in ("DPO", "SFT", "KTO"):
            lines = lines.replace(f"from trl import {name}Trainer", f"{name}Trainer = quick({name!r})")
        parts.append(lines.replace('"your-model"', repr(str(model))))
        if (shape, format) == ("preference", "jsonl"):
            parts.append(f'quick("Reward")({str(model)!r}, train_dataset=data).train()')
        parts.append(f"compare({shape!r}, {format!r}, data)")
    return "\n".join(parts)


@pytest.mark.parametrize(
    ("turns", "weights", "trained"),
    [(False, "equal", set(TRAINABLE)), (True, "reliability", {"preference"})],
    ids=["one question", "several turns, weighted"],
)
def test_every_export_loads_and_trains_as_the_page_says(project, alice, bob, tmp_path, turns, weights, trained):
    for number in range(4):
        task = make_task(project, f"Question, {number}?", ["None", 'It is "quoted"\nand long', "NA"])
        if turns:
            make_turns(task)
        rank(task, bob, [1, 2, 3])
    version = build(project, alice, test_fraction=0, filters=Filters(weights=weights))
    # Messages are alike in all formats but CSV, and a folder holds the same files whatever is in them.
    exports = [one for one in LOADED if one[1] in ("jsonl", "csv")] if turns else [*LOADED, ("preference", "jsonl.gz")]
    for shape, format in exports:
        response = download(alice, version, shape, format, "")
        name = response.headers["Content-Disposition"].split('"')[1]
        (tmp_path / name).write_bytes(b"".join(response.streaming_content))
    (tmp_path / "load.py").write_text(script(version, save_tiny_model(tmp_path / "tiny"), trained, exports))
    log = tmp_path / "log.txt"
    code = FORKS.start(str(tmp_path / "load.py"), tmp_path, dict(ENVIRONMENT), log).wait(timeout=280)
    said = log.read_text()
    assert code == 0, said[-4000:]
    expected = {"ranking": 4, "sft": 4, "argilla": 4, "unpaired": 8}
    for shape, format in exports:
        line = next(line for line in said.splitlines() if line.startswith(f"loaded {shape} {format} "))
        assert line.startswith(f"loaded {shape} {format} {expected.get(shape, 12)} ")
        assert ("weight" in line) == (weights == "reliability" or shape in ("ranking",)) or shape == "argilla"
    assert {line.split()[1] for line in said.splitlines() if line.startswith("trained")} == (
        {"DPO", "Reward"} if turns else {"DPO", "Reward", "SFT", "KTO"}
    )
    assert said.count("trained DPO") == (1 if turns else 3)
