"""Maps whose rows are yielded as they end: a fixed number of workers, and a bounded queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, NamedTuple, Self

from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.cancellation import cancellation_of_rows, explain_cancellation
from fabric_nb.fabric.rpc.client import RpcClient
from fabric_nb.fabric.rpc.map_calls import MapOptions, NoMoreCalls, RowCaller, RowFailed
from fabric_nb.fabric.rpc.map_progress import MapProgress, ProgressMeter
from fabric_nb.fabric.rpc.map_results import FailedRow
from fabric_nb.fabric.rpc.map_rows import RowQueue, RowSource
from fabric_nb.fabric.rpc.watched_map import MapState
from fabric_nb.fabric.wire.names import ServicePattern

MAX_FAILURES = 100
"""Failed rows that are kept for the bar of a map whose rows are yielded."""
_END: Any = object()


class EndedRow(NamedTuple):
    """A row of a map that has ended.

    Attributes:
        number: position of the row, from 0.
        row: the row as given.
        result: result of its call; None if it failed.
        error: error of its call; None if it did not fail.
        ms: duration of its call with all retries, in milliseconds.
        instance: instance that answered; ``""`` if that is not known.
    """

    number: int
    row: Any
    result: Any
    error: Exception | None
    ms: float
    instance: str


class StreamedMap:
    """State of a map whose rows are yielded, which a notebook shows while it is iterated.

    It is a context manager of the iteration.

    Args:
        label: the call, as in ``pricing.quote``.
        total: number of rows; None if it is not known.

    Attributes:
        label: the call, as in ``pricing.quote``.
        state: state of the map.
        meter: counts of the rows that have ended.
    """

    def __init__(self, label: str, total: int | None) -> None:
        self.label = label
        self.state: MapState = "running"
        self.meter = ProgressMeter(total)
        self._failures: list[FailedRow] = []
        self._end = asyncio.Event()

    def add(self, row: EndedRow) -> None:
        """Keep a row if it is one of the first that failed."""
        if row.error is not None and len(self._failures) < MAX_FAILURES:
            self._failures.append(FailedRow(row.number, row.number, row.row, row.error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        match error:
            case None:
                self.state = "done"
            case asyncio.CancelledError():  # interrupted in a cell that iterates it
                self.state = "cancelled"
                explain_cancellation(error, self.meter.cancelled, self._interruption)
            case GeneratorExit():
                self.state = "cancelled"
            case _:
                self.state = "stopped"
        self._end.set()

    @property
    def progress(self) -> MapProgress:
        """Progress at this moment."""
        return self.meter.progress

    @property
    def revision(self) -> int:
        """Number that grows when a row ends, and when the map starts or ends."""
        return self.meter.revision

    @property
    def elapsed(self) -> float:
        """Seconds for which the map has run."""
        return self.meter.elapsed

    def failures(self) -> Iterator[FailedRow]:
        """Yield the first `MAX_FAILURES` rows that failed."""
        return iter(self._failures)

    def done(self) -> bool:
        """Return whether the map has ended."""
        return self._end.is_set()

    async def ended(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds for the end of the map; return whether it is done."""
        try:
            async with asyncio.timeout(timeout):
                await self._end.wait()
        except TimeoutError:
            pass
        return self.done()

    def _interruption(self) -> str:
        rows = cancellation_of_rows(self.meter.cancelled)
        return f"The map of {self.label} was cancelled: {self.progress.summary}. {rows}".rstrip()


async def stream_map(
    client: RpcClient,
    pattern: ServicePattern,
    method: str,
    source: RowSource,
    options: MapOptions,
    on_start: Callable[[StreamedMap], object],
) -> AsyncGenerator[tuple[Any, Any], None]:
    """Yield rows with their results as they arrive; see `AmqBrokerConnector.map_stream`.

    `on_start` is called with the state of the map when its iteration begins.
    """
    state = StreamedMap(f"{pattern}.{method}", source.total)
    on_start(state)
    rows = ended_rows(client, pattern, method, source, options, state.meter)
    failed: Exception | None = None
    with state:
        async with aclosing(rows):
            async for ended in rows:
                state.add(ended)
                if ended.error is None:
                    yield ended.row, ended.result
                elif options.on_error == "keep":
                    yield ended.row, ended.error
                else:
                    failed = failed or ended.error
        if failed is not None:
            raise failed


async def ended_rows(
    client: RpcClient,
    pattern: ServicePattern,
    method: str,
    source: RowSource,
    options: MapOptions,
    meter: ProgressMeter,
) -> AsyncGenerator[EndedRow, None]:
    """Yield the rows of a map in the order in which they end.

    Not more than twice `in_flight` rows are taken and not yet yielded. With ``on_error="raise"`` no
    more rows are taken after one has failed; those under way are yielded.

    Args:
        client: client that the calls go over.
        pattern: the service.
        method: the method.
        source: the rows.
        options: options of the map.
        meter: counts the rows.
    """
    caller = RowCaller(client, pattern, method, source.constants, options)
    workers = _StreamWorkers(caller, RowQueue(source.rows), options, meter)
    queue = workers.queue
    meter.start_clock()
    working = asyncio.create_task(workers.run(), name=f"map of {pattern}.{method}")
    try:
        while (row := await workers.ended.get()) is not _END:
            yield row
        if queue.stopped is not None and not isinstance(queue.stopped, RowFailed):
            raise queue.stopped
    finally:
        queue.close()
        working.cancel()
        await asyncio.wait([working])
        meter.stop_clock()


class _StreamWorkers:
    """Workers that put the rows of a map that end into a queue."""

    def __init__(
        self, caller: RowCaller, queue: RowQueue, options: MapOptions, meter: ProgressMeter
    ) -> None:
        self.queue = queue
        self.ended: asyncio.Queue[EndedRow] = asyncio.Queue(options.in_flight)
        self._caller = caller
        self._options = options
        self._meter = meter

    async def run(self) -> None:
        """Call all rows; `ended` gets `_END` after the last one."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.in_flight):
                group.create_task(self._work())
        await self.ended.put(_END)

    async def _work(self) -> None:
        with self._meter.worker() as report:
            await self._call_rows(report)

    async def _call_rows(self, report: CallReport) -> None:
        queue = self.queue
        while (taken := await queue.take()) is not None:
            result, error, began = None, None, time.perf_counter()
            try:
                result = await self._caller.call(taken.row, report)
            except NoMoreCalls as no_more:
                queue.stop(no_more.cause)
                return
            except Exception as failed:  # noqa: BLE001 - the result of a row
                error = failed
                if self._options.on_error == "raise":
                    queue.stop(RowFailed(taken.number, failed))
                await asyncio.sleep(0)  # as in `MapHandle`
            ms = self._meter.end_row(began, report.instance, failed=error is not None)
            self._meter.end_call(report, began)
            if queue.exhausted:
                self._meter.total = queue.taken
            await self.ended.put(EndedRow(*taken, result, error, ms, report.instance))
