"""A million values as what a few hundred columns of pixels can show; numpy, pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Extremes:
    """The least and the greatest value in each column of pixels, in the order of the line.

    Attributes:
        columns: the columns that have values, from the left.
        first: the one that the line comes to first.
        second: the other.
    """

    columns: Array
    first: Array
    second: Array

    @property
    def low(self) -> float:
        """The least of all; NaN if there are none."""
        return float(min(self.first.min(), self.second.min())) if len(self.first) else np.nan

    @property
    def high(self) -> float:
        """The greatest of all; NaN if there are none."""
        return float(max(self.first.max(), self.second.max())) if len(self.first) else np.nan


class Bins:
    """Which values fall into which column of pixels; the same for all lines over one x.

    Args:
        x: where the values stand; quickest if sorted.
        low: the left edge of the first column; values beyond the edges are left out.
        high: the right edge of the last one; values there belong to it.
        columns: how many there are, at most 65,535.

    Example:
        >>> bins = Bins(np.arange(8), 0, 8, columns=2)
        >>> seen = bins.extremes(np.array([3.0, 1, 2, 9, 5, np.nan, 4, 4]))
        >>> seen.columns.tolist(), seen.first.tolist(), seen.second.tolist()
        ([0, 1], [1.0, 5.0], [9.0, 4.0])
    """

    def __init__(self, x: Array, low: float, high: float, *, columns: int) -> None:
        self.order: Array | slice
        """The places of the values that are seen, from the left."""
        if bool((x[1:] >= x[:-1]).all()):
            starts = np.searchsorted(x, _edges(x, low, high, columns), side="left")
            stop = int(np.searchsorted(x, high, side="right"))
            self.order = slice(int(starts[0]), stop)
            starts, self.rows = starts - starts[0], stop - int(starts[0])
        else:
            inside = (x >= low) & (x <= high)
            seen = None if inside.all() else np.flatnonzero(inside)
            x = x if seen is None else x[seen]
            # Whole numbers are subtracted as such: as floats they would be rounded before.
            right = (x - x.dtype.type(low)) * (columns / (high - low))
            column = np.minimum(right, columns - 1, out=right).astype(np.uint16)
            # To sort numbers so small takes a tenth of the time that sorting x would take.
            placed = np.argsort(column, kind="stable")
            self.order, self.rows = placed if seen is None else seen[placed], len(x)
            counts = np.bincount(column, minlength=columns)
            starts = np.cumsum(counts) - counts
        self._columns = np.flatnonzero(np.diff(starts, append=self.rows) > 0)
        self._starts = starts[self._columns]

    def extremes(self, y: Array) -> Extremes:
        """The extremes of values, of which those that are no finite numbers are left out."""
        y = y[self.order].astype(np.float64, copy=False)
        if not len(self._starts):
            return Extremes(self._columns, y[:0], y[:0])
        low, high = self._reduced(y)
        if np.isinf(low).any() or np.isinf(high).any():
            y = np.where(np.isfinite(y), y, np.nan)
            low, high = self._reduced(y)
        ends = np.append(self._starts[1:], self.rows) - 1
        falling = y[ends] < y[self._starts]
        kept = ~np.isnan(low)
        first, second = np.where(falling, high, low), np.where(falling, low, high)
        return Extremes(self._columns[kept], first[kept], second[kept])

    def _reduced(self, y: Array) -> tuple[Array, Array]:
        return np.fmin.reduceat(y, self._starts), np.fmax.reduceat(y, self._starts)


def _edges(x: Array, low: float, high: float, columns: int) -> Array:
    """The left edge of each column of pixels, of the kind of x."""
    right = np.arange(columns) * ((high - low) / columns)
    if x.dtype.kind != "i":
        return low + right
    # Whole numbers beyond 2**53, as times in nanoseconds are, would be rounded as floats.
    edges: Array = int(low) + np.ceil(right).astype(np.int64)
    return edges
