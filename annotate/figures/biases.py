"""What a ranking should not depend on: where an answer stood, how long it is, how fast it went, always the same order."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from annotate.charts import Bar, BarChart, Dot

from . import Column, Figure, Value, chance, dot_chart, is_sure, number, percent, span, why
from .annotators import Annotator

DRAWN_PEOPLE = 30


def position(results: Mapping[str, Any]) -> Figure | None:
    found = [one for one in results["position"] if one["share"] is not None]
    if not found:
        return None
    title = _("How often each letter is on top")
    test = results["position_test"]
    note = ""
    if is_sure(test["p"]):
        note = _("More unlike than chance makes them (χ² %(statistic)s, p %(p)s): where an answer stands matters.")
    elif test["p"] is not None:
        note = _("No more unlike than chance makes them (χ² %(statistic)s, p %(p)s).")
    if note:
        note %= {"statistic": number(test["chi2"], 1), "p": chance(test["p"])}
    bars = tuple(
        Bar(one["letter"], one["share"], percent(one["share"]), one["expected_share"], span(one)) for one in found
    )
    chart = BarChart(
        key="position",
        title=title,
        description=" ".join(
            _("%(letter)s: %(share)s, by chance %(expected)s.")
            % {"letter": bar.label, "share": bar.text, "expected": percent(bar.expected)}
            for bar in bars
        ),
        bars=bars,
        x_name=_("letter under which the answer was shown"),
        expected_name=_("by chance"),
        percent=True,
    )
    columns = (
        Column("letter", _("Letter"), False),
        Column("shown", _("Shown")),
        Column("on_top", _("On top")),
        Column("share", _("Share")),
        Column("low", _("From (95 %)")),
        Column("high", _("to")),
        Column("expected", _("By chance")),
    )
    rows = tuple(
        (
            Value(one["letter"], one["letter"]),
            Value(one["n"], number(one["n"], 0)),
            Value(one["wins"], number(one["wins"], 0)),
            Value(one["share"], percent(one["share"], 1)),
            Value(one["low"], percent(one["low"], 1)),
            Value(one["high"], percent(one["high"], 1)),
            Value(one["expected_share"], percent(one["expected_share"], 1)),
        )
        for one in found
    )
    return Figure("position", title, columns, rows, chart, note)


def length(results: Mapping[str, Any], rows: list[Annotator]) -> Figure | None:
    whole = results["length"]["longer_won"]
    if whole["value"] is None:
        return None
    title = _("How often the longer answer wins")
    shares = [(row.person.name, row.found["length"]["longer_won"]) for row in rows]
    shares.sort(key=lambda pair: -(pair[1]["value"] if pair[1]["value"] is not None else -1))
    named = [(_("Everybody"), whole), *shares]
    dots = tuple(
        Dot(name, one["value"], span(one), percent(one["value"]) if one["value"] is not None else why(one))
        for name, one in named[: DRAWN_PEOPLE + 1]
    )
    columns = (
        Column("annotator", _("Annotator"), False),
        Column("share", _("Longer answer won")),
        Column("low", _("From (95 %)")),
        Column("high", _("to")),
        Column("tasks", _("Tasks")),
    )
    table = tuple(
        (
            Value(name, name),
            *(Value(one[end], percent(one[end], 1)) for end in ("value", "low", "high")),
            Value(one["n"], number(one["n"], 0)),
        )
        for name, one in named
    )
    note = _("Long answers may be better ones: compare people with each other rather than with one half.")
    chart = dot_chart(
        "length", title, dots, _("of pairs of different length"), (0.0, 1.0), ((0.5, percent(0.5)),), percent=True
    )
    return Figure("length", title, columns, table, chart, note)


def pace(results: Mapping[str, Any]) -> Figure | None:
    whole = results["pace"]
    bins = whole.get("histogram") or []
    if not bins:
        return None
    title = _("Pace")
    limit = whole["threshold"]
    values = {"share": percent(whole["too_fast_share"], 1), "limit": number(limit, 0)}
    note = _("No ranking came faster than %(limit)s words a minute, which nobody reads.") % values
    if whole["too_fast"]:
        note = _("%(share)s of the rankings came faster than %(limit)s words a minute, which nobody reads.") % values
    columns = (
        Column("from", _("Words a minute, from")),
        Column("to", _("below")),
        Column("rankings", _("Rankings")),
    )
    rows = tuple(
        (
            Value(one["from"], number(one["from"], 0)),
            Value(one["to"], number(one["to"], 0) if one["to"] else _("any")),
            Value(one["count"], number(one["count"], 0)),
        )
        for one in bins
    )
    most = max(bins, key=lambda one: one["count"])
    chart = BarChart(
        key="pace",
        title=title,
        description=note
        + " "
        + _("Most come at %(low)s to %(high)s words a minute.")
        % {"low": number(most["from"], 0), "high": number(most["to"], 0) if most["to"] else _("any")},
        bars=tuple(Bar(number(one["from"], 0), one["count"]) for one in bins),
        x_name=_("words shown per minute"),
        touching=True,
        mark=(sum(one["from"] < limit for one in bins), _("faster than anybody reads")),
    )
    return Figure("pace", title, columns, rows, chart, note)


def straight_lining(results: Mapping[str, Any], rows: list[Annotator]) -> Figure | None:
    whole = results["straight_lining"]
    if whole["share"] is None:
        return None
    title = _("Answers left in the order shown")
    note = _("%(share)s of the rankings put A first, then B and so on; chance would be %(expected)s (p %(p)s).") % {
        "share": percent(whole["share"], 1),
        "expected": percent(whole["expected"], 1),
        "p": chance(whole["p"]),
    }
    told = [row for row in rows if row.found["straight"]["share"] is not None]
    told.sort(key=lambda row: -row.found["straight"]["share"])
    dots = tuple(
        Dot(row.person.name, one["share"], None, percent(one["share"]), one["expected"])
        for row in told[:DRAWN_PEOPLE]
        for one in (row.found["straight"],)
    )
    columns = (
        Column("annotator", _("Annotator"), False),
        Column("same_order", _("As shown")),
        Column("same_order_expected", _("By chance")),
        Column("same_order_p", _("p")),
        Column("common_order", _("Most common order"), False),
        Column("common_share", _("Share")),
    )
    table = tuple(
        (
            Value(row.person.name, row.person.name),
            *(row.cells[column.code] for column in columns[1:4]),
            Value(one["common_order"], one["common_order"] or "–"),
            Value(one["common_share"], percent(one["common_share"])),
        )
        for row in told
        for one in (row.found["straight"],)
    )
    highest = max(0.2, *(dot.value or 0 for dot in dots))
    chart = dot_chart("straight", title, dots, _("of the rankings; dashed: by chance"), (0.0, highest), percent=True)
    return Figure("straight", title, columns, table, chart, note)
