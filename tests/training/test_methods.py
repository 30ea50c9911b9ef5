"""Every other method that trains, from the queue to the registry: a real worker, the real recipe, a tiny model."""

from typing import Any

import pytest

from tests.training.conftest import wait_for_end
from tests.training.test_loop import models, ready
from training.models import Checkpoint
from training.services.runs import start_run

__all__ = ["models", "ready"]

SHORT: dict[str, Any] = {"max_steps": 2, "max_length": 128, "eval_steps": 2}
SAMPLED = {**SHORT, "rewards": {"format": 1.0}, "max_completion_length": 8, "eval_prompts": 2}
# test_loop.py and test_pipeline_loop.py have the others.
METHODS: dict[str, dict[str, Any]] = {
    "kto": SHORT,
    "orpo": SHORT,
    "ppo": {**SAMPLED, "watch_steps": 0, "num_iterations": 1},
    "rloo": {**SAMPLED, "watch_steps": 0},
    "online_dpo": SAMPLED,
    "pretrain": {**SHORT, "max_length": 32, "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1},
}


@pytest.mark.timeout(900)
def test_each_method_goes_from_the_queue_to_a_checkpoint(ready, project, alice, settings, tmp_path):
    texts = tmp_path / "texts/some"
    texts.mkdir(parents=True)
    (texts / "a.txt").write_text("\n<|endoftext|>\n".join(f"A text of its own, number {n}. " * 5 for n in range(40)))
    settings.TEXT_ROOTS = [tmp_path / "texts"]
    base, version = Checkpoint.objects.get(), project.dataset_versions.get()
    runs = {}
    for method, arguments in METHODS.items():
        runs[method] = start_run(
            project=project,
            method=method,
            arguments={**arguments, "text_folder": str(texts)} if method == "pretrain" else arguments,
            inputs={} if method == "pretrain" else {"policy": base},
            dataset_version=version if method in ("kto", "orpo") else None,
            user=alice,
        )
    for method, run in runs.items():
        assert wait_for_end(run, 400) == "succeeded", (method, run.error, run.log_tail)
        made = run.checkpoints.get()
        assert (made.kind, made.parent) == ("causal_lm", None if method == "pretrain" else base)
        assert made.source
        assert made.sha256
        assert run.events.filter(kind="metrics", step__gt=0).exists()
