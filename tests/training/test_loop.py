"""The whole loop with a real worker, the real recipes and a tiny model; and a worker that is killed in the middle."""

import signal

import psutil
import pytest
from django.core.management import call_command
from django.db import transaction
from django.urls import reverse

from annotate.models import Membership, RankingTask
from annotate.services import assignments, rankings
from config.processes import wait_until
from tests.conftest import end_with_descendants, signed_in
from tests.training.conftest import rank_tasks, wait_for_end, wait_for_step
from tests.training.test_runs import form_data
from training.models import Checkpoint, Run
from training.services.checkpoints import promoted_checkpoint, watchdog_of
from training.services.folders import run_folder
from training.services.runs import start_run
from training.tasks import reap_runs

SHORT = {"max_steps": "2", "per_device_train_batch_size": "2", "max_length": "128", "bf16": "", "eval_steps": "1"}


@pytest.fixture
def models(settings, monkeypatch, tiny_model, quick):
    settings.MODEL_ROOTS = [tiny_model.parent]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # Under load a beat may come late; what is tested here is not the lease.
    settings.RUN_LEASE_SECONDS = 20.0
    monkeypatch.setenv("RUN_LEASE_SECONDS", "20")
    return tiny_model


@pytest.fixture
def ready(models, worker, project, alice, bob):
    """A project with a tiny base model, a dataset version of ten rankings, and a worker."""
    signed_in(alice).post(
        reverse("checkpoint_add", args=[project.slug]), {"kind": "folder", "place": str(models), "name": "tiny"}
    )
    rank_tasks(project, bob, 10)
    call_command("build_dataset", project.slug, "--test-fraction", "0.3")
    return worker


def start(user, project, method: str, policy: Checkpoint, **changes) -> Run:
    dataset = None if method == "generate" else project.dataset_versions.get()
    response = signed_in(user).post(
        reverse("run_new", args=[project.slug, method]), form_data(method, policy, dataset, **changes)
    )
    assert response.status_code == 302, response.context["form"].errors
    return Run.objects.latest("pk")


@pytest.mark.timeout(600)
def test_rankings_train_models_whose_completions_are_ranked_next(ready, project, alice, bob):
    base = Checkpoint.objects.get()
    scorer = start(alice, project, "reward", base, watchdog="on", **SHORT)
    policy = start(alice, project, "dpo", base, **SHORT)
    for run in (scorer, policy):
        assert wait_for_end(run, 240) == "succeeded", (run.error, run.log_tail)
    assert {made.output: made.kind for made in scorer.checkpoints.all()} == {
        "": "reward_model",
        "watchdog": "reward_model",
    }
    assert watchdog_of(scorer.checkpoint) == scorer.checkpoints.get(output="watchdog")
    assert policy.checkpoints.get().parent == base
    assert policy.events.filter(kind="metrics").exists()

    learner = start_run(
        project=project,
        method="grpo",
        arguments={"max_steps": 2, "max_completion_length": 8, "max_length": 128, "eval_prompts": 2, "watch_steps": 0},
        inputs={"policy": base, "reward_model": scorer.checkpoints.get(output="")},
        dataset_version=None,
        user=alice,
    )
    assert wait_for_end(learner, 240) == "succeeded", (learner.error, learner.log_tail)
    assert learner.checkpoints.get().parent == base
    client = signed_in(alice)
    html = client.get(reverse("run", args=[project.slug, learner.pk])).content.decode()
    for title in ("Reward: reward_model", "Length of completions, in tokens", "Divergence from the reference (KL)"):
        assert title in html

    client.post(reverse("checkpoint_promote", args=[project.slug, policy.checkpoints.get().pk]), {"note": "first"})
    assert promoted_checkpoint(project) == policy.checkpoints.get()
    tasks = RankingTask.objects.count()
    short = {"num_prompts": "3", "max_new_tokens": "8", "num_generations": "3", "bf16": ""}
    generation = start(alice, project, "generate", policy.checkpoints.get(), **short)
    assert wait_for_end(generation, 240) == "succeeded", (generation.error, generation.log_tail)
    added = generation.result["completions"]["tasks"]
    assert added > 0
    assert RankingTask.objects.count() == tasks + added
    html = client.get(reverse("run", args=[project.slug, generation.pk])).content.decode()
    assert "Ranking tasks added" in html

    membership = Membership.objects.select_related("project").get(project=project, user=bob)
    leased = assignments.lease_next(membership=membership)
    assert leased is not None
    with transaction.atomic():
        locked = assignments.lock_assignment(membership=membership, pk=leased.pk)
        places = [[letter] for letter in rankings.letters(len(locked.shown_order))]
        rankings.submit_ranking(
            membership=membership, assignment=locked, token=locked.token, verdict="ranked", places=places
        )
    assert leased.task.completions.filter(source=policy.checkpoints.get().source).exists()
    for path in ("checkpoints", "runs"):
        assert client.get(reverse(path, args=[project.slug])).status_code == 200


@pytest.mark.timeout(600)
def test_a_run_whose_worker_is_killed_resumes_on_another(ready, project, alice, request):
    base = Checkpoint.objects.get()
    run = start(alice, project, "sft", base, **SHORT | {"max_steps": "120", "save_steps": "5", "eval_steps": "1000"})
    wait_for_step(run, 12, 240)
    family = psutil.Process(ready.pid).children(recursive=True)
    worker_processes = [ready, *(one for one in family if "celery" in " ".join(one.cmdline()))]
    for process in worker_processes:
        process.send_signal(signal.SIGKILL)
    ready.wait()
    _gone, alive = psutil.wait_procs(family, timeout=10)
    assert alive == [], "the recipe outlived its worker"
    run.refresh_from_db()
    assert run.state == "running"

    Run.objects.filter(pk=run.pk).update(lease_until=run.queued_at)
    assert wait_until(lambda: run.pk in reap_runs(), 10)
    request.getfixturevalue("second_worker")
    assert wait_for_end(run, 240) == "succeeded", (run.error, run.log_tail)
    assert run.attempt == 2
    assert Checkpoint.objects.filter(run=run).count() == 1
    assert (run_folder(run) / "log.txt").read_text().count("== attempt") == 2


@pytest.fixture
def second_worker(worker, tmp_path):
    import subprocess
    import sys

    from django.conf import settings

    from tests import conftest as suite

    log = tmp_path / "second.log"
    command = [sys.executable, "-m", "celery", "-A", "config", "worker", "-Q", "default,generate,gpu", "-c", "1"]
    command += ["--without-gossip", "--without-mingle", "-l", "INFO", "-n", "second@localhost"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=settings.BASE_DIR, env=suite.test_environment(), stdout=output, stderr=output
        )
    yield process
    end_with_descendants(process, signal.SIGQUIT, 15)


@pytest.mark.timeout(600)
def test_a_worker_told_to_stop_saves_the_run_and_leaves(ready, project, alice):
    base = Checkpoint.objects.get()
    run = start(
        alice, project, "sft", base, **SHORT | {"max_steps": "1000", "save_steps": "1000", "eval_steps": "1000"}
    )
    wait_for_step(run, 3, 240)
    family = psutil.Process(ready.pid).children(recursive=True)
    ready.send_signal(signal.SIGTERM)
    ready.wait(30)
    _gone, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("queued", 1)
    assert any((run_folder(run) / "trainer").iterdir())
