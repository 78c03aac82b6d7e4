"""Progress of a map: rows that have ended, their rate, and the instances that answered. No I/O."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from fabric_nb.fabric.core.values import clock
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.wire.calls import INSTANCE, PROGRESS

RATE_WINDOW, RATE_STEP = 10.0, 0.5
"""Seconds over which the rate is measured, and between two of its samples."""
SLOW = 1.0
"""Seconds that a row takes of which the next call is asked for its progress too."""
MAX_INSTANCES = 8
"""Instances whose rows are counted in the text of a progress."""


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
        under_way: rows that are done of those under way, as far as their calls report progress.
    """

    done: int
    failed: int
    total: int | None
    rate: float
    remaining: float | None
    elapsed: float
    instances: Mapping[str, int]
    under_way: float = 0.0

    @property
    def missing(self) -> int | None:
        """Number of rows that have not ended; None while the total is not known."""
        return None if self.total is None else self.total - self.done

    @property
    def fraction(self) -> float | None:
        """Rows done and parts of those under way, from 0 to 1; None without a total."""
        if self.total is None:
            return None
        return (self.done + self.under_way) / self.total if self.total else 1.0

    @property
    def facts(self) -> list[str]:
        """Rows done, rate, time left or taken, and rows by instance, as text.

        Example:
            >>> MapProgress(120, 3, 500, 35.2, 10.8, 3.4, {"7f3a90c1": 120}).facts
            ['120 of 500 rows', '35.2 rows/s', '11 s left', '7f3a90c1: 120']
        """
        total = "" if self.total is None else f" of {self.total:,}"
        return [
            f"{self.done:,}{total} rows",
            f"{self.rate:,.1f} rows/s",
            f"{clock(self.remaining)} left" if self.remaining else clock(self.elapsed),
            *self._instance_facts(),
        ]

    @property
    def summary(self) -> str:
        """Rows done, failed and missing, as a clause.

        Example:
            >>> MapProgress(120, 3, 500, 35.2, 10.8, 3.4, {}).summary
            '120 of 500 rows are done, 3 of them failed, and 380 are missing'
        """
        total = "" if self.total is None else f" of {self.total:,}"
        failed = f", {self.failed:,} of them failed" if self.failed else ""
        missing = f", and {self.missing:,} are missing" if self.missing else ""
        return f"{self.done:,}{total} rows are done{failed}{missing}"

    def _instance_facts(self) -> Iterator[str]:
        rows = sorted(self.instances.items(), key=lambda item: (-item[1], item[0]))
        named = [(name, count) for name, count in rows if name]
        for name, count in named[:MAX_INSTANCES]:
            yield f"{name}: {count:,}"
        if more := named[MAX_INSTANCES:]:
            yield f"{len(more):,} more instances: {sum(count for _, count in more):,}"

    def __str__(self) -> str:
        rows, *others = self.facts
        return " · ".join([rows, *([f"{self.failed:,} failed"] if self.failed else []), *others])


class ProgressMeter:
    """Counts the rows of a map that end, and measures their rate.

    Args:
        total: number of rows; None if it is not known.
        clock: seconds since any time, which only grow.

    Attributes:
        total: number of rows; None while it is not known.
        done: number of rows that have ended, with those that failed.
        failed: number of rows that failed.
        instances: number of rows by the instance that answered them.
        revision: number that grows with each change.
        cancelled: reports of the calls that were under way when the map was cancelled.
    """

    def __init__(self, total: int | None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self.instances: Counter[str] = Counter()
        self.revision = 0
        self.cancelled: list[CallReport] = []
        self._clock = clock
        self._reports: list[CallReport] = []
        self._elapsed = 0.0
        self._since: float | None = None
        self._ended_here = 0
        """Rows that ended while the map ran; a row that is called again counts again."""
        self._samples: deque[tuple[float, int]] = deque()
        self._next_sample = math.inf

    # -- counting

    @contextmanager
    def worker(self) -> Iterator[CallReport]:
        """Yield a report for the calls that one worker makes, one after the other.

        Calls after one that took long are asked for their progress, which costs some microseconds.
        """
        report = CallReport(PROGRESS, self._touch)
        self._reports.append(report)
        try:
            yield report
        except asyncio.CancelledError:
            if report.sent:
                self.cancelled.append(report)
            raise
        finally:
            self._reports.remove(report)

    def end_call(self, report: CallReport, began: float) -> None:
        """Prepare a report for the next call; the last one began at a time of the clock."""
        report.progress, report.sent = None, False
        report.level = PROGRESS if self._clock() - began >= SLOW else INSTANCE

    def _touch(self) -> None:
        self.revision += 1

    def end_row(self, began: float, instance: str, *, failed: bool) -> float:
        """Count a row that began at a time of the clock, and return its milliseconds."""
        now = self._clock()
        self.done += 1
        self.failed += failed
        self.instances[instance] += 1
        self.revision += 1
        self._ended_here += 1
        if now >= self._next_sample:
            self._sample(now)
        return (now - began) * 1000

    def forget_failures(self, instances: Iterable[str]) -> None:
        """Make the failed rows missing ones; these instances answered them."""
        self.done -= self.failed
        self.failed = 0
        self.instances.subtract(instances)
        self.instances = +self.instances
        self.revision += 1

    def start_clock(self) -> None:
        """Begin to measure time and rate."""
        self.cancelled = []
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
            self.failed,
            self.total,
            rate,
            remaining,
            self.elapsed,
            dict(self.instances),
            sum(one.progress.fraction or 0.0 for one in self._reports if one.progress),
        )

    def _rate(self) -> float:
        rows, seconds = self._ended_here, self.elapsed
        if self._since is not None and self._samples:
            start, before = self._samples[0]
            rows, seconds = rows - before, self._clock() - start
        return rows / seconds if seconds > 0 else 0.0
