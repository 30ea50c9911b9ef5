"""Rewards in the form, the command and the settings; and rejection sampling from the form to a model that learned from it."""

import json
import re
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.urls import reverse

from annotate.models import AuditEvent, DatasetVersion, Prompt
from annotate.services.datasets import verify
from config.rewards import check_judge, read_reward_functions
from tests.conftest import make_task, signed_in
from tests.recipes import tiny
from tests.recipes.judging import JudgeServer, said
from tests.training.conftest import make_checkpoint, write_script
from tests.training.test_runs import form_data, post
from training.models import Checkpoint, Run, RunInput
from training.recipes.arguments import parse_arguments, to_json
from training.recipes.arguments.rewards import REWARDS
from training.services.folders import lay_folder, run_folder
from training.supervise import attempt_run

METHOD = "rejection_sampling"
KEY = "sk-nobody-may-read-this"
OWN = {"shortness": "tests.recipes.own_rewards:shortness"}


def ask(project, question, answer="", tags=()):
    task = make_task(project, question)
    Prompt.objects.filter(pk=task.prompt_id).update(reference_answer=answer, tags=list(tags))


def weights(**chosen):
    return {f"rewards_{name}": str(weight) for name, weight in chosen.items()}


def choose(user, project, policy, rewards, **changes):
    data = form_data(METHOD, policy, **changes)
    del data["rewards"]
    return post(user, project, METHOD, {**data, **weights(**rewards)})


def test_the_form_has_a_number_for_each_reward_that_there_is(settings, alice, project, base):
    settings.REWARD_FUNCTIONS = OWN
    html = signed_in(alice).get(reverse("run_new", args=[project.slug, METHOD])).content.decode()
    for name, (label, _about) in REWARDS.items():
        assert f'name="rewards_{name}"' in html
        assert f">{label}</label>" in html
    assert "&lt;think&gt;…&lt;/think&gt;" in html
    assert 'name="rewards_shortness"' in html
    assert "tests.recipes.own_rewards:shortness" in html
    assert re.search(r'name="rewards_reward_model"[^>]*value="1.0"', html), "the default"
    assert re.search(r'name="rewards_accuracy"[^>]*value=""', html)


def test_a_run_takes_the_rewards_that_were_given_a_weight(alice, project, base):
    ask(project, "How much is 6 × 7?", "42")
    response = choose(alice, project, base, {"accuracy": 1, "format": "0.25", "length": 0, "judge": ""})
    assert response.status_code == 302, response.context["form"].errors
    run = Run.objects.get()
    assert run.arguments["rewards"] == {"accuracy": 1.0, "format": 0.25, "length": 0.0}
    again = signed_in(alice).get(reverse("run_new", args=[project.slug, METHOD]) + f"?from={run.pk}").content.decode()
    assert re.search(r'name="rewards_format"[^>]*value="0.25"', again)
    assert re.search(r'name="rewards_length"[^>]*value="0.0"', again)
    assert re.search(r'name="rewards_reward_model"[^>]*value=""', again)


@pytest.mark.parametrize(
    ("rewards", "changes", "field", "said_there"),
    [
        ({}, {}, "rewards", "at least one reward a weight that is not 0"),
        ({"format": 0, "length": "0.0"}, {}, "rewards", "at least one reward a weight that is not 0"),
        ({"format": "much"}, {}, "rewards", "Format: Enter a number"),
        ({"format": "nan"}, {}, "rewards", "Format: Enter a number"),
        ({"format": "101"}, {}, "rewards", "Format: Ensure this value is less than or equal to 100"),
        ({"reward_model": 1}, {}, "reward_model", "Choose a reward model, since the rewards name it"),
        ({"judge": 1}, {}, "judge", "no judge of its own"),
        ({"accuracy": 1}, {"prompt_tag": "verse"}, "rewards", "none of the chosen prompts has a reference answer"),
        ({"language": 1}, {"reward_language": "English"}, "reward_language", "code of two or three letters"),
    ],
)
def test_rewards_that_cannot_be_computed_are_refused_at_their_field(
    settings, alice, project, base, rewards, changes, field, said_there
):
    settings.JUDGE_URL = ""
    ask(project, "How much is 6 × 7?", "42")
    ask(project, "Write a verse.", tags=["verse"])
    response = choose(alice, project, base, rewards, **changes)
    assert response.status_code == 422
    assert said_there in " ".join(response.context["form"].errors[field])
    assert said_there in response.content.decode()
    assert not Run.objects.exists()


def test_the_command_takes_rewards_as_json_and_checkpoints_by_role(alice, project, base, tmp_path, capsys):
    project.created_by = alice
    project.save()
    ask(project, "How much is 6 × 7?", "42")
    (tmp_path / "scorer").mkdir()
    scorer = make_checkpoint(project, tmp_path / "scorer", "scorer", kind=Checkpoint.Kind.REWARD_MODEL)

    def command(rewards, *more):
        call_command("start_run", project.slug, METHOD, "--policy", "base", "--set", f"rewards={rewards}", *more)

    command('{"accuracy": 1, "reward_model": 0.5}', "--input", "reward_model=scorer")
    run = Run.objects.get()
    assert run.arguments["rewards"] == {"accuracy": 1.0, "reward_model": 0.5}
    assert {item.role: item.checkpoint for item in run.run_inputs.all()} == {"policy": base, "reward_model": scorer}
    for rewards, complaint in (
        ('{"charm": 1}', r"rewards: There is no reward “charm”. Podium knows these: reward_model, accuracy, "),
        ('{"format": "1"}', "rewards: format must be a number"),
        ("[1]", "rewards: must map names to numbers"),
        ("accuracy=1", "nor JSON such as"),
    ):
        with pytest.raises(CommandError, match=complaint):
            command(rewards)
    with pytest.raises(CommandError, match="no checkpoint “nobody”"):
        command('{"format": 1}', "--input", "judge=nobody")


def test_rewards_of_ones_own_are_read_from_the_settings():
    assert read_reward_functions(" politeness=mine.rewards:politeness , short = a:b.c,") == {
        "politeness": "mine.rewards:politeness",
        "short": "a:b.c",
    }
    assert read_reward_functions("") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("politeness", "wants name=package.module:function"),
        ("politeness=mine.rewards", "wants name=package.module:function"),
        ("Politeness=mine:p", "wants name=package.module:function"),
        ("p=mine:p; import os", "wants name=package.module:function"),
        ("accuracy=mine:p", "there is a reward of that name already"),
        ("p=mine:p,p=mine:q", "there is a reward of that name already"),
    ],
)
def test_settings_that_name_no_function_stop_the_process(text, complaint):
    with pytest.raises(ImproperlyConfigured, match=complaint):
        read_reward_functions(text)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"url": "judge.example.org"}, "JUDGE_URL must be an address"),
        ({"url": "file:///etc/passwd"}, "JUDGE_URL must be an address"),
        ({"model": ""}, "JUDGE_URL and JUDGE_MODEL belong together"),
        ({"url": ""}, "JUDGE_URL and JUDGE_MODEL belong together"),
        ({"key": "sk\n-1"}, "JUDGE_API_KEY holds characters"),
        ({"timeout": 0.0}, "JUDGE_TIMEOUT must be more than 0"),
        ({"concurrency": 0}, "JUDGE_CONCURRENCY must be from 1 to 256"),
    ],
)
def test_settings_of_the_judge_that_make_no_sense_stop_the_process(changes, complaint):
    good: dict[str, Any] = {
        "url": "https://judge.example.org/v1",
        "model": "grader",
        "key": KEY,
        "timeout": 60.0,
        "concurrency": 8,
    }
    check_judge(**good)
    with pytest.raises(ImproperlyConfigured, match=complaint) as refused:
        check_judge(**{**good, **changes})
    assert KEY not in str(refused.value)


def sampling(project, policy, **arguments):
    run = Run.objects.create(
        project=project, method=METHOD, arguments=to_json(parse_arguments(METHOD, arguments)), created_by=project.created_by
    )  # fmt: skip
    RunInput.objects.create(run=run, role="policy", checkpoint=policy)
    return run


@pytest.mark.parametrize(("rewards", "told"), [({"judge": 1.0}, True), ({"format": 1.0}, False)])
def test_the_judges_key_reaches_only_a_recipe_that_asks_it(script_recipe, settings, project, base, rewards, told):
    settings.JUDGE_URL, settings.JUDGE_MODEL, settings.JUDGE_API_KEY = "https://judge.example.org/v1", "grader", KEY
    run = sampling(project, base, rewards=rewards)
    folder = write_script(run, fail="crash")
    attempt_run(run.pk, shutting_down=lambda: False)
    environment = json.loads((folder / "environment.json").read_text())
    assert (environment.get("JUDGE_API_KEY") == KEY) == told
    assert ("JUDGE_URL" in environment) == told
    for file in folder.rglob("*"):
        assert file.name == "environment.json" or not file.is_file() or KEY not in file.read_text()


def test_sampled_answers_become_a_dataset_version_on_which_a_model_is_tuned(
    quick, settings, alice, project, tiny_model, tmp_path
):
    settings.RUN_LEASE_SECONDS = 30.0
    settings.REWARD_FUNCTIONS = OWN
    settings.JUDGE_MODEL, settings.JUDGE_API_KEY = "grader", KEY
    project.created_by = alice
    project.save()
    for number in range(5):
        ask(project, f"Say {number}!")
    base = make_checkpoint(project, tiny_model, "tiny")
    changes = {"num_generations": "3", "max_completion_length": "8", "keep_unfinished": "on", "threshold": "-1000"}
    with JudgeServer(lambda body, number: (200, said(f"Score: {1 + number % 10}"))) as server:
        settings.JUDGE_URL = server.url
        response = choose(alice, project, base, {"judge": 1, "shortness": 0.5}, bf16="", note="third stage", **changes)
        assert response.status_code == 302, response.context["form"].errors
        run = Run.objects.get()
        attempt_run(run.pk, shutting_down=lambda: False)
        assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    run.refresh_from_db()
    assert run.state == "succeeded", (run.error, run.log_tail)
    version = run.made_version
    assert version
    assert (version.state, version.origin, version.note, version.number) == (
        "succeeded",
        f"run:{run.pk}",
        "third stage",
        1,
    )
    assert version.counts["demonstrations"] == 5
    assert sum(version.counts["left_out"].values()) == 10
    assert verify(version)
    assert AuditEvent.objects.filter(verb="dataset.made", actor=alice).exists()
    rows = pq.read_table(default_storage.path(f"{version.folder}/demonstrations.parquet")).to_pylist()
    hashes = set(Prompt.objects.values_list("content_hash", flat=True))
    assert {row["prompt_id"] for row in rows} == hashes
    for row in rows:
        provenance = json.loads(row["provenance"])
        assert (provenance["run"], provenance["checkpoint"]) == (run.pk, "tiny")
        assert provenance["rewards"].keys() == {"judge", "shortness"}
    for file in run_folder(run).rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
    assert KEY not in json.dumps(run.result)

    client = signed_in(alice)
    page = client.get(reverse("run", args=[project.slug, run.pk])).content.decode()
    assert reverse("dataset", args=[project.slug, 1]) in page
    assert "5 examples" in page
    assert "Completions written" in page
    page = client.get(reverse("dataset", args=[project.slug, 1])).content.decode()
    assert reverse("run", args=[project.slug, run.pk]) in page
    assert "Good enough, but the prompt has better ones" in page
    assert "&quot;checkpoint&quot;: &quot;tiny&quot;" in page
    assert "made by a run" in client.get(reverse("datasets", args=[project.slug])).content.decode()
    for format in ("jsonl", "csv", "parquet"):
        download = client.get(reverse("dataset_download", args=[project.slug, 1]), {"shape": "sft", "format": format})
        assert download.status_code == 200
        assert len(download.getvalue()) > 100

    train = version.counts["train_demonstrations"]
    assert train >= 2
    data = form_data("sft", base, version, max_steps="2", per_device_train_batch_size="2", max_length="128", bf16="")
    assert post(alice, project, "sft", data).status_code == 302
    tuning = Run.objects.latest("pk")
    folder = run_folder(tuning)
    folder.mkdir(parents=True)
    lay_folder(tuning, folder)
    tiny.finish(folder)
    assert tiny.result(folder)["metrics"]["examples"] == train
    assert DatasetVersion.objects.count() == 1
