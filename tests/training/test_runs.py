"""The list of runs, the generated form, and what it refuses before anything is queued."""

import re
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from annotate.jobs import Job
from annotate.models import AuditEvent, DatasetVersion, Project
from tests import conftest as suite
from tests.conftest import make_task, signed_in
from tests.training.conftest import make_checkpoint, queue_run, write_script
from training.models import Checkpoint, Run
from training.recipes.arguments import METHODS, parse_arguments, to_json
from training.services.folders import log_path
from training.services.prompts import least_ranked
from training.tasks import reap_runs


def form_data(method: str, policy: Checkpoint, dataset: DatasetVersion | None = None, **changes) -> dict[str, Any]:
    values = {name: value for name, value in to_json(parse_arguments(method, {})).items() if value is not False}
    values |= {"policy": policy.pk, "note": "", **changes}
    if dataset:
        values["dataset_version"] = dataset.pk
    return values


def post(user, project, method, data):
    return signed_in(user).post(reverse("run_new", args=[project.slug, method]), data)


def test_it_queues_a_run_with_all_its_arguments(alice, project, base, dataset):
    response = post(alice, project, "dpo", form_data("dpo", base, dataset, beta="0.3", use_peft="on", note="stronger"))
    run = Run.objects.get()
    assert response.headers["Location"] == reverse("run", args=[project.slug, run.pk])
    assert (run.state, run.method, run.note, run.created_by) == ("queued", "dpo", "stronger", alice)
    assert run.dataset_version == dataset
    assert run.run_inputs.get().checkpoint == base
    assert run.arguments == to_json(parse_arguments("dpo", {"beta": 0.3, "use_peft": True}))
    assert AuditEvent.objects.filter(verb="run.started", target=f"run:{run.pk}", actor=alice).exists()


@pytest.mark.parametrize("method", list(METHODS))
def test_the_form_shows_each_argument_with_its_help(alice, project, base, dataset, method):
    html = signed_in(alice).get(reverse("run_new", args=[project.slug, method])).content.decode()
    for item in METHODS[method].arguments.__dataclass_fields__.values():
        assert f'name="{item.name}' in html
        assert str(item.metadata["help"]).split("'")[0] in html
        assert f"<code>{item.name}</code>" in html, "TRL's own name stands beside the label"
    labels = re.findall(r"<label[^>]*>([^<]+)</label>", html)
    assert not [label for label in labels if re.search(r"_|\b(peft|num|bf16|lr|lora)\b", label)], "in plain words"
    assert 'style="' not in html


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("learning_rate", "-1", "greater than or equal to 1e-08"),
        ("learning_rate", "fast", "Enter a number"),
        ("learning_rate", "nan", "Enter a number"),
        ("beta", "1000", "less than or equal to 10"),
        ("ties", "maybe", "not one of the available choices"),
        ("logging_steps", "1.5", "Enter a whole number"),
        ("policy", "999999", "not one of the available choices"),
        ("dataset_version", "999999", "not one of the available choices"),
    ],
)
def test_it_refuses_an_impossible_value_at_its_field(alice, project, base, dataset, field, value, said):
    response = post(alice, project, "dpo", form_data("dpo", base, dataset) | {field: value})
    assert response.status_code == 422
    assert said in " ".join(response.context["form"].errors[field])
    assert not Run.objects.exists()


def test_it_refuses_a_dataset_without_a_ranking_that_orders_anything(alice, project, base, dataset):
    dataset.counts["train_best"] = 0
    dataset.save()
    response = post(alice, project, "reward", form_data("reward", base, dataset))
    assert "no ranking in its training split" in str(response.context["form"].errors["dataset_version"])
    assert not Run.objects.exists()


def test_it_refuses_sft_on_demonstrations_that_do_not_exist(alice, project, base, dataset):
    response = post(alice, project, "sft", form_data("sft", base, dataset, train_on="demonstrations"))
    assert "nothing to imitate" in str(response.context["form"].errors["dataset_version"])
    assert post(alice, project, "sft", form_data("sft", base, dataset, train_on="best")).status_code == 302


def test_it_refuses_a_dataset_that_is_not_ready(alice, project, base, dataset):
    DatasetVersion.objects.update(state=Job.State.RUNNING)
    response = post(alice, project, "reward", form_data("reward", base, dataset))
    assert response.context["form"].errors["dataset_version"]


def test_it_refuses_a_base_model_that_is_missing(alice, project, base, dataset, tmp_path):
    (tmp_path / "base").rmdir()
    response = post(alice, project, "dpo", form_data("dpo", base, dataset))
    assert "Its weights are gone" in str(response.context["form"].errors["policy"])


def test_it_refuses_a_reward_model_as_policy(alice, project, base, dataset, tmp_path):
    scorer = make_checkpoint(project, tmp_path, "scorer", kind="reward_model")
    assert post(alice, project, "dpo", form_data("dpo", scorer, dataset)).status_code == 422
    with pytest.raises(CommandError, match="policy: It must be of the kind “Language model”"):
        call_command("start_run", project.slug, "dpo", "--dataset", "1", "--policy", "scorer")


def test_it_refuses_to_generate_without_prompts(alice, project, base):
    response = post(alice, project, "generate", form_data("generate", base))
    assert "no prompts yet" in str(response.context["form"].errors["num_prompts"])


def test_the_estimate_counts_steps(alice, project, base, dataset):
    rows = dataset.counts["train_best"]
    data = form_data("dpo", base, dataset, num_train_epochs="2", per_device_train_batch_size="2")
    response = signed_in(alice).get(
        reverse("run_new", args=[project.slug, "dpo"]), data, headers={"HX-Request": "true"}
    )
    html = response.content.decode()
    assert f"{-(-rows // 2) * 2} steps over {rows} training rows" in html
    assert "<html" not in html


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "18 steps over 18 training prompts, 144 completions."),
        ({"num_train_epochs": "2", "num_generations": "4"}, "18 steps over 18 training prompts, 144 completions."),
        ({"per_device_train_batch_size": "16", "num_iterations": "2"}, "18 steps over 18 training prompts, 144 completions."),
        ({"gradient_accumulation_steps": "4"}, "4 steps over 18 training prompts, 128 completions."),
        ({"num_prompts": "10", "max_steps": "5"}, "5 steps over 9 training prompts, 40 completions."),
    ],
)  # fmt: skip
def test_the_estimate_counts_what_is_sampled(alice, project, base, changes, said):
    for number in range(20):
        make_task(project, f"Question {number}?")
    response = signed_in(alice).get(
        reverse("run_new", args=[project.slug, "grpo"]),
        form_data("grpo", base, **{"rewards_reward_model": "1", **changes}),
        headers={"HX-Request": "true"},
    )
    assert said in response.content.decode()


def test_a_run_is_queued_though_the_broker_is_away(transactional_db, project, base, dataset):
    command = [sys.executable, "manage.py", "start_run", project.slug, "dpo", "--dataset", "1", "--policy", "base"]
    environment = {**suite.test_environment(), "BROKER_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "is queued" in done.stdout
    assert "broker is away" in done.stderr
    assert Run.objects.get().state == "queued"
    Run.objects.update(queued_at=timezone.now() - timedelta(seconds=60))
    assert reap_runs() == [Run.objects.get().pk], "the wake-up is sent again"


def test_the_table_filters_and_compares(rita, project, base):
    good = queue_run(base, "generate")
    Run.objects.filter(pk=good.pk).update(state="succeeded", result={"metrics": {"eval_accuracy": 0.8125}})
    queue_run(base, "sft")
    client = signed_in(rita)
    html = client.get(reverse("runs", args=[project.slug])).content.decode()
    assert "0.8125" in html
    assert f"Supervised fine-tuning {good.pk + 1}" in html
    html = client.get(reverse("runs", args=[project.slug]), {"method": "sft", "state": "queued"}).content.decode()
    assert f"Supervised fine-tuning {good.pk + 1}" in html
    assert "0.8125" not in html
    assert client.get(reverse("runs", args=[project.slug]), {"state": "created_by__password"}).status_code == 200


def test_an_empty_list_says_what_belongs_there(rita, alice, project):
    assert (
        "An admin of the project can start one"
        in signed_in(rita).get(reverse("runs", args=[project.slug])).content.decode()
    )
    assert (
        reverse("run_new", args=[project.slug, "generate"])
        in signed_in(alice).get(reverse("runs", args=[project.slug])).content.decode()
    )


@pytest.fixture
def every_page(project, base, dataset):
    """(path, what an admin gets by GET, by POST) of every training URL; researchers read what admins read by GET."""
    run = queue_run(base, "dpo", dataset)
    Run.objects.filter(pk=run.pk).update(state="succeeded")
    write_script(run)
    log_path(run).write_text("step 1\n")
    for step in (1, 2):
        run.events.create(
            offset=step, attempt=1, kind="metrics", step=step, data={"metrics": {"loss": 1 / step}}, at=run.queued_at
        )
    slug = project.slug
    return {
        "read": [
            reverse("runs", args=[slug]),
            reverse("run", args=[slug, run.pk]),
            reverse("run_metrics", args=[slug, run.pk]),
            reverse("run_chart", args=[slug, run.pk, "loss"]),
            reverse("checkpoints", args=[slug]),
            reverse("checkpoint", args=[slug, base.pk]),
        ],
        "log": [reverse("run_log", args=[slug, run.pk])],
        "promote": [reverse("checkpoint_promote", args=[slug, base.pk])],
        "change": [
            reverse("run_new", args=[slug, "dpo"]),
            reverse("checkpoint_add", args=[slug]),
        ],
        "post": [reverse("run_cancel", args=[slug, run.pk]), reverse("run_retry", args=[slug, run.pk])],
    }


def test_every_url_as_every_role(every_page, project, alice, bob, rita, charlie, client):
    other = Project.objects.create(slug="elsewhere", name="Elsewhere", created_by=charlie)
    other.memberships.create(user=charlie, role="admin")
    admin_gets = {
        "log": {"get": 200},
        "promote": {"get": 200, "post": 302},
        "post": {"post": 302},
        "change": {"get": 200, "post": 422},
        "read": {"get": 200},
    }
    researcher_gets = {"read": 200, "log": 200}
    for kind, paths in every_page.items():
        for path in paths:
            for method, admin_status in admin_gets[kind].items():
                expected = {charlie: 404, bob: 403, rita: researcher_gets.get(kind, 403), alice: admin_status}
                for user, status in expected.items():
                    got = getattr(signed_in(user), method)(path).status_code
                    assert got == status, (method, path, user.username, got)
                assert getattr(client, method)(path).headers["Location"].startswith("/accounts/login"), path


def test_a_run_of_another_project_is_not_found(every_page, project, charlie, base):
    other = Project.objects.create(slug="elsewhere", name="Elsewhere", created_by=charlie)
    other.memberships.create(user=charlie, role="admin")
    client = signed_in(charlie)
    for paths in every_page.values():
        for path in paths:
            moved = path.replace(project.slug, "elsewhere", 1)
            if str(base.pk) in moved or ("runs/" in moved and "new" not in moved):
                assert client.get(moved).status_code in (404, 405), moved


def test_the_command_queues_a_run(project, base, dataset, capsys):
    call_command(
        "start_run",
        project.slug,
        "sft",
        "--dataset",
        "1",
        "--policy",
        "base",
        "--set",
        "train_on=best",
        "--set",
        "bf16=false",
        "--set",
        "learning_rate=1e-3",
    )
    run = Run.objects.get()
    assert f"run {run.pk} is queued" in capsys.readouterr().out
    assert run.arguments["learning_rate"] == 0.001
    assert run.arguments["bf16"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tides", "dpo", "--dataset", "9"], "no dataset version 9"),
        (["nowhere", "dpo"], "no project"),
        (["tides", "dpo", "--policy", "nobody"], "no checkpoint"),
        (["tides", "dpo", "--policy", "base", "--dataset", "1", "--set", "beta=-1"], "beta: must be at least"),
        (["tides", "dpo", "--policy", "base", "--dataset", "1", "--set", "speed=1"], "speed: unknown argument"),
        (["tides", "dpo", "--policy", "base", "--set", "beta"], "NAME=VALUE"),
        (["tides", "dpo"], "policy: Choose a checkpoint"),
    ],
)
def test_the_command_says_what_is_wrong(project, base, dataset, arguments, said):
    with pytest.raises(CommandError, match=said):
        call_command("start_run", *arguments)
    assert not Run.objects.exists()


def test_prompts_that_nobody_ranked_are_answered_first(project, alice, bob, base, dataset):

    fresh = make_task(project, "Never ranked?", ["x", "y"]).prompt
    chosen = list(least_ranked(project)[:3])
    assert chosen[0] == fresh
    assert len(chosen) == 3


def test_texts_are_read_from_the_folders_that_whoever_runs_podium_allows(alice, project, settings, tmp_path):
    (tmp_path / "texts/stories").mkdir(parents=True)
    settings.TEXT_ROOTS = [tmp_path / "texts"]
    address = reverse("run_new", args=[project.slug, "pretrain"])
    fields = {
        name: str(value) for name, value in to_json(parse_arguments("pretrain", {})).items() if value is not False
    }
    for refused in ("", "stories", "/etc", f"{tmp_path}/texts/../..", f"{tmp_path}/texts/none"):
        response = signed_in(alice).post(address, fields | {"text_folder": refused})
        assert response.status_code == 422
        assert f"Folders there: {tmp_path}/texts/stories." in response.content.decode(), refused
    assert not Run.objects.exists()

    signed_in(alice).post(address, fields | {"text_folder": f"{tmp_path}/texts/stories"})
    run = Run.objects.get()
    assert (run.method, run.state, run.arguments["text_folder"]) == ("pretrain", "queued", f"{tmp_path}/texts/stories")
