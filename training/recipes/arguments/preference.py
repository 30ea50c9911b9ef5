"""Learning from rankings that people have made."""

from dataclasses import dataclass
from typing import Literal

from .base import START, Method, TrainingArguments, _, argument


@dataclass(frozen=True, kw_only=True)
class RewardArguments(TrainingArguments):
    learning_rate: float = argument(
        1e-5, _("Learning rate"), _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0
    )
    ties: Literal["half", "drop"] = argument(
        "half", _("Ties"), _("A tie is a pair won half by each side, or is left out of the loss.")
    )
    center_rewards_coefficient: float = argument(
        0.01,
        _("Centring of scores"),
        _("Pulls scores towards zero (TRL's centre term)."),
        minimum=0,
        maximum=10,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class DPOArguments(TrainingArguments):
    learning_rate: float = argument(
        1e-6, _("Learning rate"), _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0
    )
    beta: float = argument(
        0.1,
        _("Hold to the reference (β)"),
        _("How closely the policy is held to the reference: higher is closer."),
        minimum=0.001,
        maximum=10,
    )
    ties: Literal["half", "drop"] = argument(
        "drop", _("Ties"), _("A tie is a pair won half by each side, or is left out of the loss.")
    )


METHODS = (
    Method(
        name="reward",
        title=_("Reward model"),
        summary=_("Learn to score any completion as people ranked them."),
        arguments=RewardArguments,
        inputs={"policy": START},
        makes="reward_model",
    ),
    Method(
        name="dpo",
        title=_("Direct preference optimisation"),
        summary=_("Tune the policy straight from whole rankings."),
        arguments=DPOArguments,
        inputs={"policy": START},
        makes="causal_lm",
    ),
)
