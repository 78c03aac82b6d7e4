"""Consumer of a data stream: messages in order, with back-pressure, acknowledged in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.core.tasks import watched
from fabric_nb.fabric.data.queues import StreamQueue
from fabric_nb.fabric.wire.names import data_exchange, match_all

ACK_EVERY = 100
"""Messages that are acknowledged together."""
ACK_DELAY = 0.05
"""Seconds after which messages are acknowledged, however few they are."""
TURN = 0.02
"""Seconds for which waiting messages are handled before other tasks have their turn."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Bytes of messages that may wait behind a large one; then the connection receives nothing more."""


class StreamConsumer:
    """Consumes the messages of a data stream and hands them over one by one.

    Messages wait while it is paused, while a large message is read and while `is_held_up` returns
    True; `prefetch` of them here, and the others at the broker.

    Args:
        connection: connection to consume on.
        domain: domain of the stream.
        headers: headers that its messages carry.
        queue: queue to consume.
        prefetch: unacknowledged messages.
        handle: called with each message, in order; never raises. A large message is read by the
            awaitable that it returns, which is False if the message is not to be acknowledged
            because it is delivered again.
        handle_together: called first with messages that were received together; returns False,
            having done nothing, if they are to be handled one by one. Never raises.
        is_held_up: returns whether messages have to wait for their readers.
    """

    def __init__(
        self,
        connection: Connection,
        domain: str,
        headers: Mapping[str, Any],
        queue: StreamQueue,
        *,
        prefetch: int,
        handle: Callable[[Delivery], Awaitable[bool] | None],
        handle_together: Callable[[list[Delivery]], bool],
        is_held_up: Callable[[], bool],
    ) -> None:
        self.channel = connection.channel(self._set_up, prefetch=prefetch)
        self.paused = False
        self.handled = 0
        self._connection = connection
        self._exchange = data_exchange(domain)
        self._headers = headers
        self._queue = queue
        self._handle = handle
        self._handle_together = handle_together
        self._is_held_up = is_held_up
        self._tag = ""
        self._waiting: deque[Delivery] = deque()
        self._waiting_bytes = 0
        self._repeated: set[Delivery] = set()  # to be acknowledged in their turn, and no more
        self._turn_due = False
        self._reading: asyncio.Task[None] | None = None
        self._last: Delivery | None = None
        self._unacknowledged = 0
        self._ack_timer: asyncio.TimerHandle | None = None
        self._return_timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Declare the queue and consume it.

        Raises:
            UnusableQueue: it was declared by a stream with another filter.
            BrokerRefused: the broker refuses the queue or the exchange.
        """
        await self._queue.check(self._connection, self._exchange, self._headers)
        await self.channel.open()

    async def delete_queue(self) -> None:
        """Delete the queue with all messages in it."""
        # Cancelled first, because the broker cancels consumers of a queue that others delete.
        await self.channel.consumers.cancel(self._tag)
        await self.channel.topology.delete_queue(self._queue.name)

    async def close(self) -> None:
        """Stop consuming; messages that wait are delivered again where the queue is shared."""
        self._drop_waiting()
        self._acknowledge()
        await self.channel.close()

    def renew(self) -> None:
        """Consume again, on another channel."""
        self.channel.renew()

    @property
    def waiting(self) -> int:
        """Number of messages that wait here to be handled."""
        return len(self._waiting)

    @property
    def unacknowledged(self) -> int:
        """Number of handled messages that are not acknowledged yet."""
        return self._unacknowledged

    @property
    def is_reading(self) -> bool:
        """True while a large message is read."""
        return self._reading is not None

    def is_of_lost_channel(self, delivery: Delivery) -> bool:
        """Return whether the broker delivers a message again, here or to another consumer."""
        return bool(self._queue.name) and delivery.generation != self.channel.generation

    def resume(self) -> None:
        """Handle the messages that wait, until they have to wait again."""
        ends = monotonic() + TURN
        while self._waiting and not self._must_wait():
            if monotonic() > ends:
                if not self._turn_due:
                    self._turn_due = True
                    asyncio.get_running_loop().call_soon(self._next_turn)
                return
            delivery = self._waiting.popleft()
            self._waiting_bytes -= len(delivery.body)
            self._accept(delivery)
        if not self._waiting:
            self._cancel_return()

    def _next_turn(self) -> None:
        self._turn_due = False
        self.resume()

    def _must_wait(self) -> bool:
        return self.paused or self._reading is not None or self._is_held_up()

    # -- messages in

    async def _set_up(self, channel: Channel) -> None:
        await channel.topology.declare_exchange(self._exchange, "headers", durable=True)
        await self._queue.check_deleted(self._connection)
        queue = await self._queue.declare(channel)
        await self._queue.mark(self._connection, self._exchange, self._headers)
        await self._queue.resume(self._connection)
        if self._queue.name:  # the broker delivers again what the lost channel had delivered
            self._drop_waiting()
        elif self._repeated:
            self._waiting = deque(one for one in self._waiting if one not in self._repeated)
            self._waiting_bytes = sum(len(one.body) for one in self._waiting)
            self._repeated.clear()
        await channel.topology.bind(queue, self._exchange, arguments=match_all(self._headers))
        self._tag = await channel.consumers.start_batches(
            queue, self._receive_all, arguments=self._queue.arguments
        )

    def _receive_all(self, deliveries: list[Delivery]) -> None:
        """Receive messages that arrived together, as many at once as are acknowledged together.

        When the channel is closed meanwhile, the others are delivered again.
        """
        while deliveries and self.channel.can_acknowledge(deliveries[0]):
            at_once = max(1, ACK_EVERY - self._unacknowledged)
            self._receive_some(deliveries[:at_once])
            deliveries = deliveries[at_once:]

    def _receive_some(self, deliveries: list[Delivery]) -> None:
        one_by_one = (
            len(deliveries) == 1
            or self._waiting
            or self._repeated
            or self._queue.needs_order()
            or self._must_wait()
        )
        if one_by_one or not self._handle_together(deliveries):
            for delivery in deliveries:
                if self.channel.can_acknowledge(delivery):
                    self._receive(delivery)
            return
        self.handled += len(deliveries)
        self._queue.handled_together(delivery.body for delivery in deliveries)
        self._unacknowledged += len(deliveries) - 1
        self._settle(deliveries[-1])

    def _receive(self, delivery: Delivery) -> None:
        if self._queue.is_repeat(delivery):
            self._repeated.add(delivery)
        if self._waiting or self._must_wait():
            self._keep_waiting(delivery)
        else:
            self._accept(delivery)

    def _keep_waiting(self, delivery: Delivery) -> None:
        self._waiting.append(delivery)
        self._waiting_bytes += len(delivery.body)
        if self._return_timer is None and self._queue.shared:
            loop, seconds = asyncio.get_running_loop(), self.channel.acknowledge_within
            self._return_timer = loop.call_later(seconds, self._return_waiting)
        if self._reading is not None and self._waiting_bytes > MAX_WAITING_BYTES:
            self._connection.pause_receiving(self)

    def _return_waiting(self) -> None:
        """Requeue the messages that wait, before the broker closes the channel because of them.

        A shared queue goes with its last consumer, and so with a channel.
        """
        self._acknowledge()
        for delivery in self._waiting:
            self.channel.reject(delivery, requeue=True)
        self._drop_waiting()

    def _cancel_return(self) -> None:
        if self._return_timer is not None:
            self._return_timer.cancel()
            self._return_timer = None

    def _drop_waiting(self) -> None:
        self._cancel_return()
        self._waiting.clear()
        self._waiting_bytes = 0
        self._connection.resume_receiving(self)

    def _accept(self, delivery: Delivery) -> None:
        if delivery in self._repeated:
            self._repeated.discard(delivery)
            self._settle(delivery)
            return
        reading = self._handle(delivery)
        if reading is None:
            self._handled(delivery)
        else:
            self._reading = asyncio.ensure_future(self._read(delivery, reading))
            watched(self._reading, "reading a large message")

    async def _read(self, delivery: Delivery, reading: Awaitable[bool]) -> None:
        try:
            if await reading:
                self._handled(delivery)
        finally:
            self._reading = None
            self._connection.resume_receiving(self)
            self.resume()

    # -- acknowledgements

    def _handled(self, delivery: Delivery) -> None:
        self.handled += 1
        self._queue.handled(delivery)
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

    def _acknowledge(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        last, self._last = self._last, None
        self._unacknowledged = 0
        if last is not None:
            self.channel.ack(last, multiple=True)
