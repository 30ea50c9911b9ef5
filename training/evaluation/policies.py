"""Language models: against each other, and against reference answers."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from annotate.charts import Dot
from annotate.figures import Column, Figure, Value, dot_chart, number, percent, span, why

from .words import CHANCE, FROM_TO, PROMPTS, Section, cells, count, few, spanned

DRAWN_ROWS = 24
BY = {"reward_model": gettext_lazy("Reward model"), "judge": gettext_lazy("Judge")}
BY_CONTROLLED = {
    "reward_model": gettext_lazy("Reward model, equal length"),
    "judge": gettext_lazy("Judge, equal length"),
}


def wins(evaluation: Mapping[str, Any]) -> Section | None:
    found = evaluation.get("wins")
    if not found:
        return None
    says = [said for one in found for said in _told(one)]
    return Section(_("Against the other model"), says + few(found[0]["rate"]["n"]), [_win_rates(found)])


def _told(one: Mapping[str, Any]) -> list[str]:
    """What one way to decide has to say, in sentences."""
    rate, controlled = one["rate"], one["controlled"]
    if one["by"] == "judge":
        said = _("By the judge, the language model wins %(rate)s against the other, a tie being half a win.")
    else:
        said = _("By the reward model, the language model wins %(rate)s against the other, a tie being half a win.")
    says = [said % {"rate": spanned(rate)}]
    if rate["low"] > CHANCE:
        says.append(_("So it is the better one of the two."))
    elif rate["high"] < CHANCE:
        says.append(_("So it is the worse one of the two."))
    else:
        says.append(_("A draw cannot be ruled out."))
    if controlled["value"] is not None:
        said = _(
            "With answers of equal length it would win %(rate)s; its answers have %(policy)s characters, the other’s %(baseline)s."
        )
        lengths = {side: number(one[f"{side}_length"], 0) for side in ("policy", "baseline")}
        says.append(said % {"rate": spanned(controlled), **lengths})
    if one.get("swayed"):
        said = _(
            "In %(swayed)s of %(prompts)s prompts the judge changed its mind when the answers changed places, which makes a tie; "
            "the answer shown first got %(first)s of its decisions."
        )
        numbers = {"swayed": number(one["swayed"], 0), "prompts": number(rate["n"], 0), "first": percent(one["first"])}
        says.append(said % numbers)
    if one["undecided"]:
        said = ngettext(
            "%(count)s prompt is left out, since no verdict could be read.",
            "%(count)s prompts are left out, since no verdict could be read.",
            one["undecided"],
        )
        says.append(said % {"count": number(one["undecided"], 0)})
    return says


def _win_rates(found: list[Mapping[str, Any]]) -> Figure:
    title = _("How often the language model wins")
    dots, table = [], []
    for one in found:
        by, controlled = str(BY[one["by"]]), str(BY_CONTROLLED[one["by"]])
        for name, label, rate in ((by, by, one["rate"]), (controlled, _("at equal length"), one["controlled"])):
            said = percent(rate["value"]) if rate["value"] is not None else why(rate)
            dots.append(Dot(label, rate["value"], span(rate), said))
            table.append(
                (
                    Value(name, name),
                    *cells(rate),
                    *(count(one[part]) for part in ("wins", "ties", "losses")),
                    count(rate["n"]),
                )
            )
    columns = (
        Column("by", _("Decided by"), False),
        Column("rate", _("Won")),
        *FROM_TO,
        Column("wins", _("Wins")),
        Column("ties", _("Ties")),
        Column("losses", _("Losses")),
        PROMPTS,
    )
    marks = ((CHANCE, percent(CHANCE)),)
    chart = dot_chart("wins", title, tuple(dots), _("of the prompts"), (0.0, 1.0), marks, percent=True)
    return Figure("wins", title, columns, tuple(table), chart)


def answers(evaluation: Mapping[str, Any]) -> Section | None:
    sides = {who: one for who, one in (evaluation.get("answers") or {}).items() if one["accuracy"]}
    if not sides:
        return None
    says = []
    policy = sides.get("policy")
    if policy:
        said = _(
            "The language model’s answer is right for %(accuracy)s of %(prompts)s prompts that have a reference answer."
        )
        says.append(said % {"accuracy": spanned(policy["accuracy"]), "prompts": number(policy["accuracy"]["n"], 0)})
        says += few(policy["accuracy"]["n"])
        if policy["finished"] < 0.9:
            said = _("%(share)s of its answers reached the length limit; a longer one may show more of what it can do.")
            says.append(said % {"share": percent(1 - policy["finished"])})
    if difference := evaluation.get("difference"):
        said = _(
            "On the same prompts that is %(points)s points above the other model (%(low)s to %(high)s); below zero the other one is better."
        )
        if difference["low"] is not None:
            says.append(
                said
                % {
                    name: number(difference[end] * 100, 1)
                    for name, end in (("points", "value"), ("low", "low"), ("high", "high"))
                }
            )
    return Section(_("Right answers"), says, [_right(sides)])


def _right(sides: Mapping[str, Any]) -> Figure:
    title = _("Share of right answers")
    names = {"policy": _("This model"), "baseline": _("Other model")}
    rows = [(names[who], "", one["accuracy"]) for who, one in sides.items()]
    rows += [(names[who], part["tag"], part["accuracy"]) for who, one in sides.items() for part in one["tags"]]
    # The tags of the other model are in the table alone.
    drawn = [(tag or name, rate) for name, tag, rate in rows if name == names["policy"] or not tag]
    dots = tuple(Dot(label, rate["value"], span(rate), percent(rate["value"])) for label, rate in drawn[:DRAWN_ROWS])
    table = tuple((Value(name, name), Value(tag, tag), *cells(rate), count(rate["n"])) for name, tag, rate in rows)
    columns = (
        Column("model", _("Model"), False),
        Column("tag", _("Tag"), False),
        Column("accuracy", _("Right")),
        *FROM_TO,
        PROMPTS,
    )
    chart = dot_chart("right", title, dots, _("of the prompts"), (0.0, 1.0), percent=True)
    return Figure("right", title, columns, table, chart)
