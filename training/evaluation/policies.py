"""Language models: against each other, and against reference answers."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.charts import Dot
from annotate.figures import Column, Figure, Interval, Value, dot_chart, number, percent, span, why

from .words import CHANCE, FROM_TO, PROMPTS, Section, cells, count, few, spanned

DRAWN_ROWS = 24
BY = {"reward_model": gettext_lazy("Reward model"), "judge": gettext_lazy("Judge")}


def wins(evaluation: Mapping[str, Any]) -> Section | None:
    found = evaluation.get("wins")
    if not found:
        return None
    says = []
    for one in found:
        said = _(
            "By the %(by)s, the language model wins %(rate)s against the other, a tie being half a win: %(verdict)s."
        )
        by = {"reward_model": _("reward model"), "judge": _("judge")}[one["by"]]
        says.append(said % {"by": by, "rate": spanned(one["rate"]), "verdict": _won(one["rate"])})
        if one["controlled"]["value"] is not None:
            said = _(
                "With answers of equal length it would win %(rate)s; its answers have %(policy)s characters, the other’s %(baseline)s."
            )
            lengths = {side: number(one[f"{side}_length"], 0) for side in ("policy", "baseline")}
            says.append(said % {"rate": spanned(one["controlled"]), **lengths})
        if one.get("swayed"):
            said = _(
                "In %(swayed)s of %(prompts)s prompts the judge changed its mind when the answers changed places, which makes a tie."
            )
            says.append(said % {"swayed": number(one["swayed"], 0), "prompts": number(one["rate"]["n"], 0)})
    says += few(found[0]["rate"]["n"])
    return Section(_("Against the other model"), says, [_win_rates(found)])


def _won(rate: Interval) -> str:
    if rate["low"] > CHANCE:
        return _("it is the better one")
    return _("it is the worse one") if rate["high"] < CHANCE else _("a draw cannot be ruled out")


def _win_rates(found: list[Mapping[str, Any]]) -> Figure:
    title = _("How often the language model wins")
    dots, table = [], []
    for one in found:
        by = str(BY[one["by"]])
        controlled = _("%(by)s, equal length") % {"by": by}
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
        said = _("On the same prompts that is %(points)s points more than the other model (%(low)s to %(high)s).")
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
