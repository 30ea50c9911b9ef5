"""Celery's way into runs. The run's row is the truth: see annotate/jobs.py and training/supervise.py."""

import logging
import mmap
import os
from collections.abc import Callable
from typing import Any

from celery import Task, shared_task
from celery.signals import worker_shutting_down

from annotate.jobs import reap, wake
from training.models import PipelineRun, Reply, Run
from training.recipes.arguments import METHODS
from training.supervise import attempt_run

logger = logging.getLogger("podium.runs")

# One byte that the worker's main process shares with the processes it forks: a pool process that is busy with a run learns by
# it that the worker is shutting down.
_shutdown = mmap.mmap(-1, 1)
MAIN_PROCESS = os.getpid()


@worker_shutting_down.connect(weak=False)
def _note_shutdown(**_: Any) -> None:
    _shutdown[0] = 1


class RunTask(Task):  # type: ignore[type-arg]  # Celery's base is generic for the type checker alone
    """Sends a run to the queue that its method belongs to, whoever sends it."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:  # type: ignore[override]
        method = Run.objects.filter(pk=args[0]).values_list("method", flat=True).first()
        if "queue" not in options and method in METHODS:
            options["queue"] = METHODS[method].queue
        return super().apply_async(args, kwargs, **options)


@shared_task(name="training.run", base=RunTask)
def run(pk: int) -> None:
    """See the run through, unless another worker has it or it has ended."""
    if attempt_run(pk, shutting_down=_shutting_down):
        wake(run, pk)
    for pipeline_run in PipelineRun.objects.filter(stages__runs=pk, state=PipelineRun.State.RUNNING):
        advance_pipeline(pipeline_run.pk)


def _shutting_down() -> bool:
    orphaned = os.getpid() != MAIN_PROCESS and os.getppid() != MAIN_PROCESS
    return orphaned or _shutdown[0] == 1


@shared_task(name="training.reply")
def reply(pk: int) -> None:
    # The service of replies wakes this task, and so imports this module.
    from training.services.replies import answer

    answer(pk, shutting_down=_shutting_down)


@shared_task(name="training.reap_runs")
def reap_runs() -> list[int]:
    """Give the runs and replies of dead workers back, and send lost wake-ups again."""
    return [*reap(Run, run), *reap(Reply, reply)]


@shared_task(name="training.advance_pipeline")
def advance_pipeline(pk: int) -> None:
    # The services of pipelines start runs, and so import this module.
    from training.services.pipelines import advance

    advance(pk=pk)


@shared_task(name="training.tend_pipelines")
def tend_pipelines() -> None:
    """Bring every pipeline on, whatever message was lost, and start those whose triggers are due."""
    from training.services.pipelines import runs_to_advance
    from training.services.triggers import due_triggers, fire

    for pk in runs_to_advance():
        _carefully(advance_pipeline, pk)
    for pk in due_triggers():
        _carefully(lambda pk: fire(pk=pk), pk)


def _carefully(act: Callable[[int], Any], pk: int) -> None:
    """One that goes wrong must not keep the others waiting; it is tried again next time."""
    try:
        act(pk)
    except Exception:
        logger.exception("pipelines: %s", pk)
