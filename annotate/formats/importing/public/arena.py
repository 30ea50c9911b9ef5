"""Votes of a chatbot arena: two models answered, somebody chose."""

from typing import Any

from django.utils.translation import gettext as _

from annotate.formats.importing.errors import RowError
from annotate.formats.importing.renaming import listed

from .common import Message, Raw, answer, parted, turns

ALL_BAD = ("tie (bothbad)", "both_bad", "bothbad", "both bad")
ONE_HOT = ("winner_model_a", "winner_model_b", "winner_tie")
# What describes the vote and not the prompt.
OF_THE_VOTE = ("winner", *ONE_HOT, "judge", "judge_hash", "tstamp", "timestamp")


def fits_arena(value: Raw) -> bool:
    return (
        {"model_a", "model_b"} <= set(value)
        and ("winner" in value or set(ONE_HOT) <= set(value))
        and ({"conversation_a", "conversation_b"} <= set(value) or {"response_a", "response_b"} <= set(value))
    )


def from_arena(value: Raw) -> Raw:
    """The vote is a ranking of two. Of a conversation with several turns the vote counts for the last, if all before are shared."""
    rest = dict(value)
    if rest.get("conversation_a") is not None:
        first, second = (
            _until(turns(rest.pop(name), name), rest.get("turn")) for name in ("conversation_a", "conversation_b")
        )
        rest.pop("full_conversation", None)
    else:
        prompts, left, right = (_parts(rest.pop(name, None), name) for name in ("prompt", "response_a", "response_b"))
        first, second = (_joined(prompts, one) for one in (left, right))
    prompt, left_text, right_text = parted(first, second, "conversation_b")
    ranking = _vote(rest)
    ranking |= {
        "annotator": rest.get("judge") or rest.get("judge_hash"),
        "created": rest.get("tstamp") or rest.get("timestamp"),
        "ranking": rest.get("question_id") or rest.get("id"),
    }
    for name in OF_THE_VOTE:
        rest.pop(name, None)
    models = [rest.pop(name, None) for name in ("model_a", "model_b")]
    return {
        **rest,
        "prompt": prompt,
        "completions": [answer(left_text, models[0]), answer(right_text, models[1])],
        "rankings": [ranking],
    }


def _until(messages: list[Message], turn: Any) -> list[Message]:
    """Of MT-bench the first turn's votes come with both turns."""
    return messages[: 2 * turn] if isinstance(turn, int) and turn > 0 else messages


def _parts(value: Any, name: str) -> list[Any]:
    """The turns' texts: a list, or the list as JSON, or the only text."""
    found = listed(value)
    if not isinstance(found, list):
        found = [found]
    if not found or not all(isinstance(one, str) for one in found):
        raise RowError(name, _("Must be a text or a list of texts."))
    return found


def _joined(prompts: list[str], replies: list[str]) -> list[Message]:
    if len(prompts) != len(replies):
        raise RowError("prompt", _("Must have as many turns as the responses."))
    return [
        {"role": role, "content": text}
        for pair in zip(prompts, replies, strict=True)
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _vote(rest: Raw) -> Raw:
    winner = str(rest.get("winner") or "").strip().lower()
    if not winner:
        won = [str(rest.get(name)) in ("1", "1.0", "True", "true") for name in ONE_HOT]
        if sum(won) != 1:
            raise RowError(ONE_HOT[0], _("Exactly one of winner_model_a, winner_model_b and winner_tie must be 1."))
        winner = ("model_a", "model_b", "tie")[won.index(True)]
    if winner in ALL_BAD:
        return {"verdict": "all_bad"}
    ranks = {"model_a": [1, 2], "model_b": [2, 1], "tie": [1, 1]}.get(winner)
    if ranks is None:
        raise RowError("winner", _("Must be model_a, model_b, tie or tie (bothbad)."))
    return {"ranks": ranks}
