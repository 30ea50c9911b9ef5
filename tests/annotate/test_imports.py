"""The import page, from the upload to the counts."""

import csv
import gzip
import io
import json

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from annotate import jobs
from annotate.models import AuditEvent, Completion, Import, Prompt, RankingTask, RefusedRow
from annotate.services import imports, intake
from annotate.services.imports import create_import
from annotate.services.imports import run_import as read_import
from annotate.services.tables import copy_rows
from annotate.tasks import reap_jobs, run_import
from config.processes import wait_until
from tests.conftest import signed_in


def lines(*rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def row(number: int = 1, count: int = 4) -> dict[str, object]:
    return {"prompt": f"Question {number}?", "completions": [f"Answer {number}.{one}" for one in range(count)]}


def upload(user, project, name: str, content: bytes):
    return signed_in(user).post(reverse("imports", args=[project.slug]), {"file": SimpleUploadedFile(name, content)})


def start(user, job: Import, action: str = "import", **fields: str):
    return signed_in(user).post(
        reverse("import_start", args=[job.project.slug, job.pk]), {"preferences": "keep", "action": action, **fields}
    )


def queued(user, project, name: str, content: bytes, action: str = "import", **fields: str) -> Import:
    """Upload through the page, and start the draft."""
    response = upload(user, project, name, content)
    assert response.status_code == 302, response.content.decode()
    job = Import.objects.latest("pk")
    assert (job.state, job.rows_read) == ("draft", 0)
    assert response.headers["Location"] == reverse("import", args=[project.slug, job.pk])
    assert start(user, job, action, **fields).status_code == 302
    job.refresh_from_db()
    assert (job.state, job.is_dry_run) == ("queued", action == "count")
    return job


def imported(user, project, name: str, content: bytes, action: str = "import", **fields: str) -> Import:
    """Upload through the page, start it, then do what the worker does."""
    job = queued(user, project, name, content, action, **fields)
    run_import(job.pk)
    job.refresh_from_db()
    return job


def claimed(job: Import) -> Import:
    found = jobs.claim(Import, job.pk)
    assert found
    return found


def dying_at(function, number: int):
    """The function, but its call with this number, from 1, never returns."""
    calls = []

    def dying(*args, **kwargs):
        calls.append(1)
        done = function(*args, **kwargs)
        if len(calls) == number:
            raise KeyboardInterrupt
        return done

    return dying


def test_an_upload_becomes_prompts_completions_and_tasks(alice, project):
    job = imported(alice, project, "rows.jsonl", lines(row(1), row(2, count=2)))
    assert (job.state, job.progress, job.error) == ("succeeded", 1, "")
    assert (job.rows_read, job.prompts_added, job.completions_added, job.tasks_added) == (2, 2, 6, 2)
    task = RankingTask.objects.get(prompt__messages=[{"role": "user", "content": "Question 1?"}])
    assert sorted(task.completions.values_list("text", flat=True)) == [f"Answer 1.{one}" for one in range(4)]
    assert task.overlap == project.overlap
    assert AuditEvent.objects.filter(verb="import.started", actor=alice, project=project).exists()


def test_the_same_file_twice_adds_nothing(alice, project):
    content = lines(row(1), row(2))
    imported(alice, project, "rows.jsonl", content)
    again = imported(alice, project, "rows.jsonl", content)
    assert (again.state, again.prompts_added, again.completions_added, again.tasks_added) == ("succeeded", 0, 0, 0)
    assert again.duplicates == 2
    assert (Prompt.objects.count(), Completion.objects.count(), RankingTask.objects.count()) == (2, 8, 2)


def test_a_repeated_row_of_one_file_is_counted_once(alice, project):
    job = imported(alice, project, "rows.jsonl", lines(row(1), row(1), row(1)))
    assert (job.prompts_added, job.tasks_added, job.duplicates) == (1, 1, 2)


def test_new_completions_of_a_known_prompt_make_a_new_task(alice, project):
    imported(alice, project, "a.jsonl", lines({"prompt": "Why?", "completions": ["One", "Two"]}))
    job = imported(alice, project, "b.jsonl", lines({"prompt": "Why?", "completions": ["Two", "Three"]}))
    assert (job.prompts_added, job.completions_added, job.tasks_added) == (0, 1, 1)


def test_an_import_that_was_cut_off_goes_on_after_its_last_batch(alice, project, monkeypatch):
    monkeypatch.setattr("annotate.services.checking.BATCH_ROWS", 10)
    content = lines(*(row(number) for number in range(25)), {"prompt": ""})
    queued(alice, project, "rows.jsonl", content)
    job = jobs.claim(Import, Import.objects.get().pk)
    assert job

    real = intake.add_rows
    monkeypatch.setattr(imports, "add_rows", dying_at(real, 2))
    with pytest.raises(KeyboardInterrupt):
        read_import(job)
    monkeypatch.setattr(imports, "add_rows", real)
    job.refresh_from_db()
    assert (job.state, job.rows_read, job.prompts_added) == ("running", 10, 10)

    Import.objects.update(lease_until="2000-01-01T00:00Z")
    reap_jobs()
    run_import(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempt, job.rows_read, job.prompts_added, job.tasks_added) == ("succeeded", 2, 26, 25, 25)
    assert (job.rows_refused, job.refused.count(), job.duplicates) == (1, 1, 0)


def test_a_worker_that_lost_its_lease_writes_nothing(alice, project):
    queued(alice, project, "rows.jsonl", lines(row(1)))
    job = jobs.claim(Import, Import.objects.get().pk)
    assert job
    Import.objects.update(lease_until="2000-01-01T00:00Z")
    assert jobs.claim(Import, job.pk)
    read_import(job)
    assert Prompt.objects.count() == 0
    assert Import.objects.get().state == "running"


def test_cancel_stops_a_running_import_and_keeps_what_was_added(alice, project, monkeypatch):
    monkeypatch.setattr("annotate.services.checking.BATCH_ROWS", 1)
    queued(alice, project, "rows.jsonl", lines(row(1), row(2), row(3)))
    pk = Import.objects.get().pk
    real = jobs.beat

    def beat_then_cancel(job, **changes):
        real(job, **changes)
        signed_in(alice).post(reverse("import_cancel", args=[project.slug, pk]))

    monkeypatch.setattr(jobs, "beat", beat_then_cancel)
    run_import(pk)
    job = Import.objects.get()
    assert (job.state, job.prompts_added, Prompt.objects.count()) == ("cancelled", 1, 1)


def test_cancel_ends_a_queued_import_at_once(alice, project):
    queued(alice, project, "rows.jsonl", lines(row(1)))
    pk = Import.objects.get().pk
    signed_in(alice).post(reverse("import_cancel", args=[project.slug, pk]))
    run_import(pk)
    assert (Import.objects.get().state, Prompt.objects.count()) == ("cancelled", 0)


def test_a_file_that_left_the_storage_is_named(alice, project):
    queued(alice, project, "rows.jsonl", lines(row(1)))
    job = Import.objects.get()
    default_storage.delete(job.file)
    run_import(job.pk)
    job.refresh_from_db()
    assert job.state == "failed"
    assert "no longer on the storage" in job.error


def test_a_full_disk_is_named(alice, project, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    queued(alice, project, "rows.jsonl", lines(row(1)))
    monkeypatch.setattr("django.core.files.storage.FileSystemStorage.open", full)
    run_import(Import.objects.get().pk)
    assert Import.objects.get().error == "The disk is full."


def test_the_stored_name_is_ours_and_the_shown_one_is_harmless(alice, project, storage):
    job = create_import(
        project=project,
        user=alice,
        upload=SimpleUploadedFile("x.jsonl", lines(row(1))),
        name="../../etc/passwd\x00\n<b>.jsonl",
    )
    assert job.file_name == "passwd<b>.jsonl"
    assert job.file.startswith(f"imports/{project.pk}/")
    assert (storage / job.file).is_file()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", b"", "The file is empty."),
        ("rows.xlsx", b"PK", "must end in .jsonl"),
        ("rows.parquet.gz", b"PK", "must end in .jsonl"),
    ],
)
def test_the_form_refuses_a_file_of_no_use(alice, project, name, content, said):
    response = upload(alice, project, name, content)
    assert response.status_code == 422
    assert said in response.content.decode()
    assert not Import.objects.exists()


def test_the_form_refuses_a_file_beyond_the_limit(alice, project, settings):
    settings.UPLOAD_LIMIT_BYTES = 10
    response = upload(alice, project, "rows.jsonl", lines(row(1)))
    assert "import_prompts" in response.content.decode()


def test_the_page_shows_progress_while_it_runs_and_refusals_after(alice, project):
    content = lines(row(1), {"prompt": " "}, {"prompt": "<script>", "completions": ["one"], "difficulty": 3})
    queued(alice, project, "rows.jsonl", content)
    job = Import.objects.get()
    client = signed_in(alice)
    url = reverse("import", args=[project.slug, job.pk])
    assert 'hx-trigger="every 2s"' in client.get(url).content.decode()
    run_import(job.pk)
    html = client.get(url).content.decode()
    assert "hx-trigger" not in html
    assert "Is empty." in html
    assert "1 row has one completion only" in html
    assert "difficulty" in html
    fragment = client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert fragment.strip().startswith("<div")
    assert "<html" not in fragment


def test_refused_rows_download_as_csv_that_holds_no_formula(alice, project):
    job = imported(alice, project, "rows.csv", b"prompt,completion\n=HYPERLINK(1),\nfine,=1+1\n,=cmd\n")
    response = signed_in(alice).get(reverse("import_refused", args=[project.slug, job.pk]))
    text = response.getvalue().decode()
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["line", "member", "field", "reason", "original"]
    assert len(rows) == job.rows_refused == RefusedRow.objects.count() > 0
    assert rows[0][-1] == "'=HYPERLINK(1),"
    assert not any(cell.startswith("=") for row in rows for cell in row)


def test_only_the_first_refusals_are_kept_but_all_are_counted(alice, project, monkeypatch):
    monkeypatch.setattr("annotate.services.imports.REFUSED_KEPT", 3)
    monkeypatch.setattr("annotate.services.checking.BATCH_ROWS", 2)
    job = imported(alice, project, "rows.jsonl", lines(row(1), *({"prompt": ""} for _ in range(7))))
    assert (job.state, job.rows_refused, job.refused.count()) == ("succeeded", 7, 3)


@pytest.mark.parametrize(("person", "status"), [("alice", 200), ("bob", 403), ("rita", 403), ("charlie", 404)])
def test_only_admins_import(request, project, person, status):
    client = signed_in(request.getfixturevalue(person))
    job = Import.objects.create(project=project, created_by=project.created_by, file_name="x.jsonl")
    for name, args in (("imports", []), ("import", [job.pk]), ("import_refused", [job.pk])):
        assert client.get(reverse(name, args=[project.slug, *args])).status_code == status
    assert (client.post(reverse("import_cancel", args=[project.slug, job.pk])).status_code == 302) == (status == 200)


def test_a_worker_imports_what_the_page_took(worker, alice, project):
    content = gzip.compress(lines(*(row(number) for number in range(50))))
    upload(alice, project, "rows.jsonl.gz", content)
    job = Import.objects.get()
    start(alice, job)
    wait_until(lambda: not Import.objects.get().is_active, 30)
    job.refresh_from_db()
    assert (job.state, job.tasks_added) == ("succeeded", 50)


def test_a_header_that_is_not_utf_8_is_named_and_ends_the_import(alice, project):
    job = imported(alice, project, "fragen.csv", "frage;antwörter\nWarum?;Darum\n".encode("latin-1"))
    assert job.state == "failed"
    assert "antw" in job.error


def test_an_import_does_not_speak_for_a_checkpoint(alice, project):
    project.sources.create(name="our-model", kind="checkpoint")
    job = imported(alice, project, "rows.jsonl", lines({**row(1), "source": "our-model"}, row(2)))
    assert (job.tasks_added, job.rows_refused) == (1, 1)
    assert "our-model" in job.refused.get().reason


def test_an_error_inside_copy_is_an_error_of_django(project):
    message = json.dumps([{"role": "user", "content": "Why?"}])
    rows = [(pk, project.pk, message, "same", "", "{}", "{}", timezone.now().isoformat()) for pk in (900_001, 900_002)]
    with pytest.raises(IntegrityError), transaction.atomic():
        copy_rows(Prompt, rows)
