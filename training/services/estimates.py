"""What a run will take, before it is started."""

import math
from dataclasses import dataclass
from typing import Any

from annotate.jobs import Job
from annotate.models import DatasetVersion, Project
from training.models import Checkpoint, Run
from training.recipes.arguments import METHODS, OnlineArguments, OnlineDPOArguments

from .datasets import training_rows
from .memory import Memory, estimate_memory, latest_measured
from .prompts import TEST_FRACTION


@dataclass(frozen=True)
class Estimate:
    """`rows` are rankings, demonstrations or prompts; `seconds` is None where no earlier run tells the pace."""

    rows: int
    steps: int
    completions: int = 0
    seconds: float | None = None
    measured_on: Run | None = None
    memory: Memory | None = None


def estimate_run(
    *,
    project: Project,
    method: str,
    arguments: dict[str, Any],
    inputs: dict[str, Checkpoint],
    dataset_version: DatasetVersion | None,
) -> Estimate | None:
    """None where the arguments do not say enough."""
    try:
        if METHODS[method].makes in ("completions", "dataset"):
            rows = min(project.prompts.count(), arguments["num_prompts"])
            steps, completions = rows, rows * arguments["num_generations"]
        elif issubclass(METHODS[method].arguments, OnlineArguments):
            rows, steps, completions = _online(project, arguments)
        elif METHODS[method].arguments is OnlineDPOArguments:
            rows = _training_prompts(project, arguments)
            batch = _batch(arguments)
            steps = _steps(math.ceil(rows / batch), arguments)
            completions = 2 * steps * batch
        elif METHODS[method].makes == "evaluation":
            if "policy" not in inputs:
                return None
            rows, completions = _evaluated(project, arguments, "baseline" in inputs)
            steps = completions * (2 if "reward_model" in inputs else 1)
        elif dataset_version is None:
            return None
        else:
            rows, completions = training_rows(dataset_version, method, arguments), 0
            batch = _batch(arguments)
            steps = _steps(math.ceil(rows / batch), arguments)
    except KeyError:
        return None
    earlier = _latest_like(project, method, inputs.get("policy"))
    pace = _seconds_per_step(earlier) if earlier else None
    memory = estimate_memory(
        method=method, arguments=arguments, inputs=inputs, completions=project.completions_per_task, latest=latest_measured(method)
    )  # fmt: skip
    return Estimate(rows, steps, completions, steps * pace if pace else None, earlier if pace else None, memory)


def _batch(arguments: dict[str, Any]) -> int:
    """Examples in a step, over all devices."""
    each: int = arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"]
    return each * int(arguments.get("num_processes", 1))


def _steps(of_an_epoch: int, arguments: dict[str, Any]) -> int:
    steps: int = arguments["max_steps"]
    return steps if steps > 0 else math.ceil(of_an_epoch * arguments["num_train_epochs"])


def _online(project: Project, arguments: dict[str, Any]) -> tuple[int, int, int]:
    """(training prompts, steps, completions) as TRL's online trainers count them: prompts that fill no sampling are left out."""
    rows = _training_prompts(project, arguments)
    accumulated, iterations = arguments["gradient_accumulation_steps"], arguments["num_iterations"]
    batches = arguments["steps_per_generation"] or accumulated
    sampled: int = arguments["per_device_train_batch_size"] * batches * arguments.get("num_processes", 1)
    samplings = rows // max(1, sampled // arguments["num_generations"])
    steps = _steps(math.ceil(samplings * iterations * batches / accumulated), arguments)
    completions: int = math.ceil(steps * accumulated / (iterations * batches)) * sampled
    return rows, steps, completions


def _training_prompts(project: Project, arguments: dict[str, Any]) -> int:
    prompts = project.prompts.filter(tags__contains=[tag]) if (tag := arguments["prompt_tag"]) else project.prompts
    return round(min(prompts.count(), int(arguments["num_prompts"])) * (1 - TEST_FRACTION))


def _evaluated(project: Project, arguments: dict[str, Any], compares: bool) -> tuple[int, int]:
    """(prompts, completions written) of an evaluation."""
    prompts = project.prompts.filter(tags__contains=[tag]) if (tag := arguments["prompt_tag"]) else project.prompts
    share = TEST_FRACTION if arguments["split"] == "test" else 1
    rows = min(round(prompts.count() * share), arguments["num_prompts"])
    samples = arguments["num_generations"] if arguments["num_generations"] > 1 else 0
    return rows, rows * (1 + samples + compares)


def _latest_like(project: Project, method: str, policy: Checkpoint | None) -> Run | None:
    runs = project.runs.filter(method=method, state=Job.State.SUCCEEDED, step__gt=0, attempt=1)
    return runs.filter(run_inputs__checkpoint=policy).order_by("-id").first() or runs.order_by("-id").first()


def _seconds_per_step(run: Run) -> float | None:
    if run.started_at is None or run.finished_at is None or not run.step:
        return None
    return (run.finished_at - run.started_at).total_seconds() / run.step
