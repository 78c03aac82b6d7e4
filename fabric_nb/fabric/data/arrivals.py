"""When rows came: to the millisecond, at a cost that follows the messages. Pure."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

_RESOLUTION = 0.001
_SPARE = 4096


class Arrivals:
    """The times at which rows came, as runs of rows that came together.

    Example:
        >>> arrivals = Arrivals(clock=iter([10.0, 11.0, 12.0]).__next__)
        >>> arrivals.add(2)
        >>> arrivals.add(1)
        >>> arrivals.newest(2).astype("M8[s]").astype(int).tolist()
        [10, 11]
        >>> arrivals.rate(4.0)
        0.75

    Args:
        clock: tells the time, in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._at = array("d")
        self._total = array("q")
        """How many rows had come at the end of each run."""

    def add(self, rows: int) -> None:
        """So many rows have come now."""
        now = self._clock()
        total = self._total[-1] + rows if self._total else rows
        if self._at and 0 <= now - self._at[-1] < _RESOLUTION:
            self._total[-1] = total
        else:
            self._at.append(now)
            self._total.append(total)

    def keep(self, rows: int) -> None:
        """Forget when others than the last so many rows came."""
        if not self._total:
            return
        gone = bisect_right(self._total, self._total[-1] - rows)
        gone = min(gone, len(self._total) - 1)
        if gone > _SPARE and gone > len(self._total) // 2:
            del self._at[:gone], self._total[:gone]

    def newest(self, rows: int) -> npt.NDArray[np.datetime64]:
        """When each of the last so many rows came, in UTC; NaT where that was forgotten."""
        if not self._total or rows <= 0:
            return np.full(max(rows, 0), "NaT", dtype="M8[us]")
        first = self._total[-1] - rows
        run = bisect_right(self._total, first)
        ends = np.array(self._total[run:], dtype=np.int64)
        at = (np.array(self._at[run:]) * 1e6).astype(np.int64).view("M8[us]")
        return np.repeat(at, np.diff(ends, prepend=first))

    def rate(self, seconds: float) -> float:
        """Rows a second, over the last so many seconds."""
        run = bisect_left(self._at, self._clock() - seconds)
        if run == len(self._at):
            return 0.0
        return (self._total[-1] - (self._total[run - 1] if run else 0)) / seconds
