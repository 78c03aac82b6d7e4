"""Static copy of a chart, as HTML and as text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from fabric_nb.errors import one_line
from fabric_nb.notebook.pages import BARS, BARS_SHOWN, Badge, Page, escape, plain, saved
from fabric_nb.notebook.plot.picture import TOP, Line, Picture

WIDTH, HEIGHT = 800, 300
COLUMNS = 400
"""Columns of pixels; a finer resolution is not visible in a static picture."""
COLOURS = ("#2f7fd6", "#d2691e", "#1f9d70", "#b5489b", "#7a64d0", "#c8434a")
"""Colours of the lines, readable on light and on dark themes; plot_marks.js has the same."""
BAR_FILL = 0.9
"""Fraction of the width of a bucket that its bar takes; plot_marks.js has the same."""

_SHAPES = (
    ".line{fill:none;stroke-width:1.4;stroke-linejoin:round}",
    ".area{stroke:none;opacity:.3}",
    ".area.stacked{opacity:1}",
    ".points{fill:none;stroke-width:3;stroke-linecap:round;opacity:.8}",
)
"""Rules of the shapes of lines."""

# See `table.static.STYLE`.
STYLE = """<style>
.jp-OutputArea-child:has(.fabric-plot)+.jp-OutputArea-child:has(.fabric-plot-last),
.jp-OutputArea-child:has(>.lm-Panel.jp-OutputArea-output,>.jupyter-widgets)\
:not(:has(.fabric-plot)):has(+.jp-OutputArea-child .fabric-plot-last)
{display:none!important}
.fabric-plot-last svg{display:block;width:100%;max-width:1000px;height:auto;
font:12px var(--jp-ui-font-family,system-ui,sans-serif);color:var(--jp-ui-font-color1,inherit)}
.fabric-plot-last text{fill:currentColor}
.fabric-plot-last .grid{stroke:var(--jp-border-color2,#8886);stroke-width:1}
"""
STYLE += "".join(f".fabric-plot-last {rule}" for rule in _SHAPES) + "</style>"

_DOCUMENT_STYLE = "".join(
    (
        "text{font-family:system-ui,sans-serif;font-size:12px;fill:#333}",
        ".grid{stroke:#ddd;stroke-width:1}",
        *_SHAPES,
    )
)

_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 12, 26, 40


def static_forms(picture: Picture) -> dict[str, str]:
    """Return the chart as ``text/html`` and ``text/plain``."""
    badges = [Badge(picture.state, "warn")] if picture.state else []
    page = saved(
        Page(picture.title, badges, facts=picture.summary(), notes=picture.notes), time.time()
    )
    drawing = chart_svg(picture) if picture.lines else ""
    return {
        "text/html": f'{STYLE}<div class="fabric-plot-last">{page.html()}{drawing}</div>',
        "text/plain": "\n".join([page.text(), *(_bars(picture, line) for line in picture.lines)]),
    }


def chart_svg(picture: Picture) -> str:
    """Return the chart as an SVG element for an HTML page; see `STYLE`."""
    parts = [*_frame(picture), *_legend(picture)]
    marks = [_marks(picture, index) for index in range(len(picture.lines))]
    # Of a stack, the line on top is drawn first, behind those that are part of its height.
    parts += reversed(marks) if picture.stacked else marks
    label = escape("; ".join(picture.summary()), None)
    box = f"0 0 {WIDTH} {HEIGHT}"
    return f'<svg viewBox="{box}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def svg_document(picture: Picture) -> str:
    """Return the chart as a document that shows it by itself, with its title and description."""
    title = ", ".join(filter(None, (picture.title, picture.what)))
    head_lines = "".join(
        f'<text x="{_LEFT if index else 12}" y="{16 + 16 * index}"{weight}>{escape(text)}</text>'
        for index, (text, weight) in enumerate(
            [(title, ' font-weight="600"'), *((text, "") for text in picture.notes)]
        )
    )
    head = 24 + 16 * len(picture.notes)
    drawing = chart_svg(picture).replace("<svg ", f'<svg y="{head}" height="{HEIGHT}" ', 1)
    size = f'width="{WIDTH}" height="{HEIGHT + head}" viewBox="0 0 {WIDTH} {HEIGHT + head}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_DOCUMENT_STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{head_lines}'
        f"{drawing if picture.lines else ''}</svg>\n"
    )


def _marks(picture: Picture, index: int) -> str:
    """Return the marks of one line."""
    colour, line = COLOURS[index], picture.lines[index]
    if line.hidden:
        return ""
    if picture.kind == "bar":
        return f'<path fill="{colour}" d="{_bar_path(picture, index)}"/>'
    if line.points is not None:
        return f'<path class="points" stroke="{colour}" d="{_point_path(line.points)}"/>'
    points = _points(picture, line)
    drawn = f'<polyline class="line" stroke="{colour}" points="{points}"/>'
    if picture.kind != "area":
        return drawn
    shape = "area stacked" if picture.stacked else "area"
    return f'<path class="{shape}" fill="{colour}" d="{_area_path(picture, points)}"/>{drawn}'


def _bar_path(picture: Picture, index: int) -> str:
    """Return the rectangles of one line; bars of several lines stand side by side or in a stack."""
    line, count = picture.lines[index], 1 if picture.stacked else len(picture.lines)
    place = 0 if picture.stacked else index
    pixel = (WIDTH - _RIGHT - _LEFT) / picture.columns
    width = max(0.5, picture.bar * pixel * BAR_FILL) / count
    zero, parts = _height(picture, np.zeros(1))[0], []
    for column, top in zip(
        line.extremes.columns.tolist(),
        _height(picture, _farthest(line)).tolist(),
        strict=True,
    ):
        left = _LEFT + (column + 0.5) * pixel + (place - count / 2) * width
        parts.append(f"M{left:.1f} {zero:.1f}V{top:.1f}h{width:.1f}V{zero:.1f}z")
    return "".join(parts)


def _farthest(line: Line) -> Any:
    """Return the extreme of each column that is farther from 0."""
    first, second = line.extremes.first, line.extremes.second
    return np.where(np.abs(first) > np.abs(second), first, second)


def _point_path(points: Any) -> str:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    x = _LEFT + points[:, 0] / TOP * (right - _LEFT)
    y = bottom - points[:, 1] / TOP * (bottom - _TOP)
    return "".join(f"M{a:.0f} {b:.0f}h0" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _area_path(picture: Picture, points: str) -> str:
    zero = f"{_height(picture, np.zeros(1))[0]:.1f}"
    first, last = points.split(" ", 1)[0], points.rsplit(" ", 1)[-1]
    return f"M{first.split(',')[0]},{zero}L{points}L{last.split(',')[0]},{zero}z"


def _height(picture: Picture, values: Any) -> Any:
    bottom = HEIGHT - _BOTTOM
    return bottom - picture.heights(values) / TOP * (bottom - _TOP)


def _frame(picture: Picture) -> Iterator[str]:
    """Yield the grid and its labels."""
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    for tick in picture.y.ticks:
        y = round(bottom - tick.position * (bottom - _TOP), 1)
        yield f'<path class="grid" d="M{_LEFT} {y}H{right}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(tick.text)}</text>'
    for tick in picture.x.ticks:
        x = round(_LEFT + tick.position * (right - _LEFT), 1)
        yield f'<path class="grid" d="M{x} {bottom}v5"/>'
        yield f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{escape(tick.text)}</text>'
    yield (
        f'<text x="{(_LEFT + right) / 2}" y="{HEIGHT - 5}" text-anchor="middle">'
        f"{escape(picture.x.caption)}</text>"
    )


def _legend(picture: Picture) -> Iterator[str]:
    x = float(_LEFT)
    for colour, line in zip(COLOURS, picture.lines, strict=False):
        name = plain(line.name, 40)
        yield f'<rect x="{x}" y="8" width="14" height="4" rx="2" fill="{colour}"/>'
        yield f'<text x="{x + 19}" y="14">{escape(name)}</text>'
        x += 40 + 7 * len(name)


def _points(picture: Picture, line: Line) -> str:
    column = (WIDTH - _RIGHT - _LEFT) / picture.columns
    centres = _LEFT + (line.extremes.columns + 0.5) * column
    # The two points of a column are offset, because a gentle slope would look like steps.
    offset = column / 4
    first, second = (
        _height(picture, values) for values in (line.extremes.first, line.extremes.second)
    )
    return " ".join(
        f"{x:.1f},{a:.1f}" if a == b else f"{x - offset:.1f},{a:.1f} {x + offset:.1f},{b:.1f}"
        for x, a, b in zip(centres.tolist(), first.tolist(), second.tolist(), strict=True)
    )


def _bars(picture: Picture, line: Line) -> str:
    """Return the line as block characters, of its mean heights."""
    first, second = line.extremes.first, line.extremes.second
    heights = (picture.heights(first) / 2 + picture.heights(second) / 2) / TOP
    bars = "".join(
        BARS[min(len(BARS) - 1, int(part.mean() * len(BARS)))]
        for part in np.array_split(heights, min(BARS_SHOWN, len(heights)))
    )
    return f"{one_line(plain(line.name, 40))} {bars}"
