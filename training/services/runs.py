"""Queueing, cancelling and retrying runs."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from annotate.jobs import Job, request_cancel, wake
from annotate.models import DatasetVersion, Project, User, Webhook, record
from annotate.services.webhooks import announce
from training.models import Checkpoint, Run, RunInput
from training.recipes.arguments import METHODS, InvalidArguments, Method, parse_arguments, to_json
from training.tasks import run as run_task

from .checkpoints import allowed_folder
from .datasets import dataset_files, training_rows
from .folders import missing_weights
from .rewards import wrong_rewards


@transaction.atomic
def start_run(
    *,
    project: Project,
    method: str,
    arguments: dict[str, Any],
    inputs: dict[str, Checkpoint],
    dataset_version: DatasetVersion | None,
    user: User | None,
    note: str = "",
    retry_of: Run | None = None,
) -> Run:
    """Check everything, freeze it, and queue the run.

    Raises InvalidArguments whose `errors` are keyed by argument name, by role (`policy`), or `dataset_version`.
    """
    if method not in METHODS:
        raise InvalidArguments({"method": _("Podium knows these methods: %(names)s.") % {"names": ", ".join(METHODS)}})
    chosen, errors = METHODS[method], {}
    try:
        frozen = to_json(parse_arguments(method, arguments))
    except InvalidArguments as error:
        errors.update(error.errors)
        frozen = {}
    errors.update(_wrong_inputs(project, chosen, inputs))
    if error_text := _wrong_dataset(project, chosen, dataset_version, frozen):
        errors["dataset_version"] = error_text
    if chosen.prompts != "none" and not project.prompts.exists():
        errors["num_prompts"] = _("The project has no prompts yet. Import some first.")
    if not errors and (error_text := _nothing_to_measure(project, chosen, inputs, dataset_version, frozen)):
        errors["policy"] = error_text
    if frozen:
        errors.update(wrong_rewards(project, chosen, frozen, inputs))
    if error_text := _wrong_texts(frozen):
        errors["text_folder"] = error_text
    if errors:
        raise InvalidArguments(errors)
    run = Run.objects.create(
        project=project,
        method=method,
        arguments=frozen,
        dataset_version=dataset_version,
        note=note,
        retry_of=retry_of,
        created_by=user,
    )
    RunInput.objects.bulk_create(RunInput(run=run, role=role, checkpoint=item) for role, item in inputs.items())
    record(user, "run.started", f"run:{run.pk}", project=project, method=method, retry_of=retry_of and retry_of.pk)
    announce(project, Webhook.Event.RUN_STARTED, **run.told)
    wake(run_task, run.pk)
    return run


def _wrong_inputs(project: Project, method: Method, inputs: dict[str, Checkpoint]) -> dict[str, str]:
    errors = {role: _("This method takes no such checkpoint.") for role in inputs if role not in method.inputs}
    for role, wanted in method.inputs.items():
        checkpoint = inputs.get(role)
        if checkpoint is None:
            if wanted.required:
                errors[role] = _("Choose a checkpoint.")
        elif checkpoint.project_id != project.pk:
            errors[role] = _("This checkpoint belongs to another project.")
        elif checkpoint.kind != wanted.kind:
            errors[role] = _("It must be of the kind “%(wanted)s”; %(name)s is of the kind “%(found)s”.") % {
                "wanted": Checkpoint.Kind(wanted.kind).label,
                "name": checkpoint.name,
                "found": Checkpoint.Kind(checkpoint.kind).label,
            }
        elif missing := missing_weights(checkpoint):
            errors[role] = _("Its weights are gone: %(path)s is not there.") % {"path": missing}
        elif checkpoint.location.startswith("hub:") and not settings.HUB_ENABLED:
            errors[role] = _("This server downloads nothing from the model hub (HUB_ENABLED).")
    if inputs.get("watchdog") and inputs.get("watchdog") == inputs.get("reward_model"):
        errors["watchdog"] = _(
            "It is the reward model that the run optimises, which sees nothing of its own loopholes. Choose another one."
        )
    return errors


def _wrong_dataset(project: Project, method: Method, version: DatasetVersion | None, arguments: dict[str, Any]) -> str:
    if method.dataset == "none":
        return _("This method takes no dataset.") if version else ""
    if version is None:
        return _("Choose a dataset version.") if method.dataset == "needed" else ""
    if version.project_id != project.pk:
        return _("This dataset version belongs to another project.")
    if version.state != Job.State.SUCCEEDED:
        return _("Dataset version %(version)s is not ready: it is %(state)s.") % {
            "version": version,
            "state": Job.State(version.state).label.lower(),
        }
    if not all(path.is_file() for path in dataset_files(version)):
        return _("The files of dataset version %(version)s are gone. Build a new version.") % {"version": version}
    if training_rows(version, method.name, arguments):
        return ""
    if method.name == "evaluate":
        return _("Dataset version %(version)s holds out no ranking that orders anything: measure on all of it.") % {
            "version": version
        }
    if method.name == "sft":
        return _("Dataset version %(version)s has nothing to imitate in its training split.") % {"version": version}
    return _("Dataset version %(version)s has no ranking in its training split that orders anything.") % {
        "version": version
    }


def _nothing_to_measure(
    project: Project,
    method: Method,
    inputs: dict[str, Checkpoint],
    version: DatasetVersion | None,
    arguments: dict[str, Any],
) -> str:
    if method.makes != "evaluation" or ("reward_model" in inputs and (version or "policy" in inputs)):
        return ""
    judged = "baseline" in inputs and (arguments["use_judge"] or "judge" in inputs)
    if "policy" in inputs and (judged or project.prompts.exclude(reference_answer="").exists()):
        return ""
    return _(
        "With these checkpoints nothing can be measured. Choose a reward model and a dataset version; or a language model with a "
        "reward model, with another model and a judge, or, alone, in a project whose prompts have reference answers."
    )


def _wrong_texts(arguments: dict[str, Any]) -> str:
    if "text_folder" not in arguments:
        return ""
    try:
        allowed_folder(arguments["text_folder"], "TEXT_ROOTS")
    except ValidationError as error:
        there = [str(path) for root in settings.TEXT_ROOTS if root.is_dir() for path in root.iterdir() if path.is_dir()]
        listed = [_("Folders there: %(names)s.") % {"names": ", ".join(sorted(there)[:20])}] if there else []
        return " ".join([*error.messages, *listed])
    return ""


@transaction.atomic
def cancel_run(*, run: Run, user: User) -> None:
    """A queued run is cancelled at once, a running one within seconds; one that has ended stays as it is."""
    if run.is_active and not run.cancel_requested:
        request_cancel(run)
        record(user, "run.cancelled", f"run:{run.pk}", project=run.project)


def retry_run(*, run: Run, user: User | None) -> Run:
    """A new run with the same arguments, checkpoints and dataset. Raises InvalidArguments if one of them is gone."""
    if run.is_active:
        raise InvalidArguments({"method": _("The run has not ended yet.")})
    return start_run(
        project=run.project,
        method=run.method,
        arguments=run.arguments,
        inputs={item.role: item.checkpoint for item in run.run_inputs.select_related("checkpoint")},
        dataset_version=run.dataset_version,
        user=user,
        note=run.note,
        retry_of=run,
    )
