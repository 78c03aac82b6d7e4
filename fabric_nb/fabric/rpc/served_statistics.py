"""Statistics of a server's calls for its keep-alives."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fabric_nb.fabric.rpc.methods import MethodStats, percentile_95
from fabric_nb.fabric.wire.statistics import CallCounts, Statistics

WINDOW = 60.0
"""Seconds before a reading of which the durations are read, or more if none was read since."""
MARK_EVERY = 5.0
"""Minimum seconds between two readings whose counts are remembered for that."""


@dataclass(slots=True)
class _ReadMethod:
    """Counts of a method at the last reading.

    Attributes:
        marks: times of earlier readings, and the calls until then.
    """

    stats: MethodStats
    calls: int = 0
    errors: int = 0
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque([(float("-inf"), 0)]))

    def recent(self, now: float) -> int:
        """Return the number of calls that have ended within the window."""
        marks = self.marks
        while len(marks) > 1 and marks[1][0] <= now - WINDOW:
            marks.popleft()
        before = marks[0][1]
        if now - marks[-1][0] >= MARK_EVERY:
            marks.append((now, self.calls))
        return self.calls - before


class ServedStatistics:
    """Statistics of the calls of one server, since it was made.

    They are read by the sender of keep-alives, which in a notebook is the companion thread, while
    calls are counted in the thread of the loop. Totals never decrease: they include the calls of
    methods that are not served any more.

    Args:
        methods: returns the statistics of the served methods; called in the reading thread.
        clock: monotonic seconds; replaced in tests.
    """

    def __init__(
        self,
        methods: Callable[[], Mapping[str, MethodStats]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._methods = methods
        self._clock = clock
        self._began = clock()
        self._read: dict[str, _ReadMethod] = {}
        self._calls = self._errors = 0

    def read(self) -> Statistics:
        """Return the statistics as of now."""
        now = self._clock()
        before, self._read = self._read, {}
        counts: dict[str, CallCounts] = {}
        durations: list[float] = []
        running = 0
        for name, stats in self._methods().items():
            # Errors first: a call that ends meanwhile is not counted as an error without a call.
            errors, calls = stats.errors, stats.calls
            read = before.get(name)
            if read is None or read.stats is not stats:
                read = _ReadMethod(stats)
            self._read[name] = read
            self._calls += calls - read.calls
            self._errors += errors - read.errors
            read.calls, read.errors = calls, errors
            running += stats.running
            if calls or stats.running:
                newest = stats.newest_durations(read.recent(now))
                durations += newest
                counts[name] = CallCounts(calls, errors, stats.running, percentile_95(newest))
        ordered = sorted(counts.items(), key=lambda item: (-item[1].calls, item[0]))
        total = CallCounts(self._calls, self._errors, running, percentile_95(durations))
        return Statistics(now - self._began, total, dict(ordered))
