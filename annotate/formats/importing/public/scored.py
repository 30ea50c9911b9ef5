"""Completions with scores, ratings or labels: UltraFeedback, HelpSteer, and TRL's unpaired and stepwise rows."""

from typing import Any

from django.utils.translation import gettext as _

from annotate.formats.importing.errors import RowError
from annotate.formats.importing.renaming import listed, number_of, ranks_of

from .common import (
    PROMPTS,
    Raw,
    answer,
    first_of,
    is_list_of,
    pair_ranks,
    parted,
    rows_of,
    turns,
)

HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
PAIR_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
)
PAIR_MODELS = (("chosen_model", "rejected_model"), ("chosen-model", "rejected-model"))
TEXTS = ("generations", "responses", "completions", "candidates")
SCORES = ("scores", "ratings", "rewards", "overall_scores")
MODELS = ("model_names", "models", "generation_models")


def fits_ultrafeedback(value: Raw) -> bool:
    given = value.get("completions")
    return is_list_of(given, dict) and all(
        "response" in one and ("annotations" in one or "overall_score" in one) for one in given or []
    )


def from_ultrafeedback(value: Raw) -> Raw:
    """`overall_score` orders the completions, the aspects' ratings are ratings. Rationales are not taken."""
    rest = dict(value)
    given = listed(rest.pop("completions", None))
    if not is_list_of(given, dict):
        raise RowError("completions", _("Must be a list of objects with response and scores."))
    given = [one for one in given if not (isinstance(one.get("response"), str) and not one["response"].strip())]
    dataset = rest.pop("source", None)
    name = first_of(rest, PROMPTS)
    made: Raw = {
        "prompt": rest.pop(name, None) if name else None,
        "completions": [
            answer(
                one.get("response"),
                one.get("model"),
                principle=one.get("principle"),
                critique=one.get("critique"),
                overall_score=one.get("overall_score"),
            )
            for one in given
        ],
    }
    rest.pop("models", None)
    if dataset:
        rest["dataset"] = dataset
    for score in ("overall_score", "fine-grained_score"):
        scores = [number_of(one.get(score)) for one in given]
        if len(given) > 1 and None not in scores:
            ratings = [_aspects(one.get("annotations")) for one in given]
            made["rankings"] = [{"ranks": ranks_of([one for one in scores if one is not None]), "ratings": ratings}]
            break
    return {**rest, **made}


def _aspects(annotations: Any) -> dict[str, int]:
    ratings = {}
    for aspect, found in annotations.items() if isinstance(annotations, dict) else ():
        rating = number_of(found.get("Rating") if isinstance(found, dict) else None)
        if rating in (1, 2, 3, 4, 5):
            ratings[str(aspect)[:60]] = int(rating)
    return ratings


def fits_scored_pair(value: Raw) -> bool:
    return (
        value.get("chosen") is not None
        and value.get("rejected") is not None
        and (
            any(number_of(value.get(better)) is not None and worse in value for better, worse in PAIR_SCORES)
            or any(set(names) <= set(value) for names in PAIR_MODELS)
        )
    )


def from_scored_pair(value: Raw) -> Raw:
    """The scores decide: a pair of equal scores is a tie. The models' names are the sources."""
    rest = dict(value)
    chosen, rejected = listed(rest.pop("chosen", None)), listed(rest.pop("rejected", None))
    if isinstance(chosen, list) and isinstance(rejected, list):
        rest["prompt"], chosen, rejected = parted(turns(chosen, "chosen"), turns(rejected, "rejected"), "rejected")
    rest.pop("messages", None)
    models: tuple[Any, Any] = (None, None)
    for better, worse in PAIR_MODELS:
        if better in rest or worse in rest:
            models = (rest.pop(better, None), rest.pop(worse, None))
    dataset = rest.pop("source", None)
    if dataset:
        rest["dataset"] = dataset
    ranks = [1, 2]
    for better, worse in PAIR_SCORES:
        scores = [number_of(rest.get(name)) for name in (better, worse)]
        if None not in scores:
            ranks = ranks_of([one for one in scores if one is not None])
            break
    if chosen == rejected and chosen is not None:
        raise RowError("rejected", _("Is the same as chosen."))
    return {
        **rest,
        "completions": [answer(chosen, models[0]), answer(rejected, models[1])],
        "rankings": [{"ranks": ranks}],
    }


def fits_scored_list(value: Raw) -> bool:
    texts, scores = first_of(value, TEXTS), first_of(value, SCORES)
    return (
        bool(texts and scores and first_of(value, PROMPTS))
        and is_list_of(value[texts], (str, dict))
        and isinstance(value[scores], list)
        and len(value[scores]) == len(value[texts])
        and all(number_of(one) is not None for one in value[scores])
    )


def from_scored_list(value: Raw) -> Raw:
    """A list of answers with a list of scores beside it: higher is better, equal is a tie."""
    rest = dict(value)
    prompt, texts, scores, models = (first_of(rest, names) for names in (PROMPTS, TEXTS, SCORES, MODELS))
    given, numbers = listed(rest.pop(texts, None)), [number_of(one) for one in rest.pop(scores, None) or []]
    if None in numbers:
        raise RowError(scores, _("Must be a list of numbers."))
    named = rest.pop(models, None) if models else None
    if isinstance(given, list) and isinstance(named, list) and len(named) == len(given):
        given = [answer(one, model) if isinstance(one, str) else one for one, model in zip(given, named, strict=True)]
    ranks = ranks_of([one for one in numbers if one is not None])
    return {**rest, "prompt": rest.pop(prompt, None), "completions": given, "rankings": [{"ranks": ranks}]}


def fits_helpsteer(value: Raw) -> bool:
    return "prompt" in value and "response" in value and sum(name in value for name in HELPSTEER) > 1


def from_helpsteer(value: Raw) -> Raw:
    """Responses to one prompt, with attributes of 0 to 4, which become ratings of 1 to 5; helpfulness orders them."""
    rows = rows_of(value)
    completions = [answer(row.pop("response", None), row.pop("model", None)) for row in rows]
    made: Raw = {"completions": completions}
    if len(rows) > 1:
        scores = [_attributes(row) for row in rows]
        made["rankings"] = [
            {
                "ranks": ranks_of([one.get("helpfulness", 0) for one in scores]),
                "ratings": [{name: round(rating) + 1 for name, rating in one.items()} for one in scores],
            }
        ]
        for row in rows:
            for name in HELPSTEER:
                row.pop(name, None)
    return {**rows[0], **made}


def _attributes(row: Raw) -> dict[str, float]:
    found = {name: number_of(row[name]) for name in HELPSTEER if row.get(name) not in (None, "")}
    for name, number in found.items():
        if number is None or not 0 <= number <= 4:
            raise RowError(name, _("Must be a number from 0 to 4."))
    if "helpfulness" not in found:
        raise RowError("helpfulness", _("Must be a number from 0 to 4."))
    return {name: number for name, number in found.items() if number is not None}


def fits_helpsteer_pair(value: Raw) -> bool:
    return any(name in value for name in ("overall_preference", "preference_strength")) and (
        {"response1", "response2"} <= set(value) or {"response_1", "response_2"} <= set(value)
    )


def from_helpsteer_pair(value: Raw) -> Raw:
    """From −3 (the first is much better) to 3. Where single annotators' preferences stand there, these are taken."""
    rest = dict(value)
    prompt = first_of(rest, ("context", "prompt"))
    asked = rest.pop(prompt, None) if prompt else None
    completions = [rest.pop(f"response{mark}{number}", None) for mark in ("", "_") for number in (1, 2)]
    singles = rest.pop("individual_preference", None)
    whole = rest.pop("overall_preference", None)
    whole = rest.pop("preference_strength", None) if whole is None else whole
    comment = rest.pop("preference_statement", None)
    given = [(whole, comment, "overall_preference")]
    if is_list_of(singles, dict):
        given = [(one.get("score"), one.get("reasoning"), "individual_preference") for one in singles]
    rankings = []
    for score, said, name in given:
        number = number_of(score)
        if number is None or abs(number) > 3:
            raise RowError(name, _("Must be a number from −3 to 3."))
        rankings.append({"ranks": pair_ranks(number), "comment": said if isinstance(said, str) else ""})
    return {
        **rest,
        "prompt": turns(asked, prompt) if isinstance(asked, list) else asked,
        "completions": [one for one in completions if one is not None],
        "rankings": rankings,
    }


def fits_unpaired(value: Raw) -> bool:
    return "prompt" in value and "completion" in value and str(value.get("label")).lower() in ("true", "false")


def from_unpaired(value: Raw) -> Raw:
    """Completions of one prompt that are each good or bad: the good ones tie before the bad ones, which tie, too."""
    rows = rows_of(value)
    if len(rows) == 1:
        return rows[0]
    labels = [_label(row.pop("label", None)) for row in rows]
    made: Raw = {"completions": [{"completion": row.pop("completion", None)} for row in rows]}
    made["rankings"] = [{"ranks": ranks_of([float(one) for one in labels])} if any(labels) else {"verdict": "all_bad"}]
    return {**rows[0], **made}


def _label(value: Any) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower())
    if known is None:
        raise RowError("label", _("Must be true or false."))
    return known


def fits_stepwise(value: Raw) -> bool:
    labels = value.get("labels")
    return (
        "prompt" in value
        and is_list_of(labels, bool)
        and is_list_of(value.get("completions"), str)
        and len(labels or []) == len(value["completions"])
    )


def from_stepwise(value: Raw) -> Raw:
    """The steps of one completion, each right or wrong; the labels stay beside the prompt."""
    rest = dict(value)
    steps = listed(rest.pop("completions", None))
    if not is_list_of(steps, str):
        raise RowError("completions", _("Must be a list of texts."))
    return {**rest, "completions": ["\n\n".join(steps)]}
