"""Which of a run's metrics become charts, in which order, and what they are called. `annotate.charts` draws them."""

from collections.abc import Iterable

from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from annotate.charts import Line, LineChart
from annotate.drawing import Point
from annotate.numbers import significant
from training.services.events import Series

# What trainers log about themselves.
WATCHED = {  # training/watching.py draws these
    "watch/proxy",
    "watch/watchdog",
    "watch/proxy_error",
    "watch/watchdog_error",
    "watch/kept_step",
    "watch/fall",
    "watch/threshold",
}
NOT_CHARTED = WATCHED | {
    "epoch",
    "total_flos",
    "num_tokens",
    "num_input_tokens_seen",
    "prompts",
    "completions",
    "step_time",
    "training_prompts",
    "beta",
    "objective/scores",  # the reward, once more
}
NOT_CHARTED_ENDINGS = (
    "runtime", "_per_second", "_seconds", "/std", "/min_length", "/max_length", "_terminated_length", "/low_min", "/high_max",
)  # fmt: skip
# What shows whether reasoning emerges, and stands before all else where a policy learns from its own completions.
EMERGENCE = ("reward", "rewards/accuracy/mean", "completions/mean_length")
FIRST = ("loss", "accuracy", "score", "rewards", "margin", "kl")
LAST = ("entropy", "grad_norm", "learning_rate")
# What `readable` makes of the usual names, for the translators.
USUAL = (
    gettext_noop("Loss"),
    gettext_noop("Accuracy"),
    gettext_noop("Confidence"),
    gettext_noop("Pairs"),
    gettext_noop("Margin"),
    gettext_noop("Mean reward"),
    gettext_noop("Min reward"),
    gettext_noop("Max reward"),
    gettext_noop("Rewards: accuracies"),
    gettext_noop("Rewards: margins"),
    gettext_noop("Rewards: mean"),
    gettext_noop("Logps: mean"),
    gettext_noop("Mean token accuracy"),
    gettext_noop("Entropy"),
    gettext_noop("Grad norm"),
    gettext_noop("Learning rate"),
)
# Where the name alone says too little.
NAMES = {
    "reward": gettext_lazy("Reward"),
    "reward_std": gettext_lazy("Spread of the rewards"),
    "rewards/accuracy/mean": gettext_lazy("Accuracy"),
    "completions/mean_length": gettext_lazy("Length of completions, in tokens"),
    "completions/clipped_ratio": gettext_lazy("Share cut off at the longest completion"),
    "frac_reward_zero_std": gettext_lazy("Share of prompts whose completions all score alike"),
    "kl": gettext_lazy("Divergence from the reference (KL)"),
    "rewards/chosen": gettext_lazy("Implicit reward of the better completions"),
    "rewards/rejected": gettext_lazy("Implicit reward of the worse completions"),
    "logps/chosen": gettext_lazy("Log-probability of the better completions"),
    "logps/rejected": gettext_lazy("Log-probability of the worse completions"),
    "logits/chosen": gettext_lazy("Mean logit of the better completions"),
    "logits/rejected": gettext_lazy("Mean logit of the worse completions"),
    "nll_loss": gettext_lazy("Loss of imitation"),
    "log_odds_chosen": gettext_lazy("Log odds of the better over the worse completions"),
    "log_odds_ratio": gettext_lazy("Preference loss, before its weight and sign"),
    "objective/kl": gettext_lazy("Divergence from the reference, in nats per completion"),
    "objective/entropy": gettext_lazy("Entropy, in nats per completion"),
    "objective/non_score_reward": gettext_lazy("What the divergence takes off the reward"),
    "objective/rlhf_reward": gettext_lazy("Reward less divergence"),
    "objective/scores_margin": gettext_lazy("Difference of the two answers’ rewards"),
    "val/contain_eos_token": gettext_lazy("Share that ended by itself"),
    "watch/kl": gettext_lazy("Looks: divergence from the reference, in nats per completion"),
    "watch/length": gettext_lazy("Looks: length, in tokens"),
    "watch/distinct_2": gettext_lazy("Looks: share of different pairs of tokens"),
    "watch/repetition": gettext_lazy("Looks: share of repeated runs of four tokens"),
    "watch/entropy": gettext_lazy("Looks: entropy, in nats per token"),
    "clip_ratio/region_mean": gettext_lazy("Share of clipped ratios"),
    "clip_ratio/low_mean": gettext_lazy("Share clipped below"),
    "clip_ratio/high_mean": gettext_lazy("Share clipped above"),
    "clip_ratio/value": gettext_lazy("Share of the critic's values clipped"),
    "policy_loss": gettext_lazy("Loss of the policy"),
    "value_loss": gettext_lazy("Loss of the critic"),
    "explained_variance": gettext_lazy("Share of the returns' variance that the critic explains"),
    "kl_coefficient": gettext_lazy("Weight of the divergence (β)"),
    "critic_grad_norm": gettext_lazy("Grad norm of the critic"),
}


def charts_of(series: Iterable[Series]) -> list[LineChart]:
    """A chart per metric that has two points or more; `eval_loss` joins `loss`."""
    grouped: dict[str, list[Series]] = {}
    for item in series:
        name = item.name.removeprefix("eval_")
        if name not in NOT_CHARTED and not name.endswith(NOT_CHARTED_ENDINGS):
            grouped.setdefault(name, []).append(item)
    charts = []
    for name in sorted(grouped, key=_place):
        members = sorted(grouped[name], key=lambda item: item.name.startswith("eval_"))
        if max(len(item.points) for item in members) < 2:
            continue
        lines = tuple(
            Line(_("Held-out") if item.name.startswith(("eval_", "watch/")) else _("Training"), tuple(item.points))
            for item in members
        )
        charts.append(
            LineChart(
                key=slugify(name.replace("/", "-")),
                title=title_of(name),
                description=" ".join(_described(line.name, line.points) for line in lines),
                lines=lines,
                x_name=_("step"),
                show_legend=True,
            )
        )
    return charts


def _place(name: str) -> tuple[int, int, str]:
    if name in EMERGENCE:
        return -1, EMERGENCE.index(name), name
    for index, word in enumerate(LAST):
        if word in name:
            return 2, index, name
    for index, word in enumerate(FIRST):
        if word in name:
            return 0, index, name
    return 1, 0, name


def title_of(name: str) -> str:
    """`rewards/format/mean`, one term of the reward → “Reward: format”. Its name is whatever the run's arguments call it."""
    if name in NAMES:
        return str(NAMES[name])
    if name.startswith("rewards/") and name.endswith("/mean") and name != "rewards/mean":
        return _("Reward: %(name)s") % {"name": name.removeprefix("rewards/").removesuffix("/mean")}
    return _(readable(name))


def readable(name: str) -> str:
    """`rewards/margins` → “Rewards: margins”."""
    words = name.replace("_", " ").replace("/", ": ")
    return words[:1].upper() + words[1:]


def _described(name: str, points: tuple[Point, ...]) -> str:
    """A line in a sentence, for whoever hears the figure."""
    return _(
        "%(name)s: from %(first)s at step %(start)s to %(last)s at step %(end)s, between %(low)s and %(high)s."
    ) % {
        "name": name,
        "first": significant(points[0][1]),
        "start": f"{points[0][0]:g}",
        "last": significant(points[-1][1]),
        "end": f"{points[-1][0]:g}",
        "low": significant(min(value for _step, value in points)),
        "high": significant(max(value for _step, value in points)),
    }
