"""Writing completions."""

from dataclasses import dataclass
from typing import Literal

from .base import Arguments, Input, Method, _, argument
from .online import PromptArguments
from .rewards import JUDGE, REWARD_MODEL, ScoringArguments


@dataclass(frozen=True, kw_only=True)
class GenerateArguments(Arguments):
    num_generations: int = argument(4, _("Completions per prompt"), _("Completions per prompt."), minimum=1, maximum=9)
    num_prompts: int = argument(
        50, _("Prompts"), _("Prompts to answer, those with the fewest rankings first."), minimum=1, maximum=100_000
    )
    temperature: float = argument(0.9, _("Temperature"), _("Higher is more varied; 0 is greedy."), minimum=0, maximum=5)
    top_p: float = argument(
        0.95, _("Nucleus (top p)"), _("Sample among the likeliest tokens that sum to this."), minimum=0.01, maximum=1
    )
    max_new_tokens: int = argument(
        256, _("Longest completion"), _("Longest completion, in tokens."), minimum=1, maximum=32_768
    )
    batch_size: int = argument(
        8, _("Prompts at once"), _("Prompts generated at once."), minimum=1, maximum=1024, advanced=True
    )
    bf16: bool = argument(True, _("bfloat16"), _("Compute in bfloat16."), advanced=True)
    seed: int = argument(
        0,
        _("Seed"),
        _("Seed of the sampling. The run's number is mixed in, so that a second run writes something new."),
        minimum=0,
        maximum=2**31 - 1,
        advanced=True,
    )


@dataclass(frozen=True, kw_only=True)
class RejectionSamplingArguments(PromptArguments, ScoringArguments, Arguments):
    num_generations: int = argument(
        8, _("Completions per prompt"), _("Written for each prompt, to choose from."), minimum=1, maximum=256
    )
    keep: int = argument(
        1, _("Kept per prompt"), _("Most completions kept of each prompt, the best first."), minimum=1, maximum=256
    )
    threshold: float = argument(
        0.0,
        _("Threshold"),
        _("Only completions are kept whose weighted sum of rewards is above this. −1000 keeps the best in any case."),
        minimum=-1000,
        maximum=1000,
    )
    keep_unfinished: bool = argument(
        False,
        _("Keep cut completions"),
        _("Completions that the longest length has cut; learning from them teaches not to end."),
        advanced=True,
    )
    mix: Literal["demonstrations", "best", "both"] = argument(
        "both",
        _("Mixed in"),
        _("What the chosen dataset version adds: its demonstrations, its best completions, or both."),
    )
    temperature: float = argument(1.0, _("Temperature"), _("Higher is more varied; 0 is greedy."), minimum=0, maximum=5)
    top_p: float = argument(
        0.95, _("Nucleus (top p)"), _("Sample among the likeliest tokens that sum to this."), minimum=0.01, maximum=1
    )
    batch_size: int = argument(
        8, _("Prompts at once"), _("Prompts generated at once."), minimum=1, maximum=1024, advanced=True
    )
    bf16: bool = argument(True, _("bfloat16"), _("Compute in bfloat16."), advanced=True)
    seed: int = argument(
        0,
        _("Seed"),
        _("Seed of the sampling. The run's number is mixed in, so that a second run writes something new."),
        minimum=0,
        maximum=2**31 - 1,
        advanced=True,
    )


METHODS = (
    Method(
        name="generate",
        title=_("Generate completions"),
        summary=_("Let a checkpoint write completions; they become ranking tasks."),
        arguments=GenerateArguments,
        inputs={
            "policy": Input(
                "causal_lm",
                _("Checkpoint that writes"),
                _("A language model of this project: a base model, or what an earlier run made."),
            )
        },
        makes="completions",
        dataset="none",
        prompts="least_ranked",
        queue="generate",
    ),
    Method(
        name="rejection_sampling",
        title=_("Rejection sampling"),
        summary=_(
            "Let a checkpoint write several completions to each prompt and keep the best by the rewards: a dataset version to "
            "fine-tune on."
        ),
        arguments=RejectionSamplingArguments,
        inputs={
            "policy": Input(
                "causal_lm",
                _("Checkpoint that writes"),
                _("A language model of this project: a base model, or what an earlier run made."),
            ),
            "reward_model": REWARD_MODEL,
            "judge": JUDGE,
        },
        makes="dataset",
        dataset="optional",
        prompts="all",
        queue="generate",
    ),
)
