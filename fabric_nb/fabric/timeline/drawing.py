"""A timeline as SVG and as text. Pure."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from html import escape
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from fabric_nb.fabric.timeline.events import clock_text
from fabric_nb.fabric.timeline.picture import TONES, Lane, Mark, Picture

COLUMNS = 600
"""Columns of a static picture."""
TEXT_COLUMNS, TEXT_NAME = 50, 24
"""Characters of the marks and of the name of a lane in text."""
MAX_STATIC_MARKS = 5000
"""Marks of a static picture; of each lane the most important are drawn."""

COLOURS = ("#8b949e", "#2f9e62", "#3d8bd4", "#c98a1b", "#d1504f")
"""Colours of `TONES`, readable on light and on dark pages."""

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200)
_DAY = 86_400
_BARS = "▁▂▃▄▅▆▇█"
_TITLE, _LEFT, _RIGHT, _ROW, _AXIS = 22, 190, 60, 22, 26
_SVG = 'xmlns="http://www.w3.org/2000/svg" class="fabric-timeline-picture"'
_STYLE = """<style>
.fabric-timeline-picture{font:12px sans-serif;max-width:100%;height:auto}
.fabric-timeline-picture text{fill:#7d8590}
.fabric-timeline-picture path{stroke:#8886}
.fabric-timeline-picture .mark{stroke:none}
</style>"""
_FULL, _LOW = 16, 6
"""Heights of a mark of many events and of one."""


class Tick(NamedTuple):
    """A mark of the time axis: its epoch seconds, and the local time as text."""

    time: float
    text: str


def ticks(start: float, end: float, count: int) -> list[Tick]:
    """Return about `count` ticks at round local times."""
    least = (end - start) / max(1, count)
    step = next((step for step in _STEPS if step >= least), _DAY * math.ceil(least / _DAY))
    offset = time.localtime(start).tm_gmtoff
    first = math.ceil((start + offset) / step)
    last = math.floor((end + offset) / step)
    pattern = "%b %d" if step >= _DAY else "%H:%M" if step >= 60 else "%H:%M:%S"
    times = [number * step - offset for number in range(first, last + 1)]
    return [Tick(moment, time.strftime(pattern, time.localtime(moment))) for moment in times]


def height_of(mark: Mark, lane: Lane) -> float:
    """Return the height of a mark, from 0 to 1.

    Of streams it is in proportion to the rows. Of events it grows with the logarithm of their
    number, so that single ones remain visible beside many.
    """
    if lane.group == "streams":
        return mark.number / lane.peak
    if lane.peak == 1:
        return 1.0
    return (_LOW + (_FULL - _LOW) * math.log(mark.number) / math.log(lane.peak)) / _FULL


# -- SVG


def timeline_svg(picture: Picture, title: str) -> str:
    """Return a timeline as SVG, readable on a light and on a dark page."""
    height = _TITLE + _ROW * max(1, len(picture.lanes)) + _AXIS + 6
    width = _LEFT + COLUMNS + _RIGHT
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg {_SVG} {size} role="img">',
        f'<title>{escape(title)}</title><text x="0" y="14">{escape(title)}</text>',
        _STYLE,
    ]
    parts += _svg_axis(picture, height)
    each = MAX_STATIC_MARKS // max(1, len(picture.lanes))
    for row, lane in enumerate(picture.lanes):
        parts += _svg_lane(lane, _TITLE + 4 + row * _ROW, COLUMNS / picture.columns, each)
    return "".join([*parts, "</svg>"])


def _svg_axis(picture: Picture, height: int) -> Iterator[str]:
    bottom = height - _AXIS
    for tick in ticks(picture.start, picture.end, 6):
        x = _LEFT + (tick.time - picture.start) / (picture.end - picture.start) * COLUMNS
        yield f'<path d="M{x:.1f} {_TITLE}V{bottom + 4}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick.text}</text>'


def _svg_lane(lane: Lane, top: int, scale: float, limit: int) -> Iterator[str]:
    base = top + _FULL
    name = lane.name if len(lane.name) <= 28 else f"{lane.name[:27]}…"
    yield f'<text x="{_LEFT - 10}" y="{base - 3}" text-anchor="end">{escape(name)}</text>'
    yield f'<text x="{_LEFT + COLUMNS + 8}" y="{base - 3}">{lane.count:,}</text>'
    yield f'<path d="M{_LEFT} {base + 0.5}h{COLUMNS}"/>'
    # One path for all marks of a tone, because a saved notebook contains the picture.
    for tone, marks in groupby(lane.marks[-limit:], attrgetter("tone")):
        outlines = "".join(_outline(mark, lane, base, scale) for mark in marks)
        yield f'<path class="mark" d="{outlines}" fill="{COLOURS[tone]}"/>'


def _outline(mark: Mark, lane: Lane, base: int, scale: float) -> str:
    height = max(1, round(height_of(mark, lane) * _FULL))
    width = max(2, round((mark.last - mark.first) * scale))
    return f"M{_LEFT + round(mark.first * scale)} {base}v-{height}h{width}v{height}z"


# -- text


def timeline_text(picture: Picture) -> str:
    """Return a timeline as lines of text: a bar for each part of the time, ``!`` for a failure."""
    lines = [_text_lane(lane, picture.columns) for lane in picture.lanes]
    start, end = clock_text(picture.start), clock_text(picture.end)
    return "\n".join([*lines, f"{'':{TEXT_NAME}} {start:<{TEXT_COLUMNS - len(end)}}{end}"])


def _text_lane(lane: Lane, columns: int) -> str:
    counts, bad = [0.0] * TEXT_COLUMNS, [False] * TEXT_COLUMNS
    for mark in lane.marks:
        first, last = (at * TEXT_COLUMNS // columns for at in (mark.first, mark.last))
        for column in range(first, last + 1):
            counts[column] = max(counts[column], height_of(mark, lane))
            bad[column] |= TONES[mark.tone] == "bad"
    bars = "".join(
        "!" if failed else _BARS[math.ceil(count * 7)] if count else " "
        for count, failed in zip(counts, bad, strict=True)
    )
    total = f"{lane.count:,}" + (
        f", {lane.bad:,} bad" if lane.bad and lane.group == "calls" else ""
    )
    return f"{lane.name[:TEXT_NAME]:<{TEXT_NAME}} {bars} {total}"
