"""The ranking page as it would be with settings that are not saved: nothing is leased, and nothing can be submitted."""

from typing import Any

from django.utils.translation import gettext as _

from annotate.models import Assignment, Membership, Project, RankingTask
from annotate.numbers import grouped
from annotate.services.assignments import Shown, load_shown
from annotate.services.progress import count_progress

from .ranking import describe, what_is_asked


def preview(membership: Membership, edited: Project) -> dict[str, Any]:
    """What the ranking page's task needs, of a task of the project or of a sample of ours, as `edited` asks for it."""
    progress = count_progress(membership=membership)
    return {
        **what_is_asked(edited),
        "task": describe(sample_of(membership.project) or built_in_sample(edited)),
        "today": progress.today,
        "remaining": f"{grouped(progress.remaining)}{'+' if progress.more else ''}",
        "undo_token": None,
    }


def sample_of(project: Project) -> Shown | None:
    tasks = project.tasks.filter(purpose=RankingTask.Purpose.RANKING, state=RankingTask.State.OPEN)
    # By hash: the same task each time, found by the index at any size.
    task = tasks.order_by("content_hash").first()
    if task is None:
        return None
    shown_order = list(task.completions.order_by("content_hash").values_list("pk", flat=True))
    return load_shown(Assignment(pk=0, shown_order=shown_order))


def built_in_sample(project: Project) -> Shown:
    answers = [
        _("Because it scatters: the air turns blue light aside far more than red, so blue reaches us from everywhere."),
        _("The sky reflects the colour of the sea."),
        _("Sunlight holds all colours. Air molecules scatter the short waves, which we see as blue, the most."),
        _("It is blue during the day and red in the evening."),
    ]
    return Shown(
        Assignment(pk=0),
        [{"role": "user", "content": _("Why is the sky blue? Answer a child, in two sentences at most.")}],
        [(answer, "") for answer in answers[: project.completions_per_task]],
    )
