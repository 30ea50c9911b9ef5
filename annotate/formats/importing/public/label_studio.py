"""Exports of Label Studio: JSON with all annotations of a task, and JSON-MIN with one annotation a row; pairwise and ranker."""

from typing import Any

from django.utils.translation import gettext as _

from annotate.formats.importing.errors import RowError
from annotate.formats.importing.renaming import listed

from .common import PROMPTS, Raw, answer, first_of, is_list_of, turns

PAIRS = (
    ("answer1", "answer2"),
    ("answer_1", "answer_2"),
    ("response1", "response2"),
    ("response_1", "response_2"),
    ("response_a", "response_b"),
    ("completion1", "completion2"),
    ("completion_1", "completion_2"),
    ("text1", "text2"),
    ("left", "right"),
)
SIDES = ("left", "right")
NONE = ("none", "equal", "tie", "both", "neither")
# What JSON-MIN says of an annotation, beside the task's own data.
MINIMAL = ("annotation_id", "annotator", "created_at", "updated_at", "lead_time")
ITEM_TEXTS = ("body", "text", "html", "title", "value")


def fits_label_studio(value: Raw) -> bool:
    if "annotation_id" in value and "annotator" in value:
        return any(_is_choice(one) or _order(one) for one in value.values())
    return isinstance(value.get("data"), dict) and any(
        one.get("type") in ("pairwise", "ranker")
        for annotation in value.get("annotations") or value.get("completions") or []
        if isinstance(annotation, dict)
        for one in annotation.get("result") or []
        if isinstance(one, dict)
    )


def from_label_studio(value: Raw) -> Raw:
    """Each annotation is a ranking; skipped ones are none. Ranks of a ranker are its list's order; buckets are places, in their order."""
    if isinstance(value.get("data"), dict):
        data = dict(value["data"])
        given = value.get("annotations") or value.get("completions") or []
        chosen = [one for one in map(_full, given) if one]
    else:
        data, one = _minimal(value)
        chosen = [one] if one else []
    prompt = first_of(data, PROMPTS)
    said = data.pop(prompt, None) if prompt else None
    items = next((name for name, one in data.items() if is_list_of(listed(one), dict) and _ids(listed(one))), "")
    if items and not any(one.get("selected") for one in chosen):
        listing = listed(data.pop(items))
        completions = [answer(_text_of(one), one.get("model")) for one in listing]
        rankings: list[Raw | None] = [_ranked(one, _ids(listing)) for one in chosen]
    else:
        names = _sides(data)
        completions = [data.pop(name) for name in names]
        rankings = [_compared(one) for one in chosen]
    return {
        "metadata": data,
        "prompt": turns(said, prompt) if isinstance(said, list) else said,
        "completions": completions,
        "rankings": [one for one in rankings if one],
    }


def _full(annotation: Any) -> Raw | None:
    """What an annotation says: who, when, how long, and `selected`, `order` or `comment` as far as there."""
    if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
        return None
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    said: Raw = {
        "annotator": who,
        "ranking": annotation.get("unique_id") or annotation.get("id"),
        "seconds": annotation.get("lead_time"),
        "created": annotation.get("created_at"),
    }
    for one in annotation.get("result") or []:
        value = one.get("value") if isinstance(one, dict) else None
        if not isinstance(value, dict):
            continue
        if one.get("type") == "pairwise":
            said["selected"] = value.get("selected")
        elif one.get("type") == "ranker":
            said["order"] = value.get("ranker")
        elif one.get("type") == "textarea" and is_list_of(value.get("text"), str):
            said["comment"] = "\n\n".join([*filter(None, [said.get("comment")]), *value["text"]])
    return said if said.get("selected") or said.get("order") else None


def _minimal(value: Raw) -> tuple[Raw, Raw | None]:
    data = dict(value)
    about = {name: data.pop(name, None) for name in MINIMAL}
    said: Raw = {
        "annotator": about["annotator"],
        "ranking": about["annotation_id"],
        "seconds": about["lead_time"],
        "created": about["created_at"],
    }
    if isinstance(said["annotator"], dict):
        said["annotator"] = said["annotator"].get("email") or said["annotator"].get("id")
    for name, one in list(data.items()):
        if _is_choice(one):
            said["selected"] = one["selected"] if isinstance(one, dict) else one
            del data[name]
        elif _order(one):
            said["order"] = _order(one)
            del data[name]
    return data, said if said.get("selected") or said.get("order") else None


def _is_choice(value: Any) -> bool:
    side = value.get("selected") if isinstance(value, dict) else value
    return isinstance(side, str) and side in SIDES


def _order(value: Any) -> Any:
    """A ranker's answer in JSON-MIN: ids in order, or buckets of ids."""
    value = listed(value)
    if isinstance(value, dict) and "ranker" in value:
        return value["ranker"]
    if isinstance(value, dict) and value and all(isinstance(one, list) for one in value.values()):
        return value
    return value if is_list_of(value, (str, int)) else None


def _sides(data: Raw) -> tuple[str, ...]:
    for names in PAIRS:
        if all(name in data for name in names):
            return names
    texts = tuple(name for name, one in data.items() if isinstance(one, str))
    if len(texts) != 2:
        raise RowError("data", _("The two texts that were compared could not be told from the other columns."))
    return texts


def _compared(said: Raw) -> Raw | None:
    side = str(said.pop("selected", "")).lower()
    ranks = {"left": [1, 2], "right": [2, 1], **{name: [1, 1] for name in NONE}}.get(side)
    if ranks is None:
        return None
    return {**said, "ranks": ranks}


def _ids(items: list[Raw]) -> list[str]:
    return [str(one["id"]) for one in items] if all("id" in one for one in items) else []


def _text_of(item: Raw) -> Any:
    return next((item[name] for name in ITEM_TEXTS if item.get(name)), None)


def _ranked(said: Raw, ids: list[str]) -> Raw:
    """Items that a bucket ranking leaves out share the last place."""
    order = said.pop("order", None)
    buckets = list(order.values()) if isinstance(order, dict) else order
    if not isinstance(buckets, list):
        raise RowError("annotations", _("The ranking must be a list of ids."))
    if isinstance(order, dict) and len(buckets) == 1:
        # A ranker without buckets has one list under its own name.
        buckets = buckets[0]
    places: dict[str, int] = {}
    for place, bucket in enumerate(buckets, start=1):
        for one in bucket if isinstance(bucket, list) else [bucket]:
            places.setdefault(str(one), place)
    return {**said, "ranks": [places.get(one, len(buckets) + 1) for one in ids]}
