"""Benchmarks: one method measured by calling it again and again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from fabric_nb.errors import RemoteError, render_briefly
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.rpc.bench_load import Call, Load
from fabric_nb.fabric.rpc.bench_meter import BenchMeter
from fabric_nb.fabric.rpc.bench_options import BenchOptions
from fabric_nb.fabric.rpc.bench_result import BenchResult, BenchState, InstanceCalls
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.client import RpcClient
from fabric_nb.fabric.wire.names import ServicePattern

FIRST_CALLS = 3
"""Calls before the measurement; if the service raises in all of them, it is not begun."""


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
        self._load: Load | None = None
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
            kept = ": fabric.last_bench has the result so far" if self.begun else ""
            render_briefly(error, f"The benchmark of {self.label} was interrupted{kept}.")
            raise
        finally:
            self._end("done")
        return self.result

    def _end(self, state: BenchState) -> None:
        if not self._done.is_set():
            self._kwargs = {}  # they may be large, and the newest benchmark is kept
            self._state = "stopped" if self._load is not None and self._load.reason else state
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
        self._load = load = Load(call, self._options, self._meter)
        self._begun_at = time.time()
        await load.run()

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
        return self._result(self._meter.by_instance)

    @property
    def totals(self) -> BenchResult:
        """Result so far without its instances, whose percentiles take more time to compute."""
        return self._result(())

    def _result(self, by_instance: Sequence[InstanceCalls]) -> BenchResult:
        meter, load = self._meter, self._load
        return BenchResult(
            label=self.label,
            options=self._options,
            state=self._state,
            reason="" if load is None else load.reason,
            started=meter.started or self._begun_at,
            elapsed=meter.elapsed,
            calls=meter.calls,
            latency=meter.latency.copy(),
            errors_by_type=meter.errors_by_type,
            by_instance=by_instance,
            by_second=meter.by_second,
            cancelled=meter.cancelled,
            unsent=0 if load is None else load.unsent,
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
