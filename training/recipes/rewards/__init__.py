"""Rewards: functions from completions to numbers, each known by a name, summed with the weights in a run's arguments.

A reward takes completions and gives one number for each, or None where it has nothing to say of one:

    def politeness(completions: Sequence[Sampled]) -> list[float | None]:
        return [1.0 if "please" in one.answer else 0.0 for one in completions]

Each built-in one is a module of its own. Others are functions that the server's settings name (REWARD_FUNCTIONS in
docs/operators.md); they are imported here, in the recipe's process, and never come out of a form.
"""

import functools
import importlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.recipes.arguments import ScoringArguments
from training.recipes.arguments.rewards import REWARDS
from training.recipes.run_folder import Messages, RunFailed, RunFolder
from training.recipes.sampling import split_reasoning


@dataclass(frozen=True)
class Sampled:
    """A completion as rewards see it.

    `reasoning` is what stands in a leading <think> block. `answer` is what stands in the last <answer> block, or without one all
    that follows the reasoning; a reasoning that never ends leaves it empty.
    """

    prompt: Messages
    completion: str  # whole, with its tags
    reasoning: str
    answer: str
    reference: str  # the prompt's reference answer, or ""
    tokens: int
    finished: bool  # by the model itself, not by the length limit


Reward = Callable[[Sequence[Sampled]], list[float | None]]

ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def read_completion(
    prompt: Messages, text: str, *, reference: str = "", tokens: int = 0, finished: bool = True
) -> Sampled:
    """What a policy wrote, parted into reasoning and answer."""
    reasoning, rest = split_reasoning(text)
    # As far as the last end, or a thousand tags without one would each be followed to the end of the text.
    marked = ANSWER.findall(rest[: rest.rfind("</answer>") + len("</answer>")])
    return Sampled(prompt, text, reasoning, marked[-1].strip() if marked else rest, reference, tokens, finished)


def make_rewards(
    folder: RunFolder, weights: dict[str, float], arguments: ScoringArguments | None = None
) -> dict[str, Reward]:
    """The rewards that `weights` names, in its order; one of weight 0 is measured as well. Loads the models that they need.

    `arguments` is what the run has (any dataclass that builds on ScoringArguments). Raises RunFailed, cause bad_arguments or
    missing_model, with a message for people.
    """
    arguments = arguments or ScoringArguments()
    return {name: _make_reward(name, folder, arguments) for name in weights}


def _make_reward(name: str, folder: RunFolder, arguments: ScoringArguments) -> Reward:
    if name in REWARDS:
        # At need: some bring a model or a library along, and most runs use few of them.
        module = importlib.import_module(f"training.recipes.rewards.{name}")
        reward: Reward = module.make_reward(folder, arguments)
        return reward
    if name in folder.reward_functions:
        return _own_reward(name, folder.reward_functions[name])
    known = ", ".join([*REWARDS, *folder.reward_functions])
    raise RunFailed("bad_arguments", f"There is no reward “{name}”. Podium knows these: {known}.")


def _own_reward(name: str, place: str) -> Reward:
    """The function at `package.module:function`, checked at each call: what it gives must be numbers, one for each."""
    module, _, attribute = place.partition(":")
    try:
        function = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except Exception as error:
        raise RunFailed(
            "bad_arguments", f"The reward “{name}” ({place}) cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(function):
        raise RunFailed("bad_arguments", f"The reward “{name}” ({place}) is no function.")

    def reward(completions: Sequence[Sampled]) -> list[float | None]:
        try:
            values = list(function(completions))
        except Exception as error:
            raise RunFailed(
                "reward_failed", f"The reward “{name}” ({place}) stopped on {type(error).__name__}: {error}"
            ) from error
        if len(values) != len(completions):
            raise RunFailed(
                "reward_failed",
                f"The reward “{name}” ({place}) gave {len(values)} numbers for {len(completions)} completions.",
            )
        return [_checked(name, place, value) for value in values]

    return reward


def _checked(name: str, place: str, value: object) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise RunFailed("reward_failed", f"The reward “{name}” ({place}) gave {value!r}, which is no finite number.")
    return number


def weighted_sum(values: dict[str, list[float | None]], weights: dict[str, float]) -> list[float | None]:
    """Each completion's sum over the rewards that say something of it; None where none of them does."""
    sums: list[float | None] = []
    for terms in zip(*(values[name] for name in weights), strict=True):
        pairs = zip(weights.values(), terms, strict=True)
        told = [(weight, term) for weight, term in pairs if weight and term is not None]
        sums.append(math.fsum(weight * term for weight, term in told) if told else None)
    return sums
