"""Counting of the calls of a benchmark: latencies, errors, instances and seconds. No I/O."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fabric_nb.errors import RemoteError, one_line, printable
from fabric_nb.fabric.core.values import error_text
from fabric_nb.fabric.rpc.bench_result import ErrorCount, InstanceCalls, SecondOfCalls
from fabric_nb.fabric.rpc.latency_histogram import LatencyHistogram

MAX_TYPES, MAX_INSTANCES = 20, 100
"""Types of errors, and instances, that are counted apart; both are named by other members."""
OTHER_TYPES, OTHER_INSTANCES = "(other types)", "(other instances)"
MAX_NAME = 64
"""Characters of the name of a type or instance."""
SHORTEST_SECOND = 0.01
"""Seconds that the last row has at least, unless it is the only one."""
MAX_EMPTY_SECONDS = 100_000
"""Seconds without a call of which there are rows, as after a machine slept."""


@dataclass(slots=True)
class _Counts:
    """Calls that have ended."""

    calls: int = 0
    errors: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


class BenchMeter:
    """Counts the calls that end, from `start` on.

    Args:
        clock: seconds since any time, which only grow.
        cpu: seconds of CPU time of this process.

    Attributes:
        calls: calls that have ended.
        latency: latencies of those that succeeded.
        cancelled: calls that were cancelled at the end.
        counting: True between `start` and `stop`.
        started: time of `start`, in epoch seconds; 0 before.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock, self._cpu_clock = clock, cpu
        self.calls = 0
        self.latency = LatencyHistogram()
        self.cancelled = 0
        self.counting = False
        self.started = 0.0
        self._errors: dict[str, ErrorCount] = {}
        self._instances: dict[str, _Counts] = {}
        self._seconds: list[SecondOfCalls] = []
        self._second = _Counts()
        self._next_second = 0.0
        self._last_second = math.inf
        """Time from which no further second begins."""
        self._since = self._cpu_since = 0.0
        self._elapsed = self._cpu = 0.0

    # -- counting

    def start(self, seconds: float | None = None) -> None:
        """Begin to count; it is going to be stopped after some seconds, if that is known."""
        self._since = self._clock()
        self._next_second = self._since + 1
        if seconds is not None:
            self._last_second = self._since + seconds - SHORTEST_SECOND
        self._cpu_since = self._cpu_clock()
        self.started = time.time()
        self.counting = True

    def stop(self) -> None:
        """Count no more, if it has not been stopped before."""
        if self.counting:
            now = self._clock()
            self._elapsed = max(now - self._since, 1e-9)
            self._cpu = (self._cpu_clock() - self._cpu_since) / self._elapsed
            self._end_seconds(now)
            self._end_second(max(now - self._next_second + 1, 1e-9))
            self.counting = False

    def succeed(self, began: float, instance: str) -> None:
        """Count a call that has succeeded; it began at a time of the clock."""
        if not self.counting:
            return
        now = self._clock()
        seconds = now - began
        counts = self._count(now, instance)
        counts.latency.add(seconds)
        self._second.latency.add(seconds)
        self.latency.add(seconds)

    def fail(self, error: Exception, instance: str) -> None:
        """Count a call that has failed."""
        if not self.counting:
            return
        counts = self._count(self._clock(), instance)
        counts.errors += 1
        self._second.errors += 1
        name = error_type(error)
        if name not in self._errors and len(self._errors) >= MAX_TYPES:
            name = OTHER_TYPES
        known = self._errors.get(name)
        example = _text(error) if known is None else known.example
        self._errors[name] = ErrorCount(1 if known is None else known.calls + 1, example)

    def _count(self, now: float, instance: str) -> _Counts:
        if now >= self._next_second:
            self._end_seconds(now)
        self.calls += 1
        self._second.calls += 1
        counts = self._instances.get(instance)
        if counts is None:
            name = one_line(printable(instance[:MAX_NAME]))
            if len(self._instances) >= MAX_INSTANCES:
                name = OTHER_INSTANCES
            counts = self._instances.setdefault(name, _Counts())
        counts.calls += 1
        return counts

    def _end_seconds(self, now: float) -> None:
        """Add the rows of the seconds that have passed."""
        while self._next_second <= min(now, self._last_second):
            self._end_second(1.0)
            if now - self._next_second > MAX_EMPTY_SECONDS:
                self._next_second = now
            self._next_second += 1

    def _end_second(self, length: float) -> None:
        counts, self._second = self._second, _Counts()
        p50, p95 = (1000 * seconds for seconds in counts.latency.percentiles([50, 95]))
        number, longest = len(self._seconds), 1000 * counts.latency.max
        self._seconds.append(
            SecondOfCalls(
                number, counts.calls, counts.errors, counts.calls / length, p50, p95, longest
            )
        )

    # -- reading

    @property
    def elapsed(self) -> float:
        """Seconds for which it has counted."""
        return self._clock() - self._since if self.counting else self._elapsed

    @property
    def cpu(self) -> float:
        """Share of a core that this process has used."""
        if not self.counting:
            return self._cpu
        return (self._cpu_clock() - self._cpu_since) / max(self.elapsed, 1e-9)

    @property
    def errors_by_type(self) -> dict[str, ErrorCount]:
        """Errors by the name of their type."""
        return dict(self._errors)

    @property
    def by_second(self) -> list[SecondOfCalls]:
        """Calls by second, up to the last one that is over."""
        return list(self._seconds)

    @property
    def by_instance(self) -> list[InstanceCalls]:
        """Calls by instance, the instance with the most calls first."""
        elapsed = max(self.elapsed, 1e-9)
        found = []
        for name, counts in self._instances.items():
            p50, p95, p99 = (1000 * each for each in counts.latency.percentiles([50, 95, 99]))
            rate, longest = counts.calls / elapsed, 1000 * counts.latency.max
            found.append(
                InstanceCalls(name, counts.calls, counts.errors, rate, p50, p95, p99, longest)
            )
        return sorted(found, key=lambda one: (-one.calls, one.instance))


def error_type(error: Exception) -> str:
    """Return the name of an error's type, of a remote one as the service names it.

    Example:
        >>> error_type(KeyError("tea")), error_type(RemoteError("builtins.KeyError", "'tea'"))
        ('KeyError', 'RemoteError (KeyError)')
    """
    if isinstance(error, RemoteError):
        remote = one_line(printable(str(error.type)[-MAX_NAME:]))
        return f"RemoteError ({remote.removeprefix('builtins.')})"
    return type(error).__name__


def _text(error: Exception) -> str:
    """Return the text of an error without its type."""
    text = error_text(error).removeprefix(f"{type(error).__name__}: ")
    return one_line(printable(text))
