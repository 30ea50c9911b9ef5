"""The strokes that figures are made of, as SVG elements; lengths are SVG's own units."""

import math
from collections.abc import Callable

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from annotate.numbers import rounded, significant

COLOURS = ("#2a6fb8", "#c2561f", "#2f8555", "#8757b8")
DASHES = ("none", "7 4", "2 3", "9 3 2 3")
MARKED_POINTS = 40
DRAWN_POINTS = 300
EMPTY = SafeString("")

Point = tuple[float, float]
Interval = tuple[float, float]


def y_grid(
    ticks: list[float], y: Callable[[float], float], left: float, right: float, *, percent: bool = False
) -> SafeString:
    labels = [f"{significant(tick * 100)} %" if percent else tick_label(tick, ticks) for tick in ticks]
    return joined(
        [
            rule(left, right, y(tick), y(tick), 0.16) + text(left - 6, y(tick) + 4, label, "end")
            for tick, label in zip(ticks, labels, strict=True)
        ]
    )


def x_axis(ticks: list[tuple[float, str]], left: float, right: float, bottom: float) -> SafeString:
    marked = [
        rule(x, x, bottom, bottom + 4, 0.5) + text(x, bottom + 17, label, "middle") for x, label in ticks if label
    ]
    return rule(left, right, bottom, bottom, 0.5) + joined(marked)


def whisker(x1: float, y1: float, x2: float, y2: float) -> SafeString:
    """A line of confidence with a foot at each end."""
    across, along = (4, 0) if x1 == x2 else (0, 4)
    return format_html(
        '<path class="chart-whisker" d="M{} {}L{} {}M{} {}L{} {}M{} {}L{} {}" stroke="currentColor" stroke-width="1.5" fill="none"/>',
        n(x1), n(y1), n(x2), n(y2), n(x1 - across), n(y1 - along), n(x1 + across), n(y1 + along),
        n(x2 - across), n(y2 - along), n(x2 + across), n(y2 + along),
    )  # fmt: skip


def ticks_between(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
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


def tick_labels(ticks: list[float], *, percent: bool = False) -> list[str]:
    return [f"{tick * 100:.4g} %" if percent else tick_label(tick, ticks) for tick in ticks]


def tick_label(value: float, ticks: list[float]) -> str:
    size = ticks[1] - ticks[0]
    if max(abs(tick) for tick in ticks) >= 100_000 or size < 0.0001:
        return significant(value, 3)
    return rounded(value, max(0, -math.floor(math.log10(size) + 1e-9)))


def n(value: float) -> str:
    return f"{value:.1f}"


def joined(parts: list[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


def text(x: float, y: float, text: str, anchor: str = "start", *, opacity: float = 1, klass: str = "") -> SafeString:
    style = format_html(' class="{}"', klass) if klass else EMPTY
    faint = format_html(' opacity="{}"', opacity) if opacity < 1 else EMPTY
    return format_html('<text x="{}" y="{}" text-anchor="{}"{}{}>{}</text>', n(x), n(y), anchor, style, faint, text)


def shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def rule(x1: float, x2: float, y1: float, y2: float, opacity: float) -> SafeString:
    return format_html(
        '<line x1="{}" x2="{}" y1="{}" y2="{}" stroke="currentColor" stroke-opacity="{}"/>',
        n(x1), n(x2), n(y1), n(y2), opacity,
    )  # fmt: skip


def rect(klass: str, x: float, y: float, width: float, height: float) -> SafeString:
    return format_html(
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}" fill="{colour}" fill-opacity="0.45" stroke="{colour}"/>',
        klass, n(x), n(y), n(width), n(max(height, 0)), colour=COLOURS[0],
    )  # fmt: skip


def expected_line(left: float, right: float, y: float) -> SafeString:
    return format_html(
        '<line class="chart-expected" x1="{}" x2="{}" y1="{y}" y2="{y}" stroke="{}" stroke-width="2.5" stroke-dasharray="5 3"/>',
        n(left), n(right), COLOURS[1], y=n(y),
    )  # fmt: skip


def expected_tick(x: float, y: float) -> SafeString:
    return format_html(
        '<line class="chart-expected" x1="{x}" x2="{x}" y1="{}" y2="{}" stroke="{}" stroke-width="2.5" stroke-dasharray="4 2"/>',
        n(y - 9), n(y + 9), COLOURS[1], x=n(x),
    )  # fmt: skip


def mark_line(left: float, right: float, y: float, name: str) -> SafeString:
    return format_html(
        '<line x1="{}" x2="{}" y1="{y}" y2="{y}" stroke="currentColor" stroke-opacity="0.6" stroke-dasharray="2 4"/>{}',
        n(left), n(right), text(right + 6, y + 4, name), y=n(y),
    )  # fmt: skip


def upright(x: float, top: float, bottom: float, name: str) -> SafeString:
    return format_html(
        '<line x1="{x}" x2="{x}" y1="{}" y2="{}" stroke="currentColor" stroke-opacity="0.6" stroke-dasharray="2 4"/>{}',
        n(top), n(bottom), text(x, top - 4, name, "middle"), x=n(x),
    )  # fmt: skip


def polyline(index: int, points: list[Point]) -> SafeString:
    style = index % len(COLOURS)
    path = " ".join(f"{n(x)},{n(y)}" for x, y in points)
    drawn = format_html(
        '<polyline class="chart-line chart-line-{}" fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round" '
        'stroke-dasharray="{}" points="{}"/>',
        style + 1, COLOURS[style], DASHES[style], path,
    )  # fmt: skip
    if len(points) > MARKED_POINTS:
        return drawn
    return drawn + joined([marker(style, x, y) for x, y in points])


def marker(style: int, x: float, y: float, radius: float = 2.5) -> SafeString:
    if style % 2:
        return format_html(
            '<rect class="chart-mark chart-mark-{}" x="{}" y="{}" width="{size}" height="{size}" fill="{}"/>',
            style + 1, n(x - radius), n(y - radius), COLOURS[style], size=n(2 * radius),
        )  # fmt: skip
    return format_html(
        '<circle class="chart-mark chart-mark-{}" cx="{}" cy="{}" r="{}" fill="{}"/>',
        style + 1, n(x), n(y), radius, COLOURS[style],
    )  # fmt: skip


def legend(index: int, name: str, left: float) -> SafeString:
    style = index % len(COLOURS)
    return format_html(
        '<line class="chart-line chart-line-{}" x1="{}" x2="{}" y1="17" y2="17" stroke="{}" stroke-width="2" stroke-dasharray="{}"/>'
        "{}{}",
        style + 1, n(left), n(left + 26), COLOURS[style], DASHES[style], marker(style, left + 13, 17),
        text(left + 32, 21, name),
    )  # fmt: skip


def thin(points: tuple[Point, ...]) -> list[Point]:
    """At most some 300 points: of each stretch the lowest and the highest, so that no peak is lost."""
    if len(points) <= DRAWN_POINTS:
        return list(points)
    size = math.ceil(len(points) / (DRAWN_POINTS // 2))
    thinned: list[Point] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        thinned += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return thinned
