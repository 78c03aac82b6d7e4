"""Maps: one method called for many rows, by a fixed number of workers."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from fabric_nb.errors import (
    AmbiguousService,
    CallCancelled,
    InvalidArgument,
    InvalidArgumentType,
    MapStopped,
    MethodNotFound,
    NotConnected,
    NotSerializable,
    RemoteError,
    UnknownService,
    VersionMismatch,
    WrongLoop,
    render_briefly,
)
from fabric_nb.fabric.core.backoff import backoff
from fabric_nb.fabric.core.tasks import check_loop_runs
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.values import error_text, shown, whole
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.client import RpcClient
from fabric_nb.fabric.rpc.map_progress import MapProgress, ProgressMeter
from fabric_nb.fabric.rpc.map_results import FailedRow, MapResults
from fabric_nb.fabric.rpc.map_rows import RowQueue, RowSource, TakenRow
from fabric_nb.fabric.rpc.retry import PATIENCE
from fabric_nb.fabric.wire.names import ServicePattern

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_IN_FLIGHT, MAX_IN_FLIGHT = 16, 10_000
"""Rows under way at the same time, each of which has a worker."""
MAX_RETRIES = 1000

OnError = Literal["keep", "raise"]
MapState = Literal["running", "done", "cancelled", "stopped"]
"""State of a map: under way, ended with its last row, cancelled, or ended before its last row."""

_NOT_SERVED = (UnknownService, MethodNotFound)
"""Errors of calls that were not run, because no instance serves the method now."""
_NO_ROW_CAN_BE_CALLED = (AmbiguousService, VersionMismatch, NotConnected, WrongLoop)
_END: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """Options of a map.

    Attributes:
        in_flight: rows under way at the same time, up to 10,000.
        timeout: seconds for each row, with its retries for a lost service; None: the connector's
            timeout, infinity: no limit.
        version: version that the service must have, as in ``>=1.2,<2``.
        idempotent: safe to run twice: retry a row whose service or connection is lost.
        retries: number of further calls of a row that fails, for any reason; for idempotent
            methods only.
        on_error: ``keep`` the error of a row and continue, or ``raise`` the first one.
        spread: the items of a dict result become columns.

    Raises:
        InvalidArgument: an option has an invalid value, or there are `retries` of a method that is
            not idempotent.
        InvalidTimeout: `timeout` is negative, NaN or not a number.
    """

    in_flight: int = DEFAULT_IN_FLIGHT
    timeout: float | None = None
    version: str | None = None
    idempotent: bool = False
    retries: int = 0
    on_error: OnError = "keep"
    spread: bool = True

    def __post_init__(self) -> None:
        in_flight = whole(self.in_flight, "in_flight", low=1, high=MAX_IN_FLIGHT)
        object.__setattr__(self, "in_flight", in_flight)
        object.__setattr__(self, "retries", whole(self.retries, "retries", low=0, high=MAX_RETRIES))
        time_limit(self.timeout)
        if self.on_error not in get_args(OnError):
            raise InvalidArgument(
                f"on_error={shown(self.on_error)} is not known: write 'keep' or 'raise'."
            )
        if self.retries and not self.idempotent:
            raise InvalidArgument(
                f"retries={self.retries} may run a row more than once: make the map idempotent too"
                " (idempotent=True or --idempotent), if that is safe."
            )


class _NoMoreCalls(Exception):
    """No row can be called now; the cause is the error of a call that was not run."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class _RowCaller:
    """Calls the method for one row after another."""

    def __init__(
        self,
        client: RpcClient,
        pattern: ServicePattern,
        method: str,
        constants: Mapping[str, Any],
        options: MapOptions,
    ) -> None:
        self._client = client
        self._pattern = pattern
        self._method = method
        self._constants = constants
        self._options = options
        self._answered = False
        self._not_served_since: float | None = None

    async def call(self, row: Any, report: CallReport) -> Any:
        """Return the result for a row; `report` receives the instance that answers.

        A service that has answered before, and is not served now, is awaited for as long as a call
        may take: its instances may be restarting, and no row is lost.

        Raises:
            _NoMoreCalls: the call was not run, and none of another row would be.
            Exception: the row failed.
        """
        report.instance = ""
        kwargs = self._kwargs(row)
        options, left, pauses = self._options, self._options.retries, backoff()
        while True:
            report.instance, report.progress = "", None
            try:
                result = await self._client.call(
                    self._pattern,
                    self._method,
                    kwargs,
                    timeout=options.timeout,
                    version=options.version,
                    idempotent=options.idempotent,
                    report=report,
                )
            except _NO_ROW_CAN_BE_CALLED as error:
                raise _NoMoreCalls(error) from None
            except _NOT_SERVED as error:
                if not self._may_return():
                    raise _NoMoreCalls(error) from None
            except Exception as error:
                if isinstance(error, RemoteError):
                    self._record_answer()
                if not left or isinstance(error, NotSerializable):
                    raise
                left -= 1
            else:
                self._record_answer()
                return result
            await asyncio.sleep(next(pauses))

    def restart(self) -> None:
        """Await a service that is not served for the full time again."""
        self._not_served_since = None

    def _kwargs(self, row: Any) -> dict[str, Any]:
        if isinstance(row, Exception):  # the row could not be read
            raise row
        if not isinstance(row, Mapping):
            raise InvalidArgumentType(
                f"A row is a {type(row).__name__}, and each row of a map is a mapping of keywords."
            )
        return {**self._constants, **row}

    def _record_answer(self) -> None:
        self._answered = True
        self._not_served_since = None

    def _may_return(self) -> bool:
        """Return whether the service is still awaited."""
        if not self._answered:
            return False
        now = time.monotonic()
        if self._not_served_since is None:
            self._not_served_since = now
        return now - self._not_served_since < self._patience

    @property
    def _patience(self) -> float:
        timeout = self._options.timeout
        seconds = self._client.timeout if timeout is None else time_limit(timeout)
        return PATIENCE if seconds is None else seconds


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
        self._caller = _RowCaller(client, pattern, method, source.constants, options)
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
            except _NoMoreCalls as ended:
                queue.put_back([taken])
                queue.stop(ended.cause)
            except Exception as error:  # noqa: BLE001 - the result of a row
                self._fail(taken, error, began, report.instance)
                if self.options.on_error == "raise":
                    queue.stop(_RowFailed(number, error))
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
        if isinstance(cause, _RowFailed):
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

    def __await__(self) -> Generator[Any, None, pd.DataFrame]:
        return self._results_at_end().__await__()

    async def _results_at_end(self) -> pd.DataFrame:
        try:
            await self._task
        except asyncio.CancelledError as error:  # interrupted in a cell that awaits it
            render_briefly(
                error,
                f"The map of {self.label} was cancelled: {self.progress.summary}. fabric.last_map"
                " has the results so far, and its resume() calls the missing rows.",
            )
            raise
        return self.results

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
        self.on_start: list[Callable[[MapHandle], object]] = []

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
        for listener in self.on_start:
            listener(handle)
        return handle


class _RowFailed(Exception):
    """The first failure of a map with ``on_error="raise"``."""

    def __init__(self, number: int, error: Exception) -> None:
        self.number = number
        self.error = error


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


async def stream_map(
    client: RpcClient,
    pattern: ServicePattern,
    method: str,
    source: RowSource,
    options: MapOptions,
) -> AsyncGenerator[tuple[Any, Any], None]:
    """Yield rows with their results as they arrive; see `AmqBrokerConnector.map_stream`."""
    meter = ProgressMeter(source.total)
    failed: Exception | None = None
    async with aclosing(ended_rows(client, pattern, method, source, options, meter)) as rows:
        async for ended in rows:
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
    caller = _RowCaller(client, pattern, method, source.constants, options)
    workers = _StreamWorkers(caller, RowQueue(source.rows), options, meter)
    queue = workers.queue
    meter.start_clock()
    working = asyncio.create_task(workers.run(), name=f"map of {pattern}.{method}")
    try:
        while (row := await workers.ended.get()) is not _END:
            yield row
        if queue.stopped is not None and not isinstance(queue.stopped, _RowFailed):
            raise queue.stopped
    finally:
        queue.close()
        working.cancel()
        await asyncio.wait([working])
        meter.stop_clock()


class _StreamWorkers:
    """Workers that put the rows of a map that end into a queue."""

    def __init__(
        self, caller: _RowCaller, queue: RowQueue, options: MapOptions, meter: ProgressMeter
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
            except _NoMoreCalls as no_more:
                queue.stop(no_more.cause)
                return
            except Exception as failed:  # noqa: BLE001 - the result of a row
                error = failed
                if self._options.on_error == "raise":
                    queue.stop(_RowFailed(taken.number, failed))
                await asyncio.sleep(0)  # as in `MapHandle`
            ms = self._meter.end_row(began, report.instance, failed=error is not None)
            self._meter.end_call(report, began)
            if queue.exhausted:
                self._meter.total = queue.taken
            await self.ended.put(EndedRow(*taken, result, error, ms, report.instance))


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
