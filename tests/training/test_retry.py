"""A retried run goes on from what the failed or cancelled one has saved, and a run that succeeded keeps no saves."""

import json
import zipfile
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from tests.training.conftest import make_checkpoint, queue_run, write_script
from tests.training.test_supervise import attempt
from training.models import Run
from training.services import saves
from training.services.folders import run_folder
from training.services.runs import retry_run

pytestmark = pytest.mark.django_db(transaction=True)


def save_trainer(folder: Path, step: int) -> Path:
    """What transformers' trainer writes at a save."""
    checkpoint = folder / "trainer" / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    save_file({"weight": numpy.full(8, step, dtype=numpy.float32)}, checkpoint / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt"):
        with zipfile.ZipFile(checkpoint / name, "w") as file:
            file.writestr("data.pkl", b"state")
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return checkpoint


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.fixture
def failed(script_recipe, base, dataset, alice) -> Run:
    run = queue_run(base, "dpo", dataset)
    folder = write_script(run, end="crash")
    save_trainer(folder, 20)
    cut(save_trainer(folder, 40) / "optimizer.pt")
    save_file({"log_probs": numpy.ones(4, dtype=numpy.float32)}, folder / "reference.safetensors")
    return attempt(run)


def test_a_retry_goes_on_from_the_newest_whole_save(failed, alice):
    again = retry_run(run=failed, user=alice)
    write_script(again, end="crash")
    attempt(again)
    old, new = run_folder(failed), run_folder(again)
    assert [path.name for path in (new / "trainer").glob("checkpoint-*")] == ["checkpoint-20"]
    files = {path.name for path in (new / "trainer/checkpoint-20").iterdir()}
    assert files == {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"}
    assert (new / "reference.safetensors").samefile(old / "reference.safetensors")
    notes = again.events.filter(kind="note").order_by("offset").values_list("data__message", flat=True)
    assert notes[0] == f"Goes on from step 20 of run {failed.pk}."

    saves.drop_saves(old)
    assert saves.is_whole(new / "trainer/checkpoint-20"), "it outlives the earlier run's rotation"
    again.refresh_from_db()
    Run.objects.filter(pk=again.pk).update(state="queued")
    attempt(again)
    assert sum("Goes on" in note for note in notes.all()) == 1, "only the first attempt takes anything over"


def test_a_retry_with_another_choice_or_of_a_success_starts_afresh(failed, alice, base, tmp_path):
    changed, switched, succeeded = (retry_run(run=failed, user=alice) for _ in range(3))
    Run.objects.filter(pk=changed.pk).update(arguments=failed.arguments | {"beta": 0.7})
    switched.run_inputs.update(checkpoint=make_checkpoint(base.project, tmp_path / "base", "other"))
    for run in (changed, switched):
        attempt(run)
        assert not run.events.filter(data__message__startswith="Goes on").exists()
    Run.objects.filter(pk=failed.pk).update(state="succeeded")
    attempt(succeeded)
    assert not succeeded.events.filter(data__message__startswith="Goes on").exists()


def test_a_retried_generation_keeps_the_prompts_that_were_answered(script_recipe, base, dataset, alice):
    run = queue_run(base, "generate")
    folder = write_script(run, end="crash")
    attempt(run)
    prompts = (folder / "data/prompts.jsonl").read_bytes()
    (folder / "completions.jsonl").write_text('{"prompt_id": 1, "completions": []}\n{"prompt_id": 2, "comp')
    again = retry_run(run=run, user=alice)
    write_script(again, end="crash")
    attempt(again)
    new = run_folder(again)
    assert (new / "data/prompts.jsonl").read_bytes() == prompts
    assert (new / "completions.jsonl").read_text() == '{"prompt_id": 1, "completions": []}\n'
    assert not (new / "completions.jsonl").samefile(folder / "completions.jsonl"), "the recipe appends to it"
    assert again.events.filter(data__message=f"Goes on from step 1 of run {run.pk}.").exists()


def test_a_retried_rejection_sampling_keeps_what_was_sampled_and_scored(script_recipe, base, dataset, alice):
    run = queue_run(base, "rejection_sampling", rewards={"length": 1.0})
    run.run_inputs.exclude(role="policy").delete()
    folder = write_script(run, end="crash")
    attempt(run)
    prompts = (folder / "data/prompts.jsonl").read_bytes()
    (folder / "sampled.jsonl").write_text('{"prompt_id": 1, "candidates": []}\n{"prompt_id": 2, "cand')
    again = retry_run(run=run, user=alice)
    write_script(again, end="crash")
    attempt(again)
    new = run_folder(again)
    assert (new / "data/prompts.jsonl").samefile(folder / "data/prompts.jsonl")
    assert (new / "data/prompts.jsonl").read_bytes() == prompts
    assert (new / "sampled.jsonl").read_text() == '{"prompt_id": 1, "candidates": []}\n'


@pytest.mark.parametrize("file", ["trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt"])
@pytest.mark.parametrize("harm", ["cut", "empty", "gone"])
def test_worker_and_recipe_agree_on_what_is_whole(tmp_path, file, harm):
    from training.recipes.training import is_whole

    checkpoint = save_trainer(tmp_path, 5)
    assert saves.is_whole(checkpoint)
    assert is_whole(checkpoint)
    harmed = checkpoint / file
    if harm == "cut":
        cut(harmed)
    elif harm == "empty":
        harmed.write_bytes(b"")
    else:
        harmed.unlink()
    assert saves.is_whole(checkpoint) == is_whole(checkpoint)
    assert saves.is_whole(checkpoint) == ((file, harm) == ("model.safetensors", "gone"))


def test_a_run_that_succeeded_keeps_no_saves_and_one_that_did_not_does(script_recipe, base, dataset):
    for end, kept in (("crash", True), ("done", False)):
        run = queue_run(base, "dpo", dataset)
        folder = write_script(run, end=end)
        (folder / "merged").mkdir()
        (folder / "reference.safetensors").touch()
        attempt(run)
        assert [(folder / name).exists() for name in ("trainer", "merged", "reference.safetensors")] == [kept] * 3
        assert (folder / "log.txt").exists()
    assert (folder / "checkpoint/model.safetensors").exists()
