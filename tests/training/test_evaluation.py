"""Evaluations from the form to their page: what is refused, what is laid, what is shown and downloaded."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from annotate.models import Prompt, content_hash, split_of
from tests.conftest import signed_in
from tests.recipes.tiny import Row, read_jsonl
from tests.training.conftest import make_checkpoint, rank_tasks
from tests.training.evaluations import headline_of, planted_evaluation
from tests.training.test_supervise import attempt
from training.models import Checkpoint, Run, RunInput
from training.recipes.arguments import parse_arguments, to_json
from training.services.folders import lay_folder, run_folder
from training.services.runs import retry_run


def add_prompts(project, count: int, **fields) -> list[Prompt]:
    made = []
    for number in range(count):
        messages = [{"role": "user", "content": f"What is {number} and {number}?"}]
        values = {"reference_answer": str(2 * number), "tags": ["sums"], **fields}
        made.append(
            Prompt.objects.create(project=project, messages=messages, content_hash=content_hash(messages), **values)
        )
    return made


def make_evaluation(project, inputs: dict[str, Checkpoint], dataset=None, **arguments) -> Run:
    frozen = to_json(parse_arguments("evaluate", arguments))
    run = Run.objects.create(project=project, method="evaluate", arguments=frozen, dataset_version=dataset)
    RunInput.objects.bulk_create(RunInput(run=run, role=role, checkpoint=one) for role, one in inputs.items())
    return run


@pytest.fixture
def scorer(project, tmp_path) -> Checkpoint:
    folder = tmp_path / "scorer"
    folder.mkdir()
    return make_checkpoint(project, folder, "scorer", kind=Checkpoint.Kind.REWARD_MODEL)


@pytest.fixture
def run(base, scorer) -> Run:
    """A finished evaluation of everything."""
    other = make_checkpoint(base.project, base_folder(base), "other <base>")
    run = make_evaluation(base.project, {"policy": base, "baseline": other, "reward_model": scorer})
    evaluation = planted_evaluation()
    run.result = {"metrics": headline_of(evaluation), "is_adapter": False, "evaluation": evaluation}
    run.state, run.finished_at = "succeeded", timezone.now()
    run.save()
    return run


def base_folder(checkpoint: Checkpoint):
    return checkpoint.location.partition(":")[2]


def page(user, run: Run) -> str:
    response = signed_in(user).get(reverse("run", args=[run.project.slug, run.pk]))
    assert response.status_code == 200
    return str(response.content.decode())


def download(user, run: Run, **query):
    return signed_in(user).get(reverse("run_evaluation", args=[run.project.slug, run.pk]), query)


@pytest.mark.django_db
def test_the_form_refuses_what_could_measure_nothing(alice, project, base, scorer, dataset):
    address = reverse("run_new", args=[project.slug, "evaluate"])
    defaults = {name: value for name, value in to_json(parse_arguments("evaluate", {})).items() if value is not False}

    def errors(**chosen) -> Row:
        response = signed_in(alice).post(address, {**defaults, "note": "", **chosen})
        return response.context["form"].errors if response.status_code == 422 else {}

    assert "nothing can be measured" in errors()["policy"][0]
    assert "nothing can be measured" in errors(policy=base.pk)["policy"][0]
    assert "nothing can be measured" in errors(policy=base.pk, baseline=base.pk)["policy"][0]
    assert "nothing can be measured" in errors(reward_model=scorer.pk)["policy"][0]
    assert "holds out no ranking" in errors(reward_model=scorer.pk, dataset_version=dataset.pk)["dataset_version"][0]
    assert errors(reward_model=scorer.pk, dataset_version=dataset.pk, split="all") == {}
    assert errors(policy=base.pk, reward_model=scorer.pk) == {}
    add_prompts(project, 1)
    assert errors(policy=base.pk) == {}
    assert Run.objects.count() == 3
    html = signed_in(alice).get(address, {"policy": base.pk}).content.decode()
    assert re.search(rf'<option value="{base.pk}" selected>', html)


@pytest.mark.django_db
def test_the_form_says_how_much_will_be_written(alice, project, base):
    add_prompts(project, 100)
    address = reverse("run_new", args=[project.slug, "evaluate"])
    arguments = to_json(parse_arguments("evaluate", {"split": "all", "num_prompts": 50}))
    query = {**{name: value for name, value in arguments.items() if value is not False}, "policy": base.pk}
    html = signed_in(alice).get(address, query, headers={"HX-Request": "true"}).content.decode()
    assert "50 prompts, 450 completions." in html


@pytest.mark.django_db
def test_its_folder_holds_the_prompts_of_the_asked_side_and_the_tags_that_rankings_lack(
    project, bob, scorer, base, tmp_path
):
    rank_tasks(project, bob, 4)
    call_command("build_dataset", project.slug, "--test-fraction", "0")
    prompts = add_prompts(project, 60)
    run = make_evaluation(
        project, {"policy": base, "reward_model": scorer}, project.dataset_versions.get(), num_prompts=3
    )
    folder = run_folder(run)
    folder.mkdir(parents=True)
    lay_folder(run, folder)
    laid = read_jsonl(folder / "data/prompts.jsonl")
    held_out = [prompt for prompt in prompts if split_of(prompt.content_hash, 0.1) == "test"]
    assert len(held_out) > 3
    assert len(laid) == 3, "three that are held out, not those of three that happen to be"
    assert {row["prompt_id"] for row in laid} <= {prompt.pk for prompt in held_out}
    assert laid[0]["tags"] == ["sums"]
    tags = {row["prompt_id"]: row["tags"] for row in read_jsonl(folder / "data/tags.jsonl")}
    assert tags == {prompt.content_hash: ["sums"] for prompt in prompts}


@pytest.mark.django_db(transaction=True)
def test_it_runs_as_a_worker_runs_it_and_a_retry_takes_over_what_was_found(quick, tiny_model, project, alice, rita):
    prompts = add_prompts(project, 3)
    tiny = make_checkpoint(project, tiny_model, "tiny")
    arguments = {"split": "all", "num_generations": 2, "max_completion_length": 4, "bf16": False}
    cancelled = make_evaluation(project, {"policy": tiny, "baseline": tiny}, **arguments)
    folder = run_folder(cancelled)
    (folder / "data").mkdir(parents=True)
    planted = {"texts": [{"text": "It is 0.", "tokens": 4, "stopped": True}]}
    lines = "".join(json.dumps({"key": str(prompt.pk), **planted}) + "\n" for prompt in prompts)
    (folder / "policy.jsonl").write_text(lines)
    lay_folder(cancelled, folder)
    Run.objects.filter(pk=cancelled.pk).update(state="cancelled")
    cancelled.refresh_from_db()

    run = attempt(retry_run(run=cancelled, user=alice))
    assert (run.state, run.error) == ("succeeded", "")
    assert f"Goes on from step 3 of run {cancelled.pk}." in run.events.filter(kind="note").values_list(
        "data__message", flat=True
    )
    assert not run.checkpoints.exists()
    found = run.result["evaluation"]
    assert found["answers"]["policy"]["accuracy"]["value"] == pytest.approx(1 / 3, abs=1e-5), "0 and 0 is 0"
    assert len(found["spending"]["points"]) == 2
    assert run.result["metrics"]["answer_accuracy_low"] > 0
    assert (run.step, run.total_steps, run.progress_note) == (12, 12, "The answers are checked")
    html = page(rita, run)
    assert "is right for 33" in html
    assert "first look, no more" in html
    assert "What more samples bring" in html


@pytest.mark.django_db
def test_the_page_says_what_came_out_with_intervals_and_draws_it(rita, run):
    html = page(rita, run)
    for title in (
        "The reward model against people",
        "Against the other model",
        "Right answers",
        "What more samples bring",
    ):
        assert f">{title}</h2>" in html
    assert "it is too sure of itself" in html
    assert "With answers of equal length it would win" in html
    assert "In 7 of" in html
    assert "So it is the better one of the two." in html
    assert "A draw cannot be ruled out." in html
    assert "6 prompts are left out, since no verdict could be read." in html
    assert "first look" not in html
    keys = ("tags", "calibration", "sizes", "wins", "right", "spending", "reward")
    assert [key for key in keys if f'id="figure-{key}"' in html] == list(keys)
    assert html.count('<svg width="') == 6
    assert "&lt;b&gt;I think&lt;/b&gt;" in html
    assert "<b>I think</b>" not in html
    assert "other &lt;base&gt;" in html
    assert "undecided" in html
    assert 'style="' not in html
    assert "Pairs ordered as people ordered them" in html


@pytest.mark.django_db
def test_with_few_prompts_the_page_says_so(rita, run):
    run.result["evaluation"] = planted_evaluation(prompts=8, seed=3)
    run.save()
    html = page(rita, run)
    assert html.count("With 8 prompts this is a first look, no more") == 4
    assert "There are too few prompts for it." in html


@pytest.mark.django_db
def test_each_figure_comes_as_csv_and_as_svg(rita, run):
    lines = b"".join(download(rita, run, table="calibration")).decode().splitlines()
    assert lines[0] == "from,to,predicted,observed,low,high,pairs,prompts"
    first = [float(cell) for cell in lines[1].split(",")]
    assert first[0] == 0.5
    assert first[4] <= first[3] <= first[5]
    spending = b"".join(download(rita, run, table="spending")).decode().splitlines()
    assert spending[0] == "n,tokens,best,best_low,best_high,majority,majority_low,majority_high,any,any_low,any_high"
    assert [line.split(",")[0] for line in spending[1:]] == ["1", "2", "4", "8", "16"]
    for key in ("tags", "calibration", "wins", "right", "spending", "reward"):
        response = download(rita, run, table=key, format="svg")
        assert response.headers["Content-Type"] == "image/svg+xml"
        ElementTree.fromstring(response.content)  # noqa: S314 - our own
    assert download(rita, run, table="nothing").status_code == 404
    assert download(rita, run, table="sizes", format="svg").status_code == 404


@pytest.mark.django_db
def test_a_run_that_is_not_there_yet_says_so_and_one_that_found_nothing_too(rita, run):
    Run.objects.filter(pk=run.pk).update(state="running", result={}, progress_note="The reward model scores")
    html = page(rita, run)
    assert "The results appear here once everything has been measured." in html
    assert "The reward model scores" in html
    Run.objects.filter(pk=run.pk).update(state="succeeded", result={"metrics": {}, "evaluation": {}})
    assert "Nothing came out that could be compared" in page(rita, run)
    assert download(rita, run, table="tags").status_code == 404


@pytest.mark.django_db
def test_a_checkpoint_lists_what_was_measured_of_it(rita, alice, run, base, scorer):
    def shown(checkpoint: Checkpoint, user=rita) -> str:
        return signed_in(user).get(reverse("checkpoint", args=[run.project.slug, checkpoint.pk])).content.decode()

    policy, reward = shown(base), shown(scorer)
    assert f">Evaluation {run.pk}</a>" in policy
    assert "Win rate, by the judge" in policy
    assert "Share of right answers" in policy
    assert "Calibration error" not in policy
    assert "Pairs ordered as people ordered them" in reward
    assert "Evaluate it" not in reward
    assert f"?reward_model={scorer.pk}" in shown(scorer, alice)
    Run.objects.filter(pk=run.pk).update(state="failed")
    assert "Nobody has measured it yet." in shown(base)
