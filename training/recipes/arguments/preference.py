"""Learning from rankings that people have made."""

from dataclasses import dataclass
from typing import Literal

from .base import START, Method, TrainingArguments, _, argument

DPOLoss = Literal[
    "sigmoid",
    "plackett_luce",
    "ipo",
    "hinge",
    "robust",
    "sigmoid_norm",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "discopop",
]


@dataclass(frozen=True, kw_only=True)
class RewardArguments(TrainingArguments):
    learning_rate: float = argument(
        1e-5, _("Learning rate"), _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0
    )
    watchdog: bool = argument(
        False,
        _("Train a watchdog, too"),
        _(
            "Splits the rankings by prompt into two halves that share nothing. The reward model learns from one, a second one, the watchdog, from the other: it stops a later run that optimises the first beyond what people meant."
        ),
    )
    ties: Literal["half", "drop"] = argument(
        "half", _("Ties"), _("A tie is a pair won half by each side, or is left out of the loss.")
    )
    loss_type: Literal["bradley_terry", "plackett_luce"] = argument(
        "bradley_terry",
        _("Loss"),
        _("Over all pairs of a ranking (Bradley-Terry), or over its order as a whole (Plackett-Luce)."),
        advanced=True,
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
    loss_type: DPOLoss = argument(
        "sigmoid",
        _("Loss"),
        _(
            "DPO's own (sigmoid), another over all pairs of a ranking, or one over its order as a whole (plackett_luce)."
        ),
    )
    label_smoothing: float = argument(
        0.1,
        _("Share of flipped preferences (ε)"),
        _("How many preferences are taken to be the wrong way round. For the losses robust and exo_pair alone."),
        minimum=0.001,
        maximum=0.49,
        advanced=True,
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
