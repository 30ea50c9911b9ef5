"""A whole pipeline with a real worker, the real recipes and a tiny model: nobody but the worker brings it on."""

import pytest
from django.urls import reverse

from config.processes import wait_until
from tests.conftest import signed_in
from tests.training.conftest import make_checkpoint, rank_tasks
from tests.training.pipeline_runs import promoted_base
from tests.training.test_loop import models
from training.models import PipelineRun, Run
from training.services.checkpoints import promoted_checkpoint

__all__ = ["models"]

DEFINITION = """
title = "Imitate, and answer the prompts from then on"

[stages.rankings]
method = "dataset"
test_fraction = 0

[stages.sft]
method = "sft"
policy = "promoted"
dataset = "rankings"
arguments = { max_steps = 2, per_device_train_batch_size = 2, max_length = 128, bf16 = false }

[stages.release]
method = "promote"
policy = "sft"
"""


@pytest.mark.timeout(600)
def test_a_worker_takes_a_pipeline_from_rankings_to_a_promoted_model(models, worker, project, alice, bob):
    promoted_base(make_checkpoint(project, models, name="tiny"), alice)
    rank_tasks(project, bob, 4)
    client = signed_in(alice)
    client.post(reverse("pipeline_new", args=[project.slug]), {"name": "nightly", "definition": DEFINITION})
    client.post(reverse("pipeline_start", args=[project.slug, project.pipelines.get().pk]))
    started = PipelineRun.objects.get()

    def ended() -> bool:
        started.refresh_from_db()
        return not started.is_active

    def told() -> list[tuple[str, ...]]:
        return [(stage.name, stage.state, stage.error) for stage in started.stages.order_by("position")]

    assert wait_until(ended, 400), told()
    assert started.state == "succeeded", told()
    run = Run.objects.get()
    assert run.dataset_version == project.dataset_versions.get()
    assert promoted_checkpoint(project) == run.checkpoints.get()
