"""The reward model against people: how often it agrees with them, and whether its probabilities can be believed."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from annotate.charts import Bar, BarChart, Dot, Line, LineChart
from annotate.figures import Column, Figure, Value, dot_chart, number, percent, span

from .words import CHANCE, FROM_TO, PROMPTS, Section, cells, count, few, spanned

MOST_BARS = 8


def agreement(evaluation: Mapping[str, Any]) -> Section | None:
    found = evaluation.get("agreement")
    if not found:
        return None
    accuracy = found["accuracy"]
    said = _("Of %(pairs)s pairs that people put in order, the reward model puts %(accuracy)s in the same order.")
    says = [said % {"pairs": number(found["pairs"], 0), "accuracy": spanned(accuracy)}]
    if accuracy["low"] is not None and accuracy["low"] <= CHANCE:
        says.append(_("That cannot be told from tossing a coin."))
    says += [*few(accuracy["n"]), _calibrated(found)]
    made = [_tags(found), _calibration(found), _sizes(found)]
    return Section(_("The reward model against people"), says, [figure for figure in made if figure])


def _calibrated(found: Mapping[str, Any]) -> str:
    calibration = found["calibration"]
    values = {"error": number(calibration["error"] * 100, 1), "chance": number(calibration["error_by_chance"] * 100, 1)}
    if calibration["error"] <= calibration["error_by_chance"]:
        said = _(
            "Its probabilities are off by %(error)s points on average, no more than chance makes them with so many pairs "
            "(up to %(chance)s)."
        )
    elif found["confidence"] > found["accuracy"]["value"]:
        said = _(
            "Its probabilities are off by %(error)s points on average, where chance makes up to %(chance)s: it is too sure of itself."
        )
    else:
        said = _(
            "Its probabilities are off by %(error)s points on average, where chance makes up to %(chance)s: it is less sure than it "
            "may be."
        )
    return said % values


def _tags(found: Mapping[str, Any]) -> Figure | None:
    if not found["tags"]:
        return None
    title = _("Agreement with people, by tag")
    rows = [(_("All"), found), *((one["tag"], one) for one in found["tags"])]
    table = tuple(
        (Value(name, name), *cells(one["accuracy"]), count(one["pairs"]), count(one["accuracy"]["n"]))
        for name, one in rows
    )
    columns = (
        Column("tag", _("Tag"), False),
        Column("accuracy", _("Same order")),
        *FROM_TO,
        Column("pairs", _("Pairs")),
        PROMPTS,
    )
    said = "; ".join(f"{name}: {spanned(one['accuracy'])}" for name, one in rows)
    if len(rows) > MOST_BARS:
        dots = tuple(
            Dot(name, one["accuracy"]["value"], span(one["accuracy"]), percent(one["accuracy"]["value"]))
            for name, one in rows
        )
        chart = dot_chart(
            "tags", title, dots, _("of the pairs"), (0.0, 1.0), ((CHANCE, percent(CHANCE)),), percent=True
        )
        return Figure("tags", title, columns, table, chart)
    bars = tuple(
        Bar(name, one["accuracy"]["value"], percent(one["accuracy"]["value"]), CHANCE, span(one["accuracy"]))
        for name, one in rows
    )
    drawn = BarChart(key="tags", title=title, description=said, bars=bars, expected_name=_("by chance"), percent=True)
    return Figure("tags", title, columns, table, drawn)


def _calibration(found: Mapping[str, Any]) -> Figure:
    title = _("Can its probabilities be believed?")
    bins = found["calibration"]["bins"]
    points = tuple((one["predicted"], one["observed"]["value"]) for one in bins)
    observed = Line(_("Observed"), points, tuple(span(one["observed"]) for one in bins))
    perfect = Line(_("If perfect"), ((0.5, 0.5), (1.0, 1.0)))
    shares = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    chart = LineChart(
        key="calibration",
        title=title,
        description=" ".join(
            _("Predicted %(predicted)s, observed %(observed)s.")
            % {"predicted": percent(one["predicted"]), "observed": spanned(one["observed"])}
            for one in bins
        ),
        lines=(observed, perfect),
        x_name=_("probability that the side which it favours wins"),
        ticks=tuple((share, percent(share)) for share in shares),
        percent=True,
        show_legend=True,
    )
    columns = (
        Column("from", _("From")),
        Column("to", _("to")),
        Column("predicted", _("Predicted")),
        Column("observed", _("Observed")),
        *FROM_TO,
        Column("pairs", _("Pairs")),
        PROMPTS,
    )
    table = tuple(
        (
            *(Value(one[name], percent(one[name])) for name in ("low", "high")),
            Value(one["predicted"], percent(one["predicted"], 1)),
            *cells(one["observed"]),
            count(one["pairs"]),
            count(one["observed"]["n"]),
        )
        for one in bins
    )
    note = _("Below the diagonal it is too sure of itself. Pairs that people tied are left out.")
    return Figure("calibration", title, columns, table, chart, note)


def _sizes(found: Mapping[str, Any]) -> Figure | None:
    if len(found["sizes"]) < 2:
        return None
    title = _("Agreement with people, by the number of answers")
    columns = (
        Column("answers", _("Answers")),
        Column("accuracy", _("Same order")),
        *FROM_TO,
        Column("pairs", _("Pairs")),
        PROMPTS,
    )
    table = tuple(
        (count(one["size"]), *cells(one["accuracy"]), count(one["pairs"]), count(one["accuracy"]["n"]))
        for one in found["sizes"]
    )
    return Figure("sizes", title, columns, table)
