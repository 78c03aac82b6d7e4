"""Data streams: messages in, rows of a DataFrame out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pandas as pd

from fabric_nb.errors import InvalidArgument, InvalidArgumentType, MalformedMessage, WaitTimeout
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.amqp.fields import checked
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import in_thread
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.values import whole
from fabric_nb.fabric.data import plotting
from fabric_nb.fabric.data.arrivals import Arrivals
from fabric_nb.fabric.data.consumer import StreamConsumer
from fabric_nb.fabric.data.queues import StreamQueue
from fabric_nb.fabric.data.recording import HEADER_PREFIX, Recording, write_frame
from fabric_nb.fabric.data.stream_options import StreamOptions
from fabric_nb.fabric.wire.arrow import MAX_VALUES, PART_VALUES
from fabric_nb.fabric.wire.data_decoding import (
    Batch,
    joined,
    read_parts,
    read_small,
    read_together,
    rows_of,
)
from fabric_nb.fabric.wire.formats import TABLES_HEADER
from fabric_nb.fabric.wire.names import check_part
from fabric_nb.frames.buffer import FrameBuffer
from fabric_nb.frames.query import ColumnFilter, Query, select, with_index_as_column
from fabric_nb.frames.rows import with_assigned
from fabric_nb.frames.time_columns import sole_time_column, with_time_index

if TYPE_CHECKING:
    from pandas.core.resample import DatetimeIndexResampler

MAX_PREFETCH = 65_535  # AMQP 0-9-1, basic.qos
ARRIVAL = "arrival"
_RATE_WINDOW = 5.0
"""Seconds over which `rate` is measured."""
_MANY_ROWS = 10_000
"""Rows of one message from which on they are checked against the columns of the stream."""

Row = Mapping[str, Any]


class Stream:
    """Rows of a data stream as they arrive; a DataFrame at any moment.

    Example::

        async with await fabric.stream(msg_type="CUSTOMER_TRANSACTIONS") as orders:
            await orders.wait(rows=100, timeout=10)
            orders.df.groupby("currency").order_total.sum()

    Memory is bounded: rows beyond `max_rows` and `max_bytes` push out older ones, which `dropped`
    counts. While a reader of `batches` or a recording is too far behind, messages wait at the
    broker. They also wait while a large message is read, in a thread.

    Args:
        connection: connection to consume on.
        domain: domain of the stream.
        headers: headers that its messages carry; none: all messages.
        options: queue, prefetch, and the rows and columns that are kept.
        rejected: record of messages that cannot be read.

    Attributes:
        domain: domain of the stream.
        headers: headers that its messages carry.
        name: name of its queue; empty for a queue of its own.
        rejected: number of messages that could not be read.
        closed: True once it receives nothing more.
        consumer: consumer of its messages.

    Raises:
        InvalidArgument: a bound is not positive, `prefetch` is no number from 1 to 65,535, or a
            unit is unknown.
        UnusableQueue: no queue can have this name, or these properties.
        InvalidArgumentType: `unit` is no mapping.
        UnusableHeader: a header cannot be one, so that no message has it.
    """

    def __init__(
        self,
        connection: Connection,
        domain: str,
        headers: Mapping[str, Any],
        options: StreamOptions,
        *,
        rejected: RejectedMessages,
    ) -> None:
        unit, arrival, with_headers = options.unit, options.arrival, options.with_headers
        if not isinstance(unit, (Mapping, type(None))):
            raise InvalidArgumentType(
                f"unit maps columns to units, as in {{'at': 'ms'}}, so it cannot be {unit!r}; a"
                f" header of that name is given in a mapping: {{'unit': {unit!r}}}."
            )
        self.domain = check_part(domain, "domain")
        self.headers = checked(headers, "filter")
        self.name = options.name
        self.rejected = 0
        self.closed = False
        self._connection = connection
        self._prefetch = whole(options.prefetch, "prefetch", low=1, high=MAX_PREFETCH)
        self._queue = StreamQueue(
            options.name,
            durable=options.durable,
            replay_from=options.replay_from,
            prefetch=self._prefetch,
            on_remade=lambda: self.consumer.renew(),
        )
        self.consumer = StreamConsumer(
            connection,
            domain,
            self.headers,
            self._queue,
            prefetch=self._prefetch,
            handle=self._handle,
            handle_together=self._handle_together,
            is_held_up=lambda: self.held_up,
        )
        self.consumer.paused = options.paused
        self._buffer = FrameBuffer(
            max_rows=options.max_rows, max_bytes=options.max_bytes, index=options.index, unit=unit
        )
        self._arrivals = Arrivals()
        self._arrival = ARRIVAL if arrival is True else arrival or ""
        self._with_headers = [with_headers] if isinstance(with_headers, str) else with_headers
        self._rejected = rejected
        self._arrived = asyncio.Event()
        self._batches: list[asyncio.Queue[Sequence[Row] | None]] = []
        self._ends: list[int] = []  # row counts at which readers of batches end
        self._recordings: list[Recording] = []

    # -- life

    async def open(self) -> Self:
        """Start to receive.

        Raises:
            UnusableQueue: its queue gathers messages of another filter or domain.
            BrokerRefused: the broker refuses the queue or the exchange.
        """
        try:
            await self.consumer.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def delete(self) -> None:
        """Close the stream, and delete its queue at the broker with all messages in it."""
        if self.name and not self.closed:
            await self.consumer.delete_queue()
        await self.close()

    async def close(self) -> None:
        """Stop receiving. Rows received so far are kept."""
        if self.closed:
            return
        self.closed = True
        await self.consumer.close()
        for queue in self._batches:
            queue.put_nowait(None)
        self._arrived.set()
        await asyncio.gather(*(recording.end() for recording in self._recordings))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def reconnecting(self) -> bool:
        """True while the connection is lost, so that no row arrives."""
        return not self.closed and self._connection.state is State.RECONNECTING

    @property
    def remade(self) -> int:
        """Number of times that its queue was lost with its messages, and declared again.

        The queue of a stream without a name is deleted with its connection, a shared one with its
        last consumer, and an operator can delete any queue.
        """
        return self._queue.remade

    @property
    def paused(self) -> bool:
        """True after `pause`, until `resume`."""
        return self.consumer.paused

    async def pause(self) -> None:
        """Receive no more rows; messages wait, all but `prefetch` of them at the broker."""
        # The consumer stays, because without one the broker would delete the queue.
        self.consumer.paused = True

    async def resume(self) -> None:
        """Continue with the messages that have waited."""
        self.consumer.paused = False
        self.consumer.resume()

    @property
    def readers(self) -> int:
        """Number of readers of `batches`."""
        return len(self._batches)

    @property
    def held_up(self) -> bool:
        """True while messages wait for a reader of `batches` or for a recording."""
        if not (self._batches or self._recordings):
            return False
        if any(self.rows >= end for end in self._ends):
            return True
        behind = any(queue.qsize() >= self._prefetch for queue in self._batches)
        return behind or any(recording.behind for recording in self._recordings)

    # -- messages in

    def _handle(self, delivery: Delivery) -> Awaitable[bool] | None:
        try:
            batch = read_small(delivery)
            if batch is None:
                return self._handle_large(delivery)
            self._append(batch, delivery)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, it is this message
            self._reject(delivery, error)
        return None

    def _handle_together(self, deliveries: list[Delivery]) -> bool:
        """Read messages of one row each; return False if they are to be handled one by one."""
        if self._batches or self._recordings or self._with_headers or self._arrival:
            return False
        rows = read_together(deliveries)
        if rows is None:
            return False
        try:
            self._buffer.extend(rows, copy=False)
            self._appended(len(rows))
        except Exception as error:  # noqa: BLE001 - whatever is wrong, it is one of these messages
            for delivery in deliveries:
                self._reject(delivery, error)
        return True

    async def _handle_large(self, delivery: Delivery) -> bool:
        """Read a message in a thread; return False if it is delivered again."""
        try:
            assign = self._columns_of(delivery)
            shared = bool(self._batches or self._recordings)
            large = await in_thread(_read_large, delivery, self._buffer, assign, keep=shared)
            if self.closed or self.consumer.is_of_lost_channel(delivery):
                return False
            rows = await in_thread(self._buffer.absorb, large.staged)
            if large.batch is not None:
                self._hand_out(large.batch, large.rows, delivery, rows)
            self._appended(rows)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, it is this message
            self._reject(delivery, error)
        return True

    def _reject(self, delivery: Delivery, error: Exception) -> None:
        self.rejected += 1
        self._rejected.add("data", error, delivery)

    def _append(self, batch: Batch, delivery: Delivery) -> None:
        assign = self._columns_of(delivery)
        shared = bool(self._batches or self._recordings)
        copies = _copied_rows(batch, assign) if shared else []  # first, because it may fail
        if isinstance(batch, (list, tuple)):
            rows = len(batch)
            if rows > _MANY_ROWS:
                _check_size(rows, self._buffer.columns)
            self._buffer.extend(batch, assign=assign, copy=shared)
        else:
            rows = self._buffer.extend_columns(batch, assign=assign)
        if shared:
            self._hand_out(batch, copies, delivery, rows)
        self._appended(rows)

    def _appended(self, rows: int) -> None:
        if rows:
            self._arrivals.add(rows)
        self._arrived.set()

    def _hand_out(self, batch: Batch, copies: Sequence[Row], delivery: Delivery, rows: int) -> None:
        """Give the rows of a message to recordings and to readers of batches."""
        for recording in self._recordings:
            recording.add(batch, delivery, rows)
        for queue in self._batches:  # each reader may change its own copies
            queue.put_nowait(list(map(dict, copies)))

    def _columns_of(self, delivery: Delivery) -> dict[str, Any] | None:
        """Return the columns that all rows of a message share: headers and time of arrival."""
        if not (self._with_headers or self._arrival):
            return None
        columns: dict[str, Any] = {}
        if self._with_headers:
            headers = delivery.headers
            names = headers if self._with_headers is True else self._with_headers
            columns = {
                HEADER_PREFIX + name: headers.get(name) for name in names if name != TABLES_HEADER
            }
        if self._arrival:
            columns[self._arrival] = datetime.now(UTC)
        return columns

    # -- rows out

    async def wait(self, rows: int = 1, *, timeout: float | None = None) -> None:
        """Wait until `rows` have been received since it was opened, or until it is closed.

        Raises:
            WaitTimeout: they were not received within `timeout` seconds.
            InvalidTimeout: `timeout` is negative, NaN or no number.
        """
        target = rows
        limit = time_limit(timeout)
        try:
            async with asyncio.timeout(limit):
                while self.rows < target and not self.closed:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            seconds = limit or 0.0
            raise WaitTimeout(
                f"{self.rows} of {target} rows came within {seconds:g} s.", seconds=seconds
            ) from None

    async def batches(self, rows: int | None = None) -> AsyncIterator[Sequence[Row]]:
        """Yield rows as they arrive, a list for each message, until the stream is closed.

        The stream waits for a reader that is `prefetch` messages behind.

        Args:
            rows: end with the message that has the last of so many rows; the stream is paused then,
                so that later messages stay at the broker.
        """
        queue: asyncio.Queue[Sequence[Row] | None] = asyncio.Queue()
        end = None if rows is None else self.rows + rows
        self._batches.append(queue)
        if end is not None:
            self._ends.append(end)
        left = rows
        try:
            while (batch := await queue.get()) is not None:
                self.consumer.resume()
                if left is not None and (left := left - len(batch)) <= 0:
                    await self.pause()
                yield batch
                if left is not None and left <= 0:
                    return
        finally:
            self._batches.remove(queue)
            if end is not None:
                self._ends.remove(end)
            self.consumer.resume()

    async def record(self, path: str | Path, *, overwrite: bool = False) -> Recording:
        """Write all rows that arrive from now on to a file, until it or the stream is closed.

        Example::

            async with await orders.record("orders.parquet"):
                await orders.wait(10_000)
            await fabric.replay("orders.parquet", speed=10)

        Args:
            path: ends in ``.parquet`` (extra `arrow`) or ``.jsonl``.
            overwrite: replace a file that exists.

        Raises:
            RecordingError: the file exists, cannot be written, or has another suffix.
        """
        recording = Recording(path, overwrite=overwrite, on_room=self.consumer.resume)
        await recording.open()
        self._recordings.append(recording)
        recording.on_closed = partial(self._forget, recording)
        return recording

    def _forget(self, recording: Recording) -> None:
        if recording in self._recordings:
            self._recordings.remove(recording)
        self.consumer.resume()

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The recordings that are being written."""
        return tuple(self._recordings)

    @property
    def df(self) -> pd.DataFrame:
        """All kept rows as a read-only DataFrame; `copy()` it to change it."""
        return self._buffer.df

    def tail(self, n: int = 10) -> pd.DataFrame:
        """Return the last `n` rows."""
        return self._buffer.tail(n)

    def __len__(self) -> int:
        return len(self._buffer)

    def where(
        self,
        words: str = "",
        columns: Mapping[str, str] | None = None,
        *,
        sort: str | None = None,
        descending: bool = False,
        within: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return the kept rows that match, as the filters of a stream's table do.

        Example::

            orders.where("tea", {"price": "> 5", "at": "12:00..13:00"}, sort="price")

        Args:
            words: words that a row must contain, in any column, in upper or lower case.
            columns: filter of each column: of numbers, as in ``> 5``, ``5..10`` or ``>= 5 < 10``;
                of times, as in ``2026-11-30``, ``> 2026-11-30 12:30`` or ``12:00..13:00`` on any
                day; of other values, words.
            sort: column to sort by; by default, rows are in the order of their arrival.
            descending: sort the highest first. Missing values are last in both directions.
            within: columns that are searched for the words; all by default.

        Raises:
            InvalidArgument: a filter is no condition, or there is no such column.
        """
        frame = self._buffer.df
        filters = [ColumnFilter(name, text) for name, text in (columns or {}).items()]
        query = Query(words, filters, sort, descending, within)
        searched = with_index_as_column(frame)
        for name in (*(columns or ()), *(within or ()), *(() if sort is None else (sort,))):
            if name not in searched:
                raise InvalidArgument(
                    f"The stream has no column {name!r}; it has"
                    f" {', '.join(map(repr, searched.columns)) or 'none yet'}."
                )
        selection = select(searched, query)
        for name, problem in selection.problems.items():
            raise InvalidArgument(f"The filter of {name!r} is wrong: {problem}")
        return frame.iloc[selection.positions]

    def timed(self, on: str | None = None) -> pd.DataFrame:
        """Return all kept rows, with their times as the index.

        The times are the index if it has times, else the only column of times (besides that of
        `arrival`), else the times of arrival.

        Args:
            on: the column of times to use instead.

        Raises:
            ValueError: `on` is no column of times, or there are several and none was chosen.
        """
        frame = self._buffer.df
        self._arrivals.keep(len(frame))
        if isinstance(frame.index, pd.DatetimeIndex) and on in (None, frame.index.name):
            return frame
        column = on or sole_time_column(frame, fallback=self._arrival)
        if column is not None:
            return with_time_index(frame, column)
        arrivals = pd.DatetimeIndex(self._arrivals.newest(len(frame)), name=ARRIVAL)
        frame.index = arrivals.tz_localize("UTC")
        return frame

    def resample(
        self, rule: str | pd.Timedelta, *, on: str | None = None, columns: Sequence[str] = ()
    ) -> DatetimeIndexResampler[pd.DataFrame]:
        """Return windows of time over the kept rows, as `pandas.DataFrame.resample`.

        Example::

            orders.resample("1s").mean()
            orders.resample("5min", columns=["currency"]).nunique()

        Args:
            rule: length of a window.
            on: the column of times; see `timed`.
            columns: columns of the result; by default all with numbers.

        Raises:
            ValueError: see `timed`.
            KeyError: there is no such column.
        """
        frame = self.timed(on)
        chosen = frame[list(columns)] if columns else frame.select_dtypes(["number", "bool"])
        return chosen.resample(rule)

    def plot(
        self,
        y: str | Sequence[str] | None = None,
        x: str | None = None,
        *,
        window: str | float | pd.Timedelta | None = None,
        every: str | float | pd.Timedelta | None = None,
        how: str | None = None,
        by: str | None = None,
        kind: str | None = None,
        utc: bool = False,
        title: str | None = None,
    ) -> Any:
        """Show a live chart under the running cell of a notebook, and return it.

        Example::

            orders.plot("total", window="5min")
            orders.plot("total", every="1min", how="sum", by="sku", kind="bar")

        Args:
            y: columns to draw; by default measures: those with numbers, without ids and counters.
            x: column of the horizontal axis; by default, the times (see `timed`).
            window: span of `x` to show up to its newest value, as in ``5min``, or a number where
                `x` has numbers; all kept rows by default.
            every: width of a bucket whose rows are one value, as in ``1min``, or a number where
                `x` has numbers; of a histogram, the width of a bar. By default each row is drawn;
                with `how` and for bars, a width that suits the range shown.
            how: value of a bucket: ``count`` (of rows), ``sum``, ``mean``, ``median``, ``min``,
                ``max``, ``first``, ``last`` or ``std``. By default ``sum`` for bars, else
                ``mean``; ``count`` if there is nothing but the rows to draw.
            by: column with categories, each of which is drawn by itself. The most frequent ones
                are drawn, and all further ones together as *other*.
            kind: ``line``, ``area``, ``bar``, ``scatter``, or ``hist`` for the distribution of
                the values; ``line`` by default.
            utc: show times in UTC; by default they are local times of the browser.
            title: title of the chart; the stream's headers by default.

        Raises:
            NotInNotebook: the extension is not loaded.
            ValueError: `kind` or `how` is unknown, `window` or `every` is no span of time and no
                number, or the options do not go together.
        """
        return plotting.backend().plot(
            self,
            y=y,
            x=x,
            window=window,
            every=every,
            how=how,
            by=by,
            kind=kind,
            utc=utc,
            title=title,
        )

    def to_parquet(self, path: str | Path, **options: Any) -> None:
        """Write the kept rows to a file, as `pandas.DataFrame.to_parquet` (extra `arrow`).

        Raises:
            RecordingError: pyarrow is not installed, or a column's values cannot be in Parquet.
        """
        write_frame(self._buffer.df, path, **options)

    # -- counters

    @property
    def waiting(self) -> int:
        """Number of messages that were received and are not rows yet, as while it is paused."""
        return self.consumer.waiting

    @property
    def messages(self) -> int:
        """Number of messages received, rejected ones included."""
        return self.consumer.handled

    @property
    def rows(self) -> int:
        """Number of rows received."""
        return self._buffer.rows_seen

    @property
    def dropped(self) -> int:
        """Number of rows that newer ones have pushed out."""
        return self._buffer.dropped

    @property
    def changes(self) -> int:
        """Change counter: it grows with each row and each rejected message."""
        return self._buffer.version + self.rejected

    def arrived(self, edges: Sequence[float]) -> list[int]:
        """Return the number of rows that arrived between two times each; see `Arrivals.counts`."""
        return self._arrivals.counts(edges)

    @property
    def rate(self) -> float:
        """Rows per second, over the last five seconds."""
        return self._arrivals.rate(_RATE_WINDOW)

    def __repr__(self) -> str:
        what = ", ".join(f"{name}={value!r}" for name, value in self.headers.items()) or "all data"
        state = "closed" if self.closed else "paused" if self.paused else f"{self.rate:.1f} rows/s"
        return f"<Stream {what}: {self.rows} rows, {self.dropped} dropped, {state}>"


class _Large(NamedTuple):
    """A large message that was read in a thread.

    Attributes:
        staged: its rows as columns.
        batch: its rows as received; None if no reader and no recording needs them.
        rows: copies of its rows with the columns that all of them share; likewise.
    """

    staged: FrameBuffer
    batch: Batch | None
    rows: Sequence[Row]


def _read_large(
    delivery: Delivery, buffer: FrameBuffer, assign: dict[str, Any] | None, *, keep: bool
) -> _Large:
    """Read a message; run in a thread.

    Raises:
        MalformedMessage: see `read_parts`; or its rows make too many values.
    """
    staged = buffer.staging()
    kept: list[Batch] = []
    for part in read_parts(delivery):
        if isinstance(part, (list, tuple)):
            staged.extend(part, assign=assign, copy=keep)
        else:
            for columns in _slices(part):
                staged.extend_columns(columns, assign=assign)
        _check_size(staged.rows_seen, max(staged.columns, buffer.columns))
        if keep:
            kept.append(part)
    len(staged)  # moves all rows into columns
    _check_size(staged.rows_seen, max(staged.columns, buffer.columns))
    if not keep:
        return _Large(staged, None, [])
    batch = joined(kept)
    return _Large(staged, batch, _copied_rows(batch, assign))


def _slices(columns: Batch) -> Iterator[Batch]:
    """Yield columns in slices of rows; Arrow batches are slices already."""
    rows = len(next(iter(columns.values()), ())) if isinstance(columns, Mapping) else 0
    if not isinstance(columns, Mapping) or not rows:
        yield columns
        return
    step = max(1, PART_VALUES // len(columns))
    for start in range(0, rows, step):
        yield {name: values[start : start + step] for name, values in columns.items()}


def _check_size(rows: int, columns: int) -> None:
    """Check that the rows of a message do not make too many values.

    Raises:
        MalformedMessage: they do.
    """
    if rows * columns > MAX_VALUES:
        raise MalformedMessage(
            f"{rows:,} rows in {columns:,} columns are more than {MAX_VALUES:,} values: publish"
            " them in parts."
        )


def _copied_rows(batch: Batch, assign: dict[str, Any] | None) -> list[Row]:
    """Return copies of rows, with the columns that all of them share."""
    copies = map(dict, rows_of(batch))
    return [with_assigned(row, assign) for row in copies] if assign else list(copies)
