"""Line charts as SVG, drawn on the server: they need no script, print, and download as they are.

Each line has its own dash and marker besides its colour, so that a chart is readable in grey; title and description speak for it
to a screen reader. Colours are presentation attributes, which the stylesheet may override (`.chart-line-1` …).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import slugify
from django.utils.translation import gettext as _

from training.services.events import Series

WIDTH, HEIGHT = 480, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 36, 40
COLOURS = ("#2a6fb8", "#c2561f", "#2f8555", "#8757b8")
DASHES = ("none", "7 4", "2 3", "9 3 2 3")
MARKED_POINTS = 40
DRAWN_POINTS = 300

# What trainers log about themselves.
NOT_CHARTED = {"epoch", "total_flos", "num_tokens", "num_input_tokens_seen", "prompts", "completions"}
NOT_CHARTED_ENDINGS = ("runtime", "_per_second", "_seconds")
FIRST = ("loss", "accuracy", "score", "rewards", "margin", "kl")
LAST = ("entropy", "grad_norm", "learning_rate")


@dataclass(frozen=True)
class Chart:
    """One figure: a metric on training data and, where there is one, on held-out data."""

    key: str
    title: str
    lines: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]

    @property
    def svg(self) -> SafeString:
        return draw(self)


def charts_of(series: Iterable[Series]) -> list[Chart]:
    """A chart per metric that has two points or more; `eval_loss` joins `loss`."""
    grouped: dict[str, list[Series]] = {}
    for item in series:
        name = item.name.removeprefix("eval_")
        if name not in NOT_CHARTED and not name.endswith(NOT_CHARTED_ENDINGS):
            grouped.setdefault(name, []).append(item)
    charts = []
    for name in sorted(grouped, key=_place):
        members = sorted(grouped[name], key=lambda item: item.name.startswith("eval_"))
        if max(len(item.points) for item in members) < 2:
            continue
        lines = tuple(
            (_("Held-out") if item.name.startswith("eval_") else _("Training"), tuple(item.points)) for item in members
        )
        charts.append(Chart(slugify(name.replace("/", "-")), readable(name), lines))
    return charts


def _place(name: str) -> tuple[int, int, str]:
    for index, word in enumerate(LAST):
        if word in name:
            return 2, index, name
    for index, word in enumerate(FIRST):
        if word in name:
            return 0, index, name
    return 1, 0, name


def readable(name: str) -> str:
    """`rewards/margins` → “Rewards: margins”."""
    words = name.replace("_", " ").replace("/", ": ")
    return words[:1].upper() + words[1:]


def draw(chart: Chart, *, standalone: bool = False) -> SafeString:
    """The chart as an <svg> element; `standalone` makes it a file of its own."""
    points = [point for _name, line in chart.lines for point in line]
    x_ticks = _ticks(min(step for step, _y in points), max(step for step, _y in points), 6, whole=True)
    y_ticks = _ticks(min(y for _step, y in points), max(y for _step, y in points), 5)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])

    grid = format_html_join(
        "",
        '<line x1="{}" x2="{}" y1="{}" y2="{}" stroke="currentColor" stroke-opacity="0.16"/>'
        '<text x="{}" y="{}" text-anchor="end" dominant-baseline="middle">{}</text>',
        ((LEFT, WIDTH - RIGHT, _n(y(v)), _n(y(v)), LEFT - 6, _n(y(v)), _label(v, y_ticks)) for v in y_ticks),
    ) + format_html_join(
        "",
        '<line x1="{}" x2="{}" y1="{}" y2="{}" stroke="currentColor" stroke-opacity="0.5"/>'
        '<text x="{}" y="{}" text-anchor="middle">{}</text>',
        (
            (
                _n(x(v)),
                _n(x(v)),
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 4,
                _n(x(v)),
                HEIGHT - BOTTOM + 17,
                _label(v, x_ticks),
            )
            for v in x_ticks
        ),
    )
    axis = format_html(
        '<line x1="{0}" x2="{1}" y1="{2}" y2="{2}" stroke="currentColor" stroke-opacity="0.5"/>'
        '<text x="{3}" y="{4}" text-anchor="middle">{5}</text>',
        LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, _("step"),
    )  # fmt: skip
    lines = format_html_join(
        "",
        "{}{}",
        (
            (_line(index, [(x(step), y(value)) for step, value in _thin(line)]), _legend(index, name))
            for index, (name, line) in enumerate(chart.lines)
        ),
    )
    size = format_html('xmlns="http://www.w3.org/2000/svg" width="{}" height="{}" ', WIDTH * 2, HEIGHT * 2)
    heading = format_html('<text x="0" y="13" font-size="13" font-weight="600">{}</text>', chart.title)
    return format_html(
        '<svg {}class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{key}-title {key}-desc" font-size="11" '
        'font-family="system-ui, sans-serif" fill="currentColor"><title id="{key}-title">{}</title><desc id="{key}-desc">{}</desc>'
        "{}{}{}{}</svg>",
        size if standalone else "", WIDTH, HEIGHT, chart.title, describe(chart), heading if standalone else "", grid, axis, lines,
        key=f"chart-{chart.key}",
    )  # fmt: skip


def describe(chart: Chart) -> str:
    """What the chart shows, in a sentence per line."""
    return " ".join(
        _("%(name)s: from %(first)s at step %(start)s to %(last)s at step %(end)s, between %(low)s and %(high)s.")
        % {
            "name": name,
            "first": f"{line[0][1]:.4g}",
            "start": line[0][0],
            "last": f"{line[-1][1]:.4g}",
            "end": line[-1][0],
            "low": f"{min(value for _step, value in line):.4g}",
            "high": f"{max(value for _step, value in line):.4g}",
        }
        for name, line in chart.lines
    )


def _line(index: int, points: list[tuple[float, float]]) -> SafeString:
    style = index % len(COLOURS)
    path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    drawn = format_html(
        '<polyline class="chart-line chart-line-{}" fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round" '
        'stroke-dasharray="{}" points="{}"/>',
        style + 1, COLOURS[style], DASHES[style], path,
    )  # fmt: skip
    if len(points) > MARKED_POINTS:
        return drawn
    return drawn + format_html_join("", "{}", ((_marker(style, x, y),) for x, y in points))


def _marker(style: int, x: float, y: float) -> SafeString:
    if style % 2:
        return format_html(
            '<rect class="chart-mark chart-mark-{}" x="{}" y="{}" width="5" height="5" fill="{}"/>',
            style + 1, _n(x - 2.5), _n(y - 2.5), COLOURS[style],
        )  # fmt: skip
    return format_html(
        '<circle class="chart-mark chart-mark-{}" cx="{}" cy="{}" r="2.5" fill="{}"/>',
        style + 1, _n(x), _n(y), COLOURS[style],
    )  # fmt: skip


def _legend(index: int, name: str) -> SafeString:
    style, left = index % len(COLOURS), LEFT + index * 110
    return format_html(
        '<line class="chart-line chart-line-{}" x1="{}" x2="{}" y1="25" y2="25" stroke="{}" stroke-width="2" stroke-dasharray="{}"/>'
        '{}<text x="{}" y="29">{}</text>',
        style + 1, left, left + 26, COLOURS[style], DASHES[style], _marker(style, left + 13, 25), left + 32, name,
    )  # fmt: skip


def _ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """Round values from at most `low` to at least `high`, in steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - (0 if whole else margin), high + (1 if whole else margin)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    if whole:
        size = max(1.0, size)
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    return [index * size for index in range(first, last + 1)]


def _label(value: float, ticks: list[float]) -> str:
    size = ticks[1] - ticks[0]
    if max(abs(tick) for tick in ticks) >= 100_000 or size < 0.0001:
        return f"{value:.3g}"
    return f"{value:.{max(0, -math.floor(math.log10(size) + 1e-9))}f}"


def _thin(points: tuple[tuple[int, float], ...]) -> list[tuple[int, float]]:
    """At most some 300 points: of each stretch the lowest and the highest, so that no peak is lost."""
    if len(points) <= DRAWN_POINTS:
        return list(points)
    size = math.ceil(len(points) / (DRAWN_POINTS // 2))
    thinned: list[tuple[int, float]] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        thinned += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return thinned


def _n(value: float) -> str:
    return f"{value:.1f}"
