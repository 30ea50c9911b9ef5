"""The draft of an import: looked at, corrected, counted, started once, or thrown away."""

import gzip
import io
import json
import time
import zipfile
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.urls import reverse
from django.utils import timezone

from annotate import jobs
from annotate.models import AuditEvent, Completion, Import, Prompt, Ranking
from annotate.services import imports, intake
from annotate.services.imports import discard_old_drafts
from annotate.services.imports import run_import as read_import
from annotate.services.refused import read_refused, refused_path
from annotate.tasks import run_import
from tests.annotate.test_imports import claimed, dying_at, imported, lines, queued, row, start, upload
from tests.conftest import signed_in

FOREIGN = {"question": "Why?", "a": {"text": "So."}, "b": {"text": "Because <b>."}}


@pytest.fixture
def draft(alice, project):
    """Makes a draft of these rows."""

    def make(*rows, name: str = "rows.jsonl") -> Import:
        upload(alice, project, name, lines(*rows))
        return Import.objects.latest("pk")

    return make


def page(user, job: Import) -> str:
    return signed_in(user).get(reverse("import", args=[job.project.slug, job.pk])).content.decode()


def preview(user, job: Import, **fields: str) -> str:
    url = reverse("import_preview", args=[job.project.slug, job.pk])
    return signed_in(user).post(url, {"preferences": "keep", **fields}).content.decode()


def test_a_draft_shows_its_first_rows_as_people_will_see_them(alice, draft):
    job = draft(
        {
            "prompt": "Why **salty**?",
            "completions": ["Rain.", "Rivers."],
            "rankings": [{"ranks": [2, 1]}],
            "tags": ["sea"],
        },
        {"prompt": ""},
        *(row(number) for number in range(30)),
    )
    html = page(alice, job)
    assert "<strong>salty</strong>" in html
    assert html.rindex("Rivers.") < html.rindex("Rain.")
    assert "Place 1" in html
    assert "31 would be taken" in html
    assert "1 refused" in html
    assert "Is empty." in html
    assert "1 ranking is in them" in html
    assert (Prompt.objects.count(), Ranking.objects.count()) == (0, 0)
    assert not AuditEvent.objects.filter(verb="import.started").exists()


def test_naming_a_column_redraws_the_preview_and_saves_nothing(alice, draft):
    job = draft(FOREIGN)
    html = page(alice, job)
    assert "No prompt: the row has question" in html
    assert '<option value="a.text"' in html
    drawn = preview(alice, job, prompt="question", completions="a.text, b.text")
    assert "<html" not in drawn
    assert "1 would be taken" in drawn
    assert "Because" in drawn
    assert "<b>" not in drawn
    job.refresh_from_db()
    assert (job.state, job.mapping["prompt"]) == ("draft", "")


def test_a_mapping_that_makes_no_sense_is_named_and_starts_nothing(alice, draft):
    job = draft(FOREIGN)
    assert "named together" in preview(alice, job, chosen="a.text")
    response = start(alice, job, chosen="a.text")
    assert response.status_code == 422
    assert "named together" in response.content.decode()
    assert start(alice, job, shape="nonsense").status_code == 422
    assert start(alice, job, preferences="nonsense").status_code == 422
    job.refresh_from_db()
    assert job.state == "draft"


def test_what_was_corrected_is_what_is_imported(alice, draft):
    job = draft(FOREIGN)
    start(alice, job, prompt="question", completions="a.text, b.text")
    run_import(job.pk)
    job.refresh_from_db()
    assert (job.state, job.tasks_added) == ("succeeded", 1)
    assert set(Completion.objects.values_list("source__name", flat=True)) == {"a", "b"}


def test_two_clicks_start_it_once(alice, draft):
    job = draft(row(1))
    assert start(alice, job).status_code == 302
    assert start(alice, job, "count").status_code == 302
    job.refresh_from_db()
    assert (job.state, job.is_dry_run) == ("queued", False)
    assert AuditEvent.objects.filter(verb="import.started").count() == 1
    run_import(job.pk)
    assert start(alice, job).status_code == 302
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("succeeded", 1)


def test_counting_first_says_what_would_happen_and_leaves_a_draft(alice, project):
    pair = {"prompt": "Why?", "chosen": "Rivers.", "rejected": "Rain."}
    job = imported(alice, project, "rows.jsonl", lines(pair, pair, row(1), {"prompt": ""}), "count")
    assert (job.state, job.error, job.rows_read) == ("draft", "", 0)
    assert {name: job.forecast[name] for name in imports.COUNTS} == {
        "rows_read": 4,
        "prompts_added": 2,
        "completions_added": 6,
        "tasks_added": 2,
        "rankings_added": 1,
        "duplicates": 1,
        "rows_refused": 1,
    }
    assert (Prompt.objects.count(), job.refused.count()) == (0, 1)
    assert not AuditEvent.objects.filter(verb="import.started").exists()
    html = page(alice, job)
    assert "What an import would do" in html
    assert "Rows that the last count refused" in html
    assert "counted with other settings" not in html
    assert "counted with other settings" in preview(alice, job, preferences="ignore")

    start(alice, job)
    run_import(job.pk)
    job.refresh_from_db()
    assert {name: getattr(job, name) for name in imports.COUNTS} == {
        name: job.forecast[name] for name in imports.COUNTS
    }
    assert job.refused.count() == 1


def test_a_count_that_fails_or_is_stopped_leaves_a_draft_that_says_why(alice, project):
    job = imported(alice, project, "rows.jsonl", lines({"prompt": ""}), "count")
    assert job.state == "draft"
    assert "rows could be taken" in page(alice, job)
    start(alice, job, "count")
    signed_in(alice).post(reverse("import_cancel", args=[project.slug, job.pk]))
    job.refresh_from_db()
    assert job.state == "cancelled"
    assert "Count first" in page(alice, job)
    assert start(alice, job).status_code == 302
    job.refresh_from_db()
    assert (job.state, job.cancel_requested) == ("queued", False)


def test_a_count_whose_worker_died_begins_again(alice, project, monkeypatch):
    monkeypatch.setattr("annotate.services.checking.BATCH_ROWS", 2)
    job = queued(alice, project, "rows.jsonl", lines(*(row(n % 3) for n in range(6)), {"prompt": ""}), "count")
    real = intake.count_rows
    monkeypatch.setattr(imports, "count_rows", dying_at(real, 3))
    with pytest.raises(KeyboardInterrupt):
        read_import(claimed(job))
    monkeypatch.setattr(imports, "count_rows", real)
    Import.objects.update(lease_until="2000-01-01T00:00Z")
    run_import(job.pk)
    job.refresh_from_db()
    counted = [job.forecast[name] for name in ("rows_read", "prompts_added", "duplicates", "rows_refused")]
    assert counted == [7, 3, 3, 1]
    assert len(list(read_refused(job))) == 1


def test_a_draft_that_a_look_finds_started_turns_into_its_progress(alice, draft):
    job = draft(row(1))
    url = reverse("import", args=[job.project.slug, job.pk])
    assert signed_in(alice).get(url, headers={"HX-Request": "true"}).headers["HX-Refresh"] == "true"
    start(alice, job)
    Import.objects.update(
        state="running", progress=0.25, rows_read=500, started_at=timezone.now() - timedelta(minutes=5)
    )
    html = page(alice, job)
    assert "about 15 minutes left" in html
    assert "2 rows/s" in html
    assert signed_in(alice).post(reverse("import_preview", args=[job.project.slug, job.pk])).status_code == 404


def test_a_discarded_draft_leaves_nothing(alice, draft, storage):
    job = draft(row(1))
    url = reverse("import_discard", args=[job.project.slug, job.pk])
    assert signed_in(alice).post(url).status_code == 302
    assert signed_in(alice).post(url).status_code == 302
    assert not Import.objects.exists()
    assert [path for path in storage.rglob("*") if path.is_file()] == []


def test_what_was_started_is_not_discarded(alice, draft):
    job = draft(row(1))
    start(alice, job)
    signed_in(alice).post(reverse("import_discard", args=[job.project.slug, job.pk]))
    assert Import.objects.get().state == "queued"


def test_drafts_that_nobody_starts_go_after_a_week(alice, draft):
    old, started, young, stopped, lost = (draft(row(number)) for number in range(5))
    start(alice, started)
    for count in (stopped, lost):
        start(alice, count, "count")
    signed_in(alice).post(reverse("import_cancel", args=[stopped.project.slug, stopped.pk]))
    Import.objects.filter(pk=lost.pk).update(state="failed")
    week = timezone.now() - timedelta(days=7, minutes=1)
    Import.objects.exclude(pk=young.pk).update(queued_at=week)
    assert discard_old_drafts() == 3
    assert set(Import.objects.values_list("pk", flat=True)) == {started.pk, young.pk}
    assert not any(default_storage.exists(one.file) for one in (old, stopped, lost))
    assert default_storage.exists(young.file)


def test_a_draft_whose_file_is_broken_or_gone_says_so(alice, draft, project):
    job = draft(row(1))
    default_storage.delete(job.file)
    assert "no longer on the storage" in page(alice, job)
    upload(alice, project, "rows.jsonl.gz", b"no gzip")
    assert "not gzip-compressed" in page(alice, Import.objects.latest("pk"))


def test_refused_rows_are_kept_whole_and_once_though_the_worker_dies_before_they_count(alice, project, monkeypatch):
    monkeypatch.setattr("annotate.services.checking.BATCH_ROWS", 2)
    long = "x" * 5000
    rows = [{"prompt": "", "n": n, "long": long} if n % 2 else row(n) for n in range(8)]
    job = queued(alice, project, "rows.jsonl", lines(*rows))
    # Appended to the file and not committed: a batch beats before it appends, and as its last statement.
    real = jobs.beat
    calls = []

    def dying(job, **changes):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        real(job, **changes)

    monkeypatch.setattr(jobs, "beat", dying)
    with pytest.raises(KeyboardInterrupt):
        read_import(claimed(job))
    monkeypatch.setattr(jobs, "beat", real)
    job.refresh_from_db()
    assert len(refused_path(job).read_bytes()) > job.refused_bytes > 0
    assert len(list(read_refused(job))) == job.rows_refused == 2

    Import.objects.update(lease_until="2000-01-01T00:00Z")
    run_import(job.pk)
    job.refresh_from_db()
    kept = [json.loads(line) for line in read_refused(job)]
    assert [one["line"] for one in kept] == [2, 4, 6, 8]
    assert [json.loads(one["original"]) for one in kept] == rows[1::2]
    assert {(one["field"], one["reason"], one["member"]) for one in kept} == {("prompt", "Is empty.", "")}
    assert refused_path(job).stat().st_size == job.refused_bytes
    client = signed_in(alice)
    answer = client.get(reverse("import_refused_lines", args=[project.slug, job.pk]))
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.getvalue() == refused_path(job).read_bytes()


@pytest.mark.parametrize("action", ["import", "count"])
def test_a_worker_that_lost_its_lease_leaves_the_refused_rows_of_the_next_alone(alice, project, action, monkeypatch):
    monkeypatch.setattr("annotate.services.checking.BATCH_ROWS", 2)
    job = queued(alice, project, "rows.jsonl", lines(*({"prompt": "", "n": n} for n in range(3)), row(1)), action)
    stale = claimed(job)
    Import.objects.update(lease_until="2000-01-01T00:00Z")
    read_import(claimed(job))
    job.refresh_from_db()
    kept = refused_path(job).read_bytes()
    assert len(kept) == job.refused_bytes > 0
    read_import(stale)
    assert refused_path(job).read_bytes() == kept
    assert (job.refused.count(), job.rows_refused) == (3, 3)


def zipped(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


BLANK = b"prompt\nFirst?\n" + b"\n" * 2_000_000 + b"Last?\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", BLANK),
        ("rows.csv.gz", gzip.compress(BLANK)),
        ("rows.zip", zipped("rows.csv", BLANK)),
        ("rows.jsonl", lines({"prompt": "First?"}) + b" \n" * 2_000_000 + lines({"prompt": "Last?"})),
    ],
    ids=["csv", "gzip", "zip", "jsonl"],
)
def test_a_look_at_a_file_with_hardly_a_row_ends_in_a_moment(alice, project, monkeypatch, name, content):
    monkeypatch.setattr("annotate.services.previews.SECONDS", 0.1)
    upload(alice, project, name, content)
    html = page(alice, Import.objects.latest("pk"))
    assert "few rows at its beginning" in html
    assert "First?" in html
    assert "Last?" not in html


def test_an_import_holds_its_lease_and_may_be_stopped_while_it_finds_no_row(alice, project, monkeypatch):
    monkeypatch.setattr(imports, "BEAT_SECONDS", 0.05)
    job = queued(alice, project, "rows.csv", b"prompt\nFirst?\n" + b"\n" * 20_000_000)
    real, beats = jobs.beat, []

    def beat_until_cancelled(job, **changes):
        beats.append(1)
        if len(beats) == 3:
            signed_in(alice).post(reverse("import_cancel", args=[project.slug, job.pk]))
        real(job, **changes)

    monkeypatch.setattr(jobs, "beat", beat_until_cancelled)
    begun = time.monotonic()
    run_import(job.pk)
    job.refresh_from_db()
    assert (job.state, len(beats), job.rows_read) == ("cancelled", 3, 0)
    assert time.monotonic() - begun < 8
