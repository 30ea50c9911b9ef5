"""What a dataset version holds, drawn from the statistics that were counted when it was built."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _

from annotate.charts import Bar, BarChart, Dot, Line, LineChart

from . import Column, Figure, Value, dot_chart, number, percent

Z = 1.959964
DRAWN_SOURCES = 20


def all_figures(statistics: Mapping[str, Any]) -> list[Figure]:
    """Those for which there are numbers; versions of before have none."""
    made = (lengths(statistics), sources(statistics), agreement(statistics), sizes(statistics), languages(statistics))
    return [figure for figure in made if figure]


def lengths(statistics: Mapping[str, Any]) -> Figure | None:
    found = statistics.get("length") or {}
    chosen, rejected = found.get("chosen") or [], found.get("rejected") or []
    if not sum(chosen) + sum(rejected):
        return None
    title = _("Length of chosen and rejected answers")
    bins = _bins(found["edges"], len(chosen))
    shares = [[count / max(sum(counts), 1) for count in counts] for counts in (chosen, rejected)]
    names = (_("chosen"), _("rejected"))
    chart = LineChart(
        key="length",
        title=title,
        description=_("Most chosen answers have %(chosen)s characters, most rejected ones %(rejected)s.")
        % {"chosen": _range(_most(bins, chosen)), "rejected": _range(_most(bins, rejected))},
        lines=tuple(
            Line(name, tuple((float(index), share) for index, share in enumerate(one)))
            for name, one in zip(names, shares, strict=True)
        ),
        ticks=tuple(
            (float(index), number(low, 0) if index % _every(len(bins)) == 0 else "")
            for index, (low, _high) in enumerate(bins)
        ),
        x_name=_("characters, from"),
        show_legend=True,
        percent=True,
        span=(0.0, max(max(one) for one in shares)),
    )
    columns = (
        Column("from", _("Characters, from")),
        Column("to", _("below")),
        Column("chosen", _("Chosen")),
        Column("rejected", _("Rejected")),
    )
    rows = tuple(
        (*_ends(one), Value(better, number(better, 0)), Value(worse, number(worse, 0)))
        for one, better, worse in zip(bins, chosen, rejected, strict=True)
    )
    note = _("Share of each. Where the chosen ones are longer, a model learns to write more, too.")
    return Figure("length", title, columns, rows, chart, note)


def sources(statistics: Mapping[str, Any]) -> Figure | None:
    """How often a source's answers won their pairs, a tie being half a win."""
    found = [one for one in statistics.get("sources") or [] if one["rankings"]]
    if not found:
        return None
    title = _("How often each source wins")
    told = []
    for one in found:
        pairs = one["wins"] + one["ties"] + one["losses"]
        share = (one["wins"] + one["ties"] / 2) / pairs if pairs else None
        # Pairs of one ranking are not independent: it is the rankings that count as evidence.
        told.append((one, share, None if share is None else wilson(share, one["rankings"])))
    told.sort(key=lambda row: -(row[1] if row[1] is not None else -1))
    dots = tuple(
        Dot(one["source"], share, span, percent(share) if share is not None else _("never compared"))
        for one, share, span in told[:DRAWN_SOURCES]
    )
    chart = dot_chart(
        "sources", title, dots, _("of its pairs, a tie being half"), (0.0, 1.0), ((0.5, percent(0.5)),), percent=True
    )
    columns = (
        Column("source", _("Source"), False),
        Column("rankings", _("Rankings")),
        Column("wins", _("Won")),
        Column("ties", _("Tied")),
        Column("losses", _("Lost")),
        Column("share", _("Share won")),
        Column("low", _("From (95 %)")),
        Column("high", _("to")),
    )
    rows = tuple(
        (
            Value(one["source"], one["source"]),
            *(Value(one[name], number(one[name], 0)) for name in ("rankings", "wins", "ties", "losses")),
            Value(share, percent(share, 1)),
            *(Value(end, percent(end, 1)) for end in (span or (None, None))),
        )
        for one, share, span in told
    )
    return Figure("sources", title, columns, rows, chart if len(told) > 1 else None)


def agreement(statistics: Mapping[str, Any]) -> Figure | None:
    found = statistics.get("agreement") or {}
    tasks = found.get("tasks") or []
    if not sum(tasks):
        return None
    title = _("Agreement within tasks")
    bins = _bins(found["edges"], len(tasks))
    chart = BarChart(
        key="agreement",
        title=title,
        description=_("Most tasks have an agreement of %(low)s to %(high)s.")
        % {"low": number(_most(bins, tasks)[0], 1), "high": number(_most(bins, tasks)[1], 1)},
        bars=tuple(Bar(number(low, 1), count) for (low, _high), count in zip(bins, tasks, strict=True)),
        x_name=_("mean τ-b of a task’s rankings, from"),
        touching=True,
    )
    columns = (Column("from", _("τ-b, from")), Column("to", _("to")), Column("tasks", _("Tasks")))
    rows = tuple((*_ends(one, 2), Value(count, number(count, 0))) for one, count in zip(bins, tasks, strict=True))
    note = _("1: everybody gave the same order; 0: as alike as chance; −1: the reverse.")
    return Figure("agreement", title, columns, rows, chart, note)


def sizes(statistics: Mapping[str, Any]) -> Figure | None:
    """How many answers the rankings order."""
    found = sorted((int(size), count) for size, count in (statistics.get("k") or {}).items())
    if not found:
        return None
    title = _("Answers in a ranking")
    chart = BarChart(
        key="sizes",
        title=title,
        description="; ".join(
            _("%(size)s answers: %(count)s") % {"size": size, "count": count} for size, count in found
        ),
        bars=tuple(Bar(str(size), count, number(count, 0)) for size, count in found),
        x_name=_("answers"),
    )
    columns = (Column("answers", _("Answers")), Column("rankings", _("Rankings")))
    rows = tuple((Value(size, str(size)), Value(count, number(count, 0))) for size, count in found)
    # A single bar says no more than its number.
    return Figure("sizes", title, columns, rows, chart if len(found) > 1 else None)


def languages(statistics: Mapping[str, Any]) -> Figure | None:
    found = statistics.get("languages") or {}
    if not found:
        return None
    columns = (Column("language", _("Language"), False), Column("rankings", _("Rankings")))
    ordered = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    rows = tuple((Value(code, code or _("not told")), Value(count, number(count, 0))) for code, count in ordered)
    return Figure("languages", _("Languages of the prompts"), columns, rows)


def wilson(share: float, n: int) -> tuple[float, float] | None:
    """The score interval of a share of `n`, at 95 % (Wilson 1927)."""
    if not n:
        return None
    middle = share + Z**2 / (2 * n)
    reach = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, (middle - reach) / (1 + Z**2 / n)), min(1.0, (middle + reach) / (1 + Z**2 / n))


def _bins(edges: Sequence[float], count: int) -> list[tuple[float, float | None]]:
    """(from, to) of each; the last is open where the edges are only beginnings."""
    ends: list[float | None] = [*edges[1:], None]
    return list(zip(edges, ends, strict=True))[:count]


def _most(bins: Sequence[tuple[float, float | None]], counts: Sequence[int]) -> tuple[float, float | None]:
    return bins[max(range(len(bins)), key=lambda index: counts[index])]


def _range(one: tuple[float, float | None]) -> str:
    low, high = one
    if high is None:
        return _("%(low)s or more") % {"low": number(low, 0)}
    return _("%(low)s to %(high)s") % {"low": number(low, 0), "high": number(high, 0)}


def _ends(one: tuple[float, float | None], places: int = 0) -> tuple[Value, Value]:
    low, high = one
    return Value(low, number(low, places)), Value(high, number(high, places) if high is not None else _("any"))


def _every(count: int) -> int:
    """Of so many names each such one fits below the axis."""
    return math.ceil(count / 8)
