"""How the figures that a run ends with are read: the ones that decide first, an accuracy together with its interval."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.numbers import grouped, rounded, significant

LABELS = {
    "reward_accuracy": gettext_lazy("Pairs ordered as people ordered them"),
    "calibration_error": gettext_lazy("Calibration error"),
    "reward_pairs": gettext_lazy("Pairs"),
    "win_rate_reward_model": gettext_lazy("Win rate, by the reward model"),
    "win_rate_reward_model_controlled": gettext_lazy("Win rate at equal length, by the reward model"),
    "win_rate_judge": gettext_lazy("Win rate, by the judge"),
    "win_rate_judge_controlled": gettext_lazy("Win rate at equal length, by the judge"),
    "answer_accuracy": gettext_lazy("Share of right answers"),
    "baseline_answer_accuracy": gettext_lazy("The other model’s share of right answers"),
    "best_of_n_accuracy": gettext_lazy("Right answers, best of all samples"),
    "majority_of_n_accuracy": gettext_lazy("Right answers, majority of all samples"),
    "samples_per_prompt": gettext_lazy("Samples per prompt"),
    "eval_reward": gettext_lazy("Held-out reward"),
    "eval_rewards/accuracy/mean": gettext_lazy("Held-out share of right answers"),
    "eval_completions/mean_length": gettext_lazy("Held-out length of completions, in tokens"),
    "eval_completions/clipped_ratio": gettext_lazy("Held-out share cut off at the longest completion"),
    "eval_kl": gettext_lazy("Held-out divergence from the reference (KL)"),
    "eval_accuracy": gettext_lazy("Held-out accuracy"),
    "eval_rewards/accuracies": gettext_lazy("Held-out accuracy"),
    "eval_loss": gettext_lazy("Held-out loss"),
    "eval_perplexity": gettext_lazy("Held-out perplexity"),
    "eval_bits_per_byte": gettext_lazy("Held-out bits per byte"),
    "eval_confidence": gettext_lazy("Held-out confidence"),
    "eval_watchdog_agreement": gettext_lazy("Held-out pairs ordered alike by the watchdog"),
    "eval_pairs": gettext_lazy("Held-out pairs"),
    "train_accuracy": gettext_lazy("Training accuracy"),
    "train_loss": gettext_lazy("Training loss"),
    "train_confidence": gettext_lazy("Training confidence"),
    "train_pairs": gettext_lazy("Training pairs"),
    "examples": gettext_lazy("Training examples"),
    "training_prompts": gettext_lazy("Training prompts"),
    "train_tokens": gettext_lazy("Training tokens"),
    "parameters": gettext_lazy("Parameters"),
    "sampled_prompts": gettext_lazy("Prompts answered"),
    "sampled": gettext_lazy("Completions written"),
    "kept": gettext_lazy("Completions kept"),
    "kept_share": gettext_lazy("Share kept"),
    "kept_reward": gettext_lazy("Mean reward of those kept"),
    "mixed_in": gettext_lazy("Examples mixed in"),
    "finished_share": gettext_lazy("Share that ended by itself"),
    "tokens_per_second": gettext_lazy("Tokens per second"),
}
# The page says how many were stored, which is what counts.
UNSAID = {"prompts", "completions"}


def final_figures(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, text) of each number in `metrics`: known ones first, in the order of LABELS, then the others by name."""
    numbers = {
        name: value
        for name, value in metrics.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and not name.endswith(("_low", "_high"))
        and name not in UNSAID
    }
    order = [name for name in LABELS if name in numbers] + sorted(set(numbers) - set(LABELS))
    return [(_label(name), _with_interval(name, metrics)) for name in order]


def _label(name: str) -> str:
    if name in LABELS:
        return str(LABELS[name])
    if name.startswith("eval_rewards/") and name.endswith("/mean") and name != "eval_rewards/mean":
        return _("Held-out reward: %(name)s") % {"name": name.removeprefix("eval_rewards/").removesuffix("/mean")}
    return name


def _with_interval(name: str, metrics: dict[str, Any]) -> str:
    value: int | float = metrics[name]
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    if isinstance(low, int | float) and isinstance(high, int | float):
        numbers = {"value": value, "low": low, "high": high}
        return _("%(value)s (95 %% interval %(low)s to %(high)s)") % {
            key: rounded(number, 3) for key, number in numbers.items()
        }
    return grouped(value) if isinstance(value, int) else significant(value)
