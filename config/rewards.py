"""Reading the settings of rewards and of the judge. What makes no sense stops the process and names itself."""

import re
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from training.recipes.arguments.rewards import REWARDS

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
PLACE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def read_reward_functions(text: str) -> dict[str, str]:
    """`name=package.module:function`, several separated by commas, as {name: place}."""
    functions: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, place = (part.strip() for part in entry.partition("="))
        if not equals or not NAME.fullmatch(name) or not PLACE.fullmatch(place):
            raise ImproperlyConfigured(
                f"REWARD_FUNCTIONS wants name=package.module:function, separated by commas, not “{entry}”; "
                "a name is of small letters, digits and _"
            )
        if name in REWARDS or name in functions:
            raise ImproperlyConfigured(f"REWARD_FUNCTIONS names “{name}”, but there is a reward of that name already")
        functions[name] = place
    return functions


def check_judge(url: str, model: str, key: str, timeout: float, concurrency: int) -> None:
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise ImproperlyConfigured(f"JUDGE_URL must be an address such as https://host/v1, not “{url}”")
    if bool(url) != bool(model):
        raise ImproperlyConfigured("JUDGE_URL and JUDGE_MODEL belong together: set both, or neither")
    if not (key.isascii() and key.isprintable()):
        raise ImproperlyConfigured("JUDGE_API_KEY holds characters that no header can carry")
    if timeout <= 0:
        raise ImproperlyConfigured("JUDGE_TIMEOUT must be more than 0 seconds")
    if not 1 <= concurrency <= 256:
        raise ImproperlyConfigured("JUDGE_CONCURRENCY must be from 1 to 256")
