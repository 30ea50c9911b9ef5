"""How a run that optimises a reward is watched, and when it stops by itself."""

from dataclasses import dataclass

from .base import Input, _, argument

WATCHDOG = Input(
    "reward_model",
    _("Watchdog"),
    _("A reward model that learned from other rankings. It teaches nothing: it stops the run when its score falls."),
    required=False,
)


@dataclass(frozen=True, kw_only=True)
class WatchArguments:
    watch_steps: int = argument(
        100,
        _("Steps between looks"),
        _("Steps between two looks at the policy: reward, watchdog, divergence, length, variety. 0 for none at all."),
        minimum=0,
        maximum=100_000,
    )
    watch_prompts: int = argument(
        64,
        _("Prompts of a look"),
        _(
            "How many held-out prompts each look answers, always the same ones. More see smaller changes, and take longer."
        ),
        minimum=2,
        maximum=4096,
        advanced=True,
    )
    patience: int = argument(
        2,
        _("Looks in a row"),
        _("The run stops once the watchdog is below its best, beyond its noise, at this many looks in a row."),
        minimum=1,
        maximum=50,
        advanced=True,
    )
    watch_false_alarms: float = argument(
        0.05,
        _("Share of false alarms"),
        _("Of the runs in which the watchdog stays level, at most this share is stopped by chance."),
        minimum=0.001,
        maximum=0.5,
        advanced=True,
    )
    max_kl: float = argument(
        0.0,
        _("Most divergence"),
        _(
            "The run stops when the policy has moved this far from the reference, in nats per completion; 0 for no limit."
        ),
        minimum=0,
        maximum=100_000,
    )
