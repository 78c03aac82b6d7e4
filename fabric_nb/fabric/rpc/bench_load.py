"""Load of a benchmark: workers that call a method again and again, until its end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable

from fabric_nb.errors import RemoteError
from fabric_nb.fabric.core.backoff import backoff
from fabric_nb.fabric.core.values import error_text
from fabric_nb.fabric.rpc.bench_meter import BenchMeter
from fabric_nb.fabric.rpc.bench_options import BenchOptions
from fabric_nb.fabric.rpc.call_report import CallReport

GRACE = 2.0
"""Seconds after the end of the time in which the calls under way may end."""
STOP_AFTER = 3.0
"""Seconds in which calls only fail until the load is stopped."""
TIMER = 0.002
"""Seconds by which timers of the loop are late; such a delay is no latency of the service."""

Call = Callable[[CallReport], Awaitable[None]]
"""Calls the method once; the report receives the instance that answers."""


class Load:
    """Calls of a method, which workers make one after the other.

    With a fixed rate a worker is added when none waits for the next call, up to the number of calls
    that may be in flight; otherwise all of them begin at once.

    Args:
        call: calls the method once.
        options: options of the benchmark.
        meter: counts the calls.

    Attributes:
        reason: sentence that says why it was stopped; empty otherwise.
        unsent: calls that were due and not sent.
    """

    def __init__(self, call: Call, options: BenchOptions, meter: BenchMeter) -> None:
        self._call = call
        self._options = options
        self._meter = meter
        self._schedule = _Schedule(options, time.perf_counter)
        self._most_workers = min(options.in_flight, options.calls or options.in_flight)
        self._tasks: list[asyncio.Task[None]] = []
        self._working = 0
        """Workers that have not ended."""
        self._waiting = 0
        """Workers that wait for the time of their next call."""
        self._promising = 0
        """Calls under way whose worker has not failed in its last call."""
        self._failing_since: float | None = None
        """Time of the first error after the last success."""
        self.reason = ""
        self.unsent = 0

    async def run(self) -> None:
        """Call the method until the time is over, all calls are made, or all of them fail."""
        options, loop = self._options, asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []

        def count() -> None:
            self._meter.start(options.seconds)
            if options.seconds is not None:
                self._schedule.end_after(options.seconds)
                timers.append(loop.call_later(options.seconds, self._stop))

        if options.warmup:
            timers.append(loop.call_later(options.warmup, count))
        else:
            count()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._most_workers if options.rate is None else 1):
                    self._add_worker(group)
                await self._schedule.over.wait()
                await asyncio.wait(self._tasks, timeout=GRACE)
                for task in self._tasks:
                    task.cancel()
        finally:
            for timer in timers:
                timer.cancel()
            self._stop()

    def _stop(self) -> None:
        """Begin no more calls, and count no more."""
        if not self._schedule.over.is_set():
            self._schedule.over.set()
            self.unsent = self._schedule.unsent
            self._meter.stop()

    def _add_worker(self, group: asyncio.TaskGroup) -> None:
        self._working += 1
        self._tasks.append(group.create_task(self._work(group)))

    async def _work(self, group: asyncio.TaskGroup) -> None:
        """Call the method again and again; the last worker ends a load of a number of calls."""
        try:
            await self._call_repeatedly(group)
        finally:
            self._working -= 1
            if not self._working and self._schedule.exhausted:
                self._stop()

    async def _call_repeatedly(self, group: asyncio.TaskGroup) -> None:
        report, meter, clock = CallReport(), self._meter, time.perf_counter
        pauses = backoff()
        failing = False
        while (due := self._schedule.take()) is not None:
            if self._options.rate is not None and not await self._wait_until(due, group):
                return
            now = clock()
            began = due if now - due > TIMER else now
            self._promising += not failing
            try:
                await self._call(report)
            except asyncio.CancelledError:
                meter.cancelled += 1
                raise
            except Exception as error:  # noqa: BLE001 - counted by its type
                meter.fail(error, report.instance)
                self._promising -= not failing
                failing = True
                self._check_failing(error)
                if isinstance(error, RemoteError):  # the service sets the pace
                    await asyncio.sleep(0)
                else:
                    await self._schedule.pause(next(pauses))
            else:
                meter.succeed(began, report.instance)
                self._failing_since = None
                self._promising -= not failing
                if failing:
                    failing, pauses = False, backoff()

    async def _wait_until(self, due: float, group: asyncio.TaskGroup) -> bool:
        """Wait until a call is due; return False if the load ends before."""
        clock = time.perf_counter
        if (early := due - clock()) > 0:
            self._waiting += 1
            await self._schedule.pause(early)
            self._waiting -= 1
            if self._schedule.over.is_set() and due > clock():
                return False
        if not self._waiting and self._working < self._most_workers:
            self._add_worker(group)
        return True

    def _check_failing(self, error: Exception) -> None:
        """Stop if calls have only failed for some time, and none may still succeed."""
        now = time.perf_counter()
        since = self._failing_since = now if self._failing_since is None else self._failing_since
        if now - since >= STOP_AFTER and not self._promising and not self.reason:
            self.reason = (
                f"It was stopped, because all calls failed for {STOP_AFTER:g} s:"
                f" {error_text(error)}"
            )
            self._stop()


class _Schedule:
    """Times at which calls begin, until the time is over or all calls have begun.

    Args:
        options: options of the benchmark.
        clock: clock of the times.

    Attributes:
        over: set when no more calls begin and none is paused any more.
    """

    def __init__(self, options: BenchOptions, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rate = options.rate
        self._limit = math.inf if options.calls is None else options.calls
        self._start = clock()
        self._end = math.inf
        self._begun = 0
        self.over = asyncio.Event()

    def take(self) -> float | None:
        """Return the time at which the next call is due, which may have passed; None: no more."""
        due = now = self._clock()
        if self._rate is not None:
            due = self._start + self._begun / self._rate
        if self._begun >= self._limit or max(due, now) >= self._end or self.over.is_set():
            return None
        self._begun += 1
        return due

    async def pause(self, seconds: float) -> None:
        """Sleep, at most until it is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()

    def end_after(self, seconds: float) -> None:
        """Let no calls begin that are due more than these seconds from now."""
        self._end = self._clock() + seconds

    @property
    def exhausted(self) -> bool:
        """True if as many calls have begun as are to be made."""
        return self._begun >= self._limit

    @property
    def unsent(self) -> int:
        """Number of calls that were due before its end and have not begun."""
        if self._rate is None:
            return 0
        passed = min(self._clock(), self._end) - self._start
        due = min(passed * self._rate, self._limit)
        return max(0, math.ceil(due - 1e-9) - self._begun)
