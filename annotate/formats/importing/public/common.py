"""What several public shapes share: turns of conversations, answers that part, names of columns."""

from collections.abc import Iterable
from typing import Any

from django.utils.translation import gettext as _

from annotate.formats.importing.errors import RowError
from annotate.formats.importing.renaming import listed

Raw = dict[str, Any]
Message = dict[str, Any]

ROLES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
}


class Gathered(dict[str, Any]):
    """Under `rows`, the rows that follow one another with the same prompt, when a shape reads them as one."""


PROMPTS = ("prompt", "instruction", "question", "query", "input", "context", "conversation", "chat", "text")


def rows_of(value: Raw) -> list[Raw]:
    """Copies of the rows that are gathered, or of the one row."""
    return [dict(row) for row in value["rows"]] if isinstance(value, Gathered) else [dict(value)]


def turns(value: Any, name: str) -> list[Message]:
    """Messages of role and content from what other programs write: `from` and `value`, parts of content, other names of roles."""
    value = listed(value)
    if not isinstance(value, list):
        raise RowError(name, _("Must be a list of messages, each with role and content."))
    messages = []
    for number, one in enumerate(value, start=1):
        if not isinstance(one, dict):
            raise RowError(f"{name}[{number}]", _("Must be an object with role and content."))
        role = one.get("role", one.get("from"))
        content = one.get("content", one.get("value"))
        messages.append({"role": ROLES.get(str(role).lower(), role), "content": plain(content, f"{name}[{number}]")})
    return messages


def plain(content: Any, name: str) -> Any:
    """The text of a message's parts; RowError for a part that is no text."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if isinstance(part, dict) and part.get("image") is None and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise RowError(name, _("Holds something that is no text, such as an image."))
    return "\n".join(texts)


def parted(first: list[Message], second: list[Message], name: str) -> tuple[list[Message], str, str]:
    """The messages that two conversations share, and the one answer in which they part. RowError if they part earlier."""
    shared = 0
    while shared < min(len(first), len(second)) - 1 and first[shared] == second[shared]:
        shared += 1
    left, right = first[shared:], second[shared:]
    if not (len(left) == len(right) == 1 and left[0]["role"] == right[0]["role"] == "assistant" and shared):
        raise RowError(
            name,
            _(
                "The two conversations part before their last answer; only answers to the same conversation can be ranked."
            ),
        )
    return first[:shared], left[0]["content"], right[0]["content"]


def asked(messages: list[Message]) -> Raw:
    """An own row of one conversation: its last answer, if it ends with one, is a completion."""
    if len(messages) > 1 and messages[-1]["role"] == "assistant":
        return {"prompt": messages[:-1], "completions": [messages[-1]["content"]]}
    return {"prompt": messages}


def first_of(value: Raw, names: Iterable[str]) -> str:
    """The first of the columns that is there; empty if none is."""
    return next((name for name in names if value.get(name) is not None), "")


def answer(text: Any, source: Any = None, **sampling: Any) -> Raw:
    """A completion of an own row; what is empty is left out."""
    made: Raw = {"completion": text}
    if source:
        made["source"] = source
    known = {name: one for name, one in sampling.items() if one is not None and one != ""}
    return {**made, "sampling": known} if known else made


def is_list_of(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, kind) for one in value)


def pair_ranks(preference: float) -> list[int]:
    """Below 0 the first is better, above it the second; 0 is a tie."""
    return [1, 1] if preference == 0 else [1, 2] if preference < 0 else [2, 1]
