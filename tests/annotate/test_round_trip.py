"""What leaves a project as whole rankings comes into another one without loss, and leaves it as it came."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from annotate.formats.exporting import Export, stream_export
from annotate.models import (
    Completion,
    DatasetVersion,
    Import,
    Membership,
    Project,
    RankedCompletion,
    Ranking,
    completion_hash,
)
from tests.annotate.rows import build, rank
from tests.annotate.test_exports import make_turns
from tests.conftest import make_task, make_user

LONG_AGO = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture
def version(project, alice, bob) -> DatasetVersion:
    """Rankings with everything that a ranking may have."""
    carol = make_user("carol")
    Membership.objects.create(project=project, user=carol, role="annotator")
    sky = make_task(
        project, "Why is the sky blue?", ["=SUM(A1)", 'It is "quoted",\nand long', "\u202eodd\u2028 \U0001f30a", "4"]
    )
    Completion.objects.filter(text="4").update(reasoning="<b>2 + 2</b>")
    whole = rank(sky, bob, [2, 1, 1, 3], seconds=12.345, reasons=["Wrong", "Rude"], comment="It’s “fine”,\n=really.")
    for place, ratings in ((2, {"Clarity": 4, "Quality, overall": 1}), (3, {"Clarity": 5})):
        RankedCompletion.objects.filter(ranking=whole, rank=place).update(ratings=ratings)
    rank(sky, carol, [1, 1, 1, 1], verdict="all_bad", seconds=0.5)
    sea = make_task(project, "Why is the sea salty?", ["Rivers", "Fish"])
    make_turns(sea)
    rank(sea, bob, [1, 2])
    rank(make_task(project, "Sun?", ["Hot", "Warm"]), carol, [1, 1])
    for number in range(12):
        rank(make_task(project, f"Question {number}?", ["Yes", "No", "Maybe"]), bob, [2, 3, 1])
    for one in Completion.objects.all():
        # As an import stores them: a version puts a ranking's completions in the order of these.
        Completion.objects.filter(pk=one.pk).update(content_hash=completion_hash(one.text, one.reasoning))
    for at, ranking in enumerate(Ranking.objects.order_by("pk")):
        Ranking.objects.filter(pk=ranking.pk).update(created_at=LONG_AGO + timedelta(hours=at))
    return build(project, alice, test_fraction=0.3)


def rankings(version: DatasetVersion) -> list[dict[str, Any]]:
    """A version's rankings, in an order that no id decides."""
    content = b"".join(stream_export(version, Export(shape="ranking", split="all"))).decode()
    rows = [json.loads(line) for line in content.split("\n") if line]
    return sorted(rows, key=lambda row: (row["prompt_id"], row["created"]))


@pytest.mark.parametrize("format", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_whole_rankings_go_out_and_come_in_without_loss(version, alice, tmp_path: Path, format):
    file = tmp_path / f"rankings.{format}"
    call_command(
        "export_dataset",
        "tides",
        str(version.number),
        "--shape",
        "ranking",
        "--format",
        format,
        "--split",
        "all",
        str(file),
    )
    other = Project.objects.create(slug="copy", name="Copy", created_by=alice)
    call_command("import_prompts", "copy", str(file), verbosity=0)
    job = Import.objects.get(project=other)
    assert (job.shape, job.rows_refused, job.rankings_added) == ("ranking", 0, version.counts["rankings"])

    copy = build(other, alice, test_fraction=version.test_fraction)
    before, after = rankings(version), rankings(copy)
    assert len(before) == len(after) == version.counts["rankings"]
    for left, came in zip(before, after, strict=True):
        # Its id is taken here, by the ranking that it is a copy of; and it is nobody's of this project.
        assert (left.pop("role"), came.pop("role")) == ("annotator", "imported")
        assert left.pop("ranking") != came.pop("ranking")
        assert came == left
    for name in ("rankings", "train", "test", "all_bad", "pairs", "ties", "has_turns"):
        assert copy.counts[name] == version.counts[name]

    call_command("import_prompts", "copy", str(file), verbosity=0)
    again = Import.objects.filter(project=other).latest("pk")
    assert (again.rankings_added, again.prompts_added, again.completions_added) == (0, 0, 0)


def test_where_the_ids_are_free_they_stay(version, alice, tmp_path: Path):
    file = tmp_path / "rankings.jsonl"
    call_command("export_dataset", "tides", "1", "--shape", "ranking", "--split", "all", str(file))
    before = rankings(version)
    for ranking in Ranking.objects.all():
        Ranking.objects.filter(pk=ranking.pk).update(uid=uuid.uuid4())
    other = Project.objects.create(slug="copy", name="Copy", created_by=alice)
    call_command("import_prompts", "copy", str(file), verbosity=0)
    after = rankings(build(other, alice, test_fraction=0.3))
    assert [row["ranking"] for row in after] == [row["ranking"] for row in before]
