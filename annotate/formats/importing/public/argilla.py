"""Records of Argilla: of its API and SDK (`fields`, `responses`), and as it pushes them to a hub (a column for each question)."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from django.utils.translation import gettext as _

from annotate.formats.importing.errors import RowError
from annotate.formats.importing.renaming import listed, number_of, ranks_of
from annotate.models import K_MAX

from .common import PROMPTS, Raw, first_of, is_list_of, plain

# Words of Argilla that stand beside a question's name in a pushed data set.
FLAT = re.compile(r"(.+)\.(responses|suggestion)$")
SUGGESTED = "-suggestion"
DIGITS = re.compile(r"\d+")
TAKEN = ("submitted", None, "")
# Some of a record's answers may be the same, but what is ranked is compared one by one.
MAX_NAMES = 50

# Who answered → {question: value}.
Answers = dict[str, dict[str, Any]]


def _unpacked(value: Raw) -> Raw:
    """In CSV objects stand as JSON in their cells."""
    return {name: listed(one) if name in ("fields", "responses", "suggestions") else one for name, one in value.items()}


def fits_argilla(value: Raw) -> bool:
    value = _unpacked(value)
    if isinstance(value.get("fields"), dict):
        return "responses" in value or "suggestions" in value
    if any(FLAT.match(name) for name in value):
        return True
    return any(
        is_list_of(one, dict) and all({"user_id", "value"} <= set(each) for each in one) for one in value.values()
    )


def from_argilla(value: Raw) -> Raw:
    """One person's answers are one ranking: a ranking question orders the fields, rating questions rate them.

    Suggestions count where nobody has answered. Ratings alone order the completions by their sum.
    """
    value = _unpacked(value)
    if isinstance(value.get("fields"), dict):
        fields, answers, suggested, rest = _nested(value)
    else:
        fields, answers, suggested, rest = _flat(value)
    answers = answers or suggested
    prompt = first_of(fields, PROMPTS) or next(iter(fields), "")
    names = _completions(fields, prompt, answers)
    if len(names) > MAX_NAMES:
        reason = _("%(count)d completions; a task has %(most)d at most.")
        raise RowError("fields", reason % {"count": len(names), "most": K_MAX})
    beside = {name: one for name, one in fields.items() if name != prompt and name not in names and one is not None}
    field_of = _finder(names)
    rankings = [one for one in (_ranking(who, given, names, field_of) for who, given in answers.items()) if one]
    return {
        **rest,
        **beside,
        "prompt": fields.get(prompt),
        "completions": [plain(fields[name], name) for name in names],
        "rankings": rankings if len(names) > 1 else None,
    }


def _nested(value: Raw) -> tuple[Raw, Answers, Answers, Raw]:
    answers: Answers = {}
    given = value.get("responses") or []
    if isinstance(given, dict):
        for question, each in given.items():
            for one in each if isinstance(each, list) else [each]:
                if isinstance(one, dict) and one.get("status") in TAKEN:
                    answers.setdefault(str(one.get("user_id") or ""), {})[question] = one.get("value")
    elif is_list_of(given, dict):
        for number, one in enumerate(given):
            if one.get("status") in TAKEN:
                who = str(one.get("user_id") or (number if len(given) > 1 else ""))
                values = one.get("values") or {}
                answers.setdefault(who, {}).update(
                    {name: each.get("value") if isinstance(each, dict) else each for name, each in values.items()}
                )
    suggested: Answers = {}
    offered = value.get("suggestions") or {}
    if is_list_of(offered, dict):
        offered = {str(one.get("question_name")): one for one in offered}
    for question, one in offered.items():
        whole = one if isinstance(one, dict) and "value" in one else {"value": one}
        if whole["value"] is not None:
            suggested.setdefault(str(whole.get("agent") or ""), {})[question] = whole["value"]
    rest = {"metadata": listed(value.get("metadata")) or {}}
    if value.get("external_id"):
        rest["external_id"] = value["external_id"]
    return dict(value["fields"]), answers, suggested, rest


def _flat(value: Raw) -> tuple[Raw, Answers, Answers, Raw]:
    fields: Raw = {}
    answers: Answers = {}
    suggested: Raw = {}
    rest: Raw = {"metadata": listed(value.get("metadata")) or {}}
    for name, found in value.items():
        found = listed(found)
        flat = FLAT.match(name)
        if name in ("metadata", "vectors", "status", "_server_id", "id"):
            continue
        if name == "external_id":
            rest[name] = found
        elif flat and flat[2] == "responses":
            people = listed(value.get(f"{name}.users")) or []
            states = listed(value.get(f"{name}.status")) or []
            for number, one in enumerate(found or []):
                if (states[number] if number < len(states) else None) in TAKEN:
                    who = str(people[number]) if number < len(people) else str(number)
                    answers.setdefault(who, {})[flat[1]] = one
        elif flat:
            suggested[flat[1]] = found
        elif name.endswith(SUGGESTED):
            suggested[name.removesuffix(SUGGESTED)] = found
        elif is_list_of(found, dict) and all({"user_id", "value"} <= set(one) for one in found):
            for number, one in enumerate(found):
                if one.get("status") in TAKEN:
                    answers.setdefault(str(one["user_id"] or number), {})[name] = one["value"]
        elif isinstance(found, str) and not re.search(r"\.(responses|suggestion)\.|-suggestion-", name):
            fields[name] = found
    offered = {name: one for name, one in suggested.items() if one is not None}
    return fields, answers, {"": offered} if offered else {}, rest


def _completions(fields: Raw, prompt: str, answers: Answers) -> list[str]:
    """The fields that are ranked or rated: those that a ranking names, else those with a number, else all but the prompt."""
    others = [name for name, one in fields.items() if name != prompt and one is not None]
    field_of = _finder(others)
    for given in answers.values():
        for value in given.values():
            options = [option for option, _rank in _places(value)]
            if len(options) > 1:
                found = {field_of(option) for option in options}
                if "" not in found and len(found) == len(options):
                    return [name for name in others if name in found]
    return [name for name in others if DIGITS.search(name)] or others


def _places(value: Any) -> list[tuple[str, float]]:
    """(option, rank) of a ranking's value, in any of the ways in which Argilla writes it; nothing for other questions' values."""
    value = listed(value)
    if isinstance(value, dict) and isinstance(value.get("value"), list) and isinstance(value.get("rank"), list):
        value = [{"value": one, "rank": rank} for one, rank in zip(value["value"], value["rank"], strict=False)]
    if is_list_of(value, dict) and all("value" in one for one in value):
        ranks = [number_of(one.get("rank")) for one in value]
        return [(str(one["value"]), rank) for one, rank in zip(value, ranks, strict=True) if rank is not None]
    if is_list_of(value, str):
        return [(one, float(number)) for number, one in enumerate(value, start=1)]
    return []


def _finder(names: Iterable[str]) -> Callable[[str], str]:
    """Finds the field that an option is called by: its name but for its signs, else the only one with its number."""
    same: dict[str, str] = {}
    numbered: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(_bare(name), name)
        numbered.setdefault(_number(name), []).append(name)

    def field_of(option: str) -> str:
        number = _number(option)
        others = numbered.get(number, []) if number else []
        return same.get(_bare(option)) or (others[0] if len(others) == 1 else "")

    return field_of


def _number(name: str) -> str:
    return next(reversed(DIGITS.findall(name)), "")


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _ranking(who: str, given: dict[str, Any], names: list[str], field_of: Callable[[str], str]) -> Raw | None:
    places: dict[str, float] = {}
    ratings: list[Raw] = [{} for _name in names]
    sums = [0.0] * len(names)
    comment = []
    for question, value in given.items():
        options = {field_of(option): rank for option, rank in _places(value)}
        number = number_of(value) if not isinstance(value, str) else None
        if len(options) == len(names) and set(options) == set(names):
            places = places or options
        elif number is not None and (rated := _rated(question, names)):
            place = names.index(rated[0])
            sums[place] += number
            if number in (1, 2, 3, 4, 5):
                ratings[place][rated[1][:60]] = int(number)
        elif isinstance(value, str) and value.strip():
            comment.append(value.strip())
    if places:
        ordered = sorted(set(places.values()))
        ranks = [ordered.index(places[name]) + 1 for name in names]
    elif all(ratings):
        ranks = ranks_of(sums)
    else:
        return None
    return {"annotator": who, "ranks": ranks, "ratings": ratings, "comment": "\n\n".join(comment)}


def _rated(question: str, names: list[str]) -> tuple[str, str] | None:
    """(field, criterion) of a rating question that is named for one of the fields, by its name or its number."""
    bare = _bare(question)
    for name in names:
        if _bare(name) in bare and _bare(name) != bare:
            left = re.sub(re.escape(name), "", question, flags=re.IGNORECASE).strip(" _-.")
            return name, left or "rating"
    number = _number(question)
    matching = [name for name in names if number and _number(name) == number]
    if len(matching) == 1:
        return matching[0], DIGITS.sub("", question).strip(" _-.") or "rating"
    return None
