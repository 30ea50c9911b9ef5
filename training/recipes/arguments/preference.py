"""Learning from rankings that people have made."""

from dataclasses import dataclass
from typing import Literal

from .base import START, InvalidArguments, Method, TrainingArguments, _, argument

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
class RankingArguments(TrainingArguments):
    """What the methods share that take rankings whole."""

    share_prompts: bool = argument(
        True,
        _("Share prompts"),
        _("Encode a prompt once for all completions of its ranking, wherever that is faster. It changes nothing else."),
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class RewardArguments(RankingArguments):
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
class DPOArguments(RankingArguments):
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


@dataclass(frozen=True, kw_only=True)
class KTOArguments(TrainingArguments):
    learning_rate: float = argument(
        1e-6, _("Learning rate"), _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0
    )
    per_device_train_batch_size: int = argument(
        8, _("Batch size"), _("Completions per step on each device."), minimum=1, maximum=1024
    )
    beta: float = argument(
        0.1,
        _("Hold to the reference (β)"),
        _("How closely the policy is held to the reference: higher is closer."),
        minimum=0.001,
        maximum=10,
    )
    desirable: Literal["best", "middle", "ratings"] = argument(
        "middle",
        _("Good completions"),
        _("The best places against the worst, those above a ranking's middle against those below, or by ratings."),
    )
    criterion: str = argument(
        "",
        _("Criterion"),
        _("For ratings: the criterion that decides; empty for the mean of all that were rated."),
        maximum=200,
    )
    threshold: float = argument(
        4.0, _("Good from"), _("For ratings: the least rating, 1 to 5, of a good completion."), minimum=1, maximum=5
    )
    loss_type: Literal["kto", "apo_zero_unpaired"] = argument(
        "kto", _("Loss"), _("KTO's own, or APO's, which has no estimate of the divergence."), advanced=True
    )
    balance: bool = argument(
        True,
        _("Balance the two sides"),
        _("Weigh the rarer of good and bad completions up until the sides stand between 1 : 1 and 4 : 3."),
    )
    desirable_weight: float = argument(
        1.0,
        _("Weight of good completions"),
        _("Used where the sides are not balanced by themselves."),
        minimum=0.001,
        maximum=1000,
        advanced=True,
    )
    undesirable_weight: float = argument(
        1.0,
        _("Weight of bad completions"),
        _("Used where the sides are not balanced by themselves."),
        minimum=0.001,
        maximum=1000,
        advanced=True,
    )

    def check(self) -> None:
        if self.loss_type == "kto" and self.per_device_train_batch_size < 2:
            raise InvalidArguments(
                {
                    "per_device_train_batch_size": "must be at least 2: the divergence is estimated from mismatched examples"
                }
            )


@dataclass(frozen=True, kw_only=True)
class ORPOArguments(TrainingArguments):
    learning_rate: float = argument(
        5e-6, _("Learning rate"), _("Step size of the optimiser at its peak."), minimum=1e-8, maximum=1.0
    )
    per_device_train_batch_size: int = argument(
        4, _("Batch size"), _("Pairs per step on each device."), minimum=1, maximum=1024
    )
    beta: float = argument(
        0.1,
        _("Weight of the odds ratio (λ)"),
        _("How much preferring the better answer counts beside imitating it."),
        minimum=0,
        maximum=10,
    )
    pairs: Literal["best_worst", "all"] = argument(
        "best_worst",
        _("Pairs"),
        _(
            "One pair for each ranking, best against worst; or all, at the cost of encoding each of K answers K−1 times."
        ),
    )


METHODS = (
    Method(
        name="reward",
        title=_("Reward model"),
        summary=_("Learn to score any completion as people ranked them."),
        arguments=RewardArguments,
        inputs={"policy": START},
        makes="reward_model",
        outputs=("watchdog",),
    ),
    Method(
        name="dpo",
        title=_("Direct preference optimisation"),
        summary=_("Tune the policy straight from whole rankings."),
        arguments=DPOArguments,
        inputs={"policy": START},
        makes="causal_lm",
    ),
    Method(
        name="kto",
        title=_("Kahneman-Tversky optimisation"),
        summary=_(
            "Tune the policy from answers that are good or bad by themselves: by place in a ranking, or by ratings."
        ),
        arguments=KTOArguments,
        inputs={"policy": START},
        makes="causal_lm",
    ),
    Method(
        name="orpo",
        title=_("Odds ratio preference optimisation"),
        summary=_("Imitate the better answers and turn from the worse ones in one training, without a reference."),
        arguments=ORPOArguments,
        inputs={"policy": START},
        makes="causal_lm",
    ),
)
