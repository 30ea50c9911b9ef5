"""What pages show of a report: each figure with its drawing and with the table behind it, for the eye, the ear and a file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from annotate.charts import Chart, Dot, DotChart
from annotate.drawing import Interval as Span
from annotate.models import Membership, Project, QualityReport

SHOWN_ROWS = 100
NO_BREAK = "\u00a0"
# Of p values that are corrected for looking at everybody.
LEVEL = 0.05
# As reports keep it: {"value", "low", "high", "n", "why"}; `why` says in a sentence why there is no value.
Interval = Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """One cell: `raw` goes into files, `text` onto the page, with a link to what is behind it."""

    raw: Any
    text: str
    href: str = ""


@dataclass(frozen=True)
class Column:
    code: str
    label: str | Promise
    is_number: bool = True
    is_on_page: bool = True


@dataclass(frozen=True)
class Figure:
    """A table and, where it can be drawn, its drawing."""

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    chart: Chart | None = None
    note: str = ""
    is_wide: bool = False  # drawn at its natural size, to be scrolled where that is too wide

    @property
    def shown_columns(self) -> list[Column]:
        return [column for column in self.columns if column.is_on_page]

    @property
    def lines(self) -> list[list[tuple[bool, Value]]]:
        """The first rows for a page: of each cell whether it is a number, and its value."""
        return [
            [(column.is_number, value) for column, value in zip(self.columns, row, strict=True) if column.is_on_page]
            for row in self.rows[:SHOWN_ROWS]
        ]

    @property
    def left_out(self) -> int:
        return max(0, len(self.rows) - SHOWN_ROWS)

    def table(self) -> Iterable[list[Any]]:
        """Lines of a file: the columns' codes, then the raw values."""
        yield [column.code for column in self.columns]
        yield from ([value.raw for value in row] for row in self.rows)


@dataclass(frozen=True)
class Person:
    """An annotator as the reader may know them: admins see the user name, researchers the pseudonym."""

    membership: Membership
    name: str

    @property
    def is_paused(self) -> bool:
        return self.membership.paused_at is not None


class People:
    """The project's annotators by membership id, whoever has left included."""

    def __init__(self, project: Project, *, by_name: bool) -> None:
        rows = project.memberships.select_related("user") if by_name else project.memberships.all()
        self._known = {row.pk: Person(row, row.user.username if by_name else row.pseudonym) for row in rows}
        self._by_user = {person.membership.user_id: person for person in self._known.values()}

    def __getitem__(self, membership_id: int) -> Person:
        return self._known[membership_id]

    def __contains__(self, membership_id: object) -> bool:
        return membership_id in self._known

    def of_user(self, user_id: int) -> str:
        person = self._by_user.get(user_id)
        return person.name if person else _("Somebody else")


class Links:
    """Where the numbers of one report lead. Filters, not the report, are named: a newer report takes its place."""

    def __init__(self, report: QualityReport) -> None:
        self.slug, self.filters = report.project.slug, report.filters

    def rankings(self, kind: str, annotator: int | None = None, other: int | None = None) -> str:
        chosen = {"list": kind, "annotator": annotator, "other": other}
        return self._to("quality_tasks", {name: value for name, value in chosen.items() if value is not None})

    def files(self, name: str) -> str:
        """The address of the report's files, to which `&table=…` is added."""
        return self._to(name, {"format": "csv"})

    def _to(self, name: str, chosen: Mapping[str, Any]) -> str:
        return f"{reverse(name, args=[self.slug])}?{urlencode({**self.filters, **chosen}, doseq=True)}"

    def task(self, pk: int) -> str:
        return reverse("task", args=[self.slug, pk])


def number(value: float | None, places: int = 2) -> str:
    if value is None:
        return "–"
    return str(
        number_format(round(value, places) + 0.0, decimal_pos=places, use_l10n=True, force_grouping=places == 0)
    ).replace("-", "−")


def percent(value: float | None, places: int = 0) -> str:
    if value is None:
        return "–"
    return (_("%(number)s %%") % {"number": number(value * 100, places)}).replace(" ", NO_BREAK)


def span(interval: Interval) -> Span | None:
    """Its two ends, if it has them."""
    if interval.get("low") is None or interval.get("high") is None:
        return None
    return interval["low"], interval["high"]


def with_span(interval: Interval, places: int = 2) -> str:
    """“0.71 (0.66 to 0.75)”, or why there is no value."""
    if interval.get("value") is None:
        return why(interval)
    value, ends = number(interval["value"], places), span(interval)
    if ends is None:
        return value
    return _("%(value)s (%(low)s to %(high)s)") % {
        "value": value,
        "low": number(ends[0], places),
        "high": number(ends[1], places),
    }


def why(interval: Interval) -> str:
    # The English sentence is marked where it is made.
    return _(interval["why"]) if interval.get("why") else _("There are too few rankings for it.")


def day(moment: str) -> str:
    return date_format(datetime.fromisoformat(moment), "SHORT_DATE_FORMAT")


def interval_values(interval: Interval, places: int = 2, href: str = "") -> tuple[Value, Value, Value]:
    """Cells for the value and the two ends of its interval."""
    value, low, high = (interval.get(name) for name in ("value", "low", "high"))
    shown = Value(value, number(value, places) if value is not None else why(interval), href)
    return shown, Value(low, number(low, places)), Value(high, number(high, places))


def is_sure(p: float | None) -> bool:
    return p is not None and p < LEVEL


def chance(p: float | None) -> str:
    if p is None:
        return "–"
    return f"<{NO_BREAK}{number(0.001, 3)}" if p < 0.001 else number(p, 3)


def dot_chart(
    key: str,
    title: str,
    dots: tuple[Dot, ...],
    x_name: str,
    scale: tuple[float, float] | None = None,
    marks: tuple[tuple[float, str], ...] = (),
    *,
    percent: bool = False,
) -> DotChart | None:
    """None when no row has a value."""
    known = [dot for dot in dots if dot.value is not None]
    if not known:
        return None
    if scale:
        lowest = min(dot.interval[0] if dot.interval else dot.value or 0 for dot in known)
        scale = min(scale[0], lowest), scale[1]
    said = "; ".join(f"{dot.label}: {dot.text}" for dot in dots)
    return DotChart(
        key=key, title=title, description=said, dots=dots, x_name=x_name, span=scale, marks=marks, percent=percent
    )
