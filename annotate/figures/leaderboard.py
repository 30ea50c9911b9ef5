"""The figures of a leaderboard: sources by strength, and who won against whom how often."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from annotate.charts import Cell, Dot, DotChart, MatrixChart

from . import Column, Figure, Value, number, percent, span, why


def standings(results: Mapping[str, Any]) -> Figure | None:
    """Sources best first, each with its rating and the ranks that its interval leaves open."""
    found = results.get("sources") or []
    if not found:
        return None
    title = _("Rating")
    rows = tuple(
        (
            Value(rank_text(one), rank_text(one)),
            Value(one["name"], one["name"]),
            *(Value(one["rating"][end], number(one["rating"][end], 0)) for end in ("value", "low", "high")),
            Value(one["wins"], number(one["wins"], 0)),
            Value(one["losses"], number(one["losses"], 0)),
            Value(one["ties"], number(one["ties"], 0)),
            Value(one["tasks"], number(one["tasks"], 0)),
        )
        for one in found
    )
    columns = (
        Column("rank", pgettext("place", "Rank"), False),
        Column("source", _("Source"), False),
        Column("rating", _("Rating")),
        Column("rating_low", _("From (95 %)")),
        Column("rating_high", _("to")),
        Column("wins", _("Won")),
        Column("losses", _("Lost")),
        Column("ties", _("Tied")),
        Column("tasks", _("Tasks")),
    )
    dots = tuple(
        Dot(
            one["name"],
            one["rating"]["value"],
            span(one["rating"]),
            number(one["rating"]["value"], 0) if one["rating"]["value"] is not None else why(one["rating"]),
        )
        for one in found
    )
    chart = None
    if any(dot.value is not None for dot in dots):
        chart = DotChart(
            key="standings",
            title=title,
            description="; ".join(
                _("%(rank)s: %(name)s, %(rating)s") % {"rank": rank_text(one), "name": dot.label, "rating": dot.text}
                for one, dot in zip(found, dots, strict=True)
            ),
            dots=dots,
            x_name=_("rating, 1000 is the middle"),
        )
    return Figure("standings", title, columns, rows, chart)


def rank_text(one: Mapping[str, Any]) -> str:
    """“2”, or “2–4” where the intervals overlap."""
    low, high = one.get("rank_low"), one.get("rank_high")
    if low is None or high is None:
        return "–"
    return str(low) if low == high else f"{low}–{high}"


def win_matrix(results: Mapping[str, Any]) -> Figure | None:
    """How often the row won against the column; ties count half."""
    found, matrix = results.get("sources") or [], results.get("matrix") or []
    if len(found) < 2 or not matrix:
        return None
    names = [one["name"] for one in found]
    rows = []
    cells: list[tuple[Cell | None, ...]] = []
    for row, name in enumerate(names):
        line: list[Cell | None] = []
        for column, other in enumerate(names):
            one = matrix[row][column]
            if row == column or not one:
                line.append(None)
                continue
            share = (one["wins"] + one["ties"] / 2) / one["n"] if one["n"] else None
            counts = f"{number(one['wins'], 0)} / {number(one['n'], 0)}"
            line.append(Cell(share, percent(share), counts) if share is not None else Cell(None, "–"))
            rows.append(
                (
                    Value(name, name),
                    Value(other, other),
                    Value(one["wins"], number(one["wins"], 0)),
                    Value(one["ties"], number(one["ties"], 0)),
                    Value(one["n"] - one["wins"] - one["ties"], number(one["n"] - one["wins"] - one["ties"], 0)),
                    Value(share, percent(share)),
                )
            )
        cells.append(tuple(line))
    title = _("Who won against whom")
    note = _("Share of comparisons that the row won, a tie being half a win; below it wins and comparisons.")
    chart = MatrixChart(
        key="matrix",
        title=title,
        description=_("How often the row was ranked above the column. The table below has every pair."),
        names=tuple(names),
        cells=tuple(cells),
        cell=64,
    )
    columns = (
        Column("source", _("Source"), False),
        Column("other", _("against"), False),
        Column("wins", _("Won")),
        Column("ties", _("Tied")),
        Column("losses", _("Lost")),
        Column("share", _("Share won")),
    )
    return Figure("matrix", title, columns, tuple(rows), chart, note, is_wide=True)


def unconnected(results: Mapping[str, Any]) -> list[list[str]]:
    """The names of each group of sources that was never compared with the others; [] when all are connected."""
    if results.get("connected", True):
        return []
    names = {one["source"]: one["name"] for one in results.get("sources") or []}
    return [[names[pk] for pk in group if pk in names] for group in results.get("components") or []]


def all_figures(results: Mapping[str, Any]) -> list[Figure]:
    return [figure for figure in (standings(results), win_matrix(results)) if figure]


def in_words(results: Mapping[str, Any]) -> list[str]:
    """What the ratings allow to say, and what not."""
    found = [one for one in results["sources"] if one["rating"]["value"] is not None]
    if len(found) < 2:
        return []
    best = found[0]
    if best["rank_high"] == 1:
        said = [_("%(name)s is best, beyond chance.") % {"name": best["name"]}]
    else:
        rivals = [one["name"] for one in found if one["rank_low"] == 1]
        said = [_("The best cannot be told yet: it may be %(names)s.") % {"names": _list(rivals)}]
    for one in found:
        if one["unbounded"] == "above":
            said.append(_("%(name)s won every comparison: it may be better still.") % {"name": one["name"]})
        elif one["unbounded"] == "below":
            said.append(_("%(name)s lost every comparison: it may be worse still.") % {"name": one["name"]})
    said.append(
        _(
            "“Rank” says where a source may stand, given how far chance moves it: 95 of 100 resampled sets of tasks put it there."
        )
    )
    return said


def _list(names: list[str]) -> str:
    return ", ".join(names[:-1]) + _(" or ") + names[-1] if len(names) > 1 else names[0]
