"""What each annotator's numbers are, and which of them are worth a look."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.charts import Dot, interval_bar
from annotate.models import Project

from . import (
    LEVEL,
    Column,
    Figure,
    Links,
    People,
    Person,
    Value,
    chance,
    dot_chart,
    interval_values,
    is_sure,
    number,
    percent,
    span,
    why,
)

TOO_FAST_SHARE = 0.1
LENGTH_BEYOND_OTHERS = 0.1

PAUSED: dict[str, str | Promise] = {
    "gold": gettext_lazy("Paused: too few gold tasks as known"),
    "practice": gettext_lazy("Paused: practice not passed"),
    "admin": gettext_lazy("Paused by an admin"),
}


@dataclass(frozen=True)
class Annotator:
    """A row of the annotators' table."""

    person: Person
    found: Mapping[str, Any]
    remarks: tuple[Value, ...]
    agreement_bar: SafeString | None
    cells: Mapping[str, Value]

    @property
    def shown(self) -> list[tuple[Value, str]]:
        """The page's cells, each with what is said beside it."""
        cell = self.cells
        interval = span(self.found["tau"])
        ends = _("%(low)s to %(high)s") % {"low": number(interval[0]), "high": number(interval[1])} if interval else ""
        by_chance = _("chance %(share)s")
        gold, position = cell["gold_seen"], self.found["position"]
        straight, others = self.found["straight"], self.found["length"]["others"]
        return [
            (cell["agreement"], ends),
            (cell["reliability"], ""),
            (cell["gold_accuracy"], _("of %(count)s") % {"count": gold.text} if gold.raw else ""),
            (cell["median_seconds"], ""),
            (cell["too_fast"], ""),
            (cell["first_share"], by_chance % {"share": percent(position["expected"])} if position["n"] else ""),
            (
                cell["length_correlation"],
                _("others %(value)s") % {"value": number(others)} if others is not None else "",
            ),
            (cell["same_order"], by_chance % {"share": percent(straight["expected"])} if straight["n"] else ""),
            (cell["ties_share"], ""),
            (cell["all_bad_share"], ""),
        ]

    @property
    def pause(self) -> str:
        return str(PAUSED.get(self.person.membership.pause_reason, "")) if self.person.is_paused else ""


ANNOTATOR_COLUMNS = (
    Column("rankings", gettext_lazy("Rankings")),
    Column("agreement", gettext_lazy("Agreement with others")),
    Column("agreement_low", gettext_lazy("From (95 %)")),
    Column("agreement_high", gettext_lazy("to")),
    Column("reliability", gettext_lazy("Reliability")),
    Column("gold_accuracy", gettext_lazy("Gold right")),
    Column("gold_seen", gettext_lazy("Gold tasks")),
    Column("median_seconds", gettext_lazy("Seconds")),
    Column("words_per_minute", gettext_lazy("Words a minute")),
    Column("too_fast", gettext_lazy("Too fast")),
    Column("first_share", gettext_lazy("A on top")),
    Column("first_expected", gettext_lazy("By chance")),
    Column("first_p", "p"),
    Column("length_correlation", gettext_lazy("Length")),
    Column("length_of_others", gettext_lazy("Length, others")),
    Column("length_p", "p"),
    Column("same_order", gettext_lazy("As shown")),
    Column("same_order_expected", gettext_lazy("By chance")),
    Column("same_order_p", "p"),
    Column("ties_share", gettext_lazy("Ties")),
    Column("all_bad_share", gettext_lazy("All bad")),
)


def annotators(results: Mapping[str, Any], people: People, links: Links, project: Project) -> list[Annotator]:
    """Whoever is worth a look first, then by number of rankings."""
    found = [one for one in results["annotators"] if one["membership"] in people]
    taus = [one["tau"]["value"] for one in found if one["tau"]["value"] is not None]
    typical = median(taus) if len(taus) > 2 else None
    scale = min([0.0, *(low for low, _high in filter(None, (span(one["tau"]) for one in found)))]), 1.0
    rows = []
    for one in found:
        tau = one["tau"]
        bar = interval_bar(tau["value"], span(tau), scale) if tau["value"] is not None else None
        said = tuple(remarks(one, project, links, typical, len(found)))
        rows.append(Annotator(people[one["membership"]], one, said, bar, _cells(one, links)))
    return sorted(rows, key=lambda row: (-len(row.remarks), -row.found["rankings"], row.person.name))


def _cells(one: Mapping[str, Any], links: Links) -> dict[str, Value]:
    """One person's cells by the code of their column."""
    pk, tau, gold = one["membership"], one["tau"], one["gold"]
    position, length, straight = one["position"], one["length"], one["straight"]

    def behind(kind: str, count: float | None) -> str:
        return links.rankings(kind, pk) if count else ""

    cells = (
        Value(one["rankings"], number(one["rankings"], 0), links.rankings("all", pk)),
        *interval_values(tau, href=behind("shared", tau["n"])),
        Value(one["reliability"], number(one["reliability"])),
        Value(gold["accuracy"], percent(gold["accuracy"]), behind("gold", gold["seen"])),
        Value(gold["seen"], number(gold["seen"], 0)),
        Value(one["median_seconds"], number(one["median_seconds"], 0)),
        Value(one["words_per_minute"], number(one["words_per_minute"], 0)),
        Value(one["too_fast"], number(one["too_fast"], 0), behind("too_fast", one["too_fast"])),
        Value(position["first_share"], percent(position["first_share"]), behind("first", position["first_share"])),
        Value(position["expected"], percent(position["expected"])),
        Value(position["p"], chance(position["p"])),
        Value(length["correlation"], number(length["correlation"])),
        Value(length["others"], number(length["others"])),
        Value(length["p"], chance(length["p"])),
        Value(straight["share"], percent(straight["share"]), behind("as_shown", straight["same_order"])),
        Value(straight["expected"], percent(straight["expected"])),
        Value(straight["p"], chance(straight["p"])),
        Value(one["ties_share"], percent(one["ties_share"])),
        Value(one["all_bad_share"], percent(one["all_bad_share"]), behind("all_bad", one["all_bad_share"])),
    )
    return {column.code: cell for column, cell in zip(ANNOTATOR_COLUMNS, cells, strict=True)}


def remarks(
    one: Mapping[str, Any], project: Project, links: Links, typical: float | None, people: int
) -> Iterator[Value]:
    """What is worth a look in somebody's numbers, each in words and a click from its rankings. None of it proves carelessness."""

    def said(kind: str, sentence: str, **values: str) -> Value:
        return Value(kind, sentence % values, links.rankings(kind, one["membership"]))

    tau, gold, position = one["tau"], one["gold"], one["position"]
    length, straight = one["length"], one["straight"]
    ends = span(tau)
    if ends and typical is not None and ends[1] < typical:
        yield said(
            "shared",
            _("agrees less with the others (%(own)s; half of the people reach %(typical)s)"),
            own=number(tau["value"]),
            typical=number(typical),
        )
    if (
        project.gold_threshold
        and gold["seen"] >= project.gold_window
        and (gold["accuracy"] or 0) * 100 < project.gold_threshold
    ):
        yield said(
            "gold_wrong",
            _("has %(share)s of gold right, below the %(threshold)s asked for"),
            share=percent(gold["accuracy"]),
            threshold=percent(project.gold_threshold / 100),
        )
    if (one["too_fast_share"] or 0) > TOO_FAST_SHARE:
        share = percent(one["too_fast_share"])
        yield said("too_fast", _("ranks faster than anybody reads, in %(share)s of the rankings"), share=share)
    if is_sure(position["p_adjusted"]) and position["first_share"] > position["expected"]:
        yield said(
            "first",
            _("puts the answer shown first on top in %(share)s of the rankings; chance would be %(expected)s"),
            share=percent(position["first_share"]),
            expected=percent(position["expected"]),
        )
    excess = length["excess"]["value"]
    if is_sure(length["p_adjusted"]) and abs(excess) > LENGTH_BEYOND_OTHERS:
        more = _("prefers longer answers more than the others do") if excess > 0 else ""
        yield said("shared", more or _("prefers shorter answers more than the others do"))
    if is_sure(straight["p_adjusted"]):
        yield said(
            "as_shown",
            _("leaves the answers as they are shown in %(share)s of the rankings; chance would be %(expected)s"),
            share=percent(straight["share"]),
            expected=percent(straight["expected"]),
        )
    elif straight["common_p"] is not None and straight["common_p"] * people < LEVEL:
        yield said(
            "straight",
            _("gives the same order, %(order)s, in %(share)s of the rankings"),
            order=straight["common_order"],
            share=percent(straight["common_share"]),
        )


def annotators_figure(rows: list[Annotator]) -> Figure:
    """What the file of the annotators' table holds."""
    columns = (
        Column("annotator", _("Annotator"), False),
        *ANNOTATOR_COLUMNS,
        Column("remarks", _("To look at"), False),
    )
    table = tuple(
        (
            Value(row.person.name, row.person.name),
            *row.cells.values(),
            _joined(row.remarks),
        )
        for row in rows
    )
    title = _("Agreement with others")
    dots = tuple(
        Dot(row.person.name, tau["value"], span(tau), number(tau["value"]) if tau["value"] is not None else why(tau))
        for row in sorted(rows, key=_by_agreement)
        for tau in (row.found["tau"],)
    )
    chart = dot_chart("annotators", title, dots, _("mean τ-b with the others"), (0.0, 1.0)) if rows else None
    return Figure("annotators", title, columns, table, chart)


def _by_agreement(row: Annotator) -> float:
    value = row.found["tau"]["value"]
    return float("inf") if value is None else -float(value)


def _joined(remarks: Iterable[Value]) -> Value:
    text = "; ".join(remark.text for remark in remarks)
    return Value(text, text)


def headings() -> list[str]:
    """Of `Annotator.shown`, but the first."""
    codes = ("reliability", "gold_accuracy", "median_seconds", "too_fast", "first_share", "length_correlation")
    labels = {column.code: str(column.label) for column in ANNOTATOR_COLUMNS}
    return [labels[code] for code in (*codes, "same_order", "ties_share", "all_bad_share")]


def meanings() -> list[tuple[str, str]]:
    """What the page says of its columns."""
    return [
        (
            _("Agreement with others"),
            _(
                "Mean Kendall’s τ-b with everybody who ranked the same tasks: 1 is the same order, 0 chance, −1 the reverse."
            ),
        ),
        (
            _("Reliability"),
            _(
                "How often this person prefers the answer that all rankings together call better, estimated along with the "
                "answers’ strength: 1 is always, 0.5 is a coin."
            ),
        ),
        (_("Gold right"), _("Share of the known order’s pairs that were ordered alike, on gold tasks.")),
        (_("Seconds"), _("Median time from opening a task to submitting it.")),
        (_("Too fast"), _("Rankings that came faster than prompt and answers can be read, at 1,000 words a minute.")),
        (_("A on top"), _("How often the answer that was shown first came out on top, beside what chance gives.")),
        (
            _("Length"),
            _(
                "τ-b between an answer’s length and its place: 1 is always the longest first. Beside it, the others on the same tasks."
            ),
        ),
        (_("As shown"), _("Rankings that leave the answers in the order in which they were shown, beside chance.")),
        (_("Ties"), _("Share of pairs of answers that were put in one place.")),
        (_("All bad"), _("Share of tasks answered by “all bad”.")),
    ]
