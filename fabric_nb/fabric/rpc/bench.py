"""Benchmarks: one method called again and again, with a fixed number in flight or a fixed rate."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from fabric_nb.errors import (
    InvalidArgument,
    InvalidArgumentType,
    InvalidName,
    RemoteError,
    render_briefly,
)
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.core.backoff import backoff
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.values import error_text, shown, unboxed, whole
from fabric_nb.fabric.rpc.bench_meter import BenchMeter
from fabric_nb.fabric.rpc.bench_result import BenchResult, BenchState
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.client import RpcClient
from fabric_nb.fabric.wire.names import ALL_INSTANCES, ServicePattern

DEFAULT_IN_FLIGHT, MAX_IN_FLIGHT = 16, 10_000
DEFAULT_SECONDS, MAX_SECONDS = 10.0, 86_400.0
DEFAULT_WARMUP = 0.5
MAX_CALLS, MAX_RATE = 1_000_000_000, 1_000_000.0
FIRST_CALLS = 3
"""Calls before the measurement; if the service raises in all of them, it is not begun."""
GRACE = 2.0
"""Seconds after the end of the time in which the calls under way may end."""
STOP_AFTER = 3.0
"""Seconds in which calls only fail until the benchmark is stopped."""
TIMER = 0.002
"""Seconds by which timers of the loop are late; such a delay is no latency of the service."""
SAFE_METHODS = frozenset({"health_check"})
"""Methods that are measured without `repeatable`; every service has them, and they do nothing."""

Call = Callable[[CallReport], Awaitable[None]]
"""Calls the method once; the report receives the instance that answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Options of a benchmark.

    Attributes:
        in_flight: calls under way at the same time, up to 10,000; with `rate`, at most.
        seconds: duration, up to a day, in which calls that end are counted; None: 10 seconds, or
            without limit if there are `calls`.
        calls: number of calls, after which it ends; None: no limit.
        rate: calls that are due per second. Their latencies count from the time at which they are
            due, so that a call which waits for earlier ones counts as slow. None: each call begins
            when one before it has ended.
        warmup: seconds before, in which calls that end are not counted; None: half a second, or
            none if there are `calls`.
        timeout: seconds for each call; None: the connector's timeout, infinity: no limit.
        version: version that the service must have, as in ``>=1.2,<2``.
        repeatable: the method may be called thousands of times; `health_check` always may.

    Raises:
        InvalidArgument: an option has an invalid value.
        InvalidTimeout: `timeout` is negative, NaN or not a number.
    """

    in_flight: int = DEFAULT_IN_FLIGHT
    seconds: float | None = None
    calls: int | None = None
    rate: float | None = None
    warmup: float | None = None
    timeout: float | None = None
    version: str | None = None
    repeatable: bool = False

    def __post_init__(self) -> None:
        in_flight = whole(self.in_flight, "in_flight", low=1, high=MAX_IN_FLIGHT)
        self._set("in_flight", in_flight)
        if self.calls is not None:
            self._set("calls", whole(self.calls, "calls", low=1, high=MAX_CALLS))
        if self.calls is None and self.seconds is None:
            self._set("seconds", DEFAULT_SECONDS)
        if self.seconds is not None:
            self._set("seconds", _number(self.seconds, "seconds", high=MAX_SECONDS))
        if self.rate is not None:
            self._set("rate", _number(self.rate, "rate", high=MAX_RATE))
        if self.warmup is None:
            self._set("warmup", 0.0 if self.calls is not None else DEFAULT_WARMUP)
        elif unboxed(self.warmup) == 0:
            self._set("warmup", 0.0)
        else:
            if self.calls is not None:
                raise InvalidArgument(
                    f"warmup={shown(self.warmup)[1:-1]} would add calls to calls={self.calls}:"
                    " leave it out, or give seconds in place of calls."
                )
            self._set("warmup", _number(self.warmup, "warmup", high=MAX_SECONDS))
        time_limit(self.timeout)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def check(self, pattern: ServicePattern, method: str) -> None:
        """Refuse a method that is not known to be safe, and a name that means several instances.

        Raises:
            InvalidArgument: the method is not `repeatable`.
            InvalidName: the name means all instances.
        """
        if pattern.instance == ALL_INSTANCES:
            raise InvalidName(
                f"{pattern}.{method} calls all instances, and a benchmark measures one call at a"
                " time: leave out @* to measure all of them together, or write the id of one."
            )
        if not (self.repeatable or method in SAFE_METHODS):
            raise InvalidArgument(
                f"{pattern}.{method} would be called {self._amount}, with all its effects: if it"
                " may be, write repeatable=True, or --yes in a magic or command."
            )

    @property
    def _amount(self) -> str:
        if self.calls is not None:
            return f"{self.calls + 1:,} times"
        seconds = f"for {self.seconds:g} s, {self.in_flight:,} calls at a time"
        return seconds if self.rate is None else f"{self.rate:,g} times a second {seconds}"


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
    def unsent(self) -> int:
        """Number of calls that were due before its end and have not begun."""
        if self._rate is None:
            return 0
        passed = min(self._clock(), self._end) - self._start
        due = min(passed * self._rate, self._limit)
        return max(0, math.ceil(due - 1e-9) - self._begun)


class Benchmark:
    """A benchmark that is about to run, is under way, or has ended.

    Args:
        client: client that the calls go over.
        pattern: the service, or an instance of it.
        method: the method.
        kwargs: arguments of each call.
        options: options of the benchmark.

    Attributes:
        label: service and method, as in ``pricing.quote``; with the full name of the service once
            that is known.
    """

    def __init__(
        self,
        client: RpcClient,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        options: BenchOptions,
    ) -> None:
        self.label = f"{pattern}.{method}"
        self._client = client
        self._pattern = pattern
        self._method = method
        self._kwargs = kwargs
        self._options = options
        self._timeout = client.timeout if options.timeout is None else time_limit(options.timeout)
        self._meter = BenchMeter()
        self._state: BenchState = "running"
        self._reason = ""
        self._unsent = 0
        self._working = 0
        """Workers that have not ended."""
        self._promising = 0
        """Calls under way whose worker has not failed in its last call."""
        self._failing_since: float | None = None
        """Time of the first error after the last success."""
        self._begun_at = 0.0
        self._done = asyncio.Event()

    # -- running

    async def run(self) -> BenchResult:
        """Measure, and return the result.

        Raises:
            CallError: the first calls failed.
            CancelledError: it was cancelled; `result` has what was measured.
        """
        try:
            await self._measure(await self._call_first())
        except asyncio.CancelledError as error:
            self._end("interrupted")
            render_briefly(
                error,
                f"The benchmark of {self.label} was interrupted: fabric.last_bench has the result"
                " so far.",
            )
            raise
        finally:
            self._end("done")
        return self.result

    def _end(self, state: BenchState) -> None:
        if not self._done.is_set():
            self._kwargs = {}  # they may be large, and the newest benchmark is kept
            self._state = "stopped" if self._reason else state
            self._done.set()

    async def _call_first(self) -> Call:
        """Return a function that calls the method once.

        It is called alone before, so that its error is raised and not counted thousands of times.
        """
        name, instance = await self._client.resolve(
            self._pattern, version=self._options.version, timeout=self._timeout
        )
        self.label = f"{name}{f'@{instance}' if instance else ''}.{self._method}"

        async def call(report: CallReport) -> None:
            report.instance = ""
            await self._client.call_once(
                name,
                self._method,
                self._kwargs,
                instance=instance,
                timeout=self._timeout,
                report=report,
            )

        for attempt in range(1, FIRST_CALLS + 1):
            try:
                await call(CallReport())
                break
            except RemoteError:
                if attempt == FIRST_CALLS:
                    raise
        return call

    async def _measure(self, call: Call) -> None:
        options, loop = self._options, asyncio.get_running_loop()
        schedule = _Schedule(options, time.perf_counter)
        timers: list[asyncio.TimerHandle] = []

        def count() -> None:
            self._meter.start(options.seconds)
            if options.seconds is not None:
                schedule.end_after(options.seconds)
                timers.append(loop.call_later(options.seconds, self._stop, schedule))

        self._begun_at = time.time()
        if options.warmup:
            timers.append(loop.call_later(options.warmup, count))
        else:
            count()
        try:
            async with asyncio.TaskGroup() as group:
                work = [group.create_task(self._work(call, schedule)) for _ in range(self._workers)]
                self._working = len(work)
                await schedule.over.wait()
                await asyncio.wait(work, timeout=GRACE)
                for each in work:
                    each.cancel()
        finally:
            for timer in timers:
                timer.cancel()
            self._stop(schedule)

    def _stop(self, schedule: _Schedule) -> None:
        """Begin no more calls, and count no more."""
        if not schedule.over.is_set():
            schedule.over.set()
            self._unsent = schedule.unsent
            self._meter.stop()

    @property
    def _workers(self) -> int:
        options = self._options
        return min(options.in_flight, options.calls or options.in_flight)

    async def _work(self, call: Call, schedule: _Schedule) -> None:
        """Call the method again and again; the last worker ends the schedule."""
        try:
            await self._call_repeatedly(call, schedule)
        finally:
            self._working -= 1
            if not self._working:
                self._stop(schedule)

    async def _call_repeatedly(self, call: Call, schedule: _Schedule) -> None:
        report, meter, clock = CallReport(), self._meter, time.perf_counter
        pauses = backoff()
        failing = False
        while (due := schedule.take()) is not None:
            if (early := due - clock()) > 0:
                await schedule.pause(early)
                if schedule.over.is_set() and due > clock():
                    return
            now = clock()
            began = due if now - due > TIMER else now
            self._promising += not failing
            try:
                await call(report)
            except asyncio.CancelledError:
                meter.cancelled += 1
                raise
            except Exception as error:  # noqa: BLE001 - counted by its type
                meter.fail(error, report.instance)
                self._promising -= not failing
                failing = True
                self._check_failing(error, schedule)
                if isinstance(error, RemoteError):  # the service sets the pace
                    await asyncio.sleep(0)
                else:
                    await schedule.pause(next(pauses))
            else:
                meter.succeed(began, report.instance)
                self._failing_since = None
                self._promising -= not failing
                if failing:
                    failing, pauses = False, backoff()

    def _check_failing(self, error: Exception, schedule: _Schedule) -> None:
        """End the benchmark if calls have only failed for some time, and none may still succeed."""
        now = time.perf_counter()
        since = self._failing_since = now if self._failing_since is None else self._failing_since
        if now - since >= STOP_AFTER and not self._promising and not self._reason:
            self._reason = (
                f"It was stopped, because all calls failed for {STOP_AFTER:g} s:"
                f" {error_text(error)}"
            )
            self._stop(schedule)

    # -- state

    def done(self) -> bool:
        """Return whether it has ended."""
        return self._done.is_set()

    @property
    def begun(self) -> bool:
        """True once the first call has succeeded."""
        return self._begun_at > 0

    async def ended(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for its end; return whether it has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._done.wait()
        return self.done()

    @property
    def result(self) -> BenchResult:
        """Result so far."""
        meter = self._meter
        return BenchResult(
            label=self.label,
            options=self._options,
            state=self._state,
            reason=self._reason,
            started=meter.started or self._begun_at,
            elapsed=meter.elapsed,
            calls=meter.calls,
            latency=meter.latency.copy(),
            errors_by_type=meter.errors_by_type,
            by_instance=meter.by_instance,
            by_second=meter.by_second,
            cancelled=meter.cancelled,
            unsent=self._unsent,
            cpu=meter.cpu,
        )


class Benchmarks:
    """Runs the benchmarks of a member.

    Args:
        connection: connection that the calls go over.
        client: client that the calls go over.

    Attributes:
        around: returns an asynchronous context manager that each benchmark runs in.
    """

    def __init__(self, connection: Connection, client: RpcClient) -> None:
        self._connection = connection
        self._client = client
        self._newest: Benchmark | None = None
        self.around: Callable[[Benchmark], AbstractAsyncContextManager[object]] = nullcontext

    @property
    def last(self) -> BenchResult | None:
        """Result of the newest benchmark, so far if it is under way; None if there was none."""
        return None if self._newest is None else self._newest.result

    def create(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        options: BenchOptions,
    ) -> Benchmark:
        """Return a benchmark that is not running yet; see `AmqBrokerConnector.bench`."""
        options.check(pattern, method)
        return Benchmark(self._client, pattern, method, kwargs, options)

    async def run(self, benchmark: Benchmark) -> BenchResult:
        """Run a benchmark, in the event loop of the connection."""
        if self._connection.in_other_loop:
            return await self._connection.run_in_own_loop(self.run(benchmark))
        previous, self._newest = self._newest, benchmark
        try:
            async with self.around(benchmark):
                return await benchmark.run()
        finally:
            if not benchmark.begun:
                self._newest = previous


def _number(value: Any, label: str, *, high: float) -> float:
    """Return a number greater than 0.

    Raises:
        InvalidArgumentType: it is no number.
        InvalidArgument: it is out of bounds, or NaN.
    """
    plain = unboxed(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise InvalidArgumentType(f"{label} is a {type(value).__name__}, and it is a number.")
    if not 0 < plain <= high:
        raise InvalidArgument(
            f"{label} is {shown(value)[1:-1]}, and it is a number greater than 0, at most"
            f" {high:,g}."
        )
    return float(plain)
