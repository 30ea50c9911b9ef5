"""Rows whose order is known become gold and practice tasks."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.models import Import, KnownOrder, Prompt, RankingTask
from annotate.services.overlap import ENDLESS
from tests.annotate.test_import_rows import GOOD, take, take_lines

pytestmark = pytest.mark.django_db


def known_texts() -> dict[str, int]:
    """{the text: its known rank} of the one known order."""
    known = KnownOrder.objects.get()
    return {one.text: known.ranks[str(one.pk)] for one in known.task.completions.all()}


def test_a_row_with_a_known_order_becomes_gold(project, tmp_path):
    row = {"prompt": "Why?", "completions": ["worst", "best", "middle", "as bad"], "known_order": [4, 1, 2, 4]}
    job = take_lines(project, tmp_path, row, GOOD)
    assert (job.state, job.tasks_added, job.rows_refused) == (Import.State.SUCCEEDED, 2, 0)
    task = RankingTask.objects.get(purpose="gold")
    assert (task.overlap, task.leased, task.submitted) == (ENDLESS, 0, 0)
    assert known_texts() == {"best": 1, "middle": 2, "worst": 3, "as bad": 3}
    assert task.known_order.created_by is None
    assert Prompt.objects.get(pk=task.prompt_id).metadata == {}
    assert RankingTask.objects.get(purpose="ranking").overlap == 1


def test_practice_and_its_explanation_come_along_from_csv_and_parquet(project, tmp_path):
    row = {"known_order": [2, 1], "purpose": "practice", "explanation": "**Shorter** is better."}
    path = tmp_path / "practice.csv"
    path.write_text(
        "prompt,completion_1,completion_2,known_order,purpose,explanation\n"
        f'Why?,long,short,"[2, 1]",practice,{row["explanation"]}\n'
    )
    assert take(project, path).tasks_added == 1
    table = pa.table({"prompt": ["How?"], "completions": [["long", "short"]], **{k: [v] for k, v in row.items()}})
    pq.write_table(table, tmp_path / "practice.parquet")
    assert take(project, tmp_path / "practice.parquet").tasks_added == 1
    for known in KnownOrder.objects.select_related("task"):
        assert (known.task.purpose, known.explanation) == ("practice", "**Shorter** is better.")
        assert sorted(known.ranks.values()) == [1, 2]


def test_purpose_and_explanation_alone_mean_what_the_file_means_by_them(project, tmp_path):
    job = take_lines(project, tmp_path, {**GOOD, "purpose": "chat", "explanation": 7, "known_order": None})
    assert job.tasks_added == 1
    assert Prompt.objects.get().metadata == {"purpose": "chat", "explanation": 7}


def test_a_task_that_is_there_stays_as_it_is(project, tmp_path):
    take_lines(project, tmp_path, GOOD)
    job = take_lines(project, tmp_path, {**GOOD, "known_order": [1, 2]})
    assert (job.tasks_added, job.duplicates) == (0, 1)
    assert RankingTask.objects.get().purpose == "ranking"


@pytest.mark.parametrize(
    ("more", "field", "reason"),
    [
        ({"known_order": "first"}, "known_order", "whole numbers from 1 (best) to 9"),
        ({"known_order": [1, "2"]}, "known_order", "whole numbers from 1 (best) to 9"),
        ({"known_order": [0, 1]}, "known_order", "whole numbers from 1 (best) to 9"),
        ({"known_order": [1, 1.5]}, "known_order", "whole numbers from 1 (best) to 9"),
        ({"known_order": [True, 2]}, "known_order", "whole numbers from 1 (best) to 9"),
        ({"known_order": [1, 10]}, "known_order", "whole numbers from 1 (best) to 9"),
        ({"known_order": {"1": 2}}, "known_order", "whole numbers from 1 (best) to 9"),
        ({"known_order": []}, "known_order", "0 places for 2 completions"),
        ({"known_order": [1, 2, 3]}, "known_order", "3 places for 2 completions"),
        ({"known_order": [2, 2]}, "known_order", "must be better than another"),
        ({"known_order": [1, 2], "completions": ["same", "same"]}, "known_order", "are the same"),
        ({"known_order": [1], "completions": ["one"]}, "known_order", "must be better than another"),
        ({"known_order": [1, 2], "purpose": "silver"}, "purpose", "gold or practice"),
        ({"known_order": [1, 2], "purpose": ["gold"]}, "purpose", "gold or practice"),
        ({"known_order": [1, 2], "explanation": 7}, "explanation", "Must be text"),
        ({"known_order": [1, 2], "explanation": "x" * 20_001}, "explanation", "at most 20,000"),
        ({"known_order": [1, 2], "explanation": "a\0b"}, "explanation", "NUL"),
    ],
)
def test_a_bad_known_order_is_refused_by_line_and_reason(project, tmp_path, more, field, reason):
    row = {"prompt": "Why?", "completions": ["a", "b"], **more}
    job = take_lines(project, tmp_path, GOOD, json.dumps(row).encode())
    refused = job.refused.get()
    assert (refused.line, refused.field) == (2, field)
    assert reason in refused.reason
    assert (job.tasks_added, KnownOrder.objects.count()) == (1, 0)
