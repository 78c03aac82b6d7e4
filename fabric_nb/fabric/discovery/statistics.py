"""Rates of the calls that instances serve, from the statistics in their keep-alives. Pure.

All times are on the clock of the registry, except for `Statistics.since`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from fabric_nb.fabric.wire.statistics import Statistics

STEP = 5.0
"""Seconds between two points of a history."""
POINTS = 60
"""Points of a history: five minutes."""
MIN_PERIOD = 0.2
"""Minimum seconds over which a rate is computed; no member announces itself more often."""


class CallStatistics(NamedTuple):
    """Calls and rates of an instance, or of all present instances of a service.

    Attributes:
        calls: calls that have ended, since each instance began to serve.
        errors: those of them that have failed.
        running: calls that are running.
        calls_s: calls that end per second; None until two keep-alives were received.
        errors_s: calls that fail per second.
        p95_ms: 95th percentile of the durations of the last minute with calls, in milliseconds, of
            several instances the highest; None if none has ended for five minutes.
    """

    calls: int
    errors: int
    running: int
    calls_s: float | None
    errors_s: float | None
    p95_ms: float | None

    @classmethod
    def sum(cls, every: Sequence[CallStatistics]) -> CallStatistics | None:
        """Return the statistics of several instances together; None if there are none."""
        if len(every) < 2:
            return every[0] if every else None
        calls_s = [each.calls_s for each in every if each.calls_s is not None]
        errors_s = [each.errors_s for each in every if each.errors_s is not None]
        return cls(
            sum(each.calls for each in every),
            sum(each.errors for each in every),
            sum(each.running for each in every),
            sum(calls_s) if calls_s else None,
            sum(errors_s) if errors_s else None,
            max((each.p95_ms for each in every if each.p95_ms is not None), default=None),
        )


class RateHistory:
    """Mean rate in each step of the last five minutes.

    It is stored as 32-bit floats, because a registry has thousands of them.
    """

    __slots__ = ("_newest", "_rates", "_seconds")

    def __init__(self) -> None:
        self._rates = array("f", [math.nan]) * POINTS
        self._seconds = array("f", [0.0]) * POINTS
        """Seconds of each step for which the rate is known."""
        self._newest = -1
        """Number of the newest step; step `n` is at index `n % POINTS`."""

    def copy(self) -> RateHistory:
        """Return a copy."""
        new = copy(self)
        new._rates = self._rates[:]  # noqa: SLF001 - of the same class
        new._seconds = self._seconds[:]  # noqa: SLF001
        return new

    def add(self, rate: float, since: float, until: float) -> None:
        """Record the rate during a period."""
        last = math.ceil(until / STEP) - 1
        for step in range(max(self._newest + 1, last - POINTS + 1), last + 1):
            self._rates[step % POINTS], self._seconds[step % POINTS] = math.nan, 0.0
        self._newest = max(self._newest, last)
        for step in range(max(int(since // STEP), self._newest - POINTS + 1), last + 1):
            seconds = min(until, (step + 1) * STEP) - max(since, step * STEP)
            if seconds > 0:  # else the clock went back
                self._add(step % POINTS, rate, seconds)

    def _add(self, index: int, rate: float, seconds: float) -> None:
        known = self._seconds[index]
        if known:
            rate = (self._rates[index] * known + rate * seconds) / (known + seconds)
        self._rates[index], self._seconds[index] = rate, known + seconds

    def points(self, now: float, current: float | None = None) -> list[float]:
        """Return the rates of the steps that have ended, oldest first; NaN if unknown.

        Args:
            now: current time.
            current: rate in the steps for which no keep-alive was due yet; None: unknown.
        """
        oldest = (self._newest + 1) % POINTS
        rates = (self._rates[oldest:] + self._rates[:oldest]).tolist()
        later = int(now // STEP) - 1 - self._newest  # steps that have ended since the newest one
        if later < 0:
            return [math.nan] * min(-later, POINTS) + rates[:later]
        rest = math.nan if current is None else current
        return rates[later:] + [rest] * min(later, POINTS)


def total_points(histories: Sequence[Sequence[float]]) -> Sequence[float]:
    """Return the sums of several histories; NaN where all are unknown."""
    if len(histories) == 1:
        return histories[0]
    sums = []
    for column in zip(*histories, strict=True):
        known = [rate for rate in column if not math.isnan(rate)]
        sums.append(sum(known) if known else math.nan)
    return sums


class _Base(NamedTuple):
    """Counts from which the next rate is computed, and the time at which they were received."""

    since: float
    calls: int
    errors: int
    received: float


@dataclass(slots=True)
class AnnouncedStatistics:
    """Statistics of an instance, as its last keep-alive has them, and its rates.

    Rates are computed on the clock of the instance, because keep-alives may be received late.

    Attributes:
        last: the statistics.
        calls: its calls and rates.
        history: calls per second in the last five minutes.
    """

    last: Statistics
    calls: CallStatistics = field(init=False)
    history: RateHistory = field(default_factory=RateHistory)
    _base: _Base = field(init=False)
    _p95_received: float = 0.0

    @classmethod
    def first(cls, statistics: Statistics, now: float) -> AnnouncedStatistics:
        """Return the statistics of an instance after its first keep-alive."""
        new = cls(statistics)
        new._begin(statistics, now)
        return new

    def copy(self) -> AnnouncedStatistics:
        """Return a copy."""
        new = copy(self)
        new.history = self.history.copy()
        return new

    def receive(self, statistics: Statistics, now: float) -> None:
        """Record the statistics of the next keep-alive."""
        base, total = self._base, statistics.total
        seconds = statistics.since - base.since
        if seconds < 0 or total.calls < base.calls or total.errors < base.errors:
            self._begin(statistics, now)  # it counts from zero again
            return
        calls_s, errors_s, p95_ms = self.calls[3:]
        if seconds >= MIN_PERIOD:
            calls_s = (total.calls - base.calls) / seconds
            errors_s = (total.errors - base.errors) / seconds
            self.history.add(calls_s, base.received, now)
            self._base = _Base(statistics.since, total.calls, total.errors, now)
        if total.p95_ms is not None:
            p95_ms, self._p95_received = total.p95_ms, now
        elif now - self._p95_received > STEP * POINTS:
            p95_ms = None
        self.last = statistics
        self.calls = CallStatistics(*total[:3], calls_s, errors_s, p95_ms)

    def _begin(self, statistics: Statistics, now: float) -> None:
        total = statistics.total
        self.last = statistics
        self.calls = CallStatistics(*total[:3], None, None, total.p95_ms)
        self._base = _Base(statistics.since, total.calls, total.errors, now)
        self._p95_received = now
