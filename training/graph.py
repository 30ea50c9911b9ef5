"""A pipeline drawn as SVG: stages in rows from top to bottom, each below all that it waits for."""

from dataclasses import dataclass, field

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from annotate.drawing import joined, n, shortened, text

WIDTH, PASSAGE = 212.0, 14.0
HEIGHT, HEIGHT_WITH_STATE = 48.0, 64.0
GAP_X, GAP_Y, MARGIN = 22.0, 34.0, 2.0
SWEEPS = 4


@dataclass(frozen=True)
class Node:
    name: str
    title: str
    waits_for: tuple[str, ...] = ()
    state: str = ""
    state_label: str = ""
    url: str = ""


@dataclass
class _Place:
    """A node's place in a row, or the passage of an edge (`node` is None) through a row that it crosses."""

    key: tuple[str, ...]
    row: int
    height: float
    node: Node | None = None
    above: list["_Place"] = field(default_factory=list)
    below: list["_Place"] = field(default_factory=list)
    x: float = 0.0

    @property
    def width(self) -> float:
        return WIDTH if self.node else PASSAGE

    @property
    def top(self) -> float:
        return MARGIN + self.row * (self.height + GAP_Y)


def draw(nodes: list[Node]) -> SafeString:
    """Nodes that wait for each other in a circle, or for what is not there, are drawn as if they did not."""
    each = HEIGHT_WITH_STATE if any(node.state for node in nodes) else HEIGHT
    rows = _order(_rows(nodes, each))
    across = max((_row_width(row) for row in rows), default=WIDTH)
    for row in rows:
        x = MARGIN + (across - _row_width(row)) / 2
        for place in row:
            place.x = x + place.width / 2
            x += place.width + GAP_X
    places = [place for row in rows for place in row]
    height = len(rows) * (each + GAP_Y) - GAP_Y + 2 * MARGIN
    edges = joined([_edge(place, below) for place in places for below in place.below])
    boxes = joined([_box(place, place.node) for place in places if place.node])
    return format_html(
        '<svg class="graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="group" aria-label="{}">{}{}</svg>',
        _("The stages and what they wait for"), edges, boxes, width=n(across + 2 * MARGIN), height=n(height),
    )  # fmt: skip


def _rows(nodes: list[Node], height: float) -> list[list[_Place]]:
    levels = _levels(nodes)
    rows: list[list[_Place]] = [[] for _level in range(max(levels.values(), default=0) + 1)]
    places = {node.name: _Place((node.name,), levels[node.name], height, node) for node in nodes}
    for place in places.values():
        rows[place.row].append(place)
    for node in nodes:
        for name in dict.fromkeys(node.waits_for):
            if name not in places or levels[name] >= levels[node.name]:
                continue
            upper = places[name]
            for row in range(upper.row + 1, levels[node.name]):
                passage = _Place((name, node.name), row, height)
                rows[row].append(passage)
                _join(upper, passage)
                upper = passage
            _join(upper, places[node.name])
    return rows


def _join(upper: _Place, lower: _Place) -> None:
    upper.below.append(lower)
    lower.above.append(upper)


def _levels(nodes: list[Node]) -> dict[str, int]:
    """How many stages lie on the longest way to each. At most as many rounds as nodes: a circle ends, too."""
    levels = {node.name: 0 for node in nodes}
    for _round in nodes:
        for node in nodes:
            waits = [levels[name] + 1 for name in node.waits_for if name in levels and name != node.name]
            levels[node.name] = min(max(waits, default=0), len(nodes) - 1)
    return levels


def _order(rows: list[list[_Place]]) -> list[list[_Place]]:
    """Each row by the middle of what its places are joined to, down and up in turn, so that few edges cross."""
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        for row in rows if downwards else reversed(rows):
            orders = {id(place): place for place in row}
            middles = {key: _middle(place.above if downwards else place.below, rows) for key, place in orders.items()}
            own = {id(place): index for index, place in enumerate(row)}
            row.sort(key=lambda place: (_or(middles[id(place)], own[id(place)]), own[id(place)]))
    return rows


def _middle(neighbours: list[_Place], rows: list[list[_Place]]) -> float | None:
    if not neighbours:
        return None
    spots = [rows[one.row].index(one) - (len(rows[one.row]) - 1) / 2 for one in neighbours]
    return sum(spots) / len(spots)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _row_width(row: list[_Place]) -> float:
    return sum(place.width for place in row) + GAP_X * (len(row) - 1)


def _edge(upper: _Place, lower: _Place) -> SafeString:
    start, end = upper.top + (upper.height if upper.node else 0), lower.top
    middle = (upper.top + upper.height + end) / 2
    inside = f"L{n(upper.x)} {n(upper.top + upper.height)}" if not upper.node else ""
    tip = f"M{n(lower.x - 4)} {n(end - 6)}L{n(lower.x)} {n(end)}L{n(lower.x + 4)} {n(end - 6)}" if lower.node else ""
    return format_html(
        '<path class="graph-edge" d="M{} {}{}C{} {} {} {} {} {}{}"/>',
        n(upper.x), n(start), inside, n(upper.x), n(middle), n(lower.x), n(middle), n(lower.x), n(end), tip,
    )  # fmt: skip


def _box(place: _Place, node: Node) -> SafeString:
    left = place.x - WIDTH / 2
    lines = joined(
        [
            text(place.x, place.top + 20, shortened(node.name, 22), "middle", klass="graph-name"),
            text(place.x, place.top + 37, shortened(node.title, 35), "middle", klass="graph-title"),
            text(place.x, place.top + 54, node.state_label, "middle", klass="graph-state"),
        ]
    )
    rect = format_html(
        '<rect x="{}" y="{}" width="{}" height="{}" rx="6"/>', n(left), n(place.top), n(WIDTH), n(place.height)
    )
    whole = format_html_join("", "{}", ((part,) for part in (rect, lines)))
    if node.url:
        return format_html('<a class="graph-node" data-state="{}" href="{}">{}</a>', node.state, node.url, whole)
    return format_html('<g class="graph-node" data-state="{}">{}</g>', node.state, whole)
