"""The arguments of each method, defined once: the form, the frozen JSON of a run and the trainer's configuration follow.

Fields bear TRL's own names. This module imports neither torch nor Django, so that the web process can read it.
"""

from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


def _(text: str) -> str:
    """Marks English text for the translators. There is no Django here: whoever shows the text looks its translation up."""
    return text


SMOLLM2 = "smollm2-135m-instruct"
# Models that come from PyPI inside a package: the name in `pypi:NAME`, and what people read.
PACKAGED_MODELS = {SMOLLM2: _("SmolLM2-135M-Instruct (Apache-2.0, about 540 MB once unpacked)")}


def argument(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    advanced: bool = False,
) -> Any:
    """A dataclass field with what a person needs to fill it in. Bounds are inclusive."""
    return field(default=default, metadata={"help": help, "minimum": minimum, "maximum": maximum, "advanced": advanced})


@dataclass(frozen=True, kw_only=True)
class TrainingArguments:
    """What every training method has."""

    learning_rate: float = argument(1e-5, _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0)
    num_train_epochs: float = argument(1.0, _("Passes over the dataset."), minimum=0.01, maximum=100)
    max_steps: int = argument(
        -1, _("Stop after this many steps; -1 follows the epochs."), minimum=-1, maximum=1_000_000
    )
    per_device_train_batch_size: int = argument(4, _("Examples per step on each device."), minimum=1, maximum=1024)
    gradient_accumulation_steps: int = argument(
        1, _("Batches summed into one optimiser step."), minimum=1, maximum=1024, advanced=True
    )
    max_length: int = argument(1024, _("Longest prompt with completion, in tokens."), minimum=16, maximum=131_072)
    use_peft: bool = argument(False, _("Train a LoRA adapter instead of all weights."))
    lora_r: int = argument(16, _("Rank of the LoRA matrices."), minimum=1, maximum=1024, advanced=True)
    lora_alpha: int = argument(32, _("Scale of the LoRA update."), minimum=1, maximum=4096, advanced=True)
    lora_dropout: float = argument(0.0, _("Dropout on the LoRA path."), minimum=0, maximum=0.9, advanced=True)
    warmup_steps: float = argument(
        0.05, _("Steps of warm-up; below 1 a share of all steps."), minimum=0, maximum=100_000, advanced=True
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = argument(
        "linear", _("How the learning rate falls."), advanced=True
    )
    weight_decay: float = argument(0.0, _("Weight decay of AdamW."), minimum=0, maximum=1, advanced=True)
    max_grad_norm: float = argument(
        1.0, _("Gradients are clipped to this norm."), minimum=0, maximum=1000, advanced=True
    )
    bf16: bool = argument(True, _("Compute in bfloat16; weights and optimiser stay in float32."), advanced=True)
    gradient_checkpointing: bool = argument(
        False, _("Recompute activations: less memory, about a third more time."), advanced=True
    )
    logging_steps: int = argument(
        1, _("Steps between two points of the charts."), minimum=1, maximum=10_000, advanced=True
    )
    eval_steps: int = argument(
        20, _("Steps between two held-out evaluations."), minimum=1, maximum=100_000, advanced=True
    )
    save_steps: int = argument(20, _("Steps between two resumable saves."), minimum=1, maximum=100_000, advanced=True)
    seed: int = argument(
        0, _("Seed of the data order and of new weights."), minimum=0, maximum=2**31 - 1, advanced=True
    )


@dataclass(frozen=True, kw_only=True)
class SFTArguments(TrainingArguments):
    learning_rate: float = argument(2e-5, _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0)
    train_on: Literal["demonstrations", "best", "both"] = argument(
        "both", _("Demonstrations, the completions ranked best, or both.")
    )


@dataclass(frozen=True, kw_only=True)
class RewardArguments(TrainingArguments):
    learning_rate: float = argument(1e-5, _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0)
    ties: Literal["half", "drop"] = argument(
        "half", _("A tie is a pair won half by each side, or is left out of the loss.")
    )
    center_rewards_coefficient: float = argument(
        0.01, _("Pulls scores towards zero (TRL's centre term)."), minimum=0, maximum=10, advanced=True
    )


@dataclass(frozen=True, kw_only=True)
class DPOArguments(TrainingArguments):
    learning_rate: float = argument(1e-6, _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0)
    beta: float = argument(
        0.1, _("How closely the policy is held to the reference: higher is closer."), minimum=0.001, maximum=10
    )
    ties: Literal["half", "drop"] = argument(
        "drop", _("A tie is a pair won half by each side, or is left out of the loss.")
    )


@dataclass(frozen=True, kw_only=True)
class GenerateArguments:
    num_generations: int = argument(4, _("Completions per prompt."), minimum=1, maximum=9)
    num_prompts: int = argument(
        50, _("Prompts to answer, those with the fewest rankings first."), minimum=1, maximum=100_000
    )
    temperature: float = argument(0.9, _("Higher is more varied; 0 is greedy."), minimum=0, maximum=5)
    top_p: float = argument(0.95, _("Sample among the likeliest tokens that sum to this."), minimum=0.01, maximum=1)
    max_new_tokens: int = argument(256, _("Longest completion, in tokens."), minimum=1, maximum=32_768)
    batch_size: int = argument(8, _("Prompts generated at once."), minimum=1, maximum=1024, advanced=True)
    bf16: bool = argument(True, _("Compute in bfloat16."), advanced=True)
    seed: int = argument(
        0,
        _("Seed of the sampling. The run's number is mixed in, so that a second run writes something new."),
        minimum=0,
        maximum=2**31 - 1,
        advanced=True,
    )


AnyArguments = SFTArguments | RewardArguments | DPOArguments | GenerateArguments


@dataclass(frozen=True)
class Method:
    """What a method needs and makes. `inputs` maps a role to the kind of checkpoint that can play it."""

    name: str
    title: str
    summary: str
    arguments: type[AnyArguments]
    inputs: dict[str, str]
    makes: Literal["causal_lm", "reward_model", "completions"]
    needs_dataset: bool = True
    queue: str = "gpu"

    @property
    def module(self) -> str:
        return f"training.recipes.{self.name}"


METHODS = {
    method.name: method
    for method in (
        Method(
            "sft", _("Supervised fine-tuning"), _("Imitate demonstrations and the completions ranked best."),
            SFTArguments, {"policy": "causal_lm"}, "causal_lm",
        ),
        Method(
            "reward", _("Reward model"), _("Learn to score any completion as people ranked them."),
            RewardArguments, {"policy": "causal_lm"}, "reward_model",
        ),
        Method(
            "dpo", _("Direct preference optimisation"), _("Tune the policy straight from whole rankings."),
            DPOArguments, {"policy": "causal_lm"}, "causal_lm",
        ),
        Method(
            "generate", _("Generate completions"), _("Let a checkpoint write completions; they become ranking tasks."),
            GenerateArguments, {"policy": "causal_lm"}, "completions", needs_dataset=False, queue="generate",
        ),
    )
}  # fmt: skip


class InvalidArguments(ValueError):
    """`errors` maps the name of each wrong field to what is wrong with it."""

    def __init__(self, errors: dict[str, str]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{name}: {error}" for name, error in errors.items()))


def parse_arguments(method: str, values: dict[str, Any]) -> AnyArguments:
    """The method's arguments with `values` over their defaults. Raises InvalidArguments, naming each wrong field."""
    cls = METHODS[method].arguments
    hints, known = get_type_hints(cls), {item.name: item for item in fields(cls)}
    errors = {name: "unknown argument" for name in values if name not in known}
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if name in known:
            try:
                parsed[name] = _parse_value(hints[name], known[name], value)
            except ValueError as error:
                errors[name] = str(error)
    if errors:
        raise InvalidArguments(errors)
    return cls(**parsed)


def _parse_value(hint: Any, item: "Field[Any]", value: Any) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"must be one of {', '.join(get_args(hint))}")
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):
        raise ValueError("must be a number")
    if hint is int and value != int(value):
        raise ValueError("must be a whole number")
    minimum, maximum = item.metadata["minimum"], item.metadata["maximum"]
    if minimum is not None and value < minimum:
        raise ValueError(f"must be at least {minimum:g}")
    if maximum is not None and value > maximum:
        raise ValueError(f"must be at most {maximum:g}")
    return hint(value)


def to_json(arguments: AnyArguments) -> dict[str, Any]:
    return asdict(arguments)
