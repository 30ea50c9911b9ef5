"""Recognise what a row is: a prompt with completions, a preference pair, a conversation; plain or TRL conversational."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from annotate.models import K_MAX, PRIORITY_MAX, RankingTask, completion_hash, content_hash
from annotate.numbers import grouped
from annotate.reasoning import split_reasoning
from annotate.spreadsheets import plain_cell

from .checks import NUL_ESCAPE, checked_json, checked_name, checked_text
from .errors import MAX_EXPLANATION, MAX_TEXT, RowError, UnknownColumns
from .given import GivenRanking, given_rankings
from .mapping import Mapping
from .public import SHAPES
from .renaming import renamed

__all__ = ["NUL_ESCAPE", "Answer", "GivenRanking", "Known", "Row", "to_row"]

ROLES = ("system", "user", "assistant")
NUMBERED = [f"{name}_{number}" for name in ("completion", "response") for number in range(1, K_MAX + 1)]
COLUMNS = ("completion", *NUMBERED, "chosen", "rejected")
COLUMN_NAMES = frozenset(COLUMNS)
# The columns of a dataset version's ranking, and those that follow from the prompt and the version.
RANKING = (
    "ranking", "ranks", "ratings", "verdict", "annotator", "role", "reasons", "comment", "seconds", "created",
)  # fmt: skip
COMPUTED = ("prompt_id", "weight", "split")
EXPECTED = "prompt, messages, completion, completions, completion_1 … completion_9, chosen, rejected"
MAX_MESSAGES = 500

Message = dict[str, str]


class Answer(NamedTuple):
    text: str
    reasoning: str
    source: str
    sampling: str
    content_hash: str


@dataclass(frozen=True)
class Known:
    """The order that a row's answers are known to have: a rank for each, 1 is best, equal ranks are a tie, no rank left out."""

    ranks: tuple[int, ...]
    purpose: str
    explanation: str


@dataclass
class Row:
    """A checked row. `metadata` and each answer's `sampling` are JSON text; `messages` end with a user's turn."""

    messages: list[Message]
    content_hash: str
    answers: list[Answer]
    reference_answer: str = ""
    tags: list[str] = field(default_factory=list)
    priority: int = 0
    known: Known | None = None
    rankings: list[GivenRanking] = field(default_factory=list)
    metadata: str = "{}"
    shape: str = ""
    others: tuple[str, ...] = ()
    size: int = 0


def to_row(value: dict[str, Any], mapping: Mapping, default_source: str = "imported") -> Row:
    """Check one row as it stands in the file: columns are renamed and a public shape is adapted as `mapping` says.

    RowError names the field, by the file's own name for it, and the reason.
    """
    try:
        return _read(value, mapping, default_source)
    except (OverflowError, RecursionError) as error:
        raise RowError("", _("Holds a number that is too large, or is nested too deeply.")) from error


def _read(value: dict[str, Any], mapping: Mapping, default_source: str) -> Row:
    shape = SHAPES.get(mapping.shape)
    rest, names = shape.adapted(value, mapping) if shape else renamed(value, mapping)
    try:
        row = _row(rest, default_source)
    except RowError as error:
        found = next((name for name in names if error.field == name or error.field.startswith(f"{name}.")), None)
        if found is None:
            raise
        error.field = names[found] + error.field.removeprefix(found)
        raise
    row.shape = shape.name if shape and shape.name != "podium" else row.shape
    return row


def _row(rest: dict[str, Any], default_source: str) -> Row:
    own = _own_ranking(rest)
    messages, shape, given = _prompt(rest)
    is_pair = not given and rest.get("chosen") is not None and rest.get("rejected") is not None
    given += _given(rest)
    rest.pop("completions", None)
    source = checked_name(rest.pop("source", None) or default_source, "source", 200)
    answers = [_answer(one, name, source, messages) for name, one in given]
    places: dict[tuple[str, str], int] = {}
    firsts = [places.setdefault((answer.source, answer.content_hash), len(places)) for answer in answers]
    distinct = answers
    if len(places) < len(answers):
        distinct = [answers[firsts.index(place)] for place in places.values()]
    if len(distinct) > K_MAX:
        raise RowError(
            "completions",
            _("%(count)d completions; a task has %(most)d at most.") % {"count": len(distinct), "most": K_MAX},
        )
    reference = rest.pop("reference_answer", None)
    row = Row(
        messages,
        content_hash(messages),
        distinct,
        reference_answer="" if reference is None else checked_text(str(reference), "reference_answer", empty=True),
        tags=_tags(rest.pop("tags", None)),
        priority=_priority(rest.pop("priority", None)),
        known=_known(rest, len(answers), len(distinct)),
        shape="ranking" if own else shape,
    )
    row.rankings = _rankings(rest, firsts, is_pair=is_pair and len(given) == 2 and row.known is None)
    if row.known and row.rankings:
        raise RowError("rankings", _("A row has either a known order or rankings."))
    metadata = rest.pop("metadata", None) or {}
    if not isinstance(metadata, dict):
        raise RowError("metadata", _("Must be an object."))
    others = {name: other for name, other in rest.items() if other is not None and other != ""}
    row.others = tuple(others)
    row.metadata = checked_json({**others, **metadata}, "metadata")
    size = len(row.reference_answer) + len(row.metadata) + (len(row.known.explanation) if row.known else 0)
    for message in messages:
        size += len(message["content"])
    for answer in distinct:
        size += len(answer.text) + len(answer.reasoning) + len(answer.sampling)
    for one in row.rankings:
        size += len(one.comment)
    row.size = size
    return row


def _own_ranking(rest: dict[str, Any]) -> bool:
    """Put a row with one ranking in its own columns, as dataset versions have them, under `rankings`. True if it is one."""
    if rest.get("ranks") in (None, "") or "completions" not in rest or rest.get("rankings") not in (None, ""):
        return False
    one = {name: rest.pop(name) for name in RANKING if name in rest}
    if isinstance(one.get("comment"), str) and isinstance(one.get("seconds"), str):
        # A number as text: this is our CSV, whose cells do not begin like a formula.
        one["comment"] = plain_cell(one["comment"])
    if one.get("ranking"):
        for name in COMPUTED:
            rest.pop(name, None)
    rest["rankings"] = [one]
    return True


def _rankings(rest: dict[str, Any], firsts: list[int], *, is_pair: bool) -> list[GivenRanking]:
    """What `rankings` says, taken out of `rest`; where it is missing, a pair of chosen and rejected says it."""
    value = rest.pop("rankings", None)
    if value is None or value == "":
        if not is_pair:
            return []
        if firsts == [0, 0]:
            raise RowError("rejected", _("Is the same as chosen."))
        value = [{"ranks": [1, 2]}]
    if value and isinstance(value, list) and "annotator" in rest:
        annotator = rest.pop("annotator")
        value = [{"annotator": annotator, **one} if isinstance(one, dict) else one for one in value]
    return given_rankings(value, firsts)


def _priority(value: Any) -> int:
    """A whole number; from CSV it comes as text, from Parquet perhaps as a float."""
    if value is None or value == "":
        return 0
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not number.is_integer() or abs(number) > PRIORITY_MAX:
        reason = _("Must be a whole number from %(least)d to %(most)d; higher is asked first.")
        raise RowError("priority", reason % {"least": -PRIORITY_MAX, "most": PRIORITY_MAX})
    return int(number)


def _known(rest: dict[str, Any], count: int, distinct: int) -> Known | None:
    """What `known_order` says, taken out of `rest` with its purpose and explanation, which mean something only beside it."""
    if rest.get("known_order") in (None, ""):
        return None
    listed = rest.pop("known_order")
    if not isinstance(listed, list) or not all(
        isinstance(rank, int | float) and not isinstance(rank, bool) and rank in range(1, K_MAX + 1) for rank in listed
    ):
        reason = _("Must be a list of whole numbers from 1 (best) to %(most)d, one for each completion.")
        raise RowError("known_order", reason % {"most": K_MAX})
    if len(listed) != count:
        reason = _("Has %(ranks)d places for %(completions)d completions.")
        raise RowError("known_order", reason % {"ranks": len(listed), "completions": count})
    if distinct < count:
        raise RowError("known_order", _("Two of the completions are the same."))
    places = sorted(set(listed))
    if len(places) < 2:
        raise RowError("known_order", _("At least one completion must be better than another."))
    purpose = rest.pop("purpose", None) or RankingTask.Purpose.GOLD
    if purpose not in (RankingTask.Purpose.GOLD, RankingTask.Purpose.PRACTICE):
        raise RowError("purpose", _("Must be gold or practice."))
    explanation = checked_text(rest.pop("explanation", None) or "", "explanation", MAX_EXPLANATION, empty=True)
    return Known(tuple(places.index(rank) + 1 for rank in listed), str(purpose), explanation)


Given = list[tuple[str, Any]]


def _prompt(rest: dict[str, Any]) -> tuple[list[Message], str, Given]:
    """The prompt's messages, the row's shape, and completions that were part of a conversation (field, value)."""
    has_pair = rest.get("chosen") is not None and rest.get("rejected") is not None
    if "prompt" in rest:
        prompt = rest.pop("prompt")
        shape = "preference, explicit prompt" if has_pair else "prompt"
        kind = "conversational" if isinstance(prompt, list) else "plain"
        return _as_prompt(prompt, "prompt"), f"{shape}, {kind}", []
    if rest.get("messages") is not None:
        messages = _conversation(rest.pop("messages"), "messages")
        if messages[-1]["role"] == "assistant" and len(messages) > 1:
            return _as_prompt(messages[:-1], "messages"), "conversation", [("messages", [messages[-1]])]
        return _as_prompt(messages, "messages"), "conversation", []
    if has_pair:
        if isinstance(rest["chosen"], str):
            raise RowError("prompt", _("chosen and rejected are plain text, so the row needs a prompt."))
        chosen = _conversation(rest["chosen"], "chosen")
        rejected = _conversation(rest["rejected"], "rejected")
        if chosen[:-1] != rejected[:-1] or len(chosen) < 2:
            raise RowError("rejected", _("chosen and rejected must share all messages but the last."))
        return _as_prompt(chosen[:-1], "chosen"), "preference, implicit prompt", []
    raise UnknownColumns(
        "prompt",
        _("No prompt: the row has %(found)s; expected are %(expected)s.")
        % {"found": ", ".join(map(str, rest)) or _("no columns"), "expected": EXPECTED},
    )


def _given(rest: dict[str, Any]) -> Given:
    """Completions in columns of their own, taken out of `rest`: (field, value)."""
    given: Given = []
    for name in () if COLUMN_NAMES.isdisjoint(rest) else COLUMNS:
        if name in rest:
            found = rest.pop(name)
            if found is not None and (found != "" or name not in NUMBERED):
                given.append((name, found))
    listed = rest.get("completions")
    if listed is not None and listed != "":
        if not isinstance(listed, list):
            raise RowError("completions", _("Must be a list."))
        given += [(f"completions[{index}]", one) for index, one in enumerate(listed, start=1)]
    return given


def _conversation(value: Any, name: str) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise RowError(name, _("Must be a list of messages, each with role and content."))
    if len(value) > MAX_MESSAGES:
        raise RowError(name, _("Has more than %(most)d messages.") % {"most": MAX_MESSAGES})
    messages = []
    for number, message in enumerate(value, start=1):
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise RowError(f"{name}[{number}]", _("Must be an object with role and content."))
        if message["role"] not in ROLES:
            raise RowError(f"{name}[{number}].role", _("Must be one of %(roles)s.") % {"roles": ", ".join(ROLES)})
        content = checked_text(message["content"], f"{name}[{number}].content")
        messages.append({"role": message["role"], "content": content})
    return messages


def _as_prompt(value: Any, name: str) -> list[Message]:
    if not isinstance(value, list):
        return [{"role": "user", "content": checked_text(value, name)}]
    messages = _conversation(value, name)
    if messages[-1]["role"] != "user":
        raise RowError(name, _("Must end with a message of the user."))
    if sum(len(message["content"]) for message in messages) > MAX_TEXT:
        raise RowError(name, _("Is longer than %(limit)s characters in all.") % {"limit": grouped(MAX_TEXT)})
    return messages


def _answer(value: Any, name: str, source: str, prompt: list[Message]) -> Answer:
    reasoning: Any = ""
    sampling: Any = None
    if isinstance(value, str) and "think>" not in value:
        text = checked_text(value, name).strip()
        return Answer(text, "", source, "{}", completion_hash(text))
    if isinstance(value, dict):
        key = next((key for key in ("completion", "text", "content") if value.get(key) is not None), None)
        if key is None:
            raise RowError(name, _("Must have its text in completion, text or content."))
        source = checked_name(value.get("source") or value.get("model") or source, f"{name}.source", 200)
        reasoning, sampling = value.get("reasoning") or "", value.get("sampling")
        value = value[key]
    if isinstance(value, list):
        turns = _conversation(value, name)
        if turns[-1]["role"] != "assistant" or (len(turns) > 1 and turns[:-1] != prompt):
            raise RowError(name, _("Must be one message of the assistant, alone or after the prompt's messages."))
        value = turns[-1]["content"]
    checked_text(value, name)
    thought, text = (
        split_reasoning(value) if not reasoning and "think>" in value else ("", value if reasoning else value.strip())
    )
    if not text or text.isspace():
        raise RowError(name, _("Has reasoning but no answer."))
    reasoning = checked_text(reasoning or thought, f"{name}.reasoning", empty=True)
    if sampling is not None and not isinstance(sampling, dict):
        raise RowError(f"{name}.sampling", _("Must be an object."))
    return Answer(
        text, reasoning, source, checked_json(sampling or {}, f"{name}.sampling"), completion_hash(text, reasoning)
    )


def _tags(value: Any) -> list[str]:
    if isinstance(value, str):
        value = [tag.strip() for tag in value.split(",") if tag.strip()]
    if not isinstance(value or [], list) or len(value or []) > 50:
        raise RowError("tags", _("Must be a list of at most 50 words."))
    return list(dict.fromkeys(checked_name(tag, "tags", 60) for tag in value or []))
