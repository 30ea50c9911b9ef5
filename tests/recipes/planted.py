"""A planted reward and prompts for the methods that learn from the policy's own completions."""

import json
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from tests.recipes.tiny import WORDS, Row, make_run
from training.recipes.rewards import Sampled

REWARD_FUNCTIONS = {
    "vowels": "tests.recipes.planted:vowels",
    "letters": "tests.recipes.planted:letters",
    "luck": "tests.recipes.planted:luck",
    "vowels_less_and_less": "tests.recipes.planted:vowels_less_and_less",
}


def vowels(completions: Sequence[Sampled]) -> list[float]:
    """How many of eight characters are vowels: about 0.02 for the untrained tiny model, and 1 is all that it can reach."""
    return [sum(letter in "aeiou" for letter in one.completion) / 8 for one in completions]


def letters(completions: Sequence[Sampled]) -> list[float]:
    """How many letters there are, which differs already where a few tokens were drawn at random."""
    return [float(sum(letter.isalpha() for letter in one.completion)) for one in completions]


def luck(completions: Sequence[Sampled]) -> list[float]:
    """1 for every other prompt, by its first letter, whatever the completion: a critic can foresee it, no policy can earn it."""
    return [float(one.prompt[-1]["content"][0] in "oaf") for one in completions]


calls = count()


def vowels_less_and_less(completions: Sequence[Sampled]) -> list[float]:
    """The same on the first rank; on others all of a call's rewards are lower with each call, which no group notices."""
    less = next(calls) if os.environ.get("RANK", "0") != "0" else 0
    return [value - less for value in vowels(completions)]


def planted_prompt(number: int) -> Row:
    return {
        "prompt_id": number,
        "prompt": [{"role": "user", "content": f"{WORDS[number % len(WORDS)]} {number}?"}],
        "answer": "",
        "tags": [],
        "split": "test" if number % 4 == 0 else "train",
    }


PROMPTS = [planted_prompt(number) for number in range(32)]
# 16 completions of 8 tokens a step; some 0.1 s.
QUICK: Row = {
    "rewards": {"vowels": 1.0},
    "max_completion_length": 8,
    "max_length": 64,
    "num_generations": 4,
    "per_device_train_batch_size": 16,
    "eval_prompts": 8,
    "eval_steps": 100,
    "learning_rate": 5e-3,
    "lr_scheduler_type": "constant",
    "watch_steps": 0,
    "beta": 0.0,
}


def make_online_run(path: Path, method: str, model: Any, prompts: list[Row] = PROMPTS, **changes: Any) -> Path:
    run = make_run(path, method, model, prompts=prompts, **(QUICK | changes))
    args = json.loads((run / "args.json").read_text())
    (run / "args.json").write_text(json.dumps({**args, "reward_functions": REWARD_FUNCTIONS}))
    return run
