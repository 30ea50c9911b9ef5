"""Files of many rows: arrays, archives, and the columns that they have."""

import gzip
import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.formats.exporting import SHAPES as EXPORTED
from annotate.formats.exporting import Export, stream_export
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.public import columns_of, recognised
from annotate.formats.importing.reading import open_records
from annotate.formats.importing.shapes import to_row
from tests.annotate.public_rows import PAIRWISE, RANKER
from tests.annotate.rows import build, rank
from tests.conftest import make_task


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
    packed, table = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"prompt": ["D"]}), table)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/", "")
        archive.writestr("README.md", "about")
        archive.writestr("__MACOSX/data/._a.jsonl", "junk")
        archive.writestr("data/a.jsonl", '{"prompt": "A"}\nbroken\n')
        archive.writestr("data/b.csv.gz", gzip.compress(b"prompt\nB\n"))
        archive.writestr("../../c.json", '[{"prompt": "C"}]')
        archive.writestr("d.parquet", table.getvalue())
        archive.writestr("empty.jsonl", "")
        archive.writestr("inner.zip", "PK")
    file = open_records(packed, "all.zip")
    found = [(one.member, one.line, (one.value or {}).get("prompt"), one.original) for one in file.records]
    assert found == [
        ("data/a.jsonl", 1, "A", '{"prompt": "A"}'),
        ("data/a.jsonl", 2, None, "broken"),
        ("data/b.csv.gz", 2, "B", "B"),
        ("../../c.json", 1, "C", '{"prompt": "C"}'),
        ("d.parquet", 1, "D", '{"prompt": "D"}'),
        ("inner.zip", 0, None, "inner.zip"),
    ]
    assert file.share() == 1.0


# Of each shape of an export: what it is recognised as, and how many answers its first row has.
BACK = {
    "ranking": ("ranking", 3),
    "unpaired": ("unpaired", 3),
    "argilla": ("argilla", 3),
    "hh": ("hh", 2),
    "ultrafeedback": ("scored-pairs", 2),
    "reward-bench": ("scored-pairs", 2),
    "preference": ("", 2),
    "preference-conversational": ("", 2),
    "preference-implicit": ("", 2),
    "sft": ("", 1),
}


@pytest.mark.django_db
@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_every_shape_that_is_exported_is_understood(project, alice, bob, format):
    rank(make_task(project, "Sea?", ["Dry", "Wet", "Salty"]), bob, [2, 1, 2])
    version = build(project, alice, test_fraction=0)
    assert set(BACK) == set(EXPORTED)
    for shape, (name, count) in BACK.items():
        content = b"".join(stream_export(version, Export(shape=shape, format=format, split="all")))
        mapping, records = recognised(open_records(io.BytesIO(content), f"a.{format}").records, Mapping())
        row = to_row(next(records).value or {}, mapping)
        assert (shape, mapping.shape, len(row.answers)) == (shape, name, count)
        assert [one["content"] for one in row.messages] == ["Sea?"]
        ranks = row.rankings[0].ranks if count > 1 else (1,)
        assert [one.text for one, place in zip(row.answers, ranks, strict=True) if place == 1] == ["Wet"], shape
