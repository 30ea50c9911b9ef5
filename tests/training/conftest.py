"""Runs, datasets and checkpoints for the training tests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import transaction

from annotate.models import Membership, Project
from annotate.services import assignments, rankings
from config.processes import wait_until
from tests import conftest as suite
from tests.recipes.conftest import tiny_model
from tests.training import attempt
from training import process
from training.models import Checkpoint, Run, RunInput
from training.recipes.arguments import METHODS, parse_arguments, to_json
from training.services.checkpoints import new_source
from training.services.folders import run_folder

__all__ = ["tiny_model"]


@pytest.fixture
def quick(settings, monkeypatch) -> None:
    """Leases of two seconds, for this process and for those that the test starts."""
    for name, value in (("RUN_LEASE_SECONDS", 2.0), ("RUN_BEAT_SECONDS", 0.2), ("RUN_GRACE_SECONDS", 2.0)):
        setattr(settings, name, value)
        monkeypatch.setenv(name, str(value))


@pytest.fixture
def script_recipe(quick, monkeypatch) -> None:
    """Runs that this process supervises start the script recipe."""
    command = process.recipe_command
    monkeypatch.setattr(process, "recipe_command", lambda module, folder, *_: command(attempt.SCRIPT, folder))


def make_checkpoint(project: Project, folder: Path, name: str = "base", **fields: Any) -> Checkpoint:
    values = {"kind": Checkpoint.Kind.CAUSAL_LM, "location": f"folder:{folder}", **fields}
    if values["kind"] == Checkpoint.Kind.CAUSAL_LM:
        values["source"] = new_source(project, name)
    return Checkpoint.objects.create(project=project, name=name, **values)


@pytest.fixture
def base(project, tmp_path) -> Checkpoint:
    folder = tmp_path / "base"
    folder.mkdir()
    return make_checkpoint(project, folder)


def rank_tasks(project: Project, user, count: int) -> None:
    """Make `count` tasks and let `user` rank each through the service that the page calls."""
    membership = Membership.objects.select_related("project").get(project=project, user=user)
    for number in range(count):
        suite.make_task(
            project, f"Question {number}?", [f"answer {number} {mark}" for mark in ("a", "b!", "c!!", "d!!!")]
        )
    for _ in range(count):
        leased = assignments.lease_next(membership=membership)
        assert leased is not None
        with transaction.atomic():
            locked = assignments.lock_assignment(membership=membership, pk=leased.pk)
            order = sorted(rankings.letters(len(locked.shown_order)), reverse=True)
            rankings.submit_ranking(
                membership=membership,
                assignment=locked,
                token=locked.token,
                verdict="ranked",
                places=[[letter] for letter in order],
            )


@pytest.fixture
def dataset(project, bob):
    """A real dataset version of four rankings."""
    rank_tasks(project, bob, 4)
    call_command("build_dataset", project.slug, "--test-fraction", "0")
    version = project.dataset_versions.get()
    assert version.counts["train_best"] == 4
    return version


def queue_run(policy: Checkpoint, method: str = "generate", dataset=None, **arguments: Any) -> Run:
    """A queued run as start_run leaves it, whose wake-up was lost."""
    run = Run.objects.create(
        project=policy.project,
        method=method,
        arguments=to_json(parse_arguments(method, arguments)),
        dataset_version=dataset,
    )
    for role in METHODS[method].inputs:
        RunInput.objects.create(run=run, role=role, checkpoint=policy)
    return run


def write_script(run: Run, **script: Any) -> Path:
    folder = run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.json").write_text(json.dumps(script))
    return folder


def alive_pids(folder: Path) -> list[int]:
    """Which of the processes that the script recipe has noted are alive."""
    noted = [int(line) for line in (folder / "pids").read_text().split()] if (folder / "pids").exists() else []
    return [pid for pid in noted if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def wait_for_step(run: Run, step: int, seconds: float = 20) -> None:
    def reached() -> bool:
        run.refresh_from_db()
        return run.step >= step

    assert wait_until(reached, seconds), f"{run.state} at step {run.step}: {run.error}"


def wait_for_end(run: Run, seconds: float = 60) -> str:
    def ended() -> bool:
        run.refresh_from_db()
        return not run.is_active

    assert wait_until(ended, seconds), f"{run.state} at step {run.step}, attempt {run.attempt}"
    return run.state


@pytest.fixture
def attempt_process(quick, transactional_db, tmp_path) -> Iterator[Callable[[Run], "subprocess.Popen[bytes]"]]:
    """`attempt_process(run)` supervises the run in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(run: Run) -> "subprocess.Popen[bytes]":
        with (tmp_path / f"attempt-{len(started)}.log").open("wb") as log:
            attempting = subprocess.Popen(
                [sys.executable, "-m", "tests.training.attempt", str(run.pk)],
                cwd=django_settings.BASE_DIR,
                env={**os.environ, **suite.test_environment()},
                stdout=log,
                stderr=log,
            )
        started.append(attempting)
        return attempting

    yield start
    for one in started:
        if one.poll() is None:
            one.kill()
        one.wait()
