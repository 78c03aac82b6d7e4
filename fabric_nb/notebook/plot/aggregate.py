"""Aggregation of rows in buckets of x, by group; numpy, pure.

`aggregated` computes it for all rows. `Aggregation` keeps the result, and computes again only the
buckets whose rows have changed, so that a million rows cost no more than the new ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fabric_nb.notebook.plot.decimate import Array

ADDITIVE = frozenset(("count", "sum"))
"""Values that are 0 for a bucket without rows, and that add up over groups."""

_LOOPED = 2000
"""Segments up to which their medians are computed one by one, in less time than by sorting."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Values of consecutive buckets.

    Attributes:
        first: number of the first bucket, which begins at `first * width`.
        values: an array of buckets and groups; NaN for those without a value.
    """

    first: int
    values: Array


def aggregated(
    bucket: Array, group: Array | None, groups: int, y: Array | None, how: str
) -> Buckets:
    """Return the values of all buckets from the first to the last.

    Args:
        bucket: number of the bucket of each row; at least one row.
        group: group of each row, from 0; None for one group.
        groups: number of groups.
        y: values of the rows; None to count rows. Only finite values count.
        how: one of `HOWS`.

    Example:
        >>> aggregated(np.array([5, 5, 7]), None, 1, np.array([1.0, 2, 4]), "sum").values.tolist()
        [[3.0], [0.0], [4.0]]
    """
    first = int(bucket.min())
    count = int(bucket.max()) - first + 1
    key = bucket - first
    if groups > 1 and group is not None:
        key = key * groups + group
    if y is not None:
        valid = np.isfinite(y)
        if not valid.all():
            key, y = key[valid], y[valid]
    with np.errstate(all="ignore"):  # values that overflow are not drawn
        values = _reduced(key, count * groups, y, how)
    return Buckets(first, values.reshape(count, groups))


def _reduced(key: Array, size: int, y: Array | None, how: str) -> Array:
    """Return the value of each key from 0 to `size`."""
    if y is None or how == "count":
        return np.bincount(key, minlength=size).astype(np.float64)
    if how == "sum":
        return np.bincount(key, y, size)
    if how in ("mean", "std"):
        counts = np.bincount(key, minlength=size)
        mean = np.asarray(np.bincount(key, y, size) / counts)
        if how == "mean":
            return mean
        squares = np.bincount(key, (y - mean[key]) ** 2, size)
        spread = np.sqrt(squares / (counts - 1))
        return np.asarray(np.where(counts > 1, spread, np.nan))
    values = np.full(size, np.nan)
    if not len(key):
        return values
    if not bool((key[1:] >= key[:-1]).all()):
        # Sorting 16-bit integers takes a tenth of the time of sorting larger ones.
        order = np.argsort(key.astype(np.uint16) if size < 2**16 else key, kind="stable")
        key, y = key[order], y[order]
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    values[key[starts]] = _of_segments(key, y, starts, how)
    return values


def _of_segments(key: Array, y: Array, starts: Array, how: str) -> Array:
    """Return the value of each segment, that is, of rows with the same key, which are adjacent."""
    ends = np.append(starts[1:], len(y))
    match how:
        case "min":
            return np.asarray(np.minimum.reduceat(y, starts))
        case "max":
            return np.asarray(np.maximum.reduceat(y, starts))
        case "first":
            return np.asarray(y[starts])
        case "last":
            return np.asarray(y[ends - 1])
    if len(starts) <= _LOOPED:
        return np.array([np.median(y[start:end]) for start, end in zip(starts, ends, strict=True)])
    y = y[np.lexsort((y, key))]
    below, above = starts + (ends - starts - 1) // 2, starts + (ends - starts) // 2
    return np.asarray(y[below] / 2 + y[above] / 2)


class Aggregation:
    """Values of buckets, of which only those are computed again whose rows have changed.

    Args:
        how: one of `HOWS`.
        origin: x at which bucket 0 begins.
        width: width of a bucket, in units of x.
        groups: number of groups.
    """

    def __init__(self, how: str, origin: float, width: float, groups: int = 1) -> None:
        self._how = how
        self._origin, self._width = origin, width
        self._groups = groups
        self._first = self._end = 0
        self._in_order = True
        self._x: Array = np.empty(0)
        self._known: Buckets | None = None

    def bucket(self, x: Array) -> Array:
        """Return the number of the bucket of each x."""
        if x.dtype.kind == "i":
            return np.asarray((x - int(self._origin)) // int(self._width))
        return np.asarray(np.floor((x - self._origin) / self._width).astype(np.int64))

    def _begin(self, bucket: int, x: Array) -> Any:
        """Return the x at which a bucket begins, in the dtype of x."""
        if x.dtype.kind == "i":
            return x.dtype.type(int(self._origin) + bucket * int(self._width))
        return x.dtype.type(self._origin + bucket * self._width)

    def update(self, x: Array, group: Array | None, y: Array | None, first: int) -> Buckets:
        """Return the values of all buckets of these rows.

        Args:
            x: x of the kept rows, at least one, without missing values.
            group: their groups.
            y: their values.
            first: number of the first row, which counts all rows received before it.
        """
        known, end = self._known, first + len(x)
        if known is None or not self._first <= first < self._end <= end:
            known = None
        new = x if known is None else x[self._end - first :]
        ordered = bool((new[1:] >= new[:-1]).all())
        if known is None:
            self._in_order = ordered
            known = self._compute(x, group, y, slice(None))
        else:
            ordered = ordered and (not len(new) or self._x[-1] <= new[0])
            self._in_order = self._in_order and ordered
            if first > self._first:
                known = self._without_dropped(known, x, group, y, self._x[: first - self._first])
            if len(new):
                known = self._with_new(known, x, group, y, new)
        # Views of a stream's columns, so that the rows it will drop are known then.
        self._first, self._end, self._x, self._known = first, end, x, known
        return known

    def _compute(self, x: Array, group: Array | None, y: Array | None, rows: Any) -> Buckets:
        y = None if y is None else y[rows].astype(np.float64, copy=False)
        group = None if group is None else group[rows]
        return aggregated(self.bucket(x[rows]), group, self._groups, y, self._how)

    def _rows(self, x: Array, begin: Any, *, before: bool) -> Any:
        """Return the rows before an x, or from it on, as a slice if the rows are in order."""
        if self._in_order:
            place = int(np.searchsorted(x, begin, side="left"))
            return slice(0, place) if before else slice(place, None)
        return np.flatnonzero(x < begin if before else x >= begin)

    def _without_dropped(
        self, known: Buckets, x: Array, group: Array | None, y: Array | None, dropped: Array
    ) -> Buckets:
        """Compute the buckets again from which rows were dropped."""
        first, last = int(self.bucket(x.min())), int(self.bucket(dropped.max()))
        if first < known.first:  # the only rows of this bucket are new
            return self._compute(x, group, y, slice(None))
        values = known.values[first - known.first :].copy()
        values[: max(0, last + 1 - first)] = self._empty
        if first <= last:
            rows = self._rows(x, self._begin(last + 1, x), before=True)
            changed = self._compute(x, group, y, rows)
            values = self._extended(values, changed.first + len(changed.values) - first)
            values[: len(changed.values)] = changed.values
        return Buckets(first, values)

    @property
    def _empty(self) -> float:
        """Value of a bucket without rows."""
        return 0.0 if self._how in ADDITIVE else np.nan

    def _extended(self, values: Array, count: int) -> Array:
        """Return at least so many buckets."""
        missing = max(0, count - len(values))
        return np.pad(values, ((0, missing), (0, 0)), constant_values=self._empty)

    def _with_new(
        self, known: Buckets, x: Array, group: Array | None, y: Array | None, new: Array
    ) -> Buckets:
        """Compute the buckets again from the first one that has new rows."""
        from_bucket = int(self.bucket(new).min())
        if from_bucket < known.first:
            return self._compute(x, group, y, slice(None))
        rows = self._rows(x, self._begin(from_bucket, x), before=False)
        changed = self._compute(x, group, y, rows)
        kept = known.values[: from_bucket - known.first]
        values = self._extended(kept, changed.first - known.first)
        return Buckets(known.first, np.concatenate([values, changed.values]))
