"""What more samples per prompt bring: accuracy, or the best score, against tokens."""

import math
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.charts import Line, LineChart
from annotate.figures import Column, Figure, Value, number, percent, span

from .words import FROM_TO, PROMPTS, Section, cells, count, few, spanned

# Lines that share their places stand this far apart, so that each interval can be read; the axis is a binary logarithm.
APART = 0.05
WAYS = {
    "best": gettext_lazy("Best by score"),
    "majority": gettext_lazy("Majority"),
    "any": gettext_lazy("Any is right"),
}


def spending(evaluation: Mapping[str, Any]) -> Section | None:
    found = evaluation.get("spending")
    if not found:
        return None
    points = found["points"]
    last = points[-1]
    says = []
    for way in ("best", "majority"):
        if last[way]:
            said = {
                "best": _(
                    "The best of %(n)s by the reward model is right for %(last)s, a single sample for %(first)s."
                ),
                "majority": _("The majority of %(n)s is right for %(last)s, a single sample for %(first)s."),
            }[way]
            values = {"n": number(last["n"], 0), "last": spanned(last[way]), "first": percent(points[0][way]["value"])}
            says.append(said % values)
    if last["best"] and last["best"]["high"] is not None:
        peak = max(points, key=lambda one: float(one["best"]["value"]))
        if last["best"]["high"] < peak["best"]["value"]:
            said = _("It peaks at %(n)s: beyond that the reward model prefers answers that are wrong.")
            says.append(said % {"n": number(peak["n"], 0)})
    if last["any"]:
        says.append(_("“Any is right” is what a choice that never errs would reach."))
        says += few(found["prompts"])
    made = [_accuracy_by_tokens(found, evaluation), _reward_by_tokens(points)]
    return Section(_("What more samples bring"), says, [figure for figure in made if figure])


def _accuracy_by_tokens(found: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Figure | None:
    points = found["points"]
    ways = [way for way in WAYS if points[0][way]]
    if not ways:
        return None
    title = _("Right answers against tokens spent")
    greedy = (evaluation["answers"].get("policy") or {}).get("accuracy")
    lines = tuple(
        Line(
            str(WAYS[way]),
            tuple((_place(one) + APART * at, one[way]["value"]) for one in points),
            tuple(span(one[way]) for one in points),
        )
        for at, way in enumerate(ways)
    )
    chart = LineChart(
        key="spending",
        title=title,
        description=" ".join(
            _("%(way)s: %(first)s with one sample, %(last)s with %(n)s.")
            % {
                "way": WAYS[way],
                "first": spanned(points[0][way]),
                "last": spanned(points[-1][way]),
                "n": number(points[-1]["n"], 0),
            }
            for way in ways
        ),
        lines=lines,
        x_name=_("tokens written per prompt; each step is twice as many samples"),
        ticks=tuple((_place(one), number(one["tokens"], 0)) for one in points),
        marks=((greedy["value"], _("greedy")),) if greedy else (),
        percent=True,
        show_legend=True,
    )
    columns = (
        Column("n", _("Samples")),
        Column("tokens", _("Tokens")),
        *(column for way in ways for column in (Column(way, WAYS[way]), *_ends(way))),
    )
    table = tuple(
        (
            count(one["n"]),
            Value(one["tokens"], number(one["tokens"], 0)),
            *(cell for way in ways for cell in cells(one[way])),
        )
        for one in points
    )
    note = _(
        "The samples are drawn once; the figure for n is the mean over all choices of n of them. Intervals are over prompts. "
        "Scoring is not counted as tokens."
    )
    return Figure("spending", title, columns, table, chart, note)


def _reward_by_tokens(points: list[Mapping[str, Any]]) -> Figure | None:
    if not points[0]["reward"]:
        return None
    title = _("Best score against tokens spent")
    line = Line(
        _("Best of n"),
        tuple((_place(one), one["reward"]["value"]) for one in points),
        tuple(span(one["reward"]) for one in points),
    )
    first, last = points[0], points[-1]
    chart = LineChart(
        key="reward",
        title=title,
        description=_("From %(first)s with one sample to %(last)s with %(n)s.")
        % {
            "first": number(first["reward"]["value"]),
            "last": number(last["reward"]["value"]),
            "n": number(last["n"], 0),
        },
        lines=(line,),
        x_name=_("tokens written per prompt; each step is twice as many samples"),
        ticks=tuple((_place(one), number(one["tokens"], 0)) for one in points),
    )
    columns = (
        Column("n", _("Samples")),
        Column("tokens", _("Tokens")),
        Column("reward", _("Best score")),
        *FROM_TO,
        PROMPTS,
    )
    table = tuple(
        (
            count(one["n"]),
            Value(one["tokens"], number(one["tokens"], 0)),
            *(Value(one["reward"][end], number(one["reward"][end])) for end in ("value", "low", "high")),
            count(one["reward"]["n"]),
        )
        for one in points
    )
    note = _(
        "The score of the sample that the reward model likes best. It always rises; whether the answers get better is for people to say."
    )
    return Figure("reward", title, columns, table, chart, note)


def _place(point: Mapping[str, Any]) -> float:
    return math.log2(max(point["tokens"], 1))


def _ends(way: str) -> tuple[Column, Column]:
    return Column(f"{way}_low", FROM_TO[0].label), Column(f"{way}_high", FROM_TO[1].label)
