"""Lines, bars and points of a picture, and their vertical axis; numpy, pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fabric_nb.notebook.plot.decimate import Array, Bins
from fabric_nb.notebook.plot.picture import TOP, Axis, Line
from fabric_nb.notebook.plot.ticks import number_ticks

Y_TICKS = 5
_MARGIN = 0.06
"""Fraction of the height above and below the lines."""
_SAMPLE = 1000
"""Newest rows in which the last value of a line is looked for."""
_ROWS = 300
"""Rows of pixels in which points are joined, as long as they are not too many."""

Range = tuple[float, float]


def y_axis(lines: Sequence[Line], *, from_zero: bool = False) -> Axis:
    """Return a vertical axis for the lines that are drawn, or for all if none is."""
    lines = [line for line in lines if not line.hidden] or lines
    low = min(line.extremes.low for line in lines)
    high = max(line.extremes.high for line in lines)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    margin = (high - low) * _MARGIN or max(abs(high) * _MARGIN, 1e-300) or 1.0
    if not np.isfinite(high - low + 2 * margin):  # the difference overflows
        return Axis(-1.79e308 / 2, 1.79e308 / 2)
    low = low if from_zero and low == 0 else low - margin
    high = high if from_zero and high == 0 and low < 0 else high + margin
    return Axis(low, high, number_ticks(low, high, Y_TICKS))


def line_of(name: str, values: Array, bins: Bins, *, hidden: bool = False) -> Line:
    """Return a line through values."""
    newest = values[-_SAMPLE:].astype(np.float64)
    present = newest[np.isfinite(newest)]
    last = float(present[-1]) if len(present) else np.nan
    return Line(name, bins.extremes(values), last, hidden=hidden)


def points_of(x: Array, y: Array, x_range: Range, y_range: Range, columns: int, most: int) -> Array:
    """Return the positions of points, of which those on the same pixels are joined."""
    (left, right), (low, high) = x_range, y_range
    inside = (x >= left) & (x <= right)
    if not inside.all():
        x, y = x[inside], y[inside]
    across = (x - x.dtype.type(left)) * (1 / (right - left))
    up = _up(y, low, high)
    if len(x) > most:
        with np.errstate(invalid="ignore"):
            column = np.minimum((across * columns).astype(np.int32), columns - 1)
            row = np.minimum((up * _ROWS).astype(np.int32), _ROWS - 1)
        taken = np.zeros((columns, _ROWS), bool)
        finite = np.isfinite(up)
        if not finite.all():
            column, row = column[finite], row[finite]
        taken[column, row] = True
        pixels, size = np.argwhere(taken), 1
        joined = pixels
        while len(joined) > most:
            size += 1
            coarse = np.zeros((columns // size + 1, _ROWS // size + 1), bool)
            coarse[pixels[:, 0] // size, pixels[:, 1] // size] = True
            joined = np.argwhere(coarse)
        across = (joined[:, 0] * size + size / 2) / columns
        up = (joined[:, 1] * size + size / 2) / _ROWS
    else:
        finite = np.isfinite(up)
        across, up = across[finite], up[finite]
    return _encoded(across, up)


def points_of_buckets(line: Line, y: Axis, columns: int) -> Line:
    """Return a line of buckets as points at its values."""
    across = (line.extremes.columns + 0.5) / columns
    return replace(line, points=_encoded(across, _up(line.extremes.second, y.low, y.high)))


def _up(values: Array, low: float, high: float) -> Array:
    """Return heights from 0 to 1."""
    if high - low < 1e300:
        return np.asarray(values * (1 / (high - low)) - low / (high - low))
    return np.asarray((values / 2 - low / 2) / (high / 2 - low / 2))


def _encoded(across: Array, up: Array) -> Array:
    """Return positions from 0 to 1 in units of 1 / `TOP`."""
    positions = np.stack([across, up], axis=1) * TOP
    return np.asarray(np.rint(positions).clip(0, TOP).astype(np.uint16))
