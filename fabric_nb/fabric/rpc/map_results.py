"""Results and progress of a map, in the order of its rows. No I/O."""

from __future__ import annotations

import math
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

RESULT, ERROR, MS, INSTANCE = "result", "error", "ms", "instance"
FACTS = (ERROR, MS, INSTANCE)
"""Columns that every row of the results has."""
RATE_WINDOW, RATE_STEP = 10.0, 0.5
"""Seconds over which the rate is measured, and between two of its samples."""

_MISSING: Any = object()


class MapProgress(NamedTuple):
    """Progress of a map at one moment.

    Attributes:
        done: rows that have ended, with those that failed.
        failed: rows that failed.
        total: number of rows; None while it is not known.
        rate: rows per second, of the last ten seconds while the map runs, and of all its time
            afterwards.
        remaining: seconds until its end at this rate; None if it is not known.
        elapsed: seconds for which it has run.
        instances: number of rows by the instance that answered them; ``""`` for those without a
            reply, and those of services that do not name their instance, as amqp-fabric's.
    """

    done: int
    failed: int
    total: int | None
    rate: float
    remaining: float | None
    elapsed: float
    instances: Mapping[str, int]


class MapResults:
    """Results of the rows, in lists, because a map may have very many.

    Args:
        total: number of rows; None if it is not known.
        index: index of the results; None: the numbers of the rows.
        spread: True: the items of a dict become columns.
        clock: seconds since any time, which only grow.

    Attributes:
        total: number of rows; None while it is not known.
        errors: errors of the failed rows, by number.
        instances: number of rows by the instance that answered them.
        done: number of rows that have ended, with those that failed.
        revision: number that grows with each change.
    """

    def __init__(
        self,
        total: int | None,
        index: pd.Index[Any] | None,
        *,
        spread: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.total = total
        self.errors: dict[int, BaseException] = {}
        self.instances: Counter[str] = Counter()
        self.done = 0
        self.revision = 0
        self._index = index
        self._spread = spread
        self._clock = clock
        self._values: list[Any] = []
        self._ms = array("d")
        self._instances: list[str] = []
        self._elapsed = 0.0
        self._since: float | None = None
        self._ended_here = 0
        """Rows that ended while the map ran; a row that is called again counts again."""
        self._samples: deque[tuple[float, int]] = deque()
        self._next_sample = math.inf

    # -- recording

    def begin(self, number: int) -> None:
        """Make room for a row; rows begin in the order of their numbers."""
        if number == len(self._values):
            self._values.append(_MISSING)
            self._ms.append(math.nan)
            self._instances.append("")

    def succeed(self, number: int, value: Any, began: float, instance: str) -> None:
        """Record the result of a row that began at a time of the clock."""
        self._values[number] = value
        self._end(number, began, instance)

    def fail(self, number: int, error: BaseException, began: float, instance: str) -> None:
        """Record the error of a row that began at a time of the clock."""
        self.errors[number] = error
        self._end(number, began, instance)

    def _end(self, number: int, began: float, instance: str) -> None:
        now = self._clock()
        self._ms[number] = (now - began) * 1000
        self._instances[number] = instance
        self.instances[instance] += 1
        self.done += 1
        self.revision += 1
        self._ended_here += 1
        if now >= self._next_sample:
            self._sample(now)

    def forget_failures(self) -> None:
        """Make the failed rows missing ones."""
        for number in self.errors:
            self.done -= 1
            self.instances[self._instances[number]] -= 1
            self._ms[number] = math.nan
            self._instances[number] = ""
        self.instances = +self.instances
        self.errors = {}
        self.revision += 1

    def start_clock(self) -> None:
        """Begin to measure time and rate."""
        now = self._since = self._clock()
        self._samples.clear()
        self._sample(now)
        self.revision += 1

    def stop_clock(self) -> None:
        """End the measurement of time and rate."""
        if self._since is not None:
            self._elapsed += self._clock() - self._since
        self._since = None
        self.revision += 1

    def _sample(self, now: float) -> None:
        self._next_sample = now + RATE_STEP
        self._samples.append((now, self._ended_here))
        while self._samples[0][0] < now - RATE_WINDOW:
            self._samples.popleft()

    # -- reading

    @property
    def elapsed(self) -> float:
        """Seconds for which the map has run."""
        return self._elapsed + (0.0 if self._since is None else self._clock() - self._since)

    @property
    def progress(self) -> MapProgress:
        """Progress at this moment."""
        rate = self._rate()
        remaining = None
        if self.total is not None and (rate or self.total == self.done):
            remaining = (self.total - self.done) / rate if rate else 0.0
        return MapProgress(
            self.done,
            len(self.errors),
            self.total,
            rate,
            remaining,
            self.elapsed,
            dict(self.instances),
        )

    def _rate(self) -> float:
        rows, seconds = self._ended_here, self.elapsed
        if self._since is not None and self._samples:
            start, before = self._samples[0]
            rows, seconds = rows - before, self._clock() - start
        return rows / seconds if seconds > 0 else 0.0

    def frame(self, *, only_failed: bool = False) -> pd.DataFrame:
        """Return the rows that have ended, or those that failed, in the order of the rows."""
        if only_failed:
            numbers = sorted(self.errors)
        else:
            numbers = [
                number
                for number, value in enumerate(self._values)
                if value is not _MISSING or number in self.errors
            ]
        with importing("pandas"):
            import pandas as pd

            from fabric_nb.frames.buffer import FrameBuffer
        buffer = FrameBuffer(times=False)
        buffer.extend([self._columns(number) for number in numbers])
        # A snapshot has read-only columns.
        frame = buffer.df.copy() if numbers else pd.DataFrame()
        if not frame.columns.size:
            frame[RESULT] = pd.Series([None] * len(numbers), dtype=object)
        frame.index = self._labels(numbers, pd)
        facts: Iterable[tuple[str, list[Any], str]] = (
            (ERROR, [self.errors.get(number) for number in numbers], "object"),
            (MS, [self._ms[number] for number in numbers], "float64"),
            (INSTANCE, [self._instances[number] for number in numbers], "str"),
        )
        for name, values, dtype in facts:
            frame[name] = pd.Series(values, index=frame.index, dtype=dtype).array
        return frame

    def _labels(self, numbers: list[int], pd: Any) -> pd.Index[Any]:
        if self._index is not None:
            return self._index.take(numbers)
        if len(numbers) == len(self._values):
            return pd.RangeIndex(len(numbers))  # type: ignore[no-any-return]
        return pd.Index(numbers, dtype="int64")  # type: ignore[no-any-return]

    def _columns(self, number: int) -> dict[str, Any]:
        if number in self.errors:
            return {}
        value = self._values[number]
        if self._spread and isinstance(value, dict):
            return spread_columns(value)
        return {RESULT: value}


def spread_columns(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a dict result; those of `FACTS` get the prefix ``result.``.

    Example:
        >>> spread_columns({"price": 5, "error": "none"})
        {'price': 5, 'result.error': 'none'}
    """
    columns = dict(result)
    for name in FACTS:
        if name in columns:
            value, prefixed = columns.pop(name), f"{RESULT}.{name}"
            while prefixed in columns:
                prefixed = f"{RESULT}.{prefixed}"
            columns[prefixed] = value
    return columns
