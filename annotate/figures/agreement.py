"""How well people agree: over all, over time, by criterion, two by two, and on which tasks least."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from annotate.charts import Cell, Dot, Line, LineChart, MatrixChart

from . import (
    Column,
    Figure,
    Interval,
    Links,
    People,
    Value,
    day,
    dot_chart,
    interval_values,
    number,
    span,
    why,
    with_span,
)

# Krippendorff, Content Analysis (2004), p. 241: rely on 0.8 and more, draw tentative conclusions from 0.667 on.
RELIABLE, TENTATIVE = 0.8, 0.667
MATRIX_PEOPLE = 30


def verdict(alpha: Interval) -> str:
    """What the project's α means, by its author's convention."""
    if alpha.get("value") is None:
        return why(alpha)
    if alpha["value"] >= RELIABLE:
        said = _("People agree well. By Krippendorff’s convention, conclusions may rest on 0.8 and more.")
    elif alpha["value"] >= TENTATIVE:
        said = _("By Krippendorff’s convention, 0.667 to 0.8 is enough for tentative conclusions.")
    else:
        said = _(
            "By Krippendorff’s convention, nothing should rest on less than 0.667. It was made for facts; where tastes differ, less is usual."
        )
    ends = span(alpha)
    if ends and any(ends[0] < level <= ends[1] for level in (RELIABLE, TENTATIVE)):
        said += " " + _("The interval reaches across a threshold: more rankings would tell.")
    return said


def over_time(results: Mapping[str, Any]) -> Figure | None:
    periods = results["alpha_over_time"]
    if len(periods) < 2:
        return None
    measured = [(index, one) for index, one in enumerate(periods) if one["value"] is not None]
    columns = (
        Column("from", _("From"), False),
        Column("to", _("To"), False),
        Column("alpha", _("α")),
        Column("low", _("From (95 %)")),
        Column("high", _("to")),
        Column("n", _("Tasks")),
    )
    rows = tuple(
        (
            Value(one["from"], day(one["from"])),
            Value(one["to"], day(one["to"])),
            *interval_values(one),
            Value(one["n"], number(one["n"], 0)),
        )
        for one in periods
    )
    title = _("Agreement over time")
    if len(measured) < 2:
        return Figure("agreement", title, columns, rows)
    every = -(-len(periods) // 5)
    ticks = tuple((float(index), _short_day(one["from"])) for index, one in enumerate(periods) if index % every == 0)
    lows = [(span(one) or (one["value"], 0))[0] for _index, one in measured]
    first, last = measured[0][1], measured[-1][1]
    chart = LineChart(
        key="agreement",
        title=title,
        description=_("α was %(first)s from %(start)s on, and %(last)s from %(end)s on.")
        % {
            "first": with_span(first),
            "start": day(first["from"]),
            "last": with_span(last),
            "end": day(last["from"]),
        },
        lines=(
            Line(
                _("α"),
                tuple((float(index), one["value"]) for index, one in measured),
                tuple(span(one) for _index, one in measured),
            ),
        ),
        ticks=ticks,
        marks=((RELIABLE, number(RELIABLE, 1)), (TENTATIVE, number(TENTATIVE, 3))),
        span=(min(0.0, *lows), 1.0),
    )
    return Figure("agreement", title, columns, rows, chart)


def _short_day(moment: str) -> str:
    return date_format(datetime.fromisoformat(moment), "MONTH_DAY_FORMAT")


def criteria(results: Mapping[str, Any]) -> Figure | None:
    found = results["criteria"]
    if not found:
        return None
    title = _("Agreement by criterion")
    rows = tuple(
        (Value(one["criterion"], one["criterion"]), *interval_values(one), Value(one["n"], number(one["n"], 0)))
        for one in found
    )
    dots = tuple(
        Dot(one["criterion"], one["value"], span(one), number(one["value"]) if one["value"] is not None else why(one))
        for one in found
    )
    return Figure(
        "criteria",
        title,
        (
            Column("criterion", _("Criterion"), False),
            Column("alpha", _("α")),
            Column("low", _("From (95 %)")),
            Column("high", _("to")),
            Column("n", _("Tasks")),
        ),
        rows,
        dot_chart("criteria", title, dots, _("α of the ratings"), (0.0, 1.0)),
    )


def pairs(results: Mapping[str, Any], people: People, links: Links) -> Figure | None:
    """Everybody with everybody; the file holds all pairs, the page the lowest where there are many."""
    found = [one for one in results["pairs"] if one["a"] in people and one["b"] in people]
    if not found:
        return None
    found.sort(key=lambda one: (one["value"] is None, one["value"] or 0))
    rows = tuple(
        (
            Value(people[one["a"]].name, people[one["a"]].name),
            Value(people[one["b"]].name, people[one["b"]].name),
            Value(one["tasks"], number(one["tasks"], 0), links.rankings("pair", one["a"], one["b"])),
            *interval_values(one),
        )
        for one in found
    )
    columns = (
        Column("a", _("Annotator"), False),
        Column("b", _("and"), False),
        Column("tasks", _("Tasks both ranked")),
        Column("tau", _("τ-b")),
        Column("low", _("From (95 %)")),
        Column("high", _("to")),
    )
    title = _("Agreement of each two people")
    members = sorted({pk for one in found for pk in (one["a"], one["b"])}, key=lambda pk: people[pk].name.casefold())
    if len(members) > MATRIX_PEOPLE:
        return Figure("pairs", title, columns, rows)
    place = {pk: index for index, pk in enumerate(members)}
    grid: list[list[Cell | None]] = [[None] * len(members) for _member in members]
    for one in found:
        value = one["value"]
        cell = Cell(value, number(value) if value is not None else "–")
        a, b = place[one["a"]], place[one["b"]]
        grid[a][b] = grid[b][a] = cell
    known = [one for one in found if one["value"] is not None]
    description = _("No two people have ranked enough tasks together.")
    if known:
        description = _("Lowest: %(a)s and %(b)s, %(low)s. Highest: %(c)s and %(d)s, %(high)s.") % {
            "a": people[known[0]["a"]].name,
            "b": people[known[0]["b"]].name,
            "low": number(known[0]["value"]),
            "c": people[known[-1]["a"]].name,
            "d": people[known[-1]["b"]].name,
            "high": number(known[-1]["value"]),
        }
    chart = MatrixChart(
        key="pairs",
        title=title,
        description=description,
        names=tuple(people[pk].name for pk in members),
        cells=tuple(map(tuple, grid)),
    )
    return Figure("pairs", title, columns, rows, chart, is_wide=True)


def disagreement(results: Mapping[str, Any], prompts: Mapping[int, str], links: Links) -> Figure | None:
    """`prompts`: how the prompt of each task begins."""
    found = [one for one in results["disagreement"] if one["task"] in prompts]
    if not found:
        return None
    columns = (
        Column("prompt", _("Prompt"), False),
        Column("agreement", _("Mean τ-b")),
        Column("task", _("Task"), is_on_page=False),
    )
    rows = tuple(
        (
            Value(prompts[one["task"]], prompts[one["task"]], links.task(one["task"])),
            Value(one["agreement"], number(one["agreement"])),
            Value(one["task"], str(one["task"])),
        )
        for one in found
    )
    return Figure("disagreement", _("Tasks people disagree on"), columns, rows)


def alpha_text(alpha: Interval) -> dict[str, str]:
    ends = span(alpha)
    interval = _("%(low)s to %(high)s") % {"low": number(ends[0]), "high": number(ends[1])} if ends else ""
    return {"text": number(alpha["value"]), "interval": interval}
