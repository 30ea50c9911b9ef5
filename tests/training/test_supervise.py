"""A run survives its worker, stops when told, never runs twice at once, and says why it failed."""

import contextlib
import errno
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import psutil
import pytest
from django.db import connection
from django.utils import timezone

from annotate.jobs import Job, claim, request_cancel
from annotate.models import Completion
from config.processes import wait_until
from tests.training.conftest import alive_pids, queue_run, wait_for_end, wait_for_step, write_script
from training import supervise
from training.models import Checkpoint, Run
from training.services import datasets, folders, generation
from training.tasks import reap_runs


def never() -> bool:
    return False


def attempt(run: Run) -> Run:
    supervise.attempt_run(run.pk, shutting_down=never)
    run.refresh_from_db()
    return run


@pytest.mark.django_db(transaction=True)
def test_a_finished_run_becomes_a_checkpoint_with_its_lineage(script_recipe, base, dataset):
    run = queue_run(base, "dpo", dataset)
    attempt(run)
    assert (run.state, run.error, run.progress, run.step, run.total_steps) == ("succeeded", "", 1, 3, 3)
    checkpoint = run.checkpoints.get()
    assert checkpoint.parent == base
    assert checkpoint.kind == Checkpoint.Kind.CAUSAL_LM
    assert checkpoint.location == f"storage:runs/{run.pk}/checkpoint"
    assert checkpoint.source is not None
    assert checkpoint.metrics == {"eval_loss": 0.5, "nan": None}
    assert len(checkpoint.sha256) == 64
    assert checkpoint.size == len(b"weights")
    assert list(run.events.filter(kind="metrics").values_list("step", flat=True)) == [1, 2, 3]


@pytest.mark.django_db(transaction=True)
def test_a_result_may_quote_what_no_database_holds(script_recipe, base, dataset):
    run = queue_run(base, "dpo", dataset)
    write_script(run, result={"samples": ["a model's\0 answer"]})
    attempt(run)
    assert (run.state, run.error) == ("succeeded", "")
    assert run.result["samples"] == ["a model's\ufffd answer"]


@pytest.mark.django_db(transaction=True)
def test_the_folder_holds_what_the_recipe_needs(script_recipe, base, dataset):
    adapter = Checkpoint.objects.create(
        project=base.project,
        name="adapter",
        kind="causal_lm",
        location="storage:runs/1/checkpoint",
        parent=base,
        is_adapter=True,
    )
    run = queue_run(adapter, "reward", dataset, learning_rate=0.001)
    attempt(run)
    folder = folders.run_folder(run)
    args = json.loads((folder / "args.json").read_text())
    assert args["method"] == "reward"
    assert args["dataset"] == "data"
    assert args["arguments"]["learning_rate"] == 0.001
    assert args["arguments"]["ties"] == "half"
    assert args["inputs"]["policy"]["base"] == {"location": base.location}
    assert args["inputs"]["policy"]["location"].startswith("folder:/")
    assert (folder / "data/rankings.parquet").read_bytes() == datasets.dataset_files(dataset)[0].read_bytes()
    assert run.checkpoints.get().kind == Checkpoint.Kind.REWARD_MODEL
    assert run.checkpoints.get().source is None


@pytest.mark.django_db(transaction=True)
def test_the_recipe_sees_no_credentials(script_recipe, base, dataset, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody's business")
    run = queue_run(base, "dpo", dataset)
    attempt(run)
    environment = json.loads((folders.run_folder(run) / "environment.json").read_text())
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert not {"DATABASE_URL", "BROKER_URL", "SECRET_KEY", "AWS_SECRET_ACCESS_KEY"} & set(environment)
    assert connection.settings_dict["NAME"] not in " ".join(environment.values())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("end", "cause", "said"),
    [
        ("event", "nan_loss", "The loss is not a number since step 2."),
        ("crash", "crash", "ended with code 1"),
        ("kill", "out_of_memory", "memory ran out"),
        ("full", "disk_full", "disk"),
    ],
)
def test_a_failed_run_says_why(script_recipe, base, dataset, end, cause, said):
    run = queue_run(base, "dpo", dataset)
    write_script(run, end=end)
    attempt(run)
    assert run.state == "failed"
    assert run.cause == cause
    assert said in run.error
    assert "Traceback" not in run.error
    if end == "crash":
        assert "deep inside" in run.log_tail
    assert not Checkpoint.objects.filter(run=run).exists()


@pytest.mark.django_db(transaction=True)
def test_an_error_of_an_earlier_attempt_is_not_blamed_for_a_later_one(script_recipe, base, dataset):
    run = queue_run(base, "dpo", dataset)
    folder = write_script(run, end="crash")
    (folder / "events.jsonl").write_text('{"kind": "error", "cause": "disk_full", "message": "Long ago"}\n{"kind": "no')
    attempt(run)
    assert run.cause == "crash"


@pytest.mark.django_db(transaction=True)
def test_a_full_disk_fails_the_run_in_words(script_recipe, base, dataset, monkeypatch):
    def refuse(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(folders, "_replace", refuse)
    run = queue_run(base, "dpo", dataset)
    attempt(run)
    assert (run.state, run.cause) == ("failed", "disk_full")
    assert "full" in run.error


@contextlib.contextmanager
def refusing(table: str, *, code: str, after: int = 0) -> Iterator[None]:
    """Let Postgres refuse rows of `table` with this SQLSTATE, once `after` rows are there."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "  # noqa: S608 - names from this file
            f"IF (SELECT count(*) FROM {table}) >= {after} THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END IF; "
            f"RETURN NEW; END $$; CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER refuse ON {table}; DROP FUNCTION refuse()")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("table", ["training_checkpoint", "training_runevent"])
def test_a_full_disk_under_the_database_fails_the_run_in_words(script_recipe, base, dataset, table):
    run = queue_run(base, "dpo", dataset)
    with refusing(table, code="53100"):
        attempt(run)
    assert (run.state, run.cause) == ("failed", "disk_full")
    assert "database" in run.error
    assert not Checkpoint.objects.filter(run=run).exists()


@pytest.mark.django_db(transaction=True)
def test_a_generation_broken_off_while_it_is_registered_counts_as_an_unbroken_one(
    script_recipe, base, dataset, monkeypatch
):
    monkeypatch.setattr(generation, "PROMPTS_AT_ONCE", 2)
    run = queue_run(base, "generate")
    folder = write_script(run, answers=3)
    before = Completion.objects.count()
    with refusing("annotate_completion", code="53100", after=before + 6):
        attempt(run)
    assert (run.state, Completion.objects.count()) == ("failed", before + 6), "the first batch stays"
    Run.objects.filter(pk=run.pk).update(state="queued")
    attempt(run)
    assert (run.state, Completion.objects.count()) == ("succeeded", before + 12)
    added = {name: run.result["completions"][name] for name in ("prompts", "completions", "tasks", "duplicates")}
    assert added == {"prompts": 4, "completions": 12, "tasks": 4, "duplicates": 4}
    assert (
        run.result["metrics"]
        == json.loads((folder / "result.json").read_text(), parse_constant=lambda _: None)["metrics"]
    )
    assert "lines" not in run.result


@pytest.mark.django_db(transaction=True)
def test_a_run_whose_dataset_is_gone_fails_in_words(script_recipe, base, dataset):
    run = queue_run(base, "dpo", dataset)
    datasets.dataset_files(dataset)[0].unlink()
    attempt(run)
    assert (run.state, run.cause) == ("failed", "bad_dataset")


def test_a_cancelled_run_stops_within_seconds_and_leaves_no_process(attempt_process, base, dataset):
    run = queue_run(base, "dpo", dataset)
    folder = write_script(run, steps=10_000, seconds=0.02, children=2)
    process = attempt_process(run)
    wait_for_step(run, 3)
    assert len(alive_pids(folder)) == 3
    before = time.monotonic()
    request_cancel(run)
    assert wait_for_end(run, 60) == "cancelled"
    assert time.monotonic() - before < 30, "of 10 000 steps, which take minutes"
    assert process.wait(30) == 0
    assert alive_pids(folder) == []
    assert not Checkpoint.objects.filter(run=run).exists()


def test_a_stubborn_run_is_killed_after_the_grace(attempt_process, base, dataset):
    run = queue_run(base, "dpo", dataset)
    folder = write_script(run, steps=10_000, seconds=0.02, children=1, stubborn=True)
    attempt_process(run)
    wait_for_step(run, 3)
    request_cancel(run)
    assert wait_for_end(run, 60) == "cancelled"
    assert alive_pids(folder) == []


def test_a_killed_worker_takes_its_recipe_along_and_the_next_attempt_resumes(attempt_process, base, dataset):
    run = queue_run(base, "dpo", dataset)
    folder = write_script(run, steps=200, seconds=0.05, children=1)
    process = attempt_process(run)
    wait_for_step(run, 5)
    process.kill()
    process.wait()
    assert wait_until(lambda: not alive_pids(folder), 20), "the recipe outlived its worker"
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() + timedelta(seconds=60))
    assert claim(Run, run.pk) is None, "nothing can be taken while the lease runs"
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now(), queued_at=timezone.now() - timedelta(seconds=60))
    assert reap_runs() == [run.pk]
    run.refresh_from_db()
    assert run.state == "queued"
    attempt_process(run)
    assert wait_for_end(run) == "succeeded"
    assert run.attempt == 2
    assert Checkpoint.objects.filter(run=run).count() == 1
    notes = list(run.events.filter(kind="note").order_by("offset").values_list("data__message", flat=True))
    assert notes[0] == "from step 0"
    assert int(notes[1].split()[-1]) >= 5
    assert not (folder / "OVERLAP").exists()


def test_a_frozen_worker_loses_its_recipe_before_another_may_take_the_run(attempt_process, base, dataset):
    run = queue_run(base, "dpo", dataset)
    folder = write_script(run, steps=10_000, seconds=0.02)
    process = attempt_process(run)
    wait_for_step(run, 3)
    process.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: not alive_pids(folder), 30)
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 0
    run.refresh_from_db()
    assert (run.state, run.error, run.cause) == ("queued", "", ""), "nobody failed: it goes on from its last save"
    assert (run.attempt, run.max_attempts) == (1, 3), "the attempt counts"


@pytest.mark.django_db(transaction=True)
def test_a_recipe_that_always_asks_to_be_started_again_fails_in_the_end(script_recipe, base, dataset):
    run = queue_run(base, "dpo", dataset)
    write_script(run, end="again")
    states = [attempt(run).state for _ in range(run.max_attempts)]
    assert states == ["queued", "queued", "failed"]
    assert "last attempt" in run.error
    assert run.finished_at is not None


def test_a_fenced_worker_kills_its_recipe_and_writes_nothing(attempt_process, base, dataset):
    run = queue_run(base, "dpo", dataset)
    folder = write_script(run, steps=10_000, seconds=0.02, stubborn=True)
    process = attempt_process(run)
    wait_for_step(run, 3)
    other = uuid.uuid4()
    Run.objects.filter(pk=run.pk).update(lease_token=other, attempt=2)
    assert process.wait(30) == 0
    assert alive_pids(folder) == []
    run.refresh_from_db()
    assert (run.state, run.lease_token, run.attempt) == ("running", other, 2)


def test_two_copies_of_a_run_never_train_at_once(attempt_process, base, dataset, monkeypatch):
    run = queue_run(base, "dpo", dataset)
    folder = write_script(run, steps=100, seconds=0.05)
    with monkeypatch.context() as patience:
        patience.setenv("RUN_LEASE_SECONDS", "60")
        first = attempt_process(run)
    wait_for_step(run, 3)
    # As if the first worker had been cut off from the database: to all others its lease has run out.
    first.send_signal(signal.SIGSTOP)
    Run.objects.filter(pk=run.pk).update(state=Job.State.QUEUED, lease_token=None, lease_until=None)
    assert attempt_process(run).wait(60) == 0
    run.refresh_from_db()
    assert (run.state, run.attempt, run.max_attempts) == ("queued", 2, 4)
    assert alive_pids(folder) != []

    first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 0, "it has noticed that its lease is lost"
    assert alive_pids(folder) == []
    attempt_process(run)
    assert wait_for_end(run) == "succeeded"
    assert not (folder / "OVERLAP").exists()
    assert Checkpoint.objects.filter(run=run).count() == 1


def test_a_worker_that_shuts_down_saves_the_run_and_gives_it_back(attempt_process, base, dataset):
    run = queue_run(base, "dpo", dataset)
    folder = write_script(run, steps=10_000, seconds=0.02)
    process = attempt_process(run)
    wait_for_step(run, 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    run.refresh_from_db()
    assert (run.state, run.attempt, run.max_attempts) == ("queued", 1, 4)
    assert alive_pids(folder) == []
    assert int((folder / "trainer/step").read_text()) >= 3


def test_training_goes_on_while_the_database_is_away(attempt_process, base, dataset):
    run = queue_run(base, "dpo", dataset)
    folder = write_script(run, steps=200, seconds=0.05)
    attempt_process(run)
    wait_for_step(run, 3)
    (pid,) = alive_pids(folder)
    started = psutil.Process(pid).create_time()
    for _ in range(3):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        time.sleep(0.3)
    assert psutil.Process(pid).create_time() == started
    assert wait_for_end(run) == "succeeded"
    assert run.attempt == 1
    assert run.events.filter(kind="metrics").count() == 200
