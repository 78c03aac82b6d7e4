"""Times of arrival of rows: to the millisecond, at a cost per message. Pure."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

_RESOLUTION = 0.001
"""Seconds within which arrivals are one run."""
_SPARE = 4096
"""Dropped runs that are collected before their memory is released."""


class Arrivals:
    """Times of arrival of rows, as runs of rows that arrived together.

    Example:
        >>> arrivals = Arrivals(clock=iter([10.0, 11.0, 12.0]).__next__)
        >>> arrivals.add(2)
        >>> arrivals.add(1)
        >>> arrivals.newest(2).astype("M8[s]").astype(int).tolist()
        [10, 11]
        >>> arrivals.rate(4.0)
        0.75

    Args:
        clock: returns the time, in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._at = array("d")
        self._total = array("q")
        """Number of rows up to the end of each run."""
        self._dropped = 0
        """Number of rows before the first run."""

    @property
    def runs(self) -> int:
        """Number of runs in memory."""
        return len(self._at)

    def add(self, rows: int) -> None:
        """Add `rows` that arrive now."""
        now = self._clock()
        total = self._total[-1] + rows if self._total else rows
        if self._at and 0 <= now - self._at[-1] < _RESOLUTION:
            self._total[-1] = total
        else:
            self._at.append(now)
            self._total.append(total)

    def keep(self, rows: int) -> None:
        """Drop all but the newest `rows` arrival times."""
        if not self._total:
            return
        dropped = bisect_right(self._total, self._total[-1] - rows)
        dropped = min(dropped, len(self._total) - 1)
        if dropped > _SPARE and dropped > len(self._total) // 2:
            self._dropped = self._total[dropped - 1]
            del self._at[:dropped], self._total[:dropped]

    def newest(self, rows: int) -> npt.NDArray[np.datetime64]:
        """Return the arrival times of the newest `rows`, in UTC; NaT where they were dropped."""
        if not self._total or rows <= 0:
            return np.full(max(rows, 0), "NaT", dtype="M8[us]")
        first = self._total[-1] - rows
        run = bisect_right(self._total, first)
        ends = np.array(self._total[run:], dtype=np.int64)
        at = (np.array(self._at[run:]) * 1e6).astype(np.int64).view("M8[us]")
        return np.repeat(at, np.diff(ends, prepend=first))

    def counts(self, edges: Sequence[float]) -> list[int]:
        """Return the rows that arrived between two times each, from the first edge to the last.

        Example:
            >>> arrivals = Arrivals(clock=iter([10.0, 11.0]).__next__)
            >>> arrivals.add(2)
            >>> arrivals.add(1)
            >>> arrivals.counts([9.0, 10.0, 11.0, 12.0])
            [0, 2, 1]
        """
        before = np.concatenate(([self._dropped], self._total))
        counted: list[int] = np.diff(before[np.searchsorted(self._at, edges)]).tolist()
        return counted

    def rate(self, seconds: float) -> float:
        """Return the rows per second, over the last `seconds`."""
        run = bisect_left(self._at, self._clock() - seconds)
        if run == len(self._at):
            return 0.0
        return (self._total[-1] - (self._total[run - 1] if run else 0)) / seconds
