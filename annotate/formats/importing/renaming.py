"""Give a row's columns the names by which Podium reads them, as a mapping says."""

import math
from typing import Any

from django.utils.translation import gettext as _

from .checks import parse_json
from .errors import RowError, UnknownColumns
from .mapping import Mapping

# What a mapping names with one column each, and which of these a row must have.
SINGLE = ("prompt", "chosen", "rejected", "reference_answer", "source", "tags", "annotator")
NEEDED = ("prompt", "chosen", "rejected")


def renamed(value: dict[str, Any], mapping: Mapping) -> tuple[dict[str, Any], dict[str, str]]:
    """A copy of the row with Podium's names, and {Podium's name: the file's own} for what was renamed.

    Completions named one by one come from a source of their column's name. Scores become a ranking: higher is better,
    equal is a tie. RowError for a column that is not there.
    """
    if not mapping.names_columns:
        return dict(value), {}
    rest = dict(value)
    names: dict[str, str] = {}
    found: dict[str, Any] = {}
    for name in SINGLE:
        path = getattr(mapping, name)
        if not path:
            continue
        one = take(rest, path)
        if one is None and name in NEEDED:
            raise UnknownColumns(path, _("There is no column of this name."))
        if name in NEEDED or (one is not None and one != ""):
            found[name] = one
            names[name] = path
    if not (mapping.completions or mapping.chosen or mapping.rejected) and _ends_answered(found.get("prompt")):
        found["messages"], names["messages"] = found.pop("prompt"), names.pop("prompt")
    # Scores first: they may stand within the completions.
    scores = [take(rest, path) for path in mapping.scores]
    if mapping.completions:
        found["completions"] = _completions(rest, mapping.completions, names)
    if mapping.scores:
        names["rankings[1].ranks"] = ", ".join(mapping.scores)
        found["rankings"] = [{"ranks": ranks_of(_numbers(scores, mapping.scores))}]
    # A column that bears one of these names but was mapped over stays beside the row.
    over = {name: rest.pop(name) for name in found if name in rest}
    metadata = rest.get("metadata") or {}
    if over and isinstance(metadata, dict):
        rest["metadata"] = {**over, **metadata}
    return {**rest, **found}, names


def ranks_of(scores: list[float]) -> list[int]:
    """[3.0, 1.0, 3.0] → [1, 2, 1]."""
    places = {score: place for place, score in enumerate(sorted(set(scores), reverse=True), start=1)}
    return [places[score] for score in scores]


def number_of(value: Any) -> float | None:
    """A finite number, also one written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def take(rest: dict[str, Any], path: str) -> Any:
    """Take what stands at `path` out of `rest`; None if nothing does. Neighbours in an object stay.

    A dot reaches into an object, or into every object of a list: of `answers.score` a list comes back.
    """
    if path in rest:
        return rest.pop(path)
    head, dot, tail = path.partition(".")
    inner = rest.get(head)
    if not dot or not inner:
        return None
    if isinstance(inner, list) and all(isinstance(one, dict) for one in inner):
        inner = [dict(one) for one in inner]
        found: Any = [take(one, tail) for one in inner]
        if all(one is None for one in found):
            return None
        inner = inner if any(inner) else None
    elif isinstance(inner, dict):
        inner = dict(inner)
        found = take(inner, tail)
    else:
        return None
    if inner:
        rest[head] = inner
    else:
        del rest[head]
    return found


def listed(value: Any) -> Any:
    """A list or object that stands as JSON in a cell of a CSV file; anything else as it is."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return parse_json(value)
        except ValueError:
            return value
    return value


def _ends_answered(prompt: Any) -> bool:
    """A whole conversation, whose last answer is a completion."""
    last = prompt[-1] if isinstance(prompt, list) and len(prompt) > 1 else None
    return isinstance(last, dict) and last.get("role") == "assistant"


def _completions(rest: dict[str, Any], paths: tuple[str, ...], names: dict[str, str]) -> Any:
    if len(paths) == 1:
        names["completions"] = paths[0]
        found = listed(take(rest, paths[0]))
        # A single conversation is one completion; any other list is the list of all.
        is_turns = isinstance(found, list) and all(isinstance(one, dict) and "role" in one for one in found)
        if isinstance(found, list) and not is_turns:
            return found
        return [] if found is None or found == "" else [_sourced(found, paths[0])]
    completions = []
    for path in paths:
        found = take(rest, path)
        if found is not None and found != "":
            completions.append(_sourced(found, path))
            names[f"completions[{len(completions)}]"] = path
    return completions


def _sourced(value: Any, path: str) -> dict[str, Any]:
    source = path.partition(".")[0]
    if isinstance(value, dict):
        return {**value, "source": value.get("source") or value.get("model") or source}
    return {"completion": value, "source": source}


def _numbers(scores: list[Any], paths: tuple[str, ...]) -> list[float]:
    """One column with a list of scores, or a column for each; columns without one belong to completions that are missing, too."""
    if len(scores) == 1 and isinstance(listed(scores[0]), list):
        scores = listed(scores[0])
        paths = paths * len(scores)
    pairs = [(one, path) for one, path in zip(scores, paths, strict=True) if one is not None and one != ""]
    numbers = [number_of(one) for one, _path in pairs]
    for number, (_one, path) in zip(numbers, pairs, strict=True):
        if number is None:
            raise RowError(path, _("Must be a number."))
    return [number for number in numbers if number is not None]
