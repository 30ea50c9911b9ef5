"""What the parts of the page share: a section, an interval in words, and cells."""

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from annotate.figures import Column, Figure, Interval, Value, number, percent, span, why

FEW_PROMPTS = 30
CHANCE = 0.5

FROM_TO = (Column("low", gettext_lazy("From (95 %)")), Column("high", gettext_lazy("to")))
PROMPTS = Column("prompts", gettext_lazy("Prompts"))


@dataclass(frozen=True)
class Section:
    """One thing that was measured: sentences that say what came out, then the figures."""

    title: str
    says: list[str]
    figures: list[Figure]


def spanned(interval: Interval) -> str:
    """“61 % (52 % to 70 %)”."""
    ends = span(interval)
    if ends is None:
        return percent(interval["value"])
    values = {"value": percent(interval["value"]), "low": percent(ends[0]), "high": percent(ends[1])}
    return _("%(value)s (%(low)s to %(high)s)") % values


def few(prompts: int) -> list[str]:
    """A warning where there is too little to go by."""
    if prompts >= FEW_PROMPTS:
        return []
    said = ngettext(
        "With %(count)s prompt this is a first look, no more: the interval says how little is known.",
        "With %(count)s prompts this is a first look, no more: the interval says how little is known.",
        prompts,
    )
    return [said % {"count": number(prompts, 0)}]


def cells(interval: Interval | None) -> tuple[Value, Value, Value]:
    ends = ("value", "low", "high")
    values = [interval[end] if interval else None for end in ends]
    shown = why(interval) if interval and interval["value"] is None else percent(values[0], 1)
    return Value(values[0], shown), *(Value(value, percent(value, 1)) for value in values[1:])  # type: ignore[return-value]


def count(value: int) -> Value:
    return Value(value, number(value, 0))
