"""Pictures in which each row is drawn; numpy, pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fabric_nb.notebook.plot.decimate import Array, Bins
from fabric_nb.notebook.plot.lines import line_of, points_of, y_axis
from fabric_nb.notebook.plot.picture import Picture
from fabric_nb.notebook.plot.scene import Scene, without_lines
from fabric_nb.notebook.plot.selection import Range

POINTS_PER_COLUMN = 12
"""Points of a scatter chart for each column of pixels; more of them are joined."""


def picture_of_rows(scene: Scene, extent: Range) -> Picture:
    """Return a picture of a line through all rows, an area below it, or points."""
    low, high = scene.shown(extent)
    kind = scene.options.kind
    rows, bins, binned, drawn = 0, None, None, []
    for name, x, y in _lines(scene):
        if bins is None or binned is not x:  # columns have the same x, and categories do not
            bins, binned = Bins(x, low, high, columns=scene.columns), x
            rows += bins.rows
        line = line_of(name, y, bins, hidden=name in scene.hidden)
        if len(line.extremes.columns):
            drawn.append((line, x, y))
    picture = scene.with_axis((low, high), extent, rows)
    lines = [line for line, _, _ in drawn]
    if not lines:
        return without_lines(picture)
    y_range = y_axis(lines, from_zero=kind == "area")
    if kind == "scatter":
        most = max(100, POINTS_PER_COLUMN * scene.columns // len(lines))
        vertical = y_range.low, y_range.high
        lines = [
            replace(line, points=points_of(x, y, (low, high), vertical, scene.columns, most))
            for line, x, y in drawn
        ]
    return replace(picture, lines=lines, y=y_range, kind=kind)


def _lines(scene: Scene) -> Iterator[tuple[str, Array, Array]]:
    """Yield name, x and y of each line."""
    data, series = scene.data, scene.series
    if series.group is None:
        for name in series.columns:
            yield name, data.x, data.frame[name].to_numpy()
        return
    values = data.frame[series.columns[0]].to_numpy()
    for place, name in enumerate(series.groups):
        rows = np.flatnonzero(series.group == place)
        if len(rows):
            yield name, data.x[rows], values[rows]
