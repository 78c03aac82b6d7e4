"""Data streams: messages in, rows of a DataFrame out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, Self

from fabric_nb.errors import InvalidArgumentType, MalformedMessage, WaitTimeout
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.amqp.fields import checked
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import in_thread, watched
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.core.values import whole
from fabric_nb.fabric.data.queues import Start, StreamQueue
from fabric_nb.fabric.data.recording import HEADER_PREFIX, Recording
from fabric_nb.fabric.data.stream_rows import ARRIVAL, StreamRows
from fabric_nb.fabric.wire.arrow import MAX_VALUES, PART_VALUES
from fabric_nb.fabric.wire.data_decoding import Batch, joined, read_parts, read_small, rows_of
from fabric_nb.fabric.wire.names import check_part, data_exchange, match_all
from fabric_nb.fabric.wire.tables import TABLES_HEADER
from fabric_nb.frames import FrameBuffer, Unit
from fabric_nb.frames.normalisation import with_assigned

DEFAULT_PREFETCH = 500
DEFAULT_MAX_ROWS = 1_000_000
MAX_PREFETCH = 65_535  # AMQP 0-9-1, basic.qos
ACK_EVERY = 100
ACK_DELAY = 0.05
"""Seconds after which what was taken is acknowledged, however little it is."""

TURN = 0.02
"""Seconds for which messages that have waited are taken before others have their turn."""
_MANY_ROWS = 10_000
"""Rows that may be too many for the columns that there are."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Bytes of messages that may wait for a large one to be read; then nothing more is received."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Options of a data stream: its queue, its prefetch, and the rows and columns that are kept.

    Attributes:
        name: of the queue; streams that share a name share the messages. Without it the
            stream has a queue of its own and gets all of them.
        durable: keep the messages in a quorum queue of that `name`, also while nobody listens; it
            stays until `delete`.
        replay_from: keep them in a RabbitMQ stream of that `name`, and begin at ``"first"``,
            ``"last"``, ``"next"``, an offset or a `datetime`; it stays until `delete`. After a
            loss it goes on behind the last message that it had.
        prefetch: how many messages may be on their way to us.
        max_rows: how many rows are kept; the oldest are dropped and counted.
        max_bytes: about how many bytes the kept rows may take.
        index: the column that is the DataFrame's index; by default, the number of the row.
        unit: of columns whose numbers are times since 1970 in UTC: ``{"at": "ms"}``.
        with_headers: the names of headers that become columns named ``header.<name>``; True for
            all of them.
        arrival: the name of a column of the times at which rows came, in UTC; True for
            ``arrival``. A row's own column of that name becomes ``row.<name>``.
        paused: take no rows before `resume`, so that a reader of `batches` misses none.
    """

    name: str = ""
    durable: bool = False
    replay_from: Start | None = None
    prefetch: int = DEFAULT_PREFETCH
    max_rows: int | None = DEFAULT_MAX_ROWS
    max_bytes: int | None = None
    index: str | None = None
    unit: Mapping[str, Unit] | None = None
    with_headers: bool | Sequence[str] = False
    arrival: bool | str = False
    paused: bool = False


class Stream(StreamRows):
    """Rows of a data stream as they come; a DataFrame at any moment.

    Example::

        async with await fabric.stream(msg_type="CUSTOMER_TRANSACTIONS") as orders:
            await orders.wait(rows=100, timeout=10)
            orders.df.groupby("currency").order_total.sum()

    A stream that cannot keep up slows down rather than letting memory grow: what `max_rows` and
    `max_bytes` push out is counted in `dropped`, and while a reader of `batches` or a recording is
    behind by more than it may be, messages wait at the broker. So they do while a large message is
    read, which takes place in a thread.

    Args:
        connection: where to listen.
        domain: whose data.
        headers: what a message must carry to be of this stream; none: all messages.
        options: how it is read and what is kept.
        rejected: record of messages that cannot be read.

    Raises:
        InvalidArgument: a bound is not positive, `prefetch` is no number from 1 to 65,535, or a
            unit is unknown.
        UnusableQueue: no queue can have this name, or be as it is asked for.
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
        prefetch = whole(options.prefetch, "prefetch", low=1, high=MAX_PREFETCH)
        self._queue = StreamQueue(
            options.name,
            durable=options.durable,
            replay_from=options.replay_from,
            prefetch=prefetch,
            on_remade=lambda: self._channel.renew(),
        )
        super().__init__(
            FrameBuffer(
                max_rows=options.max_rows,
                max_bytes=options.max_bytes,
                index=options.index,
                unit=unit,
            ),
            ARRIVAL if arrival is True else arrival or "",
        )
        self.messages = 0
        self.closed = False
        self._with_headers = [with_headers] if isinstance(with_headers, str) else with_headers
        self._rejected = rejected
        self._arrived = asyncio.Event()
        self._batches: list[asyncio.Queue[Sequence[Row] | None]] = []
        self._ends: list[int] = []  # the counts of rows at which readers end
        self._recordings: list[Recording] = []
        self._connection = connection
        self._prefetch = prefetch
        self._paused = options.paused
        self._waiting: deque[Delivery] = deque()
        self._repeated: set[Delivery] = set()  # to be acknowledged in their turn, and no more
        self._waiting_bytes = 0
        self._turn_due = False
        self._reading: asyncio.Task[None] | None = None  # of a large message
        self._unacknowledged = 0
        self._last: Delivery | None = None
        self._ack_timer: asyncio.TimerHandle | None = None
        self._return_timer: asyncio.TimerHandle | None = None
        self._consumer = ""
        self._channel = connection.channel(self._set_up, prefetch=prefetch)

    # -- life

    async def open(self) -> Self:
        """Start to listen."""
        try:
            exchange = data_exchange(self.domain)
            await self._queue.check(self._connection, exchange, self.headers)
            await self._channel.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def delete(self) -> None:
        """Stop to listen, for good: the broker's queue is deleted with what waits in it."""
        if self.name and not self.closed:
            await self._channel.cancel(
                self._consumer
            )  # before the broker cancels it, as it does when others delete the queue
            await self._channel.topology.delete_queue(self.name)
        await self.close()

    async def close(self) -> None:
        """Stop to listen; the rows stay."""
        if self.closed:
            return
        self.closed = True
        self._drop_waiting()
        self._acknowledge()
        await self._channel.close()
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
        """Whether the connection was lost and is not back yet; no row comes meanwhile."""
        return not self.closed and self._connection.state is State.RECONNECTING

    @property
    def remade(self) -> int:
        """Number of times that its queue was gone, with its messages, and was declared anew.

        The queue of a stream without a name goes with its connection, a shared one with its last
        consumer, and any when it is deleted.
        """
        return self._queue.remade

    @property
    def paused(self) -> bool:
        """Whether it was told to pause."""
        return self._paused

    async def pause(self) -> None:
        """Take no more rows; messages wait, all but `prefetch` of them at the broker."""
        # The consumer stays: without one the broker would delete the queue.
        self._paused = True

    async def resume(self) -> None:
        """Go on with what has waited."""
        self._paused = False
        self._go_on()

    @property
    def held_up(self) -> bool:
        """Whether messages wait for a reader of `batches` or for a recording."""
        if not (self._batches or self._recordings):
            return False
        if any(self.rows >= end for end in self._ends):
            return True
        behind = any(queue.qsize() >= self._prefetch for queue in self._batches)
        return behind or any(recording.behind for recording in self._recordings)

    def _go_on(self) -> None:
        ends = monotonic() + TURN
        while self._waiting and not (self._paused or self._reading is not None or self.held_up):
            if monotonic() > ends:
                if not self._turn_due:
                    self._turn_due = True
                    asyncio.get_running_loop().call_soon(self._next_turn)
                return
            delivery = self._waiting.popleft()
            self._waiting_bytes -= len(delivery.body)
            self._accept(delivery)
        if not self._waiting:
            self._keep_what_waits()

    def _next_turn(self) -> None:
        self._turn_due = False
        self._go_on()

    def _wait_in_turn(self, delivery: Delivery) -> None:
        """Keep a message until those before it have become rows."""
        self._waiting.append(delivery)
        self._waiting_bytes += len(delivery.body)
        if self._return_timer is None and self._queue.shared:
            loop, seconds = asyncio.get_running_loop(), self._channel.acknowledge_within
            self._return_timer = loop.call_later(seconds, self._return_what_waits)
        if self._reading is not None and self._waiting_bytes > MAX_WAITING_BYTES:
            self._connection.pause_receiving(self)

    def _keep_what_waits(self) -> None:
        if self._return_timer is not None:
            self._return_timer.cancel()
            self._return_timer = None

    def _return_what_waits(self) -> None:
        """Give messages back, to come again, before the broker takes them back with the channel.

        A shared queue goes with its last consumer, and so with a channel.
        """
        self._acknowledge()
        for delivery in self._waiting:
            self._channel.reject(delivery, requeue=True)
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        self._keep_what_waits()
        self._waiting.clear()
        self._waiting_bytes = 0
        self._connection.resume_receiving(self)

    async def _set_up(self, channel: Channel) -> None:
        exchange = data_exchange(self.domain)
        await channel.topology.declare_exchange(exchange, "headers", durable=True)
        await self._queue.look(self._connection)
        queue = await self._queue.declare(channel)
        await self._queue.mark(self._connection, exchange, self.headers)
        await self._queue.resume(self._connection)
        if self.name:  # the broker delivers again, here or elsewhere, what came by a lost channel
            self._drop_waiting()
        elif self._repeated:
            self._waiting = deque(one for one in self._waiting if one not in self._repeated)
            self._waiting_bytes = sum(len(one.body) for one in self._waiting)
            self._repeated.clear()
        await channel.topology.bind(queue, exchange, arguments=match_all(self.headers))
        self._consumer = await channel.consume(
            queue, self._on_message, arguments=self._queue.arguments
        )

    # -- in

    def _on_message(self, delivery: Delivery) -> None:
        if self._queue.is_repeat(delivery):
            self._repeated.add(delivery)
        if self._waiting or self._paused or self._reading is not None or self.held_up:
            self._wait_in_turn(delivery)
        else:
            self._accept(delivery)

    def _accept(self, delivery: Delivery) -> None:
        if delivery in self._repeated:
            self._repeated.discard(delivery)
            self._settle(delivery)
            return
        try:
            batch = read_small(delivery)
            if batch is None:
                self._reading = asyncio.ensure_future(self._accept_large(delivery))
                watched(self._reading, "reading a large message")
                return
            self._take(batch, delivery)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, it is this message
            self._refuse(delivery, error)
        self._accepted(delivery)

    async def _accept_large(self, delivery: Delivery) -> None:
        """Read a message in a thread; those behind it wait."""
        try:
            assign = self._of_message(delivery) if self._with_headers or self._arrival else None
            wanted = bool(self._batches or self._recordings)
            large = await in_thread(_read_large, delivery, self._buffer, assign, keep=wanted)
            if not self._is_ours(delivery):
                return
            rows = await in_thread(self._buffer.absorb, large.staged)
            if large.batch is not None:
                self._hand_out(large.batch, large.rows, delivery, rows)
            if rows:
                self._arrivals.add(rows)
            self._arrived.set()
            self._accepted(delivery)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, it is this message
            self._refuse(delivery, error)
            self._accepted(delivery)
        finally:
            self._reading = None
            self._connection.resume_receiving(self)
            self._go_on()

    def _is_ours(self, delivery: Delivery) -> bool:
        """Return whether this stream still owns the delivery; one of a lost channel comes again."""
        again = self.name and delivery.generation != self._channel.generation
        return not (self.closed or again)

    def _refuse(self, delivery: Delivery, error: Exception) -> None:
        self.rejected += 1
        self._rejected.add("data", error, delivery)

    def _accepted(self, delivery: Delivery) -> None:
        self.messages += 1
        self._queue.took(delivery)
        self._settle(delivery)

    def _settle(self, delivery: Delivery) -> None:
        """Acknowledge a message together with others, soon."""
        self._last = delivery
        self._unacknowledged += 1
        if self._unacknowledged >= ACK_EVERY:
            self._acknowledge()
        elif self._ack_timer is None:
            loop = asyncio.get_running_loop()
            self._ack_timer = loop.call_later(ACK_DELAY, self._acknowledge)

    def _take(self, batch: Batch, delivery: Delivery) -> None:
        assign = self._of_message(delivery) if self._with_headers or self._arrival else None
        shared = bool(self._batches or self._recordings)
        own = _own_rows(batch, assign) if shared else []  # first: it may be that there are none
        if isinstance(batch, (list, tuple)):
            rows = len(batch)
            if rows > _MANY_ROWS:
                _check_size(rows, self._buffer.columns)
            self._buffer.extend(batch, assign=assign, copy=shared)
        else:
            rows = self._buffer.extend_columns(batch, assign=assign)
        if shared:
            self._hand_out(batch, own, delivery, rows)
        if rows:
            self._arrivals.add(rows)
        self._arrived.set()

    def _hand_out(self, batch: Batch, own: Sequence[Row], delivery: Delivery, rows: int) -> None:
        """Let all others that take rows have those of a message."""
        for recording in self._recordings:
            recording.add(batch, delivery, rows)
        for queue in self._batches:  # each has its own, to do with as it likes
            queue.put_nowait(list(map(dict, own)))

    def _of_message(self, delivery: Delivery) -> dict[str, Any]:
        """What all rows of a message have besides their own columns."""
        assign: dict[str, Any] = {}
        if self._with_headers:
            headers = delivery.headers
            names = headers if self._with_headers is True else self._with_headers
            assign = {
                HEADER_PREFIX + name: headers.get(name) for name in names if name != TABLES_HEADER
            }
        if self._arrival:
            assign[self._arrival] = datetime.now(UTC)
        return assign

    def _acknowledge(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        last, self._last = self._last, None
        self._unacknowledged = 0
        if last is not None:
            self._channel.ack(last, multiple=True)

    # -- out

    async def wait(self, rows: int = 1, *, timeout: float | None = None) -> None:
        """Wait until so many rows have come since it was opened.

        Raises:
            WaitTimeout: they did not come within `timeout` seconds.
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
        """Rows as they come, a list for each message, until the stream is closed.

        The stream waits for a reader that is `prefetch` messages behind.

        Args:
            rows: end with the message that has the last of so many; the stream is paused then, so
                that those behind it stay at the broker.
        """
        queue: asyncio.Queue[Sequence[Row] | None] = asyncio.Queue()
        end = None if rows is None else self.rows + rows
        self._batches.append(queue)
        if end is not None:
            self._ends.append(end)
        left = rows
        try:
            while (batch := await queue.get()) is not None:
                self._go_on()
                if left is not None and (left := left - len(batch)) <= 0:
                    await self.pause()
                yield batch
                if left is not None and left <= 0:
                    return
        finally:
            self._batches.remove(queue)
            if end is not None:
                self._ends.remove(end)
            self._go_on()

    async def record(self, path: str | Path, *, overwrite: bool = False) -> Recording:
        """Write all rows that come from now on to a file; until it or the stream is closed.

        Example::

            async with await orders.record("orders.parquet"):
                await orders.wait(10_000)
            await fabric.replay("orders.parquet", speed=10)

        Args:
            path: ends in ``.parquet`` (extra `arrow`) or ``.jsonl``.
            overwrite: whether it may take the place of a file.

        Raises:
            RecordingError: the file exists, cannot be written, or is of neither kind.
        """
        recording = Recording(path, overwrite=overwrite, on_room=self._go_on)
        await recording.open()
        self._recordings.append(recording)
        recording.on_closed = partial(self._forget, recording)
        return recording

    def _forget(self, recording: Recording) -> None:
        if recording in self._recordings:
            self._recordings.remove(recording)
        self._go_on()

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """What is being recorded to now."""
        return tuple(self._recordings)

    def __repr__(self) -> str:
        what = ", ".join(f"{name}={value!r}" for name, value in self.headers.items()) or "all data"
        state = "closed" if self.closed else "paused" if self._paused else f"{self.rate:.1f} rows/s"
        return f"<Stream {what}: {self.rows} rows, {self.dropped} dropped, {state}>"


class _Large(NamedTuple):
    """A large message as a thread has read it.

    Attributes:
        staged: its rows as columns.
        batch: its rows as received, if a reader or a recording wants them.
        rows: copies of them, one by one, with what all of them have besides; likewise.
    """

    staged: FrameBuffer
    batch: Batch | None
    rows: Sequence[Row]


def _read_large(
    delivery: Delivery, buffer: FrameBuffer, assign: dict[str, Any] | None, *, keep: bool
) -> _Large:
    """Read a message; run in a thread.

    Raises:
        MalformedMessage: see `read_parts`; or it has too many rows for the columns that there are.
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
    len(staged)  # so that all of it is in columns
    _check_size(staged.rows_seen, max(staged.columns, buffer.columns))
    if not keep:
        return _Large(staged, None, [])
    batch = joined(kept)
    return _Large(staged, batch, _own_rows(batch, assign))


def _slices(columns: Batch) -> Iterator[Batch]:
    """Columns in slices of some rows; those of Arrow are slices already."""
    rows = len(next(iter(columns.values()), ())) if isinstance(columns, Mapping) else 0
    if not isinstance(columns, Mapping) or not rows:
        yield columns
        return
    step = max(1, PART_VALUES // len(columns))
    for start in range(0, rows, step):
        yield {name: values[start : start + step] for name, values in columns.items()}


def _check_size(rows: int, columns: int) -> None:
    """Refuse a message whose rows take too much room in the columns that there are.

    Raises:
        MalformedMessage: they do.
    """
    if rows * columns > MAX_VALUES:
        raise MalformedMessage(
            f"{rows:,} rows in {columns:,} columns are more than {MAX_VALUES:,} values: publish"
            " them in parts."
        )


def _own_rows(batch: Batch, assign: dict[str, Any] | None) -> list[Row]:
    """Copies of rows, with what all of them have besides."""
    own = map(dict, rows_of(batch))
    return [with_assigned(row, assign) for row in own] if assign else list(own)
