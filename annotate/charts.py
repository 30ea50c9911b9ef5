"""Figures as SVG, drawn on the server: they need no script, print, and download as they are.

Lines differ by dash and marker, areas by pattern and written value, so that each figure is readable in grey; title and
description speak for it to a screen reader, and the page sets a table behind it. Colours are presentation attributes, which the
stylesheet overrides by class (`.chart-line-1`, `.chart-bar` …) where it knows the reader's theme.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from django.utils.html import format_html
from django.utils.safestring import SafeString

from .drawing import (
    COLOURS,
    EMPTY,
    Interval,
    Point,
    expected_line,
    expected_tick,
    joined,
    legend,
    mark_line,
    marker,
    n,
    polyline,
    rect,
    rule,
    shortened,
    text,
    thin,
    tick_label,
    tick_labels,
    ticks_between,
    upright,
    whisker,
    x_axis,
    y_grid,
)

LETTER = 6.4  # width of an average letter at the figures' font size, for labels that have to fit
ROW = 26
CELL = 34


@dataclass(frozen=True, kw_only=True)
class Chart(ABC):
    """What every figure has. `key` names it on its page and in its file's name; units of size are SVG's own."""

    key: str
    title: str
    description: str = ""

    @property
    def size(self) -> tuple[int, int]:
        return 480, 260

    @property
    @abstractmethod
    def body(self) -> SafeString:
        """What the figure shows, without its frame and title."""

    @property
    def svg(self) -> SafeString:
        return self.draw()

    def draw(self, *, standalone: bool = False) -> SafeString:
        """The figure as an <svg> element; `standalone` makes it a file of its own, its title drawn above it."""
        width, height = self.size
        head = 26 if standalone else 0
        frame = format_html(
            'xmlns="http://www.w3.org/2000/svg" width="{}" height="{}" ', width * 2, (height + head) * 2
        )
        heading = format_html('<text x="0" y="{}" font-size="14" font-weight="600">{}</text>', 14 - head, self.title)
        return format_html(
            '<svg {}class="chart" viewBox="0 {} {} {}" role="img" aria-labelledby="{key}-title {key}-desc" font-size="12" '
            'font-family="system-ui, sans-serif" fill="currentColor"><title id="{key}-title">{}</title>'
            '<desc id="{key}-desc">{}</desc>{}{}</svg>',
            frame if standalone else format_html('width="{}" height="{}" ', width, height), -head, width, height + head, self.title, self.description,
            heading if standalone else "", self.body, key=f"chart-{self.key}",
        )  # fmt: skip


@dataclass(frozen=True)
class Line:
    """Points from left to right, each with its interval of confidence where there is one."""

    name: str
    points: tuple[Point, ...]
    intervals: tuple[Interval | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LineChart(Chart):
    """Lines over a common x axis. `marks` are named levels that are drawn across, `uprights` named places on the x axis; `ticks`
    replace the numbers below it, which are whole unless `whole` says otherwise."""

    lines: tuple[Line, ...]
    x_name: str = ""
    ticks: tuple[tuple[float, str], ...] = ()
    marks: tuple[tuple[float, str], ...] = ()
    uprights: tuple[tuple[float, str], ...] = ()
    whole: bool = True
    span: Interval | None = None  # of the y axis; what the data need, if not given
    show_legend: bool = False
    percent: bool = False  # along the y axis

    @property
    def body(self) -> SafeString:
        width, height = self.size
        left, right = 50, width - (46 if self.marks else 14)
        top, bottom = (36 if self.show_legend else 12) + (16 if self.uprights else 0), height - 40
        low, high = self.span or self._extent()
        y_ticks = ticks_between(low, high, 5)
        xs = [x for line in self.lines for x, _y in line.points]
        whole = ticks_between(min(xs), max(xs), 6, whole=self.whole)
        x_ticks = self.ticks or tuple((tick, tick_label(tick, whole)) for tick in whole)
        start, end = (min(xs), max(xs)) if self.ticks else (whole[0], whole[-1])
        inset = 22 if self.ticks else 0  # named points stand a little inside, so that their names fit

        def x(value: float) -> float:
            share = (value - start) / (end - start) if end > start else 0.5
            return left + inset + (right - left - 2 * inset) * share

        def y(value: float) -> float:
            return bottom - (bottom - top) * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])

        parts = [
            y_grid(y_ticks, y, left, right, percent=self.percent),
            x_axis([(x(v), name) for v, name in x_ticks], left, right, bottom),
        ]
        if self.x_name:
            parts.append(text((left + right) / 2, height - 5, self.x_name, "middle"))
        parts += [mark_line(left, right, y(value), name) for value, name in self.marks]
        parts += [upright(x(value), top, bottom, name) for value, name in self.uprights]
        for index, line in enumerate(self.lines):
            for (at, _value), interval in zip(line.points, line.intervals, strict=False):
                if interval:
                    parts.append(whisker(x(at), y(interval[0]), x(at), y(interval[1])))
            parts.append(polyline(index, [(x(at), y(value)) for at, value in thin(line.points)]))
            if self.show_legend:
                parts.append(legend(index, line.name, left + index * 120))
        return joined(parts)

    def _extent(self) -> Interval:
        values = [value for line in self.lines for _x, value in line.points]
        values += [end for line in self.lines for interval in line.intervals if interval for end in interval]
        return min(values), max(values)


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    text: str = ""
    expected: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class BarChart(Chart):
    """Bars side by side; what would be expected is a dashed line across a bar's own place. `touching` makes a histogram."""

    bars: tuple[Bar, ...]
    x_name: str = ""
    expected_name: str = ""
    percent: bool = False
    touching: bool = False
    mark: tuple[float, str] | None = None  # after so many bars, an upright line with its name

    @property
    def body(self) -> SafeString:
        width, height = self.size
        left, right = 50, width - 14
        top, bottom = 30 if self.expected_name or self.mark else 16, height - 40
        tops = [max(bar.value, bar.expected or 0, bar.interval[1] if bar.interval else 0) for bar in self.bars]
        y_ticks = ticks_between(0, max(*tops, 0.01 if self.percent else 1), 4)
        slot = (right - left) / len(self.bars)
        thick = slot - 1 if self.touching else min(slot * 0.62, 64)
        every = math.ceil(max(len(bar.label) for bar in self.bars) * LETTER * 1.1 / slot)

        def y(value: float) -> float:
            return bottom - (bottom - top) * value / y_ticks[-1]

        middles = [left + slot * (index + 0.5) for index in range(len(self.bars))]
        # A histogram's bars are named by where they begin.
        places = [middle - slot / 2 for middle in middles] if self.touching else middles
        names = [bar.label if index % every == 0 else "" for index, bar in enumerate(self.bars)]
        parts = [
            y_grid(y_ticks, y, left, right, percent=self.percent),
            x_axis(list(zip(places, names, strict=True)), left, right, bottom),
        ]
        if self.x_name:
            parts.append(text((left + right) / 2, height - 5, self.x_name, "middle"))
        for middle, bar in zip(middles, self.bars, strict=True):
            parts.append(rect("chart-bar", middle - thick / 2, y(bar.value), thick, bottom - y(bar.value)))
            if bar.interval:
                parts.append(whisker(middle, y(bar.interval[0]), middle, y(bar.interval[1])))
            if bar.expected is not None:
                parts.append(expected_line(middle - slot / 2 + 2, middle + slot / 2 - 2, y(bar.expected)))
            if bar.text and not self.touching and slot > len(bar.text) * LETTER:
                parts.append(text(middle, bottom - 7, bar.text, "middle", klass="chart-on-bar"))
        if self.mark:
            parts.append(upright(left + slot * self.mark[0], top, bottom, self.mark[1]))
        if self.expected_name:
            parts += [expected_line(left, left + 26, 12), text(left + 32, 16, self.expected_name)]
        return joined(parts)


@dataclass(frozen=True)
class Dot:
    """One row of a dot plot. Without a value its `text` says why there is none."""

    label: str
    value: float | None
    interval: Interval | None
    text: str
    expected: float | None = None


@dataclass(frozen=True, kw_only=True)
class DotChart(Chart):
    """A value with its interval per row, the values written at the right."""

    dots: tuple[Dot, ...]
    x_name: str = ""
    marks: tuple[tuple[float, str], ...] = ()
    span: Interval | None = None
    percent: bool = False

    @property
    def size(self) -> tuple[int, int]:
        return 480, 24 + ROW * len(self.dots) + 40

    @property
    def body(self) -> SafeString:
        width, height = self.size
        left = 22 + round(min(150, max(len(dot.label) for dot in self.dots) * LETTER))
        right = width - 16 - round(min(150, max(len(dot.text) for dot in self.dots if dot.value is not None) * LETTER))
        top, bottom = 20, height - 40
        x_ticks = ticks_between(*(self.span or self._extent()), 4)

        def x(value: float) -> float:
            share = (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
            return left + (right - left) * min(max(share, 0), 1)

        parts = [
            x_axis(
                list(zip(map(x, x_ticks), tick_labels(x_ticks, percent=self.percent), strict=True)), left, right, bottom
            )
        ]
        parts += [upright(x(value), top - 4, bottom, name) for value, name in self.marks]
        if self.x_name:
            parts.append(text((left + right) / 2, height - 5, self.x_name, "middle"))
        for index, dot in enumerate(self.dots):
            y = top + ROW * (index + 0.5)
            parts.append(text(left - 10, y + 4, shortened(dot.label, 24), "end"))
            if dot.value is None:
                parts.append(text(left + 6, y + 4, dot.text, opacity=0.85))
                continue
            parts.append(rule(left, right, y, y, 0.12))
            if dot.interval:
                parts.append(whisker(x(dot.interval[0]), y, x(dot.interval[1]), y))
            if dot.expected is not None:
                parts.append(expected_tick(x(dot.expected), y))
            parts.append(marker(0, x(dot.value), y, 4))
            parts.append(text(right + 10, y + 4, dot.text))
        return joined(parts)

    def _extent(self) -> Interval:
        values = [dot.value for dot in self.dots if dot.value is not None]
        values += [end for dot in self.dots if dot.interval for end in dot.interval]
        values += [value for value, _name in self.marks]
        return min(values), max(values)


@dataclass(frozen=True)
class Cell:
    """`strength` from −1 to 1 is how deep the cell is filled; below 0 it is hatched too."""

    strength: float | None
    text: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class MatrixChart(Chart):
    """Rows by columns, which bear the rows' numbers; `cells[row][column]`, None where there is nothing to say."""

    names: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]
    cell: int = CELL

    @property
    def size(self) -> tuple[int, int]:
        return self._left + self.cell * len(self.names) + 2, 24 + self.cell * len(self.names) + 2

    @property
    def _left(self) -> int:
        return 40 + round(min(160, max(len(name) for name in self.names) * LETTER))

    @property
    def body(self) -> SafeString:
        hatch = format_html(
            '<defs><pattern id="{}-hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
            '<path d="M0 0V6" stroke="currentColor" stroke-opacity="0.35" stroke-width="2"/></pattern></defs>',
            self.key,
        )
        parts = [hatch]
        for index, name in enumerate(self.names):
            middle = 24 + self.cell * (index + 0.5)
            parts.append(text(self._left - 28, middle + 4, shortened(name, 25), "end"))
            parts.append(text(self._left - 8, middle + 4, str(index + 1), "end", opacity=0.75))
            parts.append(text(self._left + self.cell * (index + 0.5), 15, str(index + 1), "middle", opacity=0.75))
        for row, cells in enumerate(self.cells):
            for column, cell in enumerate(cells):
                if cell is not None:
                    parts.append(self._cell(self._left + self.cell * column, 24 + self.cell * row, cell))
        return joined(parts)

    def _cell(self, x: float, y: float, cell: Cell) -> SafeString:
        depth = f"{0.06 + 0.5 * min(abs(cell.strength), 1):.2f}" if cell.strength is not None else "0"
        drawn = format_html(
            '<rect class="chart-cell" x="{}" y="{}" width="{size}" height="{size}" rx="2" fill="{}" fill-opacity="{}" '
            'stroke="currentColor" stroke-opacity="0.18"/>',
            n(x + 1), n(y + 1), COLOURS[0], depth, size=self.cell - 2,
        )  # fmt: skip
        if cell.strength is not None and cell.strength < 0:
            drawn += format_html(
                '<rect x="{}" y="{}" width="{size}" height="{size}" rx="2" fill="url(#{}-hatch)"/>',
                n(x + 1), n(y + 1), self.key, size=self.cell - 2,
            )  # fmt: skip
        size = 11 if len(cell.text) < 5 or self.cell > CELL else 9
        return drawn + format_html(
            '<text class="chart-cell-text" x="{}" y="{}" text-anchor="middle" font-size="{}">{}</text>',
            n(x + self.cell / 2), n(y + self.cell / 2 + (-1 if cell.note else 4)), size, cell.text,
        ) + (self._note(x, y, cell.note) if cell.note else EMPTY)  # fmt: skip

    def _note(self, x: float, y: float, note: str) -> SafeString:
        return format_html(
            '<text class="chart-cell-text" x="{}" y="{}" text-anchor="middle" font-size="9.5">{}</text>',
            n(x + self.cell / 2), n(y + self.cell / 2 + 13), note,
        )  # fmt: skip


def interval_bar(value: float, interval: Interval | None, span: Interval) -> SafeString:
    """A dot with its interval, small enough for a table's cell; the cell says the same in figures."""

    def x(at: float) -> float:
        return 4 + 88 * min(max((at - span[0]) / (span[1] - span[0]), 0), 1)

    parts = [rule(4, 92, 8, 8, 0.2)]
    if span[0] < 0 < span[1]:
        parts.append(rule(x(0), x(0), 2, 14, 0.5))
    if interval:
        parts.append(whisker(x(interval[0]), 8, x(interval[1]), 8))
    parts.append(marker(0, x(value), 8, 3.5))
    return format_html(
        '<svg class="spark" viewBox="0 0 96 16" width="96" height="16" aria-hidden="true">{}</svg>', joined(parts)
    )
