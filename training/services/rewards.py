"""Which rewards there are, what a run's rewards lack, and what its recipe must be told so that it can compute them."""

import re
from collections.abc import Collection
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from annotate.models import Project
from training.models import Run
from training.recipes.arguments import Method
from training.recipes.arguments.rewards import REWARDS

from .prompts import chosen_prompts

LANGUAGE_CODE = re.compile(r"[a-zA-Z]{2,3}")


def known_rewards() -> dict[str, tuple[str, str]]:
    """Name → (what people call it, one line on it): the built-in ones, then those that the settings name."""
    own = {
        name: (name.replace("_", " ").capitalize(), _("A function of this server's own, %(place)s.") % {"place": place})
        for name, place in settings.REWARD_FUNCTIONS.items()
    }
    return {name: (_(label), _(about)) for name, (label, about) in REWARDS.items()} | own


def wrong_rewards(
    project: Project, method: Method, arguments: dict[str, Any], inputs: Collection[str]
) -> dict[str, str]:
    """What keeps these rewards from being computed with these inputs, by the field at which it can be mended."""
    errors: dict[str, str] = {}
    weights: dict[str, float] | None = arguments.get("rewards")
    asks_judge = bool(arguments.get("use_judge")) or "judge" in (weights or {})
    if asks_judge and "judge" not in inputs and not settings.JUDGE_URL:
        errors["judge"] = _("Choose a checkpoint as the judge: this server has no judge of its own (JUDGE_URL).")
    if weights is None:
        return errors
    if unknown := [name for name in weights if name not in known_rewards()]:
        errors["rewards"] = _("There is no reward “%(name)s”. Podium knows these: %(known)s.") % {
            "name": unknown[0],
            "known": ", ".join(known_rewards()),
        }
    elif not any(weights.values()):
        errors["rewards"] = _("Give at least one reward a weight that is not 0.")
    elif "accuracy" in weights and not has_reference_answers(project, method, arguments):
        errors["rewards"] = _(
            "accuracy: none of the chosen prompts has a reference answer. Import prompts with a reference_answer, or choose others."
        )
    if "reward_model" in weights and "reward_model" not in inputs:
        errors["reward_model"] = _("Choose a reward model, since the rewards name it.")
    language = arguments.get("reward_language", "")
    if "language" in weights and language and not LANGUAGE_CODE.fullmatch(language):
        errors["reward_language"] = _("Give a code of two or three letters, such as en.")
    return errors


def has_reference_answers(project: Project, method: Method, arguments: dict[str, Any]) -> bool:
    if not project.prompts.exclude(reference_answer="").exists():
        return False
    return any(prompt["answer"].strip() for prompt in chosen_prompts(project, method, arguments))


def reward_functions_of(run: Run) -> dict[str, str]:
    """Those of the settings' functions that the run's rewards name, as args.json holds them."""
    weights = run.arguments.get("rewards") or {}
    return {name: place for name, place in settings.REWARD_FUNCTIONS.items() if name in weights}


def judge_environment(run: Run) -> dict[str, str]:
    """The endpoint and its key, for a run that asks this server's judge; nothing for any other."""
    asks = bool(run.arguments.get("use_judge")) or "judge" in (run.arguments.get("rewards") or {})
    if not asks or not settings.JUDGE_URL or run.run_inputs.filter(role="judge").exists():
        return {}
    return {
        "JUDGE_URL": settings.JUDGE_URL,
        "JUDGE_MODEL": settings.JUDGE_MODEL,
        "JUDGE_API_KEY": settings.JUDGE_API_KEY,
        "JUDGE_TIMEOUT": str(settings.JUDGE_TIMEOUT),
        "JUDGE_CONCURRENCY": str(settings.JUDGE_CONCURRENCY),
    }
