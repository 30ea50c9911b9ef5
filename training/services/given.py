"""What a pipeline takes from its project: the checkpoints and versions that it names, its prompts and their answers."""

from django.utils.translation import gettext as _

from annotate.jobs import Job
from annotate.models import DatasetVersion, Project
from training.definitions import (
    CHECKPOINT,
    PROMOTED,
    VERSION,
    Definition,
    InvalidPipeline,
    Problem,
    Stage,
    is_given,
    kind_in_words,
    wanted_kind,
)
from training.models import Checkpoint
from training.recipes.arguments import METHODS, parse_arguments, to_json

from .checkpoints import promoted_checkpoint
from .folders import missing_weights
from .rewards import wrong_rewards


def find_given(project: Project, definition: Definition) -> dict[str, int]:
    """What the definition takes from the project: reference → id of the checkpoint or dataset version.

    Raises InvalidPipeline naming each stage and field for which there is nothing.
    """
    found: dict[str, int] = {}
    problems = []
    for stage in definition.stages:
        for role, text in stage.references.items():
            if is_given(text):
                thing, missing = _find(project, text, wanted_kind(stage, role))
                if thing:
                    found[text] = thing.pk
                else:
                    problems.append(Problem(stage.name, role, missing))
        problems += _lacking(project, stage)
    if problems:
        raise InvalidPipeline(problems, definition)
    return found


def _lacking(project: Project, stage: Stage) -> list[Problem]:
    """What the stage needs of the project besides what it names."""
    method = METHODS.get(stage.method)
    if method is None:
        return []
    if method.prompts != "none" and not project.prompts.exists():
        return [Problem(stage.name, "", _("The project has no prompts yet. Import some first."))]
    arguments = to_json(parse_arguments(stage.method, stage.arguments))
    wrong = wrong_rewards(project, method, arguments, stage.inputs)
    return [Problem(stage.name, field, reason) for field, reason in wrong.items()]


def _find(project: Project, reference: str, kind: str) -> tuple[Checkpoint | DatasetVersion | None, str]:
    """What the reference means now, or why there is no such thing."""
    if reference.startswith(VERSION):
        number = int(reference.removeprefix(VERSION)[:9])
        version = project.dataset_versions.filter(number=number, state=Job.State.SUCCEEDED).first()
        return version, _("The project has no finished dataset version %(number)s.") % {"number": number}
    if reference == PROMOTED:
        return promoted_checkpoint(project), _("No checkpoint is promoted yet. Promote one, or name another start.")
    name = reference.removeprefix(CHECKPOINT)
    checkpoint = project.checkpoints.filter(name=name).first()
    if checkpoint and checkpoint.kind != kind:
        return None, _("It must be %(wanted)s; the checkpoint “%(name)s” is %(made)s.") % {
            "wanted": kind_in_words(kind),
            "name": name,
            "made": kind_in_words(checkpoint.kind),
        }
    if checkpoint and (missing := missing_weights(checkpoint)):
        return None, _("Its weights are gone: %(path)s is not there.") % {"path": missing}
    return checkpoint, _("The project has no checkpoint “%(name)s”.") % {"name": name}
