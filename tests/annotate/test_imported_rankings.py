"""Preferences that a file brings along become imported rankings, once, and nothing of the product trips over them."""

import gzip
import io
import json
import re
import uuid
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotate.models import (
    Import,
    ImportedRanking,
    Project,
    Prompt,
    QualityReport,
    RankedCompletion,
    Ranking,
    RankingTask,
)
from annotate.services import imports, intake
from annotate.services.imports import run_import
from annotate.services.overview import median_seconds
from annotate.tasks import build_quality_report
from tests.annotate.rows import rank
from tests.annotate.test_import_rows import take, take_lines
from tests.annotate.test_imports import claimed, dying_at, imported, lines, queued
from tests.conftest import signed_in

pytestmark = pytest.mark.django_db

PAIR = {"prompt": "Why is the sea salty?", "chosen": "Rivers.", "rejected": "Rain."}


def ranked(*rankings: dict[str, Any], texts: tuple[str, ...] = ("a", "b", "c"), prompt: str = "Why?") -> dict[str, Any]:
    return {"prompt": prompt, "completions": list(texts), "rankings": list(rankings)}


def places() -> list[dict[str, int]]:
    """{text: rank} of each ranking, oldest first."""
    return [
        dict(ranking.ranked_completions.values_list("completion__text", "rank"))
        for ranking in Ranking.objects.order_by("pk")
    ]


def test_a_pair_becomes_an_imported_ranking_and_nobody_is_asked(project, tmp_path):
    job = take_lines(project, tmp_path, PAIR)
    assert (job.state, job.tasks_added, job.rankings_added) == ("succeeded", 1, 1)
    ranking = Ranking.objects.get()
    assert (ranking.role, ranking.assignment, ranking.is_current, ranking.revision) == ("imported", None, True, 1)
    assert (ranking.annotator.username, ranking.annotator.is_active) == ("(imported)", False)
    assert places() == [{"Rivers.": 1, "Rain.": 2}]
    assert (ranking.imported.job, ranking.imported.line, ranking.imported.annotator) == (job, 1, "")
    task = RankingTask.objects.get()
    assert (task.state, task.submitted, task.leased, task.overlap) == ("closed", 0, 0, project.overlap)


@pytest.mark.parametrize(
    ("preferences", "state", "count"), [("keep", "closed", 1), ("ask", "open", 1), ("ignore", "open", 0)]
)
def test_what_becomes_of_preferences_is_a_choice(alice, project, preferences, state, count):
    job = imported(alice, project, "pairs.jsonl", lines(PAIR), preferences=preferences)
    assert (job.rankings_added, Ranking.objects.count()) == (count, count)
    assert RankingTask.objects.get().state == state


def test_a_task_that_is_there_keeps_its_state_and_gains_the_ranking(project, tmp_path):
    take_lines(project, tmp_path, {**PAIR, "chosen": None, "rejected": None, "completions": ["Rain.", "Rivers."]})
    job = take_lines(project, tmp_path, PAIR)
    assert (job.tasks_added, job.rankings_added, job.duplicates) == (0, 1, 0)
    assert RankingTask.objects.get().state == "open"
    assert places() == [{"Rivers.": 1, "Rain.": 2}]


def test_the_same_rankings_again_add_nothing_in_whatever_order_their_completions_come(project, tmp_path):
    rankings: list[dict[str, Any]] = [
        {"ranks": [1, 2, 2], "annotator": "ann@example.org"},
        {"ranks": [1, 2, 2], "annotator": "ben"},
        {"ranks": [3, 1, 2], "annotator": "ben", "ranking": "7"},
        {"verdict": "all_bad"},
    ]
    assert take_lines(project, tmp_path, ranked(*rankings)).rankings_added == 4
    again = take_lines(project, tmp_path, ranked(*rankings))
    assert (again.rankings_added, again.duplicates) == (0, 1)
    turned = take_lines(
        project, tmp_path, ranked({"ranks": [2, 1, 2], "annotator": "ben"}, texts=("c", "a", "b")), name="turned.jsonl"
    )
    assert (turned.rankings_added, turned.duplicates) == (0, 1)
    assert Ranking.objects.count() == 4
    assert Ranking.objects.filter(verdict="all_bad").count() == 1


def test_all_that_a_ranking_says_is_kept(project, tmp_path):
    uid = uuid.uuid4()
    given_one = {
        "ranks": [2, 1, 2],
        "ranking": uid.hex,
        "annotator": "annotator-0123abcd",
        "reasons": ["Correct"],
        "comment": "b is right",
        "seconds": 12.5,
        "created": "2024-05-01T10:00:00Z",
        "ratings": [{}, {"Clarity": 4}, {"Clarity": 2}],
    }
    take_lines(project, tmp_path, ranked(given_one))
    ranking = Ranking.objects.get()
    assert (ranking.uid, ranking.reasons, ranking.comment, ranking.seconds) == (uid, ["Correct"], "b is right", 12.5)
    assert ranking.created_at == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert dict(ranking.ranked_completions.values_list("completion__text", "ratings")) == {
        "a": {},
        "b": {"Clarity": 4},
        "c": {"Clarity": 2},
    }
    assert (ranking.imported.annotator, ranking.imported.original) == ("annotator-0123abcd", uid.hex)


def test_a_ranking_from_the_future_is_from_now(project, tmp_path):
    soon = (timezone.now() + timedelta(hours=5)).isoformat()
    take_lines(project, tmp_path, ranked({"ranks": [1, 2, 3], "created": soon}))
    assert Ranking.objects.get().created_at <= timezone.now()


def test_people_of_foreign_files_get_pseudonyms_that_stay_the_same(project, tmp_path):
    people = ["ann@example.org", "ben", "ann@example.org"]
    rows = [ranked({"ranks": [1, 2, 3], "annotator": name}, prompt=f"{n}?") for n, name in enumerate(people)]
    take_lines(project, tmp_path, *rows)
    names = list(ImportedRanking.objects.order_by("pk").values_list("annotator", flat=True))
    assert names[0] == names[2] != names[1]
    assert all(re.fullmatch(r"imported-[0-9a-f]{8}", name) for name in names)


def test_a_ranking_whose_id_is_taken_gets_another(project, alice, tmp_path):
    row = ranked({"ranks": [1, 2, 3], "ranking": uuid.uuid4().hex})
    take_lines(project, tmp_path, row)
    other = Project.objects.create(slug="copy", name="Copy", created_by=alice)
    take_lines(other, tmp_path, row)
    first, second = Ranking.objects.order_by("pk")
    assert first.uid != second.uid
    assert first.imported.original == second.imported.original


@st.composite
def files(draw) -> list[dict[str, Any]]:
    """Rows of few prompts, answers and rankings, so that many of them are there already or come twice; some are refused."""
    text = st.sampled_from(["a", "b", "c"])
    ranking = st.fixed_dictionaries({"annotator": st.sampled_from(["", "ann", "ben"])})
    rows = []
    for _ in range(draw(st.integers(1, 14))):
        texts = draw(st.lists(text, max_size=3))
        row = {"prompt": draw(st.sampled_from(["Why?", "How?", " "])), "completions": texts}
        if draw(st.booleans()):
            row["source"] = draw(st.sampled_from(["one", "two"]))
        if len(set(texts)) > 1 and draw(st.booleans()):
            ranks = {one: draw(st.integers(1, 3)) for one in texts}
            row["rankings"] = [{**draw(ranking), "ranks": [ranks[one] for one in texts]}]
        rows.append(row)
    return rows


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=files(), rows=files(), preferences=st.sampled_from(["keep", "ignore"]))
def test_a_dry_run_counts_exactly_what_the_import_then_does(alice, tmp_path, monkeypatch, before, rows, preferences):
    monkeypatch.setattr("annotate.services.checking.BATCH_ROWS", 4)
    project = Project.objects.create(slug=uuid.uuid4().hex, name="Forecasts", created_by=alice)
    take_lines(project, tmp_path, *before)
    stored = [model.objects.count() for model in (Prompt, RankingTask, Ranking)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(*rows))
    job = Import.objects.create(
        project=project,
        created_by=alice,
        file_name="rows.jsonl",
        mapping={"preferences": preferences},
        is_dry_run=True,
    )
    outcome = []
    for is_dry_run in (True, False):
        Import.objects.filter(pk=job.pk).update(state="queued", attempt=0, is_dry_run=is_dry_run, error="")
        with path.open("rb") as stream:
            run_import(claimed(job), stream)
        job.refresh_from_db()
        if is_dry_run:
            assert job.state == "draft"
            assert stored == [model.objects.count() for model in (Prompt, RankingTask, Ranking)]
            imports.start_over(job)
            job.save()
        outcome.append(job.forecast if is_dry_run and not job.error else {n: getattr(job, n) for n in imports.COUNTS})
    forecast, result = outcome
    if "notes" in forecast:
        assert {name: forecast[name] for name in imports.COUNTS} == result
        assert forecast["notes"] == job.notes
    else:
        assert job.state == "failed"
    assert result["rows_read"] == len(rows)


def test_an_import_cut_off_between_rankings_adds_each_once(alice, project, monkeypatch):
    monkeypatch.setattr("annotate.services.checking.BATCH_ROWS", 2)
    rows = [ranked({"ranks": [1, 2, 3], "annotator": f"a{n % 2}"}, prompt=f"{n // 2}?") for n in range(8)]
    job = queued(alice, project, "rows.jsonl.gz", gzip.compress(lines(*rows)))
    real = intake.add_rows
    monkeypatch.setattr(imports, "add_rows", dying_at(real, 3))
    with pytest.raises(KeyboardInterrupt):
        run_import(claimed(job))
    assert Ranking.objects.count() == 4
    monkeypatch.setattr(imports, "add_rows", real)
    Import.objects.update(lease_until="2000-01-01T00:00Z")
    run_import(claimed(job))
    job.refresh_from_db()
    assert (job.state, job.rows_read, job.rankings_added, job.duplicates) == ("succeeded", 8, 8, 0)
    assert Ranking.objects.count() == 8
    assert RankedCompletion.objects.count() == 24


def test_pages_live_with_imported_rankings_and_name_them(alice, bob, project, tmp_path):
    task = RankingTask.objects.get(pk=_imported_task(project, tmp_path))
    rank(task, bob, [1, 2, 3])
    client = signed_in(alice)
    html = client.get(reverse("task", args=[project.slug, task.pk])).content.decode()
    assert "(imported)" not in html
    assert "imported-" in html
    for name in (
        "project",
        "prompts",
        "quality",
        "leaderboard",
        "my_rankings",
        "adjudication",
        "audit",
        "imports",
        "datasets",
    ):
        assert client.get(reverse(name, args=[project.slug])).status_code in (200, 302), name
    assert median_seconds(project) == 30
    html = client.get(reverse("prompt", args=[project.slug, task.prompt_id])).content.decode()
    assert "imported-" in html
    assert "a former member" not in html
    assert "(imported)" not in client.get(reverse("project_members", args=[project.slug])).content.decode()


def test_quality_has_nothing_to_say_of_imported_rankings_alone(alice, project, tmp_path):
    take_lines(project, tmp_path, PAIR)
    client = signed_in(alice)
    for name in ("quality", "leaderboard"):
        client.get(reverse(name, args=[project.slug]))
    for report in QualityReport.objects.all():
        build_quality_report(report.pk)
    for name in ("quality", "leaderboard"):
        assert client.get(reverse(name, args=[project.slug])).status_code == 200
    assert set(QualityReport.objects.values_list("state", flat=True)) == {"succeeded"}


def test_the_command_takes_every_choice_of_the_page(project, tmp_path):
    votes = tmp_path / "votes.zip"
    with zipfile.ZipFile(votes, "w") as archive:
        archive.writestr(
            "one.jsonl", lines({"q": "Why?", "win": "So.", "lose": "No.", "who": "ann@example.org", "kind": "a,b"})
        )
        archive.writestr("two.jsonl", lines({"q": ""}))
    refused = tmp_path / "refused.jsonl"
    options = {
        "prompt_column": "q",
        "chosen_column": "win",
        "rejected_column": "lose",
        "tags_column": "kind",
        "preferences": "ask",
        "refused": refused,
    }
    out = io.StringIO()
    call_command("import_prompts", project.slug, votes, dry_run=True, stdout=out, **options)
    assert "2 rows read: 1 prompts, 2 completions, 1 tasks and 1 rankings would be added" in out.getvalue()
    assert not Import.objects.exists()
    assert not Prompt.objects.exists()
    out = io.StringIO()
    call_command("import_prompts", project.slug, votes, stdout=out, **options)
    assert "1 rankings added, 0 rows were there already, 1 refused." in out.getvalue()
    kept = [json.loads(line) for line in refused.read_bytes().splitlines()]
    assert [(one["member"], one["line"]) for one in kept] == [("two.jsonl", 1)]
    assert json.loads(kept[0]["original"]) == {"q": ""}
    assert (RankingTask.objects.get().state, Prompt.objects.get().tags) == ("open", ["a", "b"])
    assert places() == [{"So.": 1, "No.": 2}]


def test_the_command_refuses_a_choice_that_makes_no_sense(project, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(PAIR))
    for arguments in (["--chosen-column", "a"], ["--preferences", "lose"], ["--shape", "nonsense"]):
        with pytest.raises(CommandError):
            call_command("import_prompts", project.slug, str(path), *arguments)
    assert not Import.objects.exists()


def _imported_task(project, tmp_path) -> int:
    row = ranked({"ranks": [1, 2, 3], "annotator": "ann", "ratings": [{"Clarity": 3}, {}, {}]})
    path = tmp_path / "asked.jsonl"
    path.write_text(json.dumps(row))
    take(project, path, preferences="ask")
    return RankingTask.objects.get().pk
