"""How durations, sizes and measured figures are written."""

import math
from typing import Any

from django import template
from django.utils.translation import gettext as _

from annotate.numbers import grouped, significant
from training.recipes.arguments import METHODS

register = template.Library()


@register.filter
def duration(seconds: float | None) -> str:
    """75 → “1 min 15 s”. The two largest units; empty for None."""
    if seconds is None:
        return ""
    left = max(0, round(seconds))
    days, left = divmod(left, 86400)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    if days:
        return _("%(days)d d %(hours)d h") % {"days": days, "hours": hours}
    if hours:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": left}
    return _("%(seconds)d s") % {"seconds": left}


@register.filter
def figure(value: Any) -> str:
    """A measured number with four significant digits; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if not math.isfinite(value):
        return "–"
    return grouped(value) if isinstance(value, int) else significant(value)


@register.filter
def method_title(name: str) -> str:
    """dpo → “Direct preference optimisation”; a method that is no more keeps its name."""
    return _(METHODS[name].title) if name in METHODS else name


@register.filter
def lookup(mapping: Any, key: str) -> Any:
    """mapping[key], or None where there is no such key or no mapping."""
    return mapping.get(key) if isinstance(mapping, dict) else None
