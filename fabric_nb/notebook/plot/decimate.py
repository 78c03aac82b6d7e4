"""Reduction of a line to its extremes in each column of pixels; numpy, pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Extremes:
    """Minimum and maximum in each column of pixels, in the order in which the line passes them.

    Attributes:
        columns: indices of the columns that have values, ascending.
        first: the extreme that the line passes first.
        second: the other extreme.
    """

    columns: Array
    first: Array
    second: Array

    @property
    def low(self) -> float:
        """Overall minimum; NaN if there are no values."""
        return float(min(self.first.min(), self.second.min())) if len(self.first) else np.nan

    @property
    def high(self) -> float:
        """Overall maximum; NaN if there are no values."""
        return float(max(self.first.max(), self.second.max())) if len(self.first) else np.nan


class Bins:
    """Assignment of values to columns of pixels; shared by all lines over one x.

    Args:
        x: x values; fastest if sorted.
        low: left edge of the first column; values outside the edges are ignored.
        high: right edge of the last column, inclusive.
        columns: number of columns, at most 65,535.

    Example:
        >>> bins = Bins(np.arange(8), 0, 8, columns=2)
        >>> seen = bins.extremes(np.array([3.0, 1, 2, 9, 5, np.nan, 4, 4]))
        >>> seen.columns.tolist(), seen.first.tolist(), seen.second.tolist()
        ([0, 1], [1.0, 5.0], [9.0, 4.0])
    """

    def __init__(self, x: Array, low: float, high: float, *, columns: int) -> None:
        self.order: Array | slice
        """Indices of the values inside the edges, sorted by column."""
        if bool((x[1:] >= x[:-1]).all()):
            starts = np.searchsorted(x, _edges(x, low, high, columns), side="left")
            stop = int(np.searchsorted(x, high, side="right"))
            self.order = slice(int(starts[0]), stop)
            starts, self.rows = starts - starts[0], stop - int(starts[0])
        else:
            inside = (x >= low) & (x <= high)
            selected = None if inside.all() else np.flatnonzero(inside)
            x = x if selected is None else x[selected]
            # Integers are subtracted as integers, because large ones would be rounded as floats.
            right = (x - x.dtype.type(low)) * (columns / (high - low))
            column = np.minimum(right, columns - 1, out=right).astype(np.uint16)
            # Sorting 16-bit integers takes a tenth of the time of sorting x.
            order = np.argsort(column, kind="stable")
            self.order, self.rows = order if selected is None else selected[order], len(x)
            counts = np.bincount(column, minlength=columns)
            starts = np.cumsum(counts) - counts
        self._columns = np.flatnonzero(np.diff(starts, append=self.rows) > 0)
        self._starts = starts[self._columns]

    def extremes(self, y: Array) -> Extremes:
        """Return the extremes of the finite values in each column."""
        y = y[self.order].astype(np.float64, copy=False)
        if not len(self._starts):
            return Extremes(self._columns, y[:0], y[:0])
        low, high = self._reduced(y)
        if np.isinf(low).any() or np.isinf(high).any():
            y = np.where(np.isfinite(y), y, np.nan)
            low, high = self._reduced(y)
        ends = np.append(self._starts[1:], self.rows) - 1
        falling = y[ends] < y[self._starts]
        valid = ~np.isnan(low)
        first, second = np.where(falling, high, low), np.where(falling, low, high)
        return Extremes(self._columns[valid], first[valid], second[valid])

    def _reduced(self, y: Array) -> tuple[Array, Array]:
        return np.fmin.reduceat(y, self._starts), np.fmax.reduceat(y, self._starts)


def _edges(x: Array, low: float, high: float, columns: int) -> Array:
    """Return the left edge of each column of pixels, in the dtype of x."""
    right = np.arange(columns) * ((high - low) / columns)
    if x.dtype.kind != "i":
        return low + right
    # Integers above 2**53, such as times in nanoseconds, would be rounded as floats.
    edges: Array = int(low) + np.ceil(right).astype(np.int64)
    return edges
