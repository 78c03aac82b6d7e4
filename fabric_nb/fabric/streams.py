"""Data streams: messages out, rows in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self

import pandas as pd

from fabric_nb.errors import MalformedMessage
from fabric_nb.fabric import naming
from fabric_nb.fabric.amqp import Channel, Connection, Delivery, Message, State
from fabric_nb.fabric.batches import Batch, read_rows, rows_of
from fabric_nb.fabric.malformed import MalformedLog
from fabric_nb.fabric.tasks import Background
from fabric_nb.frames import FrameBuffer

log = logging.getLogger(__name__)

DEFAULT_PREFETCH = 500
ACK_EVERY = 100
ACK_DELAY = 0.05
"""Seconds after which what was taken is acknowledged, however little it is."""
_FLUSH_TIMEOUT = 0.5
_RATE_WINDOW = 5.0

Row = Mapping[str, Any]


class Publisher:
    """Publishes to the data exchange of a domain, each message confirmed by the broker.

    `failed` counts messages that were not taken; nobody may have awaited them.
    """

    def __init__(self, connection: Connection, domain: str, background: Background) -> None:
        self.exchange = naming.data_exchange(domain)
        self.published = 0
        self.failed = 0
        self._connection = connection
        self._channel = connection.channel(self._set_up, confirms=True)
        self._background = background
        self._sending: set[asyncio.Task[None]] = set()

    async def open(self) -> Self:
        """Declare the exchange."""
        await self._channel.open()
        return self

    async def close(self) -> None:
        """Let what is on its way arrive, for at most a second, and close the channel."""
        if self._sending and self._connection.state is State.CONNECTED:
            await asyncio.wait(self._sending, timeout=_FLUSH_TIMEOUT)
        await self._channel.close()

    async def _set_up(self, channel: Channel) -> None:
        await channel.declare_exchange(self.exchange, "headers", durable=True)

    def publish(self, message: Message) -> asyncio.Future[None]:
        """Send now; the future is done when the broker has the message.

        It may be ignored: a failure that nobody looks at is counted and logged.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # An exception that nobody retrieves is told by our own log line, once.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        sending = self._background.spawn(self._publish(message, future), name="publish")
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
        return future

    async def _publish(self, message: Message, future: asyncio.Future[None]) -> None:
        try:
            await self._channel.publish(self.exchange, "", message)
        except Exception as error:  # noqa: BLE001 - it is for whoever awaits the future
            self.failed += 1
            log.warning("A message for %s was not published: %s", self.exchange, error)
            if not future.done():
                future.set_exception(error)
        except asyncio.CancelledError:
            self.failed += 1
            future.cancel()
            raise
        else:
            self.published += 1
            if not future.done():
                future.set_result(None)


class Stream:
    """Rows of a data stream as they come; a DataFrame at any moment.

    Example::

        async with await fabric.stream(msg_type="CUSTOMER_TRANSACTIONS") as orders:
            await orders.wait(rows=100, timeout=10)
            orders.df.groupby("currency").order_total.sum()

    Args:
        connection: where to listen.
        domain: whose data.
        headers: what a message must carry to be of this stream; none: all messages.
        name: of the queue; streams that share a name share the messages. Without it the
            stream has a queue of its own and gets all of them.
        prefetch: how many messages may be on their way to us.
        max_rows: how many rows are kept; the oldest are dropped and counted.
    """

    def __init__(
        self,
        connection: Connection,
        domain: str,
        headers: Mapping[str, Any],
        *,
        malformed: MalformedLog,
        name: str = "",
        prefetch: int = DEFAULT_PREFETCH,
        max_rows: int | None = 1_000_000,
    ) -> None:
        self.domain = naming.check_part(domain, "domain")
        self.headers = dict(headers)
        self.name = name
        self.messages = 0
        self.malformed = 0
        self.closed = False
        self._buffer = FrameBuffer(max_rows=max_rows)
        self._malformed = malformed
        self._arrived = asyncio.Event()
        self._arrivals: deque[tuple[float, int]] = deque(maxlen=10_000)
        self._batches: list[asyncio.Queue[Sequence[Row] | None]] = []
        self._paused = False
        self._waiting: list[Delivery] = []
        self._unacknowledged = 0
        self._last: Delivery | None = None
        self._ack_timer: asyncio.TimerHandle | None = None
        self._channel = connection.channel(self._set_up, prefetch=prefetch)

    # -- life

    async def open(self) -> Self:
        """Start to listen."""
        try:
            await self._channel.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Stop to listen; the rows stay."""
        if self.closed:
            return
        self.closed = True
        self._waiting.clear()
        self._acknowledge()
        await self._channel.close()
        for queue in self._batches:
            queue.put_nowait(None)
        self._arrived.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

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
        waiting, self._waiting = self._waiting, []
        for delivery in waiting:
            self._on_message(delivery)

    async def _set_up(self, channel: Channel) -> None:
        if self.name:
            self._waiting.clear()  # of a channel that was lost: the broker has it for the others
        exchange, queue = naming.data_exchange(self.domain), self.name
        await channel.declare_exchange(exchange, "headers", durable=True)
        if queue:
            await channel.declare_shared_queue(queue)
        else:
            queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        await channel.bind(queue, exchange, arguments={"x-match": "all", **self.headers})
        await channel.consume(queue, self._on_message)

    # -- in

    def _on_message(self, delivery: Delivery) -> None:
        if self._paused:
            self._waiting.append(delivery)
            return
        self.messages += 1
        try:
            self._take(read_rows(delivery))
        except (MalformedMessage, ValueError, TypeError) as error:  # columns that do not fit
            self.malformed += 1
            self._malformed.add("data", error, delivery)
        self._last = delivery
        self._unacknowledged += 1
        if self._unacknowledged >= ACK_EVERY:
            self._acknowledge()
        elif self._ack_timer is None:
            loop = asyncio.get_running_loop()
            self._ack_timer = loop.call_later(ACK_DELAY, self._acknowledge)

    def _take(self, batch: Batch) -> None:
        before = self._buffer.rows_seen
        if isinstance(batch, (list, tuple)):
            self._buffer.extend(batch)
        else:
            self._buffer.extend_columns(batch)
        self._arrivals.append((time.monotonic(), self._buffer.rows_seen - before))
        if self._batches:
            rows = rows_of(batch)
            for queue in self._batches:
                queue.put_nowait(rows)
        self._arrived.set()

    def _acknowledge(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        last, self._last = self._last, None
        self._unacknowledged = 0
        if last is not None:
            self._channel.ack(last, multiple=True)

    # -- out

    @property
    def df(self) -> pd.DataFrame:
        """All rows that are kept, as a read-only DataFrame; `copy()` it to change it."""
        return self._buffer.df

    def tail(self, n: int = 10) -> pd.DataFrame:
        """The last `n` rows."""
        return self._buffer.tail(n)

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def rows(self) -> int:
        """How many rows have come."""
        return self._buffer.rows_seen

    @property
    def dropped(self) -> int:
        """How many rows were pushed out by newer ones."""
        return self._buffer.dropped

    @property
    def changes(self) -> int:
        """Grows whenever there is something new to see."""
        return self._buffer.version + self.malformed

    @property
    def rate(self) -> float:
        """Rows a second, over the last five seconds."""
        since = time.monotonic() - _RATE_WINDOW
        return sum(rows for at, rows in self._arrivals if at >= since) / _RATE_WINDOW

    async def wait(self, rows: int = 1, *, timeout: float | None = None) -> None:
        """Wait until so many rows have come since it was opened.

        Raises:
            TimeoutError: they did not come within `timeout` seconds.
        """
        target = rows
        try:
            async with asyncio.timeout(timeout):
                while self.rows < target and not self.closed:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.rows} of {target} rows came within {timeout:g} s.") from None

    async def batches(self) -> AsyncIterator[Sequence[Row]]:
        """Rows as they come, a list for each message, until the stream is closed."""
        queue: asyncio.Queue[Sequence[Row] | None] = asyncio.Queue()
        self._batches.append(queue)
        try:
            while (rows := await queue.get()) is not None:
                yield rows
        finally:
            self._batches.remove(queue)

    def __repr__(self) -> str:
        what = ", ".join(f"{name}={value!r}" for name, value in self.headers.items()) or "all data"
        state = "closed" if self.closed else "paused" if self._paused else f"{self.rate:.1f} rows/s"
        return f"<Stream {what}: {self.rows} rows, {self.dropped} dropped, {state}>"
