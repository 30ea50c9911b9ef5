"""What the tests of pipelines share: short definitions, and a worker's part played in this process."""

from annotate.models import DatasetVersion, Project, User
from annotate.tasks import build_dataset_version
from training import tasks
from training.models import Checkpoint, Pipeline, PipelineRun, Run
from training.services.checkpoints import promote
from training.services.pipelines import create_pipeline

DIRECT = """
title = "Short"

[stages.rankings]
method = "dataset"
test_fraction = 0

[stages.sft]
method = "sft"
policy = "promoted"
dataset = "rankings"

[stages.dpo]
method = "dpo"
policy = "sft"
dataset = "rankings"
arguments = { beta = 0.3 }
"""
# Needs no dataset: two stages that wait for nothing, and a third for both.
FORK = """
[stages.left]
method = "generate"
policy = "promoted"

[stages.right]
method = "generate"
policy = "checkpoint:base"

[stages.last]
method = "generate"
policy = "promoted"
after = ["left", "right"]
"""


def make_pipeline(project: Project, user: User, definition: str = DIRECT, name: str = "short") -> Pipeline:
    return create_pipeline(project=project, name=name, definition=definition, user=user)


def promoted_base(base: Checkpoint, user: User) -> Checkpoint:
    promote(checkpoint=base, user=user)
    return base


def work(pipeline_run: PipelineRun) -> str:
    """Do what is queued until the run has ended, as a worker would; returns its state."""
    while pipeline_run.is_active:
        versions = list(DatasetVersion.objects.filter(state="queued"))
        runs = list(Run.objects.filter(state="queued"))
        assert versions or runs, "nothing is left to do, and yet it has not ended"
        for version in versions:
            build_dataset_version(version.pk)
            tasks.advance_pipeline(pipeline_run.pk)
        for run in runs:
            tasks.run(run.pk)
        pipeline_run.refresh_from_db()
    return pipeline_run.state


def states(pipeline_run: PipelineRun) -> dict[str, str]:
    return dict(pipeline_run.stages.order_by("position").values_list("name", "state"))
