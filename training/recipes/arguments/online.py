"""Learning from the policy's own completions, scored by rewards."""

from dataclasses import dataclass

from .base import Input, Method, TrainingArguments, _, argument

REWARD_MODEL = Input(
    "reward_model",
    _("Reward model"),
    _("Scores the completions. Needed where the rewards name it."),
    required=False,
)
WATCHDOG = Input(
    "reward_model",
    _("Watchdog"),
    _("A reward model that learned from other rankings. It teaches nothing: it stops the run when its score falls."),
    required=False,
)


@dataclass(frozen=True, kw_only=True)
class PromptArguments:
    """Which of the project's prompts a run samples from."""

    num_prompts: int = argument(1000, _("Prompts"), _("Most prompts to sample from."), minimum=1, maximum=10_000_000)
    prompt_tag: str = argument(
        "", _("Tag of the prompts"), _("Only prompts that bear this tag; empty for all."), maximum=60
    )


@dataclass(frozen=True, kw_only=True)
class OnlineArguments(PromptArguments, TrainingArguments):
    """What the methods share whose data is what the policy writes."""

    rewards: dict[str, float] = argument(
        {"reward_model": 1.0}, _("Rewards"), _("Each reward with its weight in the sum."), minimum=-100, maximum=100
    )
    num_generations: int = argument(8, _("Completions per prompt"), _("Completions per prompt."), minimum=2, maximum=64)
    max_completion_length: int = argument(
        256, _("Longest completion"), _("Longest completion, in tokens."), minimum=1, maximum=32_768
    )
    temperature: float = argument(1.0, _("Temperature"), _("Higher is more varied."), minimum=0.01, maximum=5)
    beta: float = argument(
        0.04, _("Hold to the reference (β)"), _("How closely the policy is held to the reference: higher is closer."),
        minimum=0, maximum=10,
    )  # fmt: skip


METHODS: tuple[Method, ...] = ()
