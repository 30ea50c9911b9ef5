"""Learning from texts: demonstrations and the completions ranked best."""

from dataclasses import dataclass
from typing import Literal

from .base import START, Method, TrainingArguments, _, argument


@dataclass(frozen=True, kw_only=True)
class SFTArguments(TrainingArguments):
    learning_rate: float = argument(
        2e-5, _("Learning rate"), _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0
    )
    train_on: Literal["demonstrations", "best", "both"] = argument(
        "both", _("Train on"), _("Demonstrations, the completions ranked best, or both.")
    )


METHODS = (
    Method(
        name="sft",
        title=_("Supervised fine-tuning"),
        summary=_("Imitate demonstrations and the completions ranked best."),
        arguments=SFTArguments,
        inputs={"policy": START},
        makes="causal_lm",
    ),
)
