"""Whether a completion has the form `<think>…</think><answer>…</answer>`: each tag exactly once, in this order, nothing after.

Paper: DeepSeek-R1 (arXiv:2501.12948), section 2.2.2.
"""

import re
from collections.abc import Sequence

from training.recipes.arguments import ScoringArguments
from training.recipes.rewards import Reward, Sampled
from training.recipes.run_folder import RunFolder

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
FORM = re.compile(r"\s*<think>.*?</think>\s*<answer>(?P<answer>.*?)</answer>\s*", re.DOTALL)


def make_reward(folder: RunFolder, arguments: ScoringArguments) -> Reward:
    return format_reward


def format_reward(completions: Sequence[Sampled]) -> list[float | None]:
    """1 for a completion in the form, whose answer is not empty; else 0."""
    return [float(has_form(one.completion)) for one in completions]


def has_form(text: str) -> bool:
    # Counted first, so that the expression never goes through thousands of tags.
    if any(text.count(tag) != 1 for tag in TAGS):
        return False
    found = FORM.fullmatch(text)
    return found is not None and found["answer"].strip() != ""
