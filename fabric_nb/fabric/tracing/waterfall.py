"""Waterfall of a trace, as text and as SVG. Pure.

my_app.report                                            42.0 ms
pricing.quote        @7f3a   ██████▌                   12.1 ms
stock.reserve        @a20c          ███████████████    29.8 ms  ValueError: sold out
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from fabric_nb.errors import one_line
from fabric_nb.fabric.tracing.tree import Node

TEXT_WIDTH, BAR_WIDTH = 34, 30
"""Characters of a name and of a bar in text."""
MAX_ROWS = 200
"""Spans of a picture or a text; the table of a notebook shows more."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_ROW, _LEFT, _BARS, _RIGHT = 22, 300, 460, 240
"""Pixels of a row, and of names, bars and durations."""


def label_of(node: Node) -> str:
    """Return service and method of a span, without the domain."""
    span = node.span
    service = span.service.partition(".")[2] or span.service
    return f"{service.rpartition('.')[2]}.{span.method}" if span.method else service


def instance_of(node: Node) -> str:
    """Return the id of the instance that has answered a call; empty if it is not known."""
    if node.server is not None:
        return node.server.instance
    return "" if node.span.kind == "client" else node.span.instance


def duration(ms: float) -> str:
    """Format a duration: ``850 µs``, ``12.3 ms``, ``4.5 s``.

    Example:
        >>> duration(0.85), duration(12.34), duration(4500)
        ('850 µs', '12.3 ms', '4.5 s')
    """
    if ms < 1:
        return f"{ms * 1000:.0f} µs"
    return f"{ms:.1f} ms" if ms < 1000 else f"{ms / 1000:,.1f} s"


def notes(node: Node) -> str:
    """Return what is to be said of a span beside its duration."""
    found = [one_line(node.error)] if node.error else []
    if not node.error and node.span.outcome != "ok":
        found.append(node.span.outcome)
    if node.orphan:
        found.append("the call that it belongs to has not arrived")
    if node.clock and node.server is not None:
        ahead = "ahead" if node.clock > 0 else "behind"
        found.append(f"its clock is {duration(abs(node.clock))} {ahead}")
    if node.span.kind == "client" and node.server is None:
        found.append("not traced")
    return "; ".join(found)


def waterfall_text(label: str, nodes: Sequence[Node]) -> str:
    """Return a waterfall as lines of text."""
    if not nodes:
        return f"<trace of {label}: no spans>"
    whole = _whole(nodes)
    lines = [_text_row(node, whole) for node in nodes[:MAX_ROWS]]
    if len(nodes) > MAX_ROWS:
        lines.append(f"... and {len(nodes) - MAX_ROWS:,} more spans")
    return "\n".join(lines)


def _whole(nodes: Sequence[Node]) -> float:
    return max(max(node.end for node in nodes), 1e-6)


def _text_row(node: Node, whole: float) -> str:
    instance = instance_of(node)[:8]
    name = "  " * min(node.depth, 8) + one_line(label_of(node))
    first = f"{name[:TEXT_WIDTH]:<{TEXT_WIDTH}} {'@' + instance if instance else '':<9}"
    before, filled = (round(part / whole * BAR_WIDTH * 8) for part in (node.start, node.span.ms))
    before = max(0, min(before, BAR_WIDTH * 8 - 1)) // 8
    filled = max(1, min(filled, (BAR_WIDTH - before) * 8))
    bar = " " * before + "█" * (filled // 8) + _EIGHTHS[filled % 8].strip()
    return f"{first} {bar:<{BAR_WIDTH}} {duration(node.span.ms):>9}  {notes(node)}".rstrip()


_COLOURS = {"text": "#7d8590", ".e": "#d1504f", ".s": "#3d8bd4", ".q": "#9aa4af", ".p": "#8a63d2"}
_STYLE = "".join(
    [
        "<style>.fabric-waterfall{font:12px sans-serif}",
        *(f".fabric-waterfall {part}{{fill:{colour}}}" for part, colour in _COLOURS.items()),
        "</style>",
    ]
)
"""Scoped, because a page may contain the picture as elements of its own; for both themes."""


def waterfall_svg(label: str, nodes: Sequence[Node]) -> str:
    """Return a waterfall as SVG, readable on a light and on a dark page."""
    shown, whole = nodes[:MAX_ROWS], _whole(nodes) if nodes else 1.0
    height = _ROW * (len(shown) + 1) + 12
    width = _LEFT + _BARS + _RIGHT
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fabric-waterfall" {size} role="img">',
        f"<title>{escape(f'Trace of {label}')}</title>",
        _STYLE,
    ]
    for row, node in enumerate(shown):
        parts += _svg_row(node, _ROW * row + 8, _BARS / whole)
    if len(nodes) > MAX_ROWS:
        more = f"... and {len(nodes) - MAX_ROWS:,} more spans"
        parts.append(f'<text x="4" y="{height - 8}">{more}</text>')
    return "".join([*parts, "</svg>"])


def _svg_row(node: Node, top: float, scale: float) -> list[str]:
    base = top + 14
    indent = 4 + min(node.depth, 12) * 14
    instance = instance_of(node)[:8]
    name = escape(one_line(label_of(node))[:40])
    at = _LEFT + min(node.start * scale, _BARS - 1.0)
    length = max(1.0, min(node.span.ms * scale, _LEFT + _BARS - at))
    kind = "e" if node.error else "p" if node.span.kind == "producer" else "s"
    queued = min(max(0.0, (node.queued or 0.0) * scale), length)
    tail = f' <tspan opacity="0.8">@{escape(instance)}</tspan>' if instance else ""
    parts = [
        f'<text x="{indent}" y="{base}">{name}{tail}</text>',
        _bar("q", at, top, length),
        _bar(kind, at + queued, top, max(1.0, length - queued)),
        f'<text x="{_LEFT + _BARS + 8}" y="{base}">{duration(node.span.ms)}',
    ]
    if note := notes(node):
        style = ' class="e"' if node.error else ""
        parts.append(f" <tspan{style}>{escape(note[:60])}</tspan>")
    return [*parts, "</text>"]


def _bar(kind: str, left: float, top: float, length: float) -> str:
    place = f'x="{left:.1f}" y="{top + 3}" width="{length:.1f}"'
    return f'<rect class="{kind}" {place} height="13" rx="2"/>'
