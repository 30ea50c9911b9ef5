"""A pipeline is checked before it starts, starts each stage once and in order, and can be stopped and resumed."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import close_old_connections, connection

from annotate.models import AuditEvent
from annotate.tasks import build_dataset_version
from config.processes import wait_until
from tests.conftest import make_task
from tests.training.conftest import make_checkpoint, rank_tasks, wait_for_step, write_script
from tests.training.pipeline_runs import DIRECT, FORK, make_pipeline, promoted_base, states, work
from training import supervise, tasks
from training.definitions import InvalidPipeline, parse_definition
from training.models import Checkpoint, Pipeline, PipelineRun, Run
from training.services.checkpoints import promoted_checkpoint
from training.services.pipelines import (
    SHIPPED_WORDS,
    PipelineBusy,
    advance,
    archive_pipeline,
    cancel_pipeline_run,
    change_pipeline,
    resume_pipeline_run,
    shipped_definitions,
    start_pipeline,
)


@pytest.mark.parametrize("name", sorted(shipped_definitions()))
def test_what_comes_with_podium_is_a_valid_definition(name):
    definition = parse_definition(shipped_definitions()[name])
    assert {definition.title, definition.description} <= set(SHIPPED_WORDS), "for the translators"
    assert len(definition.stages) >= 3


def stage(**fields: Any) -> str:
    """[stages.sft] with these fields changed; None leaves one out."""
    values = {"method": '"sft"', "policy": '"promoted"', "dataset": '"version:1"', **fields}
    lines = [f"{name} = {value}" for name, value in values.items() if value is not None]
    return "\n".join(
        ["[stages.sft]", *lines, "[stages.reward]", 'method = "reward"', 'policy = "promoted"', 'dataset = "version:1"']
    )


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("[stages.sft\nmethod = 3", ("", ""), "line 1"),
        ("title = 3\n" + stage(), ("", "title"), "a text"),
        ("", ("", "stages"), "no stage"),
        ("stages = 3", ("", "stages"), "no stage"),
        ("stage = 3\n" + stage(), ("", "stage"), "no such field"),
        ("[stages]\nsft = 3", ("sft", ""), "is a table"),
        ('[stages."S f t"]\nmethod = "dataset"', ("S f t", ""), "small letters"),
        ('[stages.promoted]\nmethod = "dataset"', ("promoted", ""), "not “promoted”"),
        ("a = " + "[" * 20_000, ("", ""), "not TOML"),
        ("a" + ".a" * 30_000 + " = 1", ("", ""), "nested too deeply"),
        ("a = " + "9" * 60_000, ("", ""), "not TOML"),
        ("#" * 70_000, ("", ""), "at most"),
        (stage(method='"magic"'), ("sft", "method"), "Podium knows these: dataset, "),
        (stage(method=None), ("sft", "method"), "Podium knows these"),
        (stage(method="[1]"), ("sft", "method"), "Podium knows these"),
        (stage(learning_rate="1.0"), ("sft", "learning_rate"), "has these: method"),
        (stage(reward_model='"reward"'), ("sft", "reward_model"), "has these"),
        (stage(arguments="{ learning_rat = 1 }"), ("sft", "arguments.learning_rat"), "unknown argument"),
        (stage(arguments="{ learning_rate = 5 }"), ("sft", "arguments.learning_rate"), "at most 1"),
        (stage(arguments="{ max_steps = 1.5 }"), ("sft", "arguments.max_steps"), "a whole number"),
        (stage(arguments="{ learning_rate = nan }"), ("sft", "arguments.learning_rate"), "a number"),
        (stage(arguments="{ learning_rate = 2026-01-01 }"), ("sft", "arguments.learning_rate"), "a number"),
        (stage(arguments='"fast"'), ("sft", "arguments"), "is a table"),
        (stage(policy=None), ("sft", "policy"), "missing"),
        (stage(policy='""'), ("sft", "policy"), "a text"),
        (stage(dataset=None), ("sft", "dataset"), "missing"),
        (stage(policy='"nobody"'), ("sft", "policy"), "no stage “nobody”"),
        (stage(policy='"reward"'), ("sft", "policy"), "must be a language model; the stage “reward” makes a reward model"),
        (stage(policy='"version:1"'), ("sft", "policy"), "no checkpoint"),
        (stage(policy='"checkpoint:"'), ("sft", "policy"), "Name the checkpoint"),
        (stage(dataset='"reward"'), ("sft", "dataset"), "must be a dataset"),
        (stage(dataset='"promoted"'), ("sft", "dataset"), "a stage that makes one"),
        (stage(dataset='"version:x"'), ("sft", "dataset"), "version:NUMBER"),
        (stage(policy='"reward.watchdog"'), ("sft", "policy"), "switch it on with watchdog = true"),
        (stage(policy='"reward.twin"'), ("sft", "policy"), "makes nothing called “twin”"),
        (stage(policy='"sft"'), ("sft", ""), "wait for each other: sft → sft"),
        (stage(after='["reward"]') + '\nafter = ["sft"]', ("sft", ""), "reward → sft → reward"),
        (stage(after='"reward"'), ("sft", "after"), "a list"),
        (stage(after='["gone"]'), ("sft", "after"), "no stage “gone”"),
        ('[stages.a]\nmethod = "dataset"\nfilters = { since = "x" }', ("a", "filters.since"), "a day or a moment"),
        ('[stages.a]\nmethod = "dataset"\nfilters = { tags = "x" }', ("a", "filters.tags"), "a list of texts"),
        (
            '[stages.a]\nmethod = "dataset"\nfilters = { tags = ["\\u0000"] }',
            ("a", "filters.tags"),
            "a list of texts",
        ),
        ('[stages.a]\nmethod = "dataset"\nfilters = { min_rankings = 1.5 }', ("a", "filters.min_rankings"), "a number"),
        ('[stages.a]\nmethod = "dataset"\nfilters = { weights = "x" }', ("a", "filters.weights"), "equal, reliability"),
        ('[stages.a]\nmethod = "dataset"\nfilters = { min_agreement = -2 }', ("a", "filters.min_agreement"), "from -1"),
        ('[stages.a]\nmethod = "dataset"\nfilters = { held_out = 3 }', ("a", "filters.held_out"), "a text"),
        ('[stages.a]\nmethod = "dataset"\nfilters = { roles = ["boss"] }', ("a", "filters"), "roles must be of"),
        ('[stages.a]\nmethod = "dataset"\nfilters = { colour = 1 }', ("a", "filters.colour"), "no such filter"),
        ('[stages.a]\nmethod = "dataset"\ntest_fraction = 0.9', ("a", "test_fraction"), "from 0 to 0.5"),
        ('[stages.a]\nmethod = "promote"', ("a", "policy"), "missing"),
        ('[stages.a]\nmethod = "promote"\npolicy = "reward"', ("a", "policy"), "no stage"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)  # fmt: skip
def test_each_fault_is_named_by_its_stage_and_field(text, where, words):
    with pytest.raises(InvalidPipeline) as refused:
        parse_definition(text)
    told = {(problem.stage, problem.field): problem.message for problem in refused.value.problems}
    assert where in told, told
    assert words in told[where]


def test_every_fault_is_named_at_once():
    text = stage(policy='"nobody"', arguments="{ max_steps = 0.5 }") + "\nnote = 3"
    with pytest.raises(InvalidPipeline) as refused:
        parse_definition(text)
    assert {(one.stage, one.field) for one in refused.value.problems} == {
        ("sft", "policy"),
        ("sft", "arguments.max_steps"),
        ("reward", "note"),
    }


def test_a_start_that_the_project_cannot_serve_is_refused(project, alice, base):
    scorer = make_checkpoint(project, base_folder(base), name="scorer", kind="reward_model")
    cases = {
        "promoted": "No checkpoint is promoted yet",
        "checkpoint:gone": "no checkpoint “gone”",
        f"checkpoint:{scorer.name}": "must be a language model",
    }
    for policy, words in cases.items():
        pipeline = make_pipeline(project, alice, stage(policy=f'"{policy}"'), name=policy)
        with pytest.raises(InvalidPipeline) as refused:
            start_pipeline(pipeline=pipeline, user=alice)
        told = {(problem.stage, problem.field): problem.message for problem in refused.value.problems}
        assert words in told["sft", "policy"]
        assert "no finished dataset version 1" in told["sft", "dataset"]
    with pytest.raises(InvalidPipeline, match="no prompts yet"):
        start_pipeline(pipeline=make_pipeline(project, alice, FORK), user=alice)
    assert not PipelineRun.objects.exists()


def base_folder(base: Checkpoint) -> Path:
    return Path(base.location.partition(":")[2])


@pytest.mark.django_db(transaction=True)
def test_each_stage_is_fed_by_what_the_earlier_ones_made(script_recipe, project, alice, bob, base):
    promoted_base(base, alice)
    rank_tasks(project, bob, 3)
    pipeline = make_pipeline(project, alice)
    started = start_pipeline(pipeline=pipeline, user=alice)
    assert states(started) == {"rankings": "running", "sft": "waiting", "dpo": "waiting"}
    # Changed under way: a run keeps what it started with.
    change_pipeline(pipeline=pipeline, name="other", definition=FORK, user=alice)
    assert work(started) == "succeeded"
    version = project.dataset_versions.get()
    sft, dpo = Run.objects.order_by("pk")
    assert (sft.method, dpo.method) == ("sft", "dpo")
    assert (sft.dataset_version, dpo.dataset_version) == (version, version)
    assert sft.run_inputs.get().checkpoint == base
    assert dpo.run_inputs.get().checkpoint == sft.checkpoints.get()
    assert dpo.arguments["beta"] == 0.3
    assert dpo.stage == started.stages.get(name="dpo")
    assert dpo.created_by == alice
    assert started.finished_at
    assert (started.revision, Pipeline.objects.get().revision) == (1, 2)
    assert promoted_checkpoint(project) == base, "nobody asked for a promotion"


FED: dict[str, dict[str, dict[str, Any]]] = {
    "direct": {"sft": {"policy": "promoted", "dataset": 1}, "dpo": {"policy": "sft", "dataset": 1}},
    "rlhf": {
        "sft": {"policy": "promoted", "dataset": 1},
        "reward": {"policy": "sft", "dataset": 1},
        "ppo": {"policy": "sft", "reward_model": "reward", "watchdog": "reward-watchdog"},
    },
    "r1": {
        "cold_start": {"policy": "promoted", "dataset": 1},
        "reasoning": {"policy": "cold_start"},
        "sampled": {"policy": "reasoning", "dataset": 1},
        "mixed": {"policy": "promoted", "dataset": 2},
        "reward": {"policy": "cold_start", "dataset": 1},
        "final": {"policy": "mixed", "reward_model": "reward", "watchdog": "reward-watchdog"},
    },
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", FED)
def test_what_comes_with_podium_feeds_each_stage_as_it_says(script_recipe, project, alice, bob, base, name):
    promoted_base(base, alice)
    rank_tasks(project, bob, 2)
    project.prompts.update(reference_answer="42")
    pipeline = make_pipeline(project, alice, shipped_definitions()[name])
    started = start_pipeline(pipeline=pipeline, user=alice)
    assert work(started) == "succeeded", [(one.name, one.error) for one in started.stages.all()]
    names = {base.pk: "promoted"}
    for checkpoint in Checkpoint.objects.filter(run__isnull=False):
        row = started.stages.get(runs__checkpoints=checkpoint)
        names[checkpoint.pk] = "-".join(filter(None, (row.name, checkpoint.output)))
    found: dict[str, dict[str, Any]] = {}
    for row in started.stages.filter(runs__isnull=False):
        run = row.runs.get()
        found[row.name] = {item.role: names[item.checkpoint_id] for item in run.run_inputs.all()}
        found[row.name]["dataset"] = run.dataset_version and run.dataset_version.number
    assert found == {stage: {"dataset": None, **fed} for stage, fed in FED[name].items()}


def test_one_that_verifies_answers_says_at_once_that_there_are_none(project, alice, base):
    promoted_base(base, alice)
    make_task(project)
    pipeline = make_pipeline(project, alice, shipped_definitions()["r1"])
    with pytest.raises(InvalidPipeline, match="reasoning, rewards: accuracy: none of the chosen prompts"):
        start_pipeline(pipeline=pipeline, user=alice)


@pytest.mark.django_db(transaction=True)
def test_stages_that_need_nothing_of_each_other_run_at_the_same_time(script_recipe, project, alice, base):
    promoted_base(base, alice)
    make_task(project)
    started = start_pipeline(pipeline=make_pipeline(project, alice, FORK), user=alice)
    assert states(started) == {"left": "running", "right": "running", "last": "waiting"}
    first, second = Run.objects.order_by("pk")
    for run in (first, second):
        write_script(run, answers=2)
    tasks.run(first.pk)
    assert states(started) == {"left": "succeeded", "right": "running", "last": "waiting"}
    tasks.run(second.pk)
    assert states(started)["last"] == "running"


@pytest.mark.django_db(transaction=True)
def test_a_promotion_happens_where_the_definition_asks_for_it(script_recipe, project, alice, bob, base):
    promoted_base(base, alice)
    rank_tasks(project, bob, 2)
    ending = '\n[stages.release]\nmethod = "promote"\npolicy = "dpo"\nnote = "of the week"\n'
    started = start_pipeline(pipeline=make_pipeline(project, alice, DIRECT + ending), user=alice)
    assert work(started) == "succeeded"
    latest = project.promotions.latest("pk")
    assert latest.checkpoint == Checkpoint.objects.latest("pk")
    assert (latest.promoted_by, latest.note) == (alice, "of the week")


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """Do them at the same moment, each on a connection of its own; what each returned or raised."""
    barrier = threading.Barrier(len(acts))
    results: list[Any] = [None] * len(acts)

    def do(index: int) -> None:
        try:
            barrier.wait(10)
            results[index] = acts[index]()
        except Exception as error:
            results[index] = error
        finally:
            connection.close()
            close_old_connections()

    threads = [threading.Thread(target=do, args=(index,)) for index in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


@pytest.mark.django_db(transaction=True)
def test_a_project_never_runs_two_pipelines_at_once(project, alice, base):
    promoted_base(base, alice)
    make_task(project)
    pipelines = [make_pipeline(project, alice, FORK, name=name) for name in ("a", "b", "c", "d")]
    results = at_once(*(lambda one=one: start_pipeline(pipeline=one, user=alice) for one in pipelines))
    assert sorted(type(one).__name__ for one in results) == ["PipelineBusy"] * 3 + ["PipelineRun"]
    assert PipelineRun.objects.count() == 1
    assert Run.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_however_many_advance_it_each_stage_starts_once(script_recipe, project, alice, base):
    promoted_base(base, alice)
    make_task(project)
    started = start_pipeline(pipeline=make_pipeline(project, alice, FORK), user=alice)
    for run in Run.objects.all():
        write_script(run, answers=2)
        supervise.attempt_run(run.pk, shutting_down=lambda: False)
    # The worker died right after: nobody has brought the pipeline on.
    assert states(started)["last"] == "waiting"
    assert at_once(*[lambda: advance(pk=started.pk)] * 4) == [None] * 4
    assert states(started) == {"left": "succeeded", "right": "succeeded", "last": "running"}
    assert Run.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_a_lost_message_delays_a_pipeline_and_never_loses_it(script_recipe, project, alice, bob, base):
    promoted_base(base, alice)
    rank_tasks(project, bob, 2)
    started = start_pipeline(pipeline=make_pipeline(project, alice), user=alice)
    build_dataset_version(project.dataset_versions.get().pk)
    assert states(started)["sft"] == "waiting"
    tasks.tend_pipelines()
    assert states(started)["sft"] == "running"


@pytest.mark.django_db(transaction=True)
def test_it_is_resumed_at_the_stage_where_it_failed(script_recipe, project, alice, bob, base):
    promoted_base(base, alice)
    rank_tasks(project, bob, 2)
    started = start_pipeline(pipeline=make_pipeline(project, alice), user=alice)
    build_dataset_version(project.dataset_versions.get().pk)
    advance(pk=started.pk)
    write_script(Run.objects.get(), steps=3, end="event")
    assert work(started) == "failed"
    assert states(started) == {"rankings": "succeeded", "sft": "failed", "dpo": "waiting"}
    assert started.stages.get(name="sft").error == "The loss is not a number since step 2."
    failed = Run.objects.get()
    resume_pipeline_run(pipeline_run=started, user=alice)
    started.refresh_from_db()
    assert states(started) == {"rankings": "succeeded", "sft": "running", "dpo": "waiting"}
    with pytest.raises(ValidationError, match="failed or was cancelled"):
        resume_pipeline_run(pipeline_run=started, user=alice)
    again = Run.objects.latest("pk")
    assert again.retry_of == failed
    assert work(started) == "succeeded"
    assert project.dataset_versions.count() == 1, "what had succeeded was not done again"
    assert [run.method for run in Run.objects.order_by("pk")] == ["sft", "sft", "dpo"]
    dpo = Run.objects.latest("pk")
    assert dpo.run_inputs.get().checkpoint == again.checkpoints.get()


@pytest.mark.django_db(transaction=True)
def test_it_is_cancelled_and_goes_on_from_the_last_save(attempt_process, script_recipe, project, alice, base):
    promoted_base(base, alice)
    make_task(project)
    started = start_pipeline(pipeline=make_pipeline(project, alice, FORK), user=alice)
    left, right = Run.objects.order_by("pk")
    for run in (left, right):
        write_script(run, steps=400, answers=2)
    worker = attempt_process(left)
    wait_for_step(left, 3)
    cancel_pipeline_run(pipeline_run=started, user=alice)
    cancel_pipeline_run(pipeline_run=started, user=alice)
    right.refresh_from_db()
    assert right.state == "cancelled", "what had not begun is cancelled at once"
    started.refresh_from_db()
    assert started.is_active, "a stage is still on its way out"
    worker.wait(15)

    def ended() -> bool:
        tasks.tend_pipelines()
        started.refresh_from_db()
        return not started.is_active

    assert wait_until(ended, 10)
    assert started.state == "cancelled"
    assert states(started) == {"left": "cancelled", "right": "cancelled", "last": "waiting"}
    assert AuditEvent.objects.filter(verb="pipeline.cancelled").count() == 1
    resume_pipeline_run(pipeline_run=started, user=alice)
    assert [run.retry_of_id for run in Run.objects.order_by("pk")[2:]] == [left.pk, right.pk]


@pytest.mark.django_db(transaction=True)
def test_a_stage_whose_worker_is_killed_goes_on_elsewhere(attempt_process, script_recipe, project, alice, base):
    promoted_base(base, alice)
    make_task(project)
    one = FORK.split("\n[stages.right]")[0]
    started = start_pipeline(pipeline=make_pipeline(project, alice, one), user=alice)
    run = Run.objects.get()
    write_script(run, steps=30, answers=2)
    worker = attempt_process(run)
    wait_for_step(run, 3)
    worker.kill()
    worker.wait()
    assert wait_until(lambda: run.pk in tasks.reap_runs(), 15)
    tasks.run(run.pk)
    started.refresh_from_db()
    assert started.state == "succeeded"
    run.refresh_from_db()
    assert run.attempt == 2


@pytest.mark.django_db(transaction=True)
def test_a_stage_that_cannot_start_says_why(script_recipe, project, alice, bob, base):
    promoted_base(base, alice)
    rank_tasks(project, bob, 1)
    started = start_pipeline(pipeline=make_pipeline(project, alice), user=alice)
    base_folder(base).rmdir()
    assert work(started) == "failed"
    assert "weights are gone" in started.stages.get(name="sft").error
    assert not Run.objects.exists()
    base_folder(base).mkdir()
    resume_pipeline_run(pipeline_run=started, user=alice)
    assert Run.objects.get().method == "sft"


def test_a_definition_that_podium_no_longer_knows_ends_its_run(project, alice, base):
    promoted_base(base, alice)
    make_task(project)
    started = start_pipeline(pipeline=make_pipeline(project, alice, FORK), user=alice)
    Run.objects.update(state="succeeded")
    PipelineRun.objects.update(definition=FORK.replace("generate", "alchemy"))
    advance(pk=started.pk)
    started.refresh_from_db()
    assert started.state == "failed"
    assert "last, method: Podium knows these" in started.stages.get(name="last").error


def test_an_archived_pipeline_starts_and_resumes_nothing(project, alice, base):
    promoted_base(base, alice)
    make_task(project)
    pipeline = make_pipeline(project, alice, FORK)
    started = start_pipeline(pipeline=pipeline, user=alice)
    with pytest.raises(PipelineBusy):
        start_pipeline(pipeline=pipeline, user=alice)
    cancel_pipeline_run(pipeline_run=started, user=alice)
    archive_pipeline(pipeline=pipeline, archived=True, user=alice)
    with pytest.raises(InvalidPipeline, match="archived"):
        start_pipeline(pipeline=pipeline, user=alice)
    with pytest.raises(ValidationError, match="archived"):
        resume_pipeline_run(pipeline_run=started, user=alice)
    archive_pipeline(pipeline=pipeline, archived=False, user=alice)
    resume_pipeline_run(pipeline_run=started, user=alice)
