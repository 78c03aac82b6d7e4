"""A channel that can be opened again, and what is done on it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, Self

import aio_pika
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel as AmqpChannel
from pamqp import commands as spec

from fabric_nb.errors import ConnectionLost, NotConnected
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.amqp.translation import (
    TransientQueuesRefused,
    connection_lost,
    delivery_of,
    properties_of,
    translated,
)

log = logging.getLogger(__name__)

FIRST_RETRY, LAST_RETRY = 0.2, 10.0
CLOSE_TIMEOUT = 0.5

ExchangeType = Literal["direct", "fanout", "topic", "headers"]
OnDelivery = Callable[[Delivery], object]
Setup = Callable[["Channel"], Awaitable[None]]


def backoff() -> Iterator[float]:
    """Seconds to wait before each further try: doubling, jittered, at most `LAST_RETRY`."""
    for attempt in itertools.count():
        ceiling = min(FIRST_RETRY * 2**attempt, LAST_RETRY)
        yield ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret


class Link(Protocol):
    """What a channel needs of its connection."""

    masked_uri: str

    async def open_channel(self, *, confirms: bool) -> AmqpChannel:
        """Wait for the connection and open an AMQP channel on it."""

    def recover(self, channel: Channel) -> None:
        """See to it that `Channel.reopen` is run."""

    def remember(self, channel: Channel) -> None:
        """The channel is in use."""

    def forget(self, channel: Channel) -> None:
        """The channel was closed."""

    transient_queues_refused: bool
    """Whether the broker was seen to refuse queues that are neither durable nor exclusive."""

    @property
    def write_buffer_high(self) -> bool:
        """Whether so much waits to be sent that a publisher should wait."""


class Channel:
    """A channel of a `Connection`; see `Connection.channel`.

    After a loss it is opened again and its setup is run again. Operations meanwhile wait for
    that; what was under way when it was lost raises `ConnectionLost`.
    """

    def __init__(
        self,
        link: Link,
        setup: Setup | None,
        *,
        prefetch: int,
        confirms: bool,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        self._link = link
        self._on_lost_hook = on_lost
        self._setup = setup
        self._prefetch = prefetch
        self._confirms = confirms
        self._amqp: AmqpChannel | None = None
        self._ready = asyncio.Event()
        self._closed = True
        self.generation = 0

    # -- life

    async def open(self) -> Self:
        """Open the channel and run its setup.

        Raises:
            BrokerRefused: the broker refused something in the setup.
            NotConnected: the connection is closed.
        """
        self._begin()
        try:
            try:
                return await self._open()
            except TransientQueuesRefused:
                return await self._open()  # on a new connection, and now without such queues
        except BaseException:
            await self.close()
            raise

    def start(self) -> Self:
        """Open in the background, however long it takes; operations wait for it."""
        self._begin()
        self._link.recover(self)
        return self

    def _begin(self) -> None:
        self._closed = False
        self._ready.clear()
        self._link.remember(self)

    async def _open(self) -> Self:
        with self._translated():
            amqp = await self._link.open_channel(confirms=self._confirms)
        self._amqp = amqp
        self.generation += 1
        try:
            with self._translated():
                if self._prefetch:
                    await amqp.basic_qos(prefetch_count=self._prefetch)
                if self._setup is not None:
                    await self._setup(self)
            self._check_still_wanted()
        except BaseException:
            self._amqp = None
            await _close(amqp)
            raise
        amqp.on_consumer_cancel_callbacks.add(self._on_consumer_cancelled)
        amqp.closing.add_done_callback(lambda _: self._on_lost(amqp))
        self._ready.set()
        return self

    async def close(self) -> None:
        """Close until it is opened again; what it consumed is requeued by the broker."""
        self._closed = True
        self._ready.set()
        self._link.forget(self)
        amqp, self._amqp = self._amqp, None
        if amqp is not None:
            await _close(amqp)

    def abandon(self) -> None:
        """The connection is gone for good: whoever waits for this channel is told so."""
        self._closed = True
        self._fell()
        self._ready.set()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _check_still_wanted(self) -> None:
        if self._closed:
            raise NotConnected("The channel was closed while it was being opened.")

    async def reopen(self) -> None:
        """Open again, as often as it takes; run by the connection after a loss."""
        for attempt, delay in enumerate(backoff()):
            if self._closed:
                return
            try:
                await self._open()
            except NotConnected:
                return
            except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
                log.log(logging.WARNING if attempt == 0 else logging.DEBUG, "%s", error)
                await asyncio.sleep(delay)
            else:
                return

    def _on_lost(self, amqp: AmqpChannel) -> None:
        if self._closed or self._amqp is not amqp:
            return
        self._fell()
        self._link.recover(self)

    def _fell(self) -> None:
        self._amqp = None
        self._ready.clear()
        if self._on_lost_hook is not None:
            self._on_lost_hook()

    def _on_consumer_cancelled(self, frame: spec.Basic.Cancel) -> None:
        # The queue was deleted under its consumer: only a whole setup makes it good again.
        log.warning("The broker cancelled the consumer %s", frame.consumer_tag)
        amqp = self._amqp
        if amqp is not None and not self._closed:
            self._fell()
            task = asyncio.ensure_future(_close(amqp))
            task.add_done_callback(lambda _: self._link.recover(self))

    async def ready(self) -> AmqpChannel:
        """Wait until the channel and its setup stand.

        Raises:
            NotConnected: it was closed.
        """
        if self._amqp is not None and self._amqp.is_closed:
            self._on_lost(self._amqp)  # its own notice is still on the way
        while self._amqp is None and not self._closed:
            await self._ready.wait()
        if self._amqp is None:
            raise NotConnected(f"The connection to {self._link.masked_uri} is closed.")
        return self._amqp

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._link.masked_uri)

    def _lost(self) -> ConnectionLost:
        return connection_lost(self._link.masked_uri)

    # -- topology

    async def declare_exchange(
        self, name: str, kind: ExchangeType, *, durable: bool = False, auto_delete: bool = False
    ) -> None:
        """Declare an exchange; fails when it exists with other properties."""
        with self._translated():
            await self._current.exchange_declare(
                name, exchange_type=kind, durable=durable, auto_delete=auto_delete
            )

    async def declare_queue(
        self,
        name: str = "",
        *,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """Declare a queue and return its name, which the broker chooses when none is given."""
        with self._translated():
            declared = await self._current.queue_declare(
                name,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=dict(arguments or {}),
            )
        return str(declared.queue)

    async def declare_shared_queue(
        self, name: str, arguments: Mapping[str, Any] | None = None
    ) -> None:
        """Declare a queue that others may consume too and that goes with its last consumer.

        It is transient, as the wire contract has it; durable where the broker refuses that.
        """
        durable = self._link.transient_queues_refused
        try:
            await self.declare_queue(name, durable=durable, auto_delete=True, arguments=arguments)
        except TransientQueuesRefused:
            if not self._link.transient_queues_refused:
                self._link.transient_queues_refused = True
                log.warning(
                    "%s refuses queues that are neither durable nor exclusive"
                    " (transient_nonexcl_queues): services on amqp-fabric cannot run on it",
                    self._link.masked_uri,
                )
            raise

    async def delete_queue(self, name: str) -> None:
        """Delete a queue with what is in it; does nothing when it is not there."""
        with self._translated():
            await self._current.queue_delete(name)

    async def bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Bind a queue to an exchange."""
        with self._translated():
            await self._current.queue_bind(
                queue, exchange, routing_key, arguments=dict(arguments or {})
            )

    @property
    def _current(self) -> AmqpChannel:
        """The AMQP channel of now, also while the setup is still running."""
        if self._amqp is None:
            raise self._lost()
        return self._amqp

    # -- messages

    async def consume(
        self, queue: str, on_delivery: OnDelivery, *, no_ack: bool = False, exclusive: bool = False
    ) -> str:
        """Start a consumer and return its tag; `on_delivery` is called in order of arrival.

        It must be quick and must not raise; use `consume_messages` for coroutines.
        """
        generation = self.generation

        async def deliver(message: DeliveredMessage) -> None:
            on_delivery(delivery_of(message, generation))

        with self._translated():
            started = await self._current.basic_consume(
                queue, deliver, no_ack=no_ack, exclusive=exclusive
            )
        return str(started.consumer_tag)

    async def consume_messages(
        self, queue: str, callback: Callable[[aio_pika.IncomingMessage], Awaitable[object]]
    ) -> str:
        """Start a consumer that awaits `callback` with aio-pika's own message object.

        This is what amqp-fabric hands to the callbacks of `subscribe_data`.
        """

        async def deliver(message: DeliveredMessage) -> None:
            await callback(aio_pika.IncomingMessage(message, no_ack=False))

        with self._translated():
            started = await self._current.basic_consume(queue, deliver)
        return str(started.consumer_tag)

    async def cancel(self, consumer_tag: str) -> None:
        """Stop a consumer; what it holds unacknowledged stays with this channel."""
        with self._translated():
            await self._current.basic_cancel(consumer_tag)

    async def publish(
        self, exchange: str, routing_key: str, message: Message, *, mandatory: bool = False
    ) -> None:
        """Send a message; with confirms, wait until the broker has taken it.

        Raises:
            Unroutable: it was `mandatory`, confirms are on, and no queue took it.
            BrokerRefused: the exchange does not exist, or may not be written to.
            ConnectionLost: the connection went away before it was known to be taken.
        """
        amqp = self._amqp
        if amqp is None or amqp.is_closed:
            amqp = await self.ready()
        with self._translated():
            await amqp.basic_publish(
                message.body,
                exchange=exchange,
                routing_key=routing_key,
                properties=properties_of(message),
                mandatory=mandatory,
                wait=self._link.write_buffer_high,
            )

    async def ack(self, delivery: Delivery, *, multiple: bool = False) -> None:
        """Acknowledge; a delivery of an earlier opening is left to the broker to redeliver."""
        if (amqp := self._held(delivery)) is not None:
            with contextlib.suppress(ConnectionLost), self._translated():
                await amqp.basic_ack(delivery.tag, multiple=multiple, wait=False)

    async def reject(self, delivery: Delivery, *, requeue: bool) -> None:
        """Give a delivery back to its queue, or to its dead letter exchange."""
        if (amqp := self._held(delivery)) is not None:
            with contextlib.suppress(ConnectionLost), self._translated():
                await amqp.basic_reject(delivery.tag, requeue=requeue, wait=False)

    def _held(self, delivery: Delivery) -> AmqpChannel | None:
        return self._amqp if delivery.generation == self.generation else None


async def _close(amqp: AmqpChannel) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await amqp.close()
