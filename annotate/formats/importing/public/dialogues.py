"""Conversations: Anthropic HH, ShareGPT, OpenAI's chat and preference files, Alpaca, and TRL's plain texts."""

import re
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.utils.translation import gettext as _

from annotate.formats.importing.errors import RowError
from annotate.spreadsheets import plain_cell

from .common import Message, Raw, asked, parted, turns

MARK = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def fits_hh(value: Raw) -> bool:
    return all(
        isinstance(value.get(name), str) and bool(MARK.match(plain_cell(value[name])))
        for name in ("chosen", "rejected")
    )


def from_hh(value: Raw) -> Raw:
    """`chosen` and `rejected` are whole dialogues as text. Turns of one speaker in a row are one turn."""
    first, second = (spoken(value.get(name), name) for name in ("chosen", "rejected"))
    prompt, chosen, rejected = parted(first, second, "rejected")
    return {**value, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def spoken(text: Any, name: str) -> list[Message]:
    """The turns of a text with `Human:` and `Assistant:` before each, parted by empty lines."""
    before, *pieces = MARK.split(plain_cell(text)) if isinstance(text, str) else [text]
    if not pieces or before:
        raise RowError(name, _("Must be a dialogue that begins with “Human:”."))
    pairs = [(speaker, said.strip()) for speaker, said in zip(pieces[::2], pieces[1::2], strict=True)]
    return [
        {
            "role": "user" if speaker == "Human" else "assistant",
            "content": "\n\n".join(said for _who, said in own if said),
        }
        for speaker, own in groupby(pairs, key=itemgetter(0))
    ]


def fits_sharegpt(value: Raw) -> bool:
    said = value.get("conversations")
    return isinstance(said, list) and bool(said) and isinstance(said[0], dict) and {"from", "value"} <= set(said[0])


def from_sharegpt(value: Raw) -> Raw:
    """`conversations` of `from` and `value`; with `chosen` and `rejected` messages it is a preference."""
    rest = dict(value)
    messages = turns(rest.pop("conversations", None), "conversations")
    if isinstance(rest.get("system"), str) and messages and messages[0]["role"] != "system":
        system = rest.pop("system")
        messages = [{"role": "system", "content": system}, *messages] if system.strip() else messages
    if isinstance(rest.get("chosen"), dict) and isinstance(rest.get("rejected"), dict):
        pair = {name: turns([rest[name]], name)[0]["content"] for name in ("chosen", "rejected")}
        return {**rest, "prompt": messages, **pair}
    return {**rest, **asked(messages)}


def fits_chat(value: Raw) -> bool:
    said = value.get("messages")
    return (
        "prompt" not in value
        and isinstance(said, list)
        and bool(said)
        and isinstance(said[0], dict)
        and {"role", "content"} <= set(said[0])
    )


def from_chat(value: Raw) -> Raw:
    rest = dict(value)
    return {**rest, **asked(turns(rest.pop("messages", None), "messages"))}


def fits_openai_preference(value: Raw) -> bool:
    return "preferred_output" in value and "non_preferred_output" in value


def from_openai_preference(value: Raw) -> Raw:
    rest = dict(value)
    given = rest.pop("input", None)
    messages = given.get("messages") if isinstance(given, dict) else given
    for ours, theirs in (("chosen", "preferred_output"), ("rejected", "non_preferred_output")):
        said = turns(rest.pop(theirs, None), theirs)
        if len(said) != 1:
            raise RowError(theirs, _("Must be one message of the assistant."))
        rest[ours] = said[0]["content"]
    return {**rest, "prompt": turns(messages, "input.messages")}


def fits_alpaca(value: Raw) -> bool:
    return all(isinstance(value.get(name), str) for name in ("instruction", "output")) and "prompt" not in value


def from_alpaca(value: Raw) -> Raw:
    """`instruction` with an optional `input` below it, answered by `output`."""
    rest = dict(value)
    asked_for = "\n\n".join(
        part
        for part in (rest.pop("instruction", ""), rest.pop("input", None))
        if isinstance(part, str) and part.strip()
    )
    return {**rest, "prompt": asked_for, "completions": [rest.pop("output", None)]}


def fits_text(value: Raw) -> bool:
    return isinstance(value.get("text"), str) and not {"prompt", "messages", "completion", "completions"} & set(value)


def from_text(value: Raw) -> Raw:
    rest = dict(value)
    text = rest.pop("text", None)
    if isinstance(text, str) and MARK.match(text):
        return {**rest, **asked(spoken(text, "text"))}
    raise RowError("text", _("A text alone does not say which part of it is the prompt and which the answer."))
