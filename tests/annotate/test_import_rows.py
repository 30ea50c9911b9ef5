"""What files and rows are understood, and how each bad one is named."""

import contextlib
import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command

from annotate.formats.importing.reading import open_records
from annotate.models import Completion, Import, Prompt, RankingTask

USER = [{"role": "user", "content": "Why is the sea salty?"}]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def take(project, path: Path, **options) -> Import:
    """Import a file by command; a failed import is returned too."""
    with contextlib.suppress(CommandError):
        call_command("import_prompts", project.slug, path, stdout=io.StringIO(), **options)
    return Import.objects.latest("pk")


def take_lines(project, tmp_path, *lines: bytes | dict[str, Any], name: str = "rows.jsonl") -> Import:
    path = tmp_path / name
    content = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return take(project, path)


GOOD = {"prompt": "Fine?", "completions": ["Yes", "No"]}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why is the sea salty?", "completions": ["Rivers.", "Rain."]},
        {"prompt": USER, "completions": [said("Rivers."), said("Rain.")]},
        {"prompt": USER, "completions": [{"text": "Rivers.", "source": "imported"}, {"completion": "Rain."}]},
        {"prompt": USER, "completion_1": "Rivers.", "completion_2": "Rain.", "completion_3": None},
        {"prompt": USER, "response_1": said("Rivers."), "response_2": said("Rain.")},
        {"prompt": "Why is the sea salty?", "chosen": "Rivers.", "rejected": "Rain."},
        {"prompt": USER, "chosen": said("Rivers."), "rejected": said("Rain.")},
        {"prompt": "Why is the sea salty?", "chosen": USER + said("Rivers."), "rejected": USER + said("Rain.")},
        {"chosen": USER + said("Rivers."), "rejected": USER + said("Rain.")},
    ],
)
def test_every_shape_becomes_the_same_task(project, tmp_path, row):
    job = take_lines(project, tmp_path, row)
    assert (job.state, job.error) == ("succeeded", "")
    task = RankingTask.objects.get()
    assert task.prompt.messages == USER
    assert sorted(task.completions.values_list("text", flat=True)) == ["Rain.", "Rivers."]


@pytest.mark.parametrize("row", [{"prompt": "Why?"}, {"messages": [{"role": "user", "content": "Why?"}]}])
def test_a_prompt_alone_is_stored_without_a_task(project, tmp_path, row):
    job = take_lines(project, tmp_path, row)
    assert (job.prompts_added, job.tasks_added, job.notes["without"]) == (1, 0, 1)


@pytest.mark.parametrize(
    "row", [{"prompt": "Why?", "completion": "So."}, {"messages": [{"role": "user", "content": "Why?"}, *said("So.")]}]
)
def test_one_completion_only_is_kept_but_makes_no_task_and_is_counted(project, tmp_path, row):
    job = take_lines(project, tmp_path, row)
    assert (job.state, job.completions_added, job.tasks_added, job.notes["single"]) == ("succeeded", 1, 0, 1)


def test_everything_beside_the_answer_is_kept(project, tmp_path):
    take_lines(
        project,
        tmp_path,
        {
            "prompt": [{"role": "system", "content": "Be brief."}, *USER],
            "completions": [
                {
                    "text": "<think>Rivers carry salt.</think>Rivers.",
                    "model": "small",
                    "sampling": {"temperature": 0.7},
                },
                {"text": "Rain.", "reasoning": "Guess.", "source": "large"},
            ],
            "tags": ["sea", "science"],
            "metadata": {"level": 2},
            "reference_answer": "Rivers bring salt.",
            "topic": "oceans",
        },
    )
    prompt = Prompt.objects.get()
    assert (prompt.tags, prompt.metadata) == (["sea", "science"], {"level": 2, "topic": "oceans"})
    assert prompt.reference_answer == "Rivers bring salt."
    assert list(
        Completion.objects.order_by("pk").values_list("text", "reasoning", "sampling", "source__name", "source__kind")
    ) == [
        ("Rivers.", "Rivers carry salt.", {"temperature": 0.7}, "small", "import"),
        ("Rain.", "Guess.", {}, "large", "import"),
    ]


def test_columns_of_any_name_can_be_mapped(project, tmp_path):
    path = tmp_path / "solutions.jsonl.gz"
    rows = [
        {
            "question": f"{number} + {number}?",
            "ground_truth": str(2 * number),
            "6b": {"is_correct": False, "solution": "3"},
            "175b": {"is_correct": True, "solution": str(2 * number)},
        }
        for number in range(3)
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    job = take(
        project,
        path,
        prompt_column="question",
        completion_column=["6b.solution", "175b.solution"],
        reference_column="ground_truth",
    )
    assert (job.state, job.tasks_added, job.rows_refused) == ("succeeded", 3, 0)
    assert set(Completion.objects.values_list("source__name", flat=True)) == {"6b", "175b"}
    assert Prompt.objects.get(reference_answer="4").metadata == {
        "6b": {"is_correct": False},
        "175b": {"is_correct": True},
    }


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        (b'{"prompt": "a"', "", "Not valid JSON"),
        (b'{"prompt": "a", "x": NaN}', "", "NaN is no JSON value"),
        (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "", "nested too deeply"),
        (b'{"prompt": 7, "x": ' + b"[" * 900 + b"]" * 900 + b"}", "prompt", "Must be text"),
        (b'{"prompt": "caf\xe9"}', "", "Not valid UTF-8 at byte 16"),
        (b'["prompt"]', "", "must be a JSON object"),
        (b'{"prompt": "a", "big": 1e999}', "metadata", "JSON has no form for"),
        (b'{"prompt": "\\ud800"}', "prompt", "lone surrogate"),
        (b'{"prompt": "a", "note": "\\ud800"}', "metadata", "JSON has no form for"),
        (b'{"prompt": "a\\u0000b"}', "prompt", "NUL"),
        (b'{"prompt": "a", "note": "\\u0000"}', "metadata", "NUL"),
        ({"prompt": ""}, "prompt", "Is empty."),
        ({"prompt": "  \n"}, "prompt", "Is empty."),
        ({"prompt": 7}, "prompt", "Must be text, not a number."),
        ({"prompt": None}, "prompt", "Must be text, not nothing."),
        ({"prompt": []}, "prompt", "Must be a list of messages"),
        ({"prompt": said("Hello")}, "prompt", "Must end with a message of the user."),
        ({"prompt": [{"role": "robot", "content": "a"}]}, "prompt[1].role", "Must be one of system, user, assistant."),
        ({"prompt": [{"role": "user", "content": [1]}]}, "prompt[1].content", "Must be text, not a list."),
        ({"prompt": "a", "completions": ["b", ""]}, "completions[2]", "Is empty."),
        ({"prompt": "a", "completions": ["b", 3]}, "completions[2]", "Must be text, not a number."),
        ({"prompt": "a", "completions": "b"}, "completions", "Must be a list."),
        ({"prompt": "a", "completions": [{"words": "b"}]}, "completions[1]", "Must have its text in"),
        ({"prompt": "a", "completions": ["b", "<think>endless"]}, "completions[2]", "Has reasoning but no answer."),
        ({"prompt": "a", "completions": ["b", "c" * 1_000_001]}, "completions[2]", "Is 1,000,001 bytes long"),
        ({"prompt": "a", "completions": ["b", "é" * 500_001]}, "completions[2]", "Is 1,000,002 bytes long"),
        ({"prompt": "a", "completions": [str(n) for n in range(10)]}, "completions", "10 completions; a task has 9"),
        ({"prompt": "a", "completions": [USER]}, "completions[1]", "one message of the assistant"),
        ({"prompt": "a", "tags": ["x" * 61]}, "tags", "Is 61 bytes long"),
        ({"prompt": "a", "priority": 10**400}, "priority", "Must be a whole number from"),
        ({"prompt": "a", "metadata": [1]}, "metadata", "Must be an object."),
        ({"prompt": "a", "metadata": {"x": "y" * 70_000}}, "metadata", "at most 65536"),
        ({"chosen": USER + said("a"), "rejected": said("b")}, "rejected", "must share all messages"),
        ({"chosen": "a", "rejected": "b"}, "prompt", "needs a prompt"),
        ({"question": "a"}, "prompt", "the row has question; expected are prompt"),
    ],
)
def test_a_bad_row_is_named_by_line_field_and_reason_and_the_others_are_taken(project, tmp_path, line, field, reason):
    job = take_lines(project, tmp_path, GOOD, b"", line, {"prompt": "Also fine?"})
    assert (job.state, job.error) == ("succeeded", "")
    refused = job.refused.get()
    assert (refused.line, refused.field) == (3, field)
    assert reason in refused.reason
    assert (job.rows_read, job.rows_refused, job.prompts_added) == (3, 1, 2)


def test_a_line_beyond_the_limit_is_skipped_and_named(project, tmp_path, monkeypatch):
    monkeypatch.setattr("annotate.formats.importing.lines.MAX_LINE", 1000)
    monkeypatch.setattr("annotate.formats.importing.reading.CHUNK", 64)
    job = take_lines(project, tmp_path, GOOD, b"x" * 5000, {"prompt": "After"}, b"y" * 5000)
    assert (job.state, job.prompts_added) == ("succeeded", 2)
    assert list(job.refused.values_list("line", "reason")) == [
        (2, "The line is longer than 16 MB."),
        (4, "The line is longer than 16 MB."),
    ]


def test_a_file_without_known_columns_is_refused_whole_naming_them(project, tmp_path):
    job = take_lines(project, tmp_path, *({"question": "a", "answer": "b"} for _ in range(30)))
    assert job.state == "failed"
    assert "question, answer" in job.error
    assert "expected are prompt, messages" in job.error
    assert not Prompt.objects.exists()


def test_a_file_of_bad_rows_alone_fails(project, tmp_path):
    job = take_lines(project, tmp_path, *([b"\x00\x01\x02 not a row"] * 5))
    assert (job.state, job.rows_refused) == ("failed", 5)
    assert "None of the file's rows" in job.error


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.jsonl", b"", "The file is empty."),
        ("a.jsonl", b"\n\n \n", "The file has no rows."),
        ("a.json", b'{\n "prompt": "a"\n}', "one JSON object over many lines"),
        ("a.json", b'[{"prompt": "a"},', "breaks off"),
        ("a.jsonl", b"PK\x03\x04abc", "a zip archive"),
        ("a.jsonl", '{"prompt": "a"}'.encode("utf-16"), "UTF-16"),
        ("a.jsonl", b"PAR1abc", "The file is Parquet"),
        ("a.jsonl.gz", b'{"prompt": "a"}', "not gzip-compressed"),
        ("a.csv", b"prompt,prompt\na,b\n", "the same name: prompt, prompt"),
        ("a.parquet", b"PAR1 and nothing more", "damaged or cut off"),
        ("a.parquet", b"no parquet", "no Parquet file"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(project, tmp_path, name, content, error):
    (tmp_path / name).write_bytes(content)
    job = take(project, tmp_path / name)
    assert job.state == "failed"
    assert error in job.error


def many(count: int) -> bytes:
    return b"".join(
        json.dumps({"prompt": f"{n} {n * 7919}?", "completions": ["a", "b"]}).encode() + b"\n" for n in range(count)
    )


def test_rows_before_the_break_of_a_gzip_file_are_kept(project, tmp_path):
    packed = gzip.compress(many(5000))
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    job = take(project, tmp_path / "cut.jsonl.gz")
    assert job.state == "failed"
    assert "breaks off" in job.error
    assert 1000 < job.tasks_added == job.rows_read < 5000
    assert job.rows_refused == 0


def test_damage_inside_a_gzip_file_is_named(project, tmp_path):
    packed = bytearray(gzip.compress(many(5000)))
    packed[len(packed) // 2] ^= 0xFF
    packed[len(packed) // 2 + 1] ^= 0xFF
    (tmp_path / "bad.jsonl.gz").write_bytes(packed)
    job = take(project, tmp_path / "bad.jsonl.gz")
    assert job.state == "failed"
    assert "damaged" in job.error


def test_several_gzip_files_in_a_row_are_one(project, tmp_path):
    (tmp_path / "two.jsonl.gz").write_bytes(
        gzip.compress(many(3)) + gzip.compress(b'{"prompt": "last"}\n') + b"\0" * 512
    )
    job = take(project, tmp_path / "two.jsonl.gz")
    assert (job.state, job.rows_read) == ("succeeded", 4)


def test_a_decompression_bomb_is_stopped(project, tmp_path, monkeypatch):
    monkeypatch.setattr("annotate.formats.importing.lines.RATIO_CHECKED_FROM", 1_000_000)
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b"0" * 20_000_000))
    job = take(project, tmp_path / "bomb.jsonl.gz")
    assert job.state == "failed"
    assert "unpacks to more than 250 times" in job.error


def test_csv_holds_text_and_json(project, tmp_path):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", "completion_1", "completion_2", "completion_3", "tags"])
        writer.writerow(["Plain, with a comma\nand a line", "One", "Two", "", "a, b"])
        writer.writerow([json.dumps(USER), json.dumps(said("Rivers.")), "Rain.", "", ""])
        writer.writerow(["[1, 2] is a list?", "Yes", "No", "Maybe", ""])
    job = take(project, path)
    assert (job.state, job.tasks_added, job.rows_refused) == ("succeeded", 3, 0)
    assert sorted(prompt.messages[0]["content"] for prompt in Prompt.objects.all()) == [
        "Plain, with a comma\nand a line",
        "Why is the sea salty?",
        "[1, 2] is a list?",
    ]
    assert Prompt.objects.get(tags=["a", "b"]).completions.count() == 2


def test_csv_rows_with_wrong_fields_quotes_or_bytes_are_named(project, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(
        b"prompt;completion_1;completion_2\n"
        b"good;a;b\n"
        b"short;a\n"
        b'quote;"a"x;b\n'
        b"caf\xe9;a;b\n"
        b"nul\x00;a;b\n"
        b"good too;a;b\n"
        b'open;"a;b\nswallowed;a;b\n'
    )
    job = take(project, path)
    assert (job.state, job.tasks_added) == ("succeeded", 2)
    reasons = dict(job.refused.values_list("line", "reason"))
    assert reasons[3] == "The row has 2 fields where the header has 3."
    assert reasons[4].startswith("Wrong quoting")
    assert reasons[5] == "Not valid UTF-8."
    assert reasons[6] == "Contains a NUL character."
    assert "lines 8 to 9 were left out" in reasons[8]


def test_parquet_with_nested_columns_is_read(project, tmp_path):
    rows = [{"prompt": USER, "completions": [said("Rivers."), said("Rain.")], "tags": ["sea"], "level": None}]
    rows += [{"prompt": [{"role": "user", "content": ""}], "completions": [], "tags": [], "level": 3}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    job = take(project, tmp_path / "rows.parquet")
    assert (job.state, job.tasks_added) == ("succeeded", 1)
    assert list(job.refused.values_list("line", "field")) == [(2, "prompt[1].content")]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row_group_size": 7},
        {"use_dictionary": False},
        {"use_dictionary": False, "column_encoding": {"prompt": "DELTA_BYTE_ARRAY", "n": "DELTA_BINARY_PACKED"}},
    ],
)
def test_parquet_rows_come_as_they_were_written(tmp_path, options):
    rows = [
        {
            "prompt": f"Question {number % 5}?",
            "m": [{"a": [number, 2], "b": None}],
            "n": number,
            "t": ["x"] * (number % 3),
        }
        for number in range(300)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", **options)
    with (tmp_path / "rows.parquet").open("rb") as stream:
        assert [one.value for one in open_records(stream, "rows.parquet").records] == rows


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False, "column_encoding": {"prompt": "DELTA_BYTE_ARRAY"}}])
def test_a_parquet_text_repeated_in_every_row_is_never_held_often(tmp_path, options):
    path = tmp_path / "rows.parquet"
    table = pa.table({"prompt": pa.array(["q" * 10_000_000] * 4).take(pa.array([0] * 50))})
    pq.write_table(table, path, data_page_size=1024, **options)
    assert path.stat().st_size < 1_000_000
    del table
    script = """
import resource, sys
from annotate.formats.importing.reading import open_records
records = open_records(open(sys.argv[1], "rb"), "a.parquet").records
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(len(one.value["prompt"]) for one in records), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    read, grown = map(int, done.stdout.split())
    assert read == 50 * 10_000_000
    assert grown < 200 * 1024


def test_a_parquet_row_beyond_the_limit_is_skipped_and_named(project, tmp_path):
    prompts = pa.DictionaryArray.from_arrays(pa.array([0] * 300 + [1]), pa.array(["q" * 17 * 1024**2, "Fine?"]))
    pq.write_table(pa.table({"prompt": prompts}), tmp_path / "rows.parquet", compression="none")
    job = take(project, tmp_path / "rows.parquet")
    assert (job.rows_read, job.rows_refused, job.prompts_added) == (301, 300, 1)
    assert "longer than 16 MB" in job.refused.earliest("pk").reason


def test_a_parquet_file_that_packs_too_well_is_refused(project, tmp_path):
    pq.write_table(pa.table({"prompt": ["q" * 80 * 1024**2]}), tmp_path / "rows.parquet", compression="zstd")
    assert "times its size" in take(project, tmp_path / "rows.parquet").error


def test_a_csv_record_that_never_ends_is_cut_and_the_rows_before_it_are_kept(project, tmp_path, monkeypatch):
    monkeypatch.setattr("annotate.formats.importing.tables.MAX_LINE", 1000)
    (tmp_path / "rows.csv").write_text('prompt,note\nFine?,yes\nx,"\n' + 'x","\n' * 600 + '"\nGood?,yes\n')
    job = take(project, tmp_path / "rows.csv")
    assert Prompt.objects.filter(messages__0__content__in=["Fine?", "Good?"]).count() == 2
    refused = job.refused.earliest("pk")
    assert refused.line == 3
    assert "lines 3 to" in refused.reason


def test_a_damaged_parquet_page_is_named(project, tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": [f"{n} why {n * 7919}?" for n in range(20_000)]}), path, row_group_size=5000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4000] = b"\xff" * 4000
    path.write_bytes(content)
    job = take(project, path)
    assert job.state == "failed"
    assert "damaged after row" in job.error


def test_the_command_names_what_is_wrong(project, tmp_path):
    with pytest.raises(CommandError, match="There is no project “nowhere”"):
        call_command("import_prompts", "nowhere", tmp_path / "rows.jsonl")
    with pytest.raises(CommandError, match="No such file"):
        call_command("import_prompts", project.slug, tmp_path / "missing.jsonl")
    with pytest.raises(CommandError, match="must end in"):
        call_command("import_prompts", project.slug, tmp_path / "rows.txt")


def test_the_command_reports_counts_and_refusals(project, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(GOOD) + '\n{"prompt": ""}\n')
    out = io.StringIO()
    call_command("import_prompts", project.slug, tmp_path / "rows.jsonl", stdout=out)
    assert "2 rows read: 1 prompts, 2 completions, 1 tasks" in out.getvalue()
    assert "line 2: prompt: Is empty." in out.getvalue()
