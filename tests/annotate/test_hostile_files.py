"""Files made to do harm, or merely absurd: each ends in a clear message, in bounded memory."""

import gzip
import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.formats.importing.errors import FileError, RowError
from annotate.formats.importing.mapping import Mapping
from annotate.formats.importing.reading import open_records
from annotate.formats.importing.records import CUT_OFF, Record
from annotate.formats.importing.shapes import to_row

GOOD = b'{"prompt": "Fine?"}\n'
MB = 1024**2


def test_what_is_endless_is_refused_in_bounded_memory():
    done = subprocess.run([sys.executable, "-m", "tests.annotate.endless"], capture_output=True, text=True, check=True)
    rows = [line.split("|") for line in done.stdout.splitlines()]
    assert [(case, int(taken)) for case, taken, _grown, _said in rows] == [
        ("a line of 100 MB", 2),
        ("a string of 50 MB", 2),
        ("brackets", 0),
        ("a header of columns", 0),
        ("a row of fields", 0),
        ("a quote that never closes", 0),
        ("small values", 0),
        ("depth", 0),
    ]
    for (case, _taken, _grown, said), message in zip(
        rows,
        (
            "longer than 16 MB",
            "longer than 16 MB",
            "breaks off",
            "longer than 1 MB",
            "more than 500000 fields",
            "is not closed",
            "too many values",
            "nested too deeply",
        ),
        strict=True,
    ):
        assert message in said, case
    # All of them together, in one process.
    assert sum(int(grown) for _case, _taken, grown, _said in rows) < 130


def records_of(content: bytes, name: str = "a.jsonl") -> list[Record]:
    return list(open_records(io.BytesIO(content), name).records)


def test_a_line_that_is_too_long_keeps_its_beginning():
    good, bad, last = records_of(GOOD + b"x" * 17 * MB + b"\n" + GOOD)
    assert (good.problem, last.problem, last.line) == (None, None, 3)
    assert bad.original == "x" * 64 * 1024 + CUT_OFF
    assert bad.excerpt == "x" * 500


@pytest.mark.parametrize(
    ("name", "content", "original"),
    [
        ("a.jsonl", b'{"prompt": caf\xe9}\r\n' + GOOD, '{"prompt": caf\ufffd}'),
        ("a.jsonl", GOOD + b'  ["not", "a row"] \n', '  ["not", "a row"] '),
        ("a.csv", b'prompt,b\n"two\nlines","x"y\n', '"two\nlines","x"y'),
        ("a.csv", b"prompt,b\na;\xe9,1,2\r\n", "a;\ufffd,1,2"),
        ("a.json", b'[{"a": 1,\n "b": }, 7]', '{"a": 1,\n "b": }'),
    ],
)
def test_a_refused_row_is_kept_as_it_stands_in_the_file(name, content, original):
    refused = [one for one in records_of(content, name) if one.problem]
    assert refused[0].original == original


def test_a_refused_row_of_parquet_is_kept_as_json():
    stream = io.BytesIO()
    pq.write_table(pa.table({"prompt": [""], "n": [3]}), stream)
    [one] = open_records(stream, "a.parquet").records
    assert json.loads(one.original) == {"prompt": "", "n": 3}


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"prompt": "a", "completions": [{"text": "b", "source": "gpt\u202etxt"}]}, "completions[1].source"),
        ({"prompt": "a", "source": "a\u2066b"}, "source"),
        ({"prompt": "a", "tags": ["a\u202a"]}, "tags"),
        ({"prompt": "a", "tags": ["two\nlines"]}, "tags"),
        (
            {"prompt": "a", "completions": ["b", "c"], "rankings": [{"ranks": [1, 2], "annotator": "\x1b[2J"}]},
            "rankings[1].annotator",
        ),
    ],
)
def test_a_name_that_does_not_look_like_what_it_is_is_refused(row, field):
    with pytest.raises(RowError) as caught:
        to_row(row, Mapping())
    assert caught.value.field == field


def test_texts_may_turn_their_direction_and_names_may_be_of_any_script():
    row = to_row(
        {
            "prompt": "\u202bمرحبا\u202c \u2067שלום\u2069",
            "completions": [{"text": "\u200fنعم", "source": "نموذج\u200f 1"}],
            "tags": ["עברית", "zero\u200dwidth"],
        },
        Mapping(),
    )
    assert row.messages[0]["content"] == "\u202bمرحبا\u202c \u2067שלום\u2069"
    assert row.answers[0].source == "نموذج\u200f 1"


def test_a_value_too_deep_to_be_written_down_refuses_its_row():
    deep: list[object] = []
    for _level in range(5000):
        deep = [deep]
    with pytest.raises(RowError, match="nested too deeply"):
        to_row({"prompt": "a", "reference_answer": deep}, Mapping())


def archive_of(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


def test_an_encrypted_member_is_named_and_the_others_are_read():
    content = bytearray(archive_of(("secret.jsonl", GOOD), ("open.jsonl", GOOD)))
    for sign, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(sign) + flags] |= 1
    first, second = records_of(bytes(content), "a.zip")
    assert first.problem
    assert (first.member, first.problem.reason) == ("secret.jsonl", "The file is encrypted, so it was not read.")
    assert second.value == {"prompt": "Fine?"}


def test_a_member_packed_in_a_way_that_nobody_bounds_is_not_unpacked():
    [one] = records_of(archive_of(("a.jsonl", GOOD), method=zipfile.ZIP_BZIP2), "a.zip")
    assert one.problem
    assert "a method that Podium does not read" in one.problem.reason


def test_a_members_name_is_shown_without_what_hides_in_it():
    [one] = records_of(archive_of(("lnosj.\u202e\x07../etc/x\n.jsonl", GOOD)), "a.zip")
    assert one.member == "lnosj.\ufffd\ufffd../etc/x\ufffd.jsonl"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", b"PK\x03\x04 and nothing more", "no zip archive, or its end is missing"),
        (
            "a.zip",
            b"PK\x06\x06" + struct.pack("<4sLQL4s18x", b"PK\x06\x07", 0, 0, 1, b"PK\x05\x06"),
            "damaged or cut off",
        ),
        ("a.zip", archive_of(("notes.txt", b"a"), ("b/", b"")), "no file that can be imported"),
        ("a.zip", archive_of(("a.jsonl", GOOD * 9))[:-60], "no zip archive, or its end is missing"),
        ("a.zip", archive_of(("zeros.jsonl", b"0" * 80 * MB)), "250 times its size"),
        ("a.zip", archive_of(("zeros.csv.gz", b"0" * 80 * MB)), "250 times its size"),
        ("a.zip", archive_of(*((f"{number}.jsonl", b"") for number in range(10_001))), "more than 10000 files"),
        ("a.zip", archive_of(("a.csv", b"a,a\n1,2\n")), "a.csv: Two columns"),
        ("a.zip", archive_of(("a.parquet", b"PAR1 no")), "a.parquet: The Parquet file is damaged"),
        ("a.jsonl", archive_of(("a.jsonl", GOOD)), "a zip archive"),
        ("a.zip.gz", gzip.compress(b"a", mtime=0), "must end in"),
        ("a.json", b'[{"prompt": "a"}] {"prompt": "b"}', "behind the end of the JSON array"),
        ("a.csv", b"a," * 2000, "more than 1000 columns"),
    ],
    # Archives bear the time, and the tests' names must be the same in every process.
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_a_file_that_does_harm_is_refused_by_its_reason(name, content, message):
    with pytest.raises(FileError) as caught:
        records_of(content, name)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("place", "comment", "message"),
    [(0, 0, "damaged"), (56, 0, "more than 10000 files"), (56, 65535, "more than 10000 files")],
)
def test_a_directory_is_measured_where_it_is_read_from(monkeypatch, place, comment, message):
    """Two records of zip64: the first says one file, the second, right before the end, a million."""
    monkeypatch.setattr(zipfile, "ZipFile", None)
    record = struct.Struct("<4sQ2H2L4Q")
    content = b"".join(
        (
            record.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 53, 0),
            record.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, 10**6, 10**6, 53 * 10**6, 0),
            struct.pack("<4sLQL", b"PK\x06\x07", 0, place, 1),
            struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 53, 0, comment),
            b" " * comment,
        )
    )
    with pytest.raises(FileError, match=message):
        records_of(content, "a.zip")


def test_an_archive_of_zip64_is_read():
    content = archive_of(("a.jsonl", GOOD))
    *_others, count, length, offset, _comment = struct.unpack("<4s4H2LH", content[-22:])
    far = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, offset)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    content = content[:-22] + far + struct.pack("<4sLQL", b"PK\x06\x07", 0, len(content) - 22, 1) + end
    assert [one.value for one in records_of(content, "a.zip")] == [{"prompt": "Fine?"}]


def test_members_that_overlap_are_refused():
    content = bytearray(archive_of(("a.jsonl", GOOD * 99), ("b.jsonl", GOOD * 98)))
    second = content.rfind(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<L", 0)
    with pytest.raises(FileError, match="overlap"):
        records_of(bytes(content), "a.zip")


def test_a_member_whose_content_is_damaged_is_named_after_the_rows_before_it():
    content = bytearray(archive_of(("a.jsonl", GOOD), ("b.jsonl", GOOD * 500)))
    at = content.rfind(b"PK\x03\x04") + 30 + len("b.jsonl")
    content[at + 4 : at + 9] = b"\xff" * 5
    records = open_records(io.BytesIO(content), "a.zip").records
    assert next(records).member == "a.jsonl"
    with pytest.raises(FileError, match=r"b\.jsonl is damaged in the archive"):
        list(records)


def test_what_a_member_says_of_its_size_is_all_that_is_read_of_it():
    """A directory that says 20 bytes of a member that holds 50 MB."""
    content = bytearray(archive_of(("a.jsonl", b"0" * 50 * MB)))
    directory = content.rfind(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<L", 20)
    content[directory + 16 : directory + 20] = struct.pack("<L", zlib.crc32(b"0" * 20))
    [one] = records_of(bytes(content), "a.zip")
    assert one.original == "0" * 20


def test_parquet_of_absurd_depth_or_width_is_refused():
    kind = pa.int32()
    for _level in range(150):
        kind = pa.struct([("a", kind)])
    deep, wide = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.schema([("x", kind)]).empty_table(), deep, store_schema=False)
    pq.write_table(pa.schema([(f"c{number}", pa.int32()) for number in range(1001)]).empty_table(), wide)
    for stream, message in ((deep, "nested"), (wide, "1001 columns")):
        with pytest.raises(FileError, match=message):
            list(open_records(stream, "a.parquet").records)
