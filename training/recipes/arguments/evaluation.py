"""Measuring checkpoints: reward models against people, policies against each other and against reference answers."""

from dataclasses import dataclass
from typing import Literal

from .base import Arguments, Input, Method, _, argument
from .online import PromptArguments
from .rewards import JUDGE


@dataclass(frozen=True, kw_only=True)
class EvaluateArguments(PromptArguments, Arguments):
    num_prompts: int = argument(
        200, _("Prompts"), _("Most prompts that the language models answer."), minimum=1, maximum=100_000
    )
    split: Literal["test", "all"] = argument(
        "test",
        _("Prompts and rankings"),
        _("Held-out ones alone, which no training on versions with the usual share has seen, or all of them."),
    )
    num_generations: int = argument(
        8,
        _("Samples per prompt"),
        _("For the best and the majority of n, with n up to this; 0 leaves them out. 32 tells how accuracy grows with tokens."),
        minimum=0,
        maximum=64,
    )  # fmt: skip
    max_completion_length: int = argument(
        256, _("Longest completion"), _("Longest completion, in tokens."), minimum=1, maximum=32_768
    )
    temperature: float = argument(
        1.0, _("Temperature"), _("Of the samples; the answers that are compared are greedy."), minimum=0.01, maximum=5
    )
    top_p: float = argument(
        1.0, _("Nucleus (top p)"), _("Sample among the likeliest tokens that sum to this."), minimum=0.01, maximum=1
    )
    use_judge: bool = argument(
        False,
        _("Let a judge compare"),
        _(
            "A language model says which of the two answers is better, in both orders: the judge below, or this server's."
        ),
    )
    judge_rubric: str = argument(
        "",
        _("What the judge looks for"),
        _("What makes a good answer, in your own words; empty for a general rubric."),
        maximum=4000,
        advanced=True,
    )
    judge_ignores_length: bool = argument(
        True,
        _("Judge without regard to length"),
        _("The judge is told that a longer answer is not a better one."),
        advanced=True,
    )
    batch_size: int = argument(
        16, _("Completions at once"), _("Completions written at once."), minimum=1, maximum=1024, advanced=True
    )
    bf16: bool = argument(True, _("bfloat16"), _("Compute in bfloat16."), advanced=True)
    seed: int = argument(0, _("Seed"), _("Seed of the samples."), minimum=0, maximum=2**31 - 1, advanced=True)


METHODS = (
    Method(
        name="evaluate",
        title=_("Evaluation"),
        summary=_("Measure a reward model against held-out rankings, and a language model against another, against reference answers, and with more samples."),
        arguments=EvaluateArguments,
        inputs={
            "policy": Input(
                "causal_lm",
                _("Language model"),
                _("Answers the prompts. Empty to measure a reward model alone."),
                required=False,
            ),
            "baseline": Input(
                "causal_lm", _("Compared with"), _("Another language model, which answers the same prompts."), required=False
            ),
            "reward_model": Input(
                "reward_model",
                _("Reward model"),
                _("Measured on the dataset version; says which answers win, and picks the best of n."),
                required=False,
            ),
            "judge": JUDGE,
        },
        makes="evaluation",
        dataset="optional",
        prompts="all",
    ),
)  # fmt: skip
