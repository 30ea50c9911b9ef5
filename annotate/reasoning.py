"""Reasoning models put their thoughts between <think> and </think> before the answer."""

import re

OPEN, CLOSE = "<think>", "</think>"
_THINK = re.compile(r"\s*<think>(.*?)(?:</think>|\Z)", re.DOTALL)


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a model's output, both without surrounding whitespace.

    Only a leading block is reasoning, so that an answer may talk about the tags. Without an opening tag everything before the
    first closing one is reasoning: many chat templates open the block in the prompt. A block that is never closed was cut
    off while the model still thought: all of it is reasoning, and the answer is empty.

    >>> split_reasoning("<think>2 + 2</think>It is 4.")
    ('2 + 2', 'It is 4.')
    """
    leading = _THINK.match(text)
    if leading:
        return leading[1].strip(), text[leading.end() :].strip()
    before, closed, after = text.partition(CLOSE)
    if closed and OPEN not in before:
        return before.strip(), after.strip()
    return "", text.strip()
