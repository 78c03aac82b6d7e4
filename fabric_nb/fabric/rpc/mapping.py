"""Maps: one method called for many rows, by a fixed number of workers."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from fabric_nb.errors import CallCancelled, CallTimeout, MapStopped, render_briefly
from fabric_nb.fabric.core.tasks import check_loop_runs
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.values import error_text
from fabric_nb.fabric.core.waiting import wait_for
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.cancellation import (
    STOP_TIMEOUT,
    cancellation_of_rows,
    explain_cancellation,
    wait_for_outcomes,
)
from fabric_nb.fabric.rpc.client import RpcClient
from fabric_nb.fabric.rpc.map_calls import MapOptions, NoMoreCalls, RowCaller, RowFailed
from fabric_nb.fabric.rpc.map_progress import MapProgress
from fabric_nb.fabric.rpc.map_results import FailedRow, MapResults
from fabric_nb.fabric.rpc.map_rows import RowQueue, RowSource, TakenRow
from fabric_nb.fabric.rpc.map_streams import stream_map
from fabric_nb.fabric.rpc.watched_map import MapState, WatchedMap
from fabric_nb.fabric.wire.names import ServicePattern

if TYPE_CHECKING:
    import pandas as pd


class MapHandle:
    """A map under way, or one that has ended; await it for its results.

    Example::

        handle = fabric.map("pricing.quote", orders, in_flight=32)
        handle.progress
        prices = await handle             # a DataFrame with the index of `orders`
        await handle.retry_failed()

    Awaiting it returns `results` when all rows have ended. The map is cancelled if the task that
    awaits it is, as any task; use `asyncio.shield` where that is not wanted. It raises `MapStopped`
    if a row failed with ``on_error="raise"``, if the iterable of the rows raised an error, or if
    no row can be called, as without a service; the error has this handle.

    Attributes:
        label: the call, as in ``pricing.quote``.
        options: options of the map.
    """

    def __init__(
        self,
        client: RpcClient,
        pattern: ServicePattern,
        method: str,
        source: RowSource,
        options: MapOptions,
    ) -> None:
        check_loop_runs("A map begins its calls")
        self.label = f"{pattern}.{method}"
        self.options = options
        self._caller = RowCaller(client, pattern, method, source.constants, options)
        self._queue = RowQueue(source.rows)
        self._results = MapResults(source.total, source.index, spread=options.spread)
        self._failed: dict[int, TakenRow] = {}
        self._task = self._start()

    # -- running

    def _start(self, previous: asyncio.Task[None] | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run(previous), name=f"map of {self.label}")
        task.add_done_callback(_retrieve)  # it is raised where the handle is awaited
        return task

    async def _run(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])  # it may just have been cancelled
        queue = self._queue
        queue.restart()
        self._caller.restart()
        self._results.meter.start_clock()
        try:
            while queue.missing and queue.stopped is None:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._workers):
                        group.create_task(self._work())
        finally:
            if queue.exhausted:
                self._results.meter.total = queue.taken
            self._results.meter.stop_clock()
        if queue.stopped is not None:
            raise self._stopped(queue.stopped)

    @property
    def _workers(self) -> int:
        missing = self.progress.missing
        in_flight = self.options.in_flight
        return in_flight if missing is None else max(1, min(in_flight, missing))

    async def _work(self) -> None:
        with self._results.meter.worker() as report:
            await self._call_rows(report)

    async def _call_rows(self, report: CallReport) -> None:
        results, queue = self._results, self._queue
        while (taken := await queue.take()) is not None:
            number = taken.number
            results.begin(number)
            began = time.perf_counter()
            try:
                result = await self._caller.call(taken.row, report)
            except asyncio.CancelledError:
                if self.options.idempotent:
                    queue.put_back([taken])
                else:
                    self._fail(taken, self._cancelled(), began, "")
                raise
            except NoMoreCalls as ended:
                queue.put_back([taken])
                queue.stop(ended.cause)
            except Exception as error:  # noqa: BLE001 - the result of a row
                self._fail(taken, error, began, report.instance)
                if self.options.on_error == "raise":
                    queue.stop(RowFailed(number, error))
                await asyncio.sleep(0)  # rows that fail without being sent do not block the loop
            else:
                results.succeed(number, result, began, report.instance)
            results.meter.end_call(report, began)

    def _fail(self, taken: TakenRow, error: Exception, began: float, instance: str) -> None:
        error.__traceback__ = None  # its frames would keep this map, and more, in memory
        self._failed[taken.number] = taken
        self._results.fail(taken.number, error, began, instance)

    def _cancelled(self) -> CallCancelled:
        return CallCancelled(
            f"{self.label} was cancelled before its reply arrived; whether it was run is not"
            " known.",
            call=self.label,
        )

    def _stopped(self, cause: BaseException) -> MapStopped:
        reason = error_text(cause)
        if isinstance(cause, RowFailed):
            cause = cause.error
            reason = f"a row failed ({error_text(cause)})"
        rows = self.progress.facts[0]
        stopped = MapStopped(
            f"The map of {self.label} has stopped after {rows}, because of {reason.rstrip('.')}:"
            " the results so far are in this error's handle, and its resume() continues.",
            call=self.label,
            handle=self,
        )
        stopped.__cause__ = cause
        return stopped

    # -- control

    def done(self) -> bool:
        """Return whether the map has ended, was cancelled or has stopped."""
        return self._task.done()

    async def ended(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds for the end of the map; return whether it is done."""
        return bool((await asyncio.wait([self._task], timeout=timeout))[0])

    def cancel(self) -> bool:
        """Cancel the rows under way, and take no more; return False if the map is done already.

        The rows under way are missing if the method is idempotent, and failed with `CallCancelled`
        otherwise, because whether they were run is not known.
        """
        return self._task.cancel()

    async def stop(self, timeout: float = STOP_TIMEOUT) -> bool | None:
        """Cancel the map, and return whether the functions of its rows under way were stopped.

        Returns:
            True if all were; False if one runs on in a thread, which cannot be stopped; None if
            that is not known of one after `timeout` seconds, as for plain functions on an event
            loop and services on amqp-fabric, which run every call to its end.
        """
        self.cancel()
        return await self.stopped(timeout)

    async def stopped(self, timeout: float = STOP_TIMEOUT) -> bool | None:
        """Wait for the outcome of a cancellation; see `stop`."""
        await asyncio.wait([self._task])
        rows = self._results.meter.cancelled
        await wait_for_outcomes(rows, timeout)
        outcomes = {row.stopped for row in rows}
        return False if False in outcomes else None if None in outcomes else True

    @property
    def cancellation(self) -> str:
        """Outcome of a cancellation for the rows that were under way, as a sentence."""
        return cancellation_of_rows(self._results.meter.cancelled)

    def resume(self) -> MapHandle:
        """Call the rows that are missing, and return this handle; do nothing while it runs.

        Example::

            await handle.resume()
        """
        if self.done() or self._task.cancelling():
            self._task = self._start(self._task)
        return self

    def retry_failed(self) -> MapHandle:
        """Call the failed rows again, and those that are missing, and return this handle.

        A row that failed may have been run: by the service, before the error, or with an unknown
        outcome.
        """
        failed, self._failed = self._failed, {}
        self._results.forget_failures()
        self._queue.put_back(failed.values())
        return self.resume()

    def result(self, timeout: float | None = None) -> pd.DataFrame:
        """Wait for the end and return the results, or raise the error of the map; for a notebook.

        Raises:
            CallTimeout: the map has not ended within `timeout` seconds; it continues.
            NotInNotebook: the map is not done, and this is a program, where only `await` waits.
        """
        if self.done():
            self._task.result()
            return self.results
        __tracebackhide__ = True
        return wait_for(partial(self._result, timeout), f"result() of {self.label}", "handle")

    async def _result(self, timeout: float | None) -> pd.DataFrame:
        try:
            async with asyncio.timeout(time_limit(timeout)):
                await asyncio.shield(self._task)
        except TimeoutError:
            if not self.done():
                raise CallTimeout(
                    f"The map of {self.label} has not ended within {timeout:g} s; it continues.",
                    call=self.label,
                    seconds=timeout or 0.0,
                ) from None
            self._task.result()  # it has just finished, or raised the error itself
        except asyncio.CancelledError as error:
            if not self.done():  # interrupted in a cell
                continues = f"The map of {self.label} continues; its handle's cancel() cancels it."
                render_briefly(error, continues)
            raise
        return self.results

    def __await__(self) -> Generator[Any, None, pd.DataFrame]:
        return self._results_at_end().__await__()

    async def _results_at_end(self) -> pd.DataFrame:
        try:
            await self._task
        except asyncio.CancelledError as error:  # interrupted in a cell that awaits it
            explain_cancellation(error, self._results.meter.cancelled, self._interruption)
            raise
        return self.results

    def _interruption(self) -> str:
        return (
            f"The map of {self.label} was cancelled: {self.progress.summary}. fabric.last_map has"
            f" the results so far, and its resume() calls the missing rows. {self.cancellation}"
        ).rstrip()

    # -- state

    @property
    def state(self) -> MapState:
        """State of the map: ``running``, ``done``, ``cancelled`` or ``stopped``."""
        if self._task.cancelled():
            return "cancelled"
        if not self._task.done():
            return "running"
        return "stopped" if self._task.exception() else "done"

    @property
    def results(self) -> pd.DataFrame:
        """Rows that have ended so far, in the order and with the index of the rows.

        The items of a dict result are columns; other results are in the column ``result``, and so
        are dicts with ``spread=False``. The last three columns are ``error``, the exception of a
        row that failed, or None; ``ms``, its duration with all retries in milliseconds; and
        ``instance``, the instance that answered, ``""`` where that is not known. A result's item
        that has one of these three names is in ``result.error``, ``result.ms`` or
        ``result.instance``.
        """
        return self._results.frame()

    @property
    def failed(self) -> pd.DataFrame:
        """Rows of `results` that failed."""
        return self._results.frame(only_failed=True)

    def failures(self) -> Iterator[FailedRow]:
        """Yield the rows that failed, in the order in which they ended."""
        for number, error in self._results.errors.items():
            yield FailedRow(number, self._results.label(number), self._failed[number].row, error)

    @property
    def progress(self) -> MapProgress:
        """Progress at this moment."""
        return self._results.meter.progress

    @property
    def revision(self) -> int:
        """Number that grows when a row ends, and when the map starts or ends."""
        return self._results.meter.revision

    @property
    def elapsed(self) -> float:
        """Seconds for which the map has run."""
        return self._results.meter.elapsed

    def __repr__(self) -> str:
        progress = self.progress
        total = "" if progress.total is None else f" of {progress.total:,}"
        failed = f", {progress.failed:,} failed" if progress.failed else ""
        return f"<Map {self.label}: {self.state}, {progress.done:,}{total} rows{failed}>"


class Maps:
    """Starts the maps of a member.

    Args:
        client: client that the calls go over.

    Attributes:
        on_start: functions that are called with each map that begins.
    """

    def __init__(self, client: RpcClient) -> None:
        self._client = client
        self._last: Callable[[], MapHandle | None] = lambda: None
        self.on_start: list[Callable[[WatchedMap], object]] = []

    @property
    def last(self) -> MapHandle | None:
        """The newest map; None if there was none, or it is not referenced any more."""
        return self._last()

    def start(
        self, pattern: ServicePattern, method: str, source: RowSource, options: MapOptions
    ) -> MapHandle:
        """Start a map; see `AmqBrokerConnector.map`."""
        handle = MapHandle(self._client, pattern, method, source, options)
        self._last = weakref.ref(handle)  # a program's results may be large
        self._announce(handle)
        return handle

    def stream(
        self, pattern: ServicePattern, method: str, source: RowSource, options: MapOptions
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        """Yield rows with their results; see `AmqBrokerConnector.map_stream`."""
        return stream_map(self._client, pattern, method, source, options, self._announce)

    def _announce(self, begun: WatchedMap) -> None:
        for listener in self.on_start:
            listener(begun)


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
