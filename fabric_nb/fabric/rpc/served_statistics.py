"""Statistics of a server's calls for its keep-alives."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from fabric_nb.fabric.rpc.methods import MethodStats, percentile_95
from fabric_nb.fabric.wire.statistics import CallCounts, Statistics


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
        self._read: dict[str, tuple[MethodStats, int, int]] = {}
        """Statistics of each method, with the calls and errors that it had when read last."""
        self._calls = self._errors = 0

    def read(self) -> Statistics:
        """Return the statistics; the percentiles are those of the calls since the last time."""
        before, self._read = self._read, {}
        counts: dict[str, CallCounts] = {}
        durations: list[float] = []
        running = 0
        for name, stats in self._methods().items():
            # Errors first: a call that ends meanwhile is not counted as an error without a call.
            errors, calls = stats.errors, stats.calls
            known, last_calls, last_errors = before.get(name, (stats, 0, 0))
            if known is not stats:
                last_calls = last_errors = 0
            self._read[name] = stats, calls, errors
            self._calls += calls - last_calls
            self._errors += errors - last_errors
            running += stats.running
            if calls or stats.running:
                newest = stats.newest_durations(calls - last_calls)
                durations += newest
                counts[name] = CallCounts(calls, errors, stats.running, percentile_95(newest))
        ordered = sorted(counts.items(), key=lambda item: (-item[1].calls, item[0]))
        total = CallCounts(self._calls, self._errors, running, percentile_95(durations))
        return Statistics(self._clock() - self._began, total, dict(ordered))
