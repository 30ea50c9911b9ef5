"""What arguments and methods are made of. Imports neither torch nor Django, so that the web process can read it."""

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["causal_lm", "reward_model"]


def _(text: str) -> str:
    """Marks English text for the translators. There is no Django here: whoever shows the text looks its translation up."""
    return text


def argument(
    default: Any,
    label: str,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    advanced: bool = False,
) -> Any:
    """A dataclass field with what a person needs to fill it in. Bounds are inclusive; for a text they count its characters,
    for a mapping they hold for each value."""
    about = {"label": label, "help": help, "minimum": minimum, "maximum": maximum, "advanced": advanced}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=about)
    return field(default=default, metadata=about)


class InvalidArguments(ValueError):
    """`errors` maps the name of each wrong field to what is wrong with it."""

    def __init__(self, errors: dict[str, str]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{name}: {error}" for name, error in errors.items()))


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What the arguments of every method are. Fields are of type bool, int, float, str, a Literal of texts, or dict[str, float]."""

    def check(self) -> None:
        """Raises InvalidArguments where values that are right by themselves do not go together."""


@dataclass(frozen=True, kw_only=True)
class TrainerArguments(Arguments):
    """What every training has."""

    learning_rate: float = argument(
        1e-5, _("Learning rate"), _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0
    )
    num_train_epochs: float = argument(1.0, _("Epochs"), _("Passes over the dataset."), minimum=0.01, maximum=100)
    max_steps: int = argument(
        -1, _("Most steps"), _("Stop after this many steps; -1 follows the epochs."), minimum=-1, maximum=1_000_000
    )
    per_device_train_batch_size: int = argument(
        4, _("Batch size"), _("Examples per step on each device."), minimum=1, maximum=1024
    )
    num_processes: int = argument(
        1,
        _("Devices"),
        _("GPUs of one worker that share each step, or processes where there is none. The batch size counts for each."),
        minimum=1,
        maximum=64,
        advanced=True,
    )
    gradient_accumulation_steps: int = argument(
        1, _("Batches per step"), _("Batches summed into one optimiser step."), minimum=1, maximum=1024, advanced=True
    )
    max_length: int = argument(
        1024, _("Longest text"), _("Longest prompt with completion, in tokens."), minimum=16, maximum=131_072
    )
    warmup_steps: float = argument(
        0.05,
        _("Warm-up steps"),
        _("Steps of warm-up; below 1 a share of all steps."),
        minimum=0,
        maximum=100_000,
        advanced=True,
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = argument(
        "linear", _("Learning rate schedule"), _("How the learning rate falls."), advanced=True
    )
    weight_decay: float = argument(
        0.0, _("Weight decay"), _("Weight decay of AdamW."), minimum=0, maximum=1, advanced=True
    )
    max_grad_norm: float = argument(
        1.0, _("Gradient clipping"), _("Gradients are clipped to this norm."), minimum=0, maximum=1000, advanced=True
    )
    bf16: bool = argument(
        True, _("bfloat16"), _("Compute in bfloat16; weights and optimiser stay in float32."), advanced=True
    )
    gradient_checkpointing: bool = argument(
        False,
        _("Gradient checkpointing"),
        _("Recompute activations: less memory, about a third more time."),
        advanced=True,
    )
    logging_steps: int = argument(
        1,
        _("Steps between chart points"),
        _("Steps between two points of the charts."),
        minimum=1,
        maximum=10_000,
        advanced=True,
    )
    eval_steps: int = argument(
        20,
        _("Steps between evaluations"),
        _("Steps between two held-out evaluations."),
        minimum=1,
        maximum=100_000,
        advanced=True,
    )
    save_steps: int = argument(
        20, _("Steps between saves"), _("Steps between two resumable saves."), minimum=1, maximum=100_000, advanced=True
    )
    seed: int = argument(
        0, _("Seed"), _("Seed of the data order and of new weights."), minimum=0, maximum=2**31 - 1, advanced=True
    )


@dataclass(frozen=True, kw_only=True)
class TrainingArguments(TrainerArguments):
    """What every training has that starts from a checkpoint."""

    use_peft: bool = argument(False, _("LoRA adapter only"), _("Train a LoRA adapter instead of all weights."))
    lora_r: int = argument(16, _("LoRA rank"), _("Rank of the LoRA matrices."), minimum=1, maximum=1024, advanced=True)
    lora_alpha: int = argument(
        32, _("LoRA scale"), _("Scale of the LoRA update."), minimum=1, maximum=4096, advanced=True
    )
    lora_dropout: float = argument(
        0.0, _("LoRA dropout"), _("Dropout on the LoRA path."), minimum=0, maximum=0.9, advanced=True
    )


@dataclass(frozen=True)
class Input:
    """A role that a checkpoint plays in a run."""

    kind: Kind
    label: str
    help: str
    required: bool = True


@dataclass(frozen=True)
class Method:
    """What a method needs and makes.

    `outputs` names the reward models that it may make beside its main result, each by an argument that is on or off.
    `prompts`: which of the project's prompts are laid into data/prompts.jsonl: "least_ranked" first, or "all" in an order that
    is the same for every run, each with its reference answer and its side of the split.
    """

    name: str
    title: str
    summary: str
    arguments: type[Arguments]
    inputs: dict[str, Input]
    makes: Literal["causal_lm", "reward_model", "completions", "dataset", "evaluation"]
    dataset: Literal["needed", "optional", "none"] = "needed"
    prompts: Literal["none", "least_ranked", "all"] = "none"
    queue: Literal["gpu", "generate"] = "gpu"
    outputs: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return f"training.recipes.{self.name}"

    @property
    def makes_weights(self) -> bool:
        return self.makes in ("causal_lm", "reward_model")


START = Input(
    "causal_lm",
    _("Checkpoint to start from"),
    _("A language model of this project: a base model, or what an earlier run made."),
)
