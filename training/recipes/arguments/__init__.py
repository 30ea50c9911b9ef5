"""The arguments of each method, defined once: the form, the frozen JSON of a run and the trainer's configuration follow.

Fields bear TRL's own names. This package imports neither torch nor Django, so that the web process can read it.
"""

from dataclasses import Field, asdict, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from . import evaluation, online, preference, pretraining, sampling, supervised
from .base import Arguments, Input, InvalidArguments, Method, TrainerArguments, TrainingArguments, _
from .evaluation import EvaluateArguments
from .online import (
    GRPOArguments,
    OnlineArguments,
    OnlineDPOArguments,
    PPOArguments,
    RLOOArguments,
    RolloutArguments,
)
from .preference import DPOArguments, KTOArguments, ORPOArguments, RewardArguments
from .pretraining import PretrainArguments
from .rewards import ScoringArguments
from .sampling import GenerateArguments, RejectionSamplingArguments
from .supervised import SFTArguments

__all__ = [
    "FAMILIES",
    "METHODS",
    "PACKAGED_MODELS",
    "SMOLLM2",
    "Arguments",
    "DPOArguments",
    "EvaluateArguments",
    "GRPOArguments",
    "GenerateArguments",
    "Input",
    "InvalidArguments",
    "KTOArguments",
    "Method",
    "ORPOArguments",
    "OnlineArguments",
    "OnlineDPOArguments",
    "PPOArguments",
    "PretrainArguments",
    "RLOOArguments",
    "RejectionSamplingArguments",
    "RewardArguments",
    "RolloutArguments",
    "SFTArguments",
    "ScoringArguments",
    "TrainerArguments",
    "TrainingArguments",
    "parse_arguments",
    "to_json",
]

SMOLLM2 = "smollm2-135m-instruct"
# Models that come from PyPI inside a package: the name in `pypi:NAME`, and what people read.
PACKAGED_MODELS = {SMOLLM2: _("SmolLM2-135M-Instruct (Apache-2.0, about 540 MB once unpacked)")}

# The methods in the order in which people choose among them.
FAMILIES: dict[str, tuple[Method, ...]] = {
    _("Learn from texts"): (*pretraining.METHODS, *supervised.METHODS),
    _("Learn from rankings"): preference.METHODS,
    _("Learn from rewards"): online.METHODS,
    _("Write and measure"): (*sampling.METHODS, *evaluation.METHODS),
}
METHODS = {method.name: method for family in FAMILIES.values() for method in family}


def parse_arguments(method: str, values: dict[str, Any]) -> Arguments:
    """The method's arguments with `values` over their defaults. Raises InvalidArguments, naming each wrong field."""
    cls = METHODS[method].arguments
    hints, known = get_type_hints(cls), {item.name: item for item in fields(cls)}
    errors = {name: "unknown argument" for name in values if name not in known}
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if name in known:
            try:
                parsed[name] = _parse_value(hints[name], known[name], value)
            except ValueError as error:
                errors[name] = str(error)
    if errors:
        raise InvalidArguments(errors)
    made: Arguments = cls(**parsed)
    made.check()
    return made


def _parse_value(hint: Any, item: "Field[Any]", value: Any) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"must be one of {', '.join(get_args(hint))}")
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value
    minimum, maximum = item.metadata["minimum"], item.metadata["maximum"]
    if hint is str:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError("must be a text")
        if maximum is not None and len(value) > maximum:
            raise ValueError(f"must have at most {maximum:g} characters")
        return value
    if get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise ValueError("must map names to numbers")
        return {str(name): _parse_number(float, one, minimum, maximum, f"{name} ") for name, one in value.items()}
    return _parse_number(hint, value, minimum, maximum)


def _parse_number(kind: Any, value: Any, minimum: float | None, maximum: float | None, name: str = "") -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):
        raise ValueError(f"{name}must be a number")
    if kind is int and value != int(value):
        raise ValueError(f"{name}must be a whole number")
    if minimum is not None and value < minimum:
        raise ValueError(f"{name}must be at least {minimum:g}")
    if maximum is not None and value > maximum:
        raise ValueError(f"{name}must be at most {maximum:g}")
    return kind(value)


def to_json(arguments: Arguments) -> dict[str, Any]:
    return asdict(arguments)
