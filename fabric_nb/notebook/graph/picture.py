"""Picture of a call graph: the busiest calls, their places, and their drawing. Pure.

All remote text is truncated and stripped of control characters here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fabric_nb.fabric.rpc.instance_statistics import Edge
from fabric_nb.notebook.graph.layout import Layout, Pair, Place
from fabric_nb.notebook.pages import counted, escape, plain

MAX_NODES, MAX_LINES = 40, 100
"""Services and pairs of services that are drawn; those with the fewest calls are omitted."""
MAX_METHODS = 5
"""Methods of a pair that its description names."""
MAX_DESCRIBED = 8
"""Pairs that the description of a service names."""
MAX_NAME = 140
UNKNOWN = "(on amqp-fabric)"
"""In place of a caller that sends no name."""
THIN, WIDE = 1.2, 6.0
"""Widths of lines, in pixels; the area is in proportion to the calls."""


class Node(NamedTuple):
    """A service.

    Attributes:
        name: full name, as received; empty for callers without a name.
        label: its text.
        place: where it is drawn.
        own: True for the notebook itself.
        text: description.
    """

    name: str
    label: str
    place: Place
    own: bool
    text: str


class Line(NamedTuple):
    """Calls of a service by another one, or by itself.

    Attributes:
        caller: index of the caller.
        service: index of the called service.
        width: width in pixels.
        failing: True if some of the calls fail.
        bends: places between the two.
        text: description.
    """

    caller: int
    service: int
    width: float
    failing: bool
    bends: Sequence[Place]
    text: str


@dataclass(frozen=True, slots=True)
class GraphPicture:
    """Calls between services at one moment.

    Attributes:
        nodes: services.
        lines: calls between them.
        label: description.
    """

    nodes: Sequence[Node] = ()
    lines: Sequence[Line] = ()
    label: str = ""

    def encoded(self) -> dict[str, Any]:
        """Return the picture for the browser, as JSON-compatible data."""
        return {
            "label": self.label,
            "nodes": [
                [plain(node.name, MAX_NAME), node.label, list(node.place), node.own, node.text]
                for node in self.nodes
            ],
            "lines": [
                [*line._replace(bends=[list(bend) for bend in line.bends])]  # type: ignore[misc]
                for line in self.lines
            ],
        }


class GraphPictures:
    """Pictures of one call graph, in which services stay where they are.

    Args:
        domain: domain that is left out of names.
        own: full name of the notebook.

    Attributes:
        picture: last picture.
        notes: sentences on what is not drawn.
    """

    def __init__(self, domain: str, own: str) -> None:
        self.picture: GraphPicture | None = None
        self.notes: Sequence[str] = ()
        self._prefix = f"{domain}."
        self._own = own
        self._layout = Layout()

    def update(self, edges: Sequence[Edge]) -> None:
        """Draw these edges."""
        calls: dict[Pair, list[Edge]] = {}
        for edge in edges:
            calls.setdefault((edge.caller, edge.service), []).append(edge)
        rates = {pair: math.fsum(edge.calls_s for edge in found) for pair, found in calls.items()}
        shown, names = self._busiest(rates)
        pairs, every = len(calls) - len(shown), {name for pair in calls for name in pair}
        self.notes = [_omitted(len(every) - len(names), pairs)] if pairs else []
        self._layout.update(shown)
        self.picture = self._picture(shown, names, calls, rates) if shown else None

    def _busiest(self, rates: dict[Pair, float]) -> tuple[list[Pair], dict[str, int]]:
        """Return the pairs with the most calls, and the indices of their services."""
        names: dict[str, int] = {}
        shown: list[Pair] = []
        for pair in sorted(rates, key=lambda pair: (-rates[pair], pair)):
            if len(shown) == MAX_LINES:
                break
            new = [name for name in dict.fromkeys(pair) if name not in names]
            if len(names) + len(new) <= MAX_NODES:
                shown.append(pair)
                names |= {name: len(names) + index for index, name in enumerate(new)}
        return shown, names

    def _picture(
        self,
        shown: Sequence[Pair],
        names: dict[str, int],
        calls: dict[Pair, list[Edge]],
        rates: dict[Pair, float],
    ) -> GraphPicture:
        places, bends = self._layout.places, self._layout.bends
        highest = max(rates[pair] for pair in shown) or 1.0
        lines, of = [], dict[str, list[str]]()
        for pair in shown:
            caller, service = map(self._label, pair)
            failing = any(edge.errors_s > 0 for edge in calls[pair])
            text = f"{caller} calls {service}: {_methods(calls[pair])}"
            width = THIN + (WIDE - THIN) * math.sqrt(rates[pair] / highest)
            where = bends.get(pair, ())
            lines.append(
                Line(names[pair[0]], names[pair[1]], round(width, 2), failing, where, text)
            )
            for name in dict.fromkeys(pair):
                of.setdefault(name, []).append(text)
        nodes = [
            Node(name, self._label(name), places[name], name == self._own, _described(of[name]))
            for name in names
        ]
        count = f"{counted(len(nodes), 'service')}, {counted(len(lines), 'pair')} with calls"
        return GraphPicture(nodes, lines, f"Picture of {count}; the table has the same calls")

    def _label(self, name: str) -> str:
        return plain(name.removeprefix(self._prefix), MAX_NAME) or UNKNOWN


def _omitted(services: int, pairs: int) -> str:
    left = f"{counted(services, 'service')} and " if services else ""
    return f"Not in the picture: {left}{counted(pairs, 'pair')} with fewer calls."


def _methods(edges: Sequence[Edge]) -> str:
    busiest = sorted(edges, key=lambda edge: (-edge.calls_s, edge.method))
    texts = [f"{plain(edge.method, 63)} {_rates(edge)}" for edge in busiest[:MAX_METHODS]]
    more = len(edges) - MAX_METHODS
    return "; ".join([*texts, *([counted(more, "more method")] if more > 0 else [])])


def _rates(edge: Edge) -> str:
    failing = f", {_rate(edge.errors_s)} failing" if edge.errors_s > 0 else ""
    return f"{_rate(edge.calls_s)}{failing}"


def _rate(rate: float) -> str:
    return f"{rate:.3g}/s" if rate < 1000 else f"{rate:,.0f}/s" if rate < 1e9 else f"{rate:.1e}/s"


def _described(texts: Sequence[str]) -> str:
    more = len(texts) - MAX_DESCRIBED
    return "\n".join([*texts[:MAX_DESCRIBED], *([f"… and {more:,} more"] if more > 0 else [])])


# -- SVG; graph.js draws the same

ROW, HEIGHT, GAP, PADDING, TOP = 32, 22, 56, 8, 6
CHARACTER = 7.4
"""Width of a character, in pixels; the browser measures it."""
MAX_LABEL = 26
"""Characters of a label in a static picture."""
STYLE = """<style>
.fabric-nb svg.graph{display:block;width:auto;height:auto;max-width:100%;margin:6px 0;
overflow:hidden;stroke:none;font:12px var(--jp-ui-font-family,system-ui,sans-serif)}
.fabric-nb svg.graph rect{fill:var(--jp-layout-color1,#8882);stroke:var(--jp-border-color1,#888)}
.fabric-nb svg.graph .own rect{stroke:var(--jp-brand-color1,#1f7fd1);stroke-width:2}
.fabric-nb svg.graph text{fill:var(--jp-ui-font-color1,currentColor)}
.fabric-nb svg.graph .line{fill:none;stroke:#6f8fb5;vector-effect:none}
.fabric-nb svg.graph .arrow{fill:#6f8fb5}
.fabric-nb svg.graph .failing .line{stroke:#d1504f;stroke-dasharray:7 4}
.fabric-nb svg.graph .failing .arrow{fill:#d1504f}
</style>"""


class _Box(NamedTuple):
    left: float
    right: float
    y: float


def graph_svg(picture: GraphPicture) -> str:
    """Return a picture as SVG, for a light and for a dark page."""
    labels = [_shortened(node.label) for node in picture.nodes]
    columns: dict[int, float] = {}
    for node, label in zip(picture.nodes, labels, strict=True):
        width = len(label) * CHARACTER + 2 * PADDING
        columns[node.place.layer] = max(columns.get(node.place.layer, 0.0), width)
    lefts, x = [], 2.0
    for layer in range(max(columns) + 1):
        lefts.append(x)
        x += columns.get(layer, 0.0) + GAP

    def box(place: Place) -> _Box:
        left = lefts[place.layer]
        return _Box(left, left + columns.get(place.layer, 0.0), TOP + ROW * place.row + HEIGHT / 2)

    boxes = [box(node.place) for node in picture.nodes]
    bottom = max(one.y for one in [*boxes, *(box(b) for line in picture.lines for b in line.bends)])
    width, height = x - GAP / 2, bottom + HEIGHT / 2 + TOP
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    parts = [f'{STYLE}<svg class="graph" {size} role="img" aria-label="{escape(picture.label)}">']
    for line in picture.lines:
        kind = ' class="failing"' if line.failing else ""
        ends = boxes[line.caller], boxes[line.service]
        path = "".join(_path(*ends, [box(bend) for bend in line.bends]))
        parts.append(
            f"<g{kind}><title>{escape(line.text)}</title>"
            f'<path class="line" stroke-width="{line.width}" d="{path}"/>'
            f'<path class="arrow" d="{_arrow(*ends)}"/></g>'
        )
    for node, label, (left, right, y) in zip(picture.nodes, labels, boxes, strict=True):
        own = ' class="own"' if node.own else ""
        parts.append(
            f"<g{own}><title>{escape(node.label)}</title>"
            f'<rect x="{left:.1f}" y="{y - HEIGHT / 2:.1f}" width="{right - left:.1f}"'
            f' height="{HEIGHT}" rx="4"/>'
            f'<text x="{left + PADDING:.1f}" y="{y + 4:.1f}">{escape(label)}</text></g>'
        )
    return "".join([*parts, "</svg>"])


def _shortened(label: str) -> str:
    return label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…"


def _path(caller: _Box, service: _Box, bends: Sequence[_Box]) -> Iterator[str]:
    """Yield the steps of a line: to the right, or from a later layer back to the left."""
    if caller == service:
        right, y = caller.right, caller.y
        yield f"M{right:.1f} {y - 6:.1f}c26 -12 26 24 5 12"
        return
    if caller.left == service.left:  # of one layer
        x, out = caller.right, caller.right + 30
        yield f"M{x:.1f} {caller.y + 3:.1f}C{out:.1f} {caller.y:.1f} {out:.1f} {service.y:.1f}"
        yield f" {x + 5:.1f} {service.y - 4:.1f}"
        return
    back = caller.left > service.left
    x, y = (caller.left, caller.y + 5) if back else (caller.right, caller.y)
    yield f"M{x:.1f} {y:.1f}"
    end = (service.right + 5, service.y + 5) if back else (service.left - 5, service.y)
    for to_x, to_y, on in [*((one.left, one.y, one.right) for one in bends), (*end, end[0])]:
        middle = (x + to_x) / 2
        yield f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}H{on:.1f}"
        x, y = on, to_y


def _arrow(caller: _Box, service: _Box) -> str:
    if caller.left < service.left:
        return f"M{service.left:.1f} {service.y:.1f}l-8 -4.5v9z"
    offset = 6 if caller == service else 5 if caller.left > service.left else -4
    return f"M{service.right:.1f} {service.y + offset:.1f}l8 -4.5v9z"
