"""What completions are scored by. A reward is known by its name; the worker knows which names there are besides these."""

from dataclasses import dataclass

from .base import Input, _, argument

# The rewards that come with Podium: what people call each, and one line on it. training/recipes/rewards/ computes them.
REWARDS = {
    "reward_model": (
        _("Reward model"),
        _("The score of a reward model, trained on rankings; 0 is its average."),
    ),
    "accuracy": (
        _("Accuracy"),
        _("1 where the mathematical answer equals the prompt's reference answer, else 0."),
    ),
    "format": (
        _("Format"),
        _("1 for <think>…</think><answer>…</answer>, each once, in this order, with nothing after; else 0."),
    ),
    "language": (
        _("Language"),
        _("The share of the words that are in the wanted language, 0 to 1."),
    ),
    "length": (
        _("Length"),
        _("0 up to a length, then falling to −1 at the longest that is allowed."),
    ),
    "judge": (
        _("Judge"),
        _("The grade that a judge, itself a language model, gives the answer, 0 to 1."),
    ),
}
REWARD_MODEL = Input(
    "reward_model",
    _("Reward model"),
    _("Scores the completions. Needed where the rewards name it."),
    required=False,
)
JUDGE = Input(
    "causal_lm",
    _("Judge"),
    _("A language model that scores the answers where the rewards name the judge. Empty: this server's judge."),
    required=False,
)


@dataclass(frozen=True, kw_only=True)
class ScoringArguments:
    """What completions are scored by, and what the rewards need to know."""

    rewards: dict[str, float] = argument(
        {"reward_model": 1.0},
        _("Rewards"),
        _("Each reward with its weight in the sum; empty for one that is not used, 0 for one that is only measured."),
        minimum=-100,
        maximum=100,
    )
    max_completion_length: int = argument(
        256, _("Longest completion"), _("Longest completion, in tokens."), minimum=1, maximum=32_768
    )
    length_buffer: int = argument(
        64,
        _("Buffer before the longest"),
        _("The reward “length” falls over this many tokens before the longest completion; 0: for cut ones alone."),
        minimum=0,
        maximum=32_768,
        advanced=True,
    )
    reward_language: str = argument(
        "",
        _("Wanted language"),
        _("For the reward “language”: a code such as en or de; empty for the language of each prompt."),
        maximum=8,
        advanced=True,
    )
    judge_rubric: str = argument(
        "",
        _("What the judge looks for"),
        _("For the reward “judge”: what makes a good answer, in your own words; empty for a general rubric."),
        maximum=4000,
        advanced=True,
    )
    judge_ignores_length: bool = argument(
        True,
        _("Judge without regard to length"),
        _("The judge is told that a longer answer is not a better one."),
        advanced=True,
    )
