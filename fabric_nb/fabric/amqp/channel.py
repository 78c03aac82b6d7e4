"""Channels that open themselves again after a loss."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, Self

from aiormq.channel import Channel as AmqpChannel
from pamqp import commands as spec

from fabric_nb.errors import (
    BrokerRefused,
    ConnectionLost,
    FabricError,
    MessageTooLarge,
    NotConnected,
    TransientQueuesRefused,
)
from fabric_nb.fabric.amqp.consumers import Consumers
from fabric_nb.fabric.amqp.fast_channel import FastChannel, OnOutcome, Reason
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.amqp.topology import (
    Broker,
    DurabilityMismatch,
    ExchangeNotDeclarable,
    Topology,
)
from fabric_nb.fabric.amqp.translation import connection_lost, translated
from fabric_nb.fabric.core.backoff import backoff

log = logging.getLogger(__name__)

FIRST_RACE, RACES = 0.01, 8
"""Seconds before a setup is repeated because something that it declared is missing; repetitions."""
CLOSE_TIMEOUT = 0.5
"""Seconds to wait for the broker's answer when a channel is closed."""

Setup = Callable[["Channel"], Awaitable[None]]


class ChannelOwner(Broker, Protocol):
    """Services of a connection that its channels require."""

    async def open_channel(self, *, confirms: bool) -> tuple[AmqpChannel, FastChannel]:
        """Wait for the connection; open an AMQP channel on it, with its fast channel."""

    def recover(self, channel: Channel) -> None:
        """Run `Channel.reopen` in the background."""

    def register(self, channel: Channel) -> None:
        """Add a channel that is in use."""

    def unregister(self, channel: Channel) -> None:
        """Remove a channel that was closed."""

    @property
    def congested(self) -> bool:
        """True if a publisher should wait, because too much is unsent."""

    async def drained(self) -> None:
        """Wait until sending is possible again, or until the connection is lost."""

    def check_loop(self) -> None:
        """Raise `WrongLoop` in another event loop than the connection's."""

    async def check_size(self, size: int) -> None:
        """Raise `MessageTooLarge` if the broker refuses a body of `size` bytes."""


class Channel:
    """A channel of a `Connection`; see `Connection.channel`.

    After a loss it is opened again and its setup is run again. Operations meanwhile wait for
    that; operations that were in flight when it was lost raise `ConnectionLost`.

    Attributes:
        topology: exchanges, queues and bindings that the channel declares.
        consumers: consumers that it has started.
        generation: number of times that the channel was opened.
    """

    def __init__(
        self,
        connection: ChannelOwner,
        setup: Setup | None,
        *,
        prefetch: int,
        confirms: bool,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        self._connection = connection
        self._on_lost_hook = on_lost
        self._setup = setup
        self._prefetch = prefetch
        self._confirms = confirms
        self._amqp: AmqpChannel | None = None
        self._fast: FastChannel | None = None
        self._ready = asyncio.Event()
        self._attempted = asyncio.Event()
        self._closed = True
        self.generation = 0
        self.topology = Topology(connection, self._current, self.ready)
        self.consumers = Consumers(connection, self.topology, self._current, lambda: self._fast)

    # -- opening and closing

    async def open(self) -> Self:
        """Open the channel and run its setup.

        Raises:
            BrokerRefused: the broker refused something in the setup.
            NotConnected: the connection is closed.
        """
        self._begin()
        try:
            return await self._open_adapting()
        except BaseException:
            await self.close()
            raise

    async def _open_adapting(self) -> Self:
        """Open, again after each refusal that another declaration avoids.

        An auto-delete exchange or queue may be deleted between its declaration and its use, when
        its last user leaves: the whole setup is repeated then, because a missing one costs the
        channel.
        """
        races = itertools.islice(backoff(FIRST_RACE), RACES)
        while True:
            try:
                return await self._open()
            except (TransientQueuesRefused, ExchangeNotDeclarable, DurabilityMismatch):
                continue  # recorded in the capabilities, so the next declaration differs
            except BrokerRefused as refused:
                if not self.topology.is_missing(refused) or (delay := next(races, None)) is None:
                    raise
                await asyncio.sleep(delay)

    def start(self) -> Self:
        """Open in the background, without a time limit; operations wait for it."""
        self._begin()
        self._connection.recover(self)
        return self

    def _begin(self) -> None:
        self._connection.check_loop()
        self._closed = False
        self._ready.clear()
        self._attempted.clear()
        self._connection.register(self)

    async def _open(self) -> Self:
        with self._translated():
            amqp, fast = await self._connection.open_channel(confirms=self._confirms)
        self._amqp, self._fast = amqp, fast
        self.topology.clear()
        self.generation += 1
        fast.generation = self.generation
        try:
            with self._translated():
                if self._prefetch:
                    await amqp.basic_qos(prefetch_count=self._prefetch)
                if self._setup is not None:
                    await self._setup(self)
            self._check_open(fast)
        except BaseException:
            self._detach(amqp, fast)
            await _close(amqp)
            raise
        amqp.on_consumer_cancel_callbacks.add(self._on_consumer_cancelled)
        amqp.closing.add_done_callback(lambda _: self._on_lost(amqp))
        fast.on_shut = partial(self._on_lost, amqp)
        self._ready.set()
        self._attempted.set()
        return self

    async def amend(self, step: Setup) -> None:
        """Run a step that is part of the setup from now on.

        If it is refused and another declaration avoids that, or if the channel is lost, the whole
        setup is run again.

        Raises:
            BrokerRefused: the broker refused it for good.
            NotConnected: the channel was closed.
        """
        try:
            await step(self)
        except (TransientQueuesRefused, ExchangeNotDeclarable, DurabilityMismatch):
            await self.ready()
        except ConnectionLost:
            return  # the channel is opened again in the background, without a time limit
        except BrokerRefused as refused:
            if not self.topology.is_missing(refused):
                raise
            await self.ready()

    async def close(self) -> None:
        """Close until it is opened again; the broker requeues unacknowledged deliveries."""
        self._closed = True
        self.consumers.cancel_callbacks()
        self._ready.set()
        self._attempted.set()
        self._connection.unregister(self)
        amqp, fast = self._amqp, self._fast
        if amqp is not None and fast is not None:
            self._detach(amqp, fast)
            await self.topology.delete_exclusive_queue(amqp)
            await _close(amqp)

    def _detach(self, amqp: AmqpChannel, fast: FastChannel) -> None:
        if self._amqp is amqp:
            self._amqp = self._fast = None
        fast.on_shut = None
        fast.shut(self._lost)

    def abandon(self) -> None:
        """Give the channel up with its connection; operations that wait for it raise."""
        self._closed = True
        self.consumers.cancel_callbacks()
        self._release()
        self._ready.set()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _check_open(self, fast: FastChannel) -> None:
        if self._closed:
            raise NotConnected("The channel was closed while it was being opened.")
        if fast.closed:
            raise self._lost()

    # -- recovery

    async def reopen(self) -> None:
        """Open again after a loss, with unlimited retries; run by the connection."""
        for attempt, delay in enumerate(backoff()):
            if self._closed:
                return
            try:
                await self._open_adapting()
            except NotConnected:
                return
            except Exception as error:  # noqa: BLE001 - retried, whatever it was
                refused = not isinstance(error, ConnectionLost)
                log.log(logging.WARNING if refused and attempt == 0 else logging.DEBUG, "%s", error)
                if refused:
                    self._attempted.set()
                await asyncio.sleep(delay)
            else:
                return

    def _on_lost(self, amqp: AmqpChannel, reason: Reason | None = None) -> None:
        if self._closed or self._amqp is not amqp:
            return
        if reason is not None:
            self._connection.capabilities.record(reason(), self._connection.masked_uri)
        self._release(reason)
        self._connection.recover(self)

    def _release(self, reason: Reason | None = None) -> None:
        """Let go of a lost AMQP channel; its outcomes fail with `reason`."""
        fast, self._amqp, self._fast = self._fast, None, None
        self._ready.clear()
        self._attempted.clear()
        if fast is not None:
            fast.shut(reason or self._lost)
        if self._on_lost_hook is not None:
            self._on_lost_hook()

    def _on_consumer_cancelled(self, frame: spec.Basic.Cancel) -> None:
        # Its queue was deleted or has moved, or RabbitMQ 4.3 has requeued a delivery that the
        # consumer of a quorum queue left unacknowledged for too long. A new setup restores all.
        self.topology.drop_exclusive_queue()
        queue = self.topology.consumers.get(str(frame.consumer_tag), "")
        log.info("The broker cancelled the consumer of %r, which is started again", queue)
        self.renew()

    def renew(self) -> None:
        """Close and open it again, in the background; operations in flight fail."""
        amqp = self._amqp
        if amqp is not None and not self._closed:
            self._release()
            task = asyncio.ensure_future(_close(amqp))
            task.add_done_callback(lambda _: self._connection.recover(self))

    @property
    def is_open(self) -> bool:
        """True if the channel is open and its setup is complete."""
        return self._fast is not None and self._ready.is_set()

    @property
    def is_ready(self) -> bool:
        """True if the channel is open, its setup is complete, and publishers need not wait."""
        return self._fast is not None and self._ready.is_set() and not self._connection.congested

    @property
    def outstanding(self) -> int:
        """Number of sent messages whose outcome is awaited."""
        return self._fast.outstanding if self._fast is not None else 0

    async def attempted(self) -> None:
        """Wait until the channel was opened, or was refused something, since its last loss."""
        await self._attempted.wait()

    def probe(self) -> bool:
        """Send a request that the broker answers at once; return False if the channel is lost."""
        fast = self._fast
        if fast is None or fast.closed or not self._ready.is_set():
            return False
        fast.probe(self._prefetch)
        return True

    async def ready(self) -> None:
        """Wait until it is ready.

        Raises:
            NotConnected: it was closed.
        """
        while not self._closed:
            if self._amqp is not None and self._amqp.is_closed:
                self._on_lost(self._amqp)  # its own callback is still to come
            await self._ready.wait()
            if self._connection.congested:
                await self._connection.drained()
            if self.is_ready:
                return
        raise NotConnected(f"The connection to {self._connection.masked_uri} is closed.")

    async def check(self) -> None:
        """Wait for an answer of the broker on this channel, which is opened again if necessary.

        Messages sent on a channel that the broker has just closed are lost without notice.

        Raises:
            NotConnected: it was closed.
        """
        while True:
            await self.ready()
            with contextlib.suppress(ConnectionLost, BrokerRefused), self._translated():
                await self._current().basic_qos(prefetch_count=self._prefetch)
                return

    def _lost(self) -> ConnectionLost:
        return connection_lost(self._connection.masked_uri)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._connection.masked_uri)

    def _current(self) -> AmqpChannel:
        """Return the open AMQP channel, also while the setup is still running."""
        if self._amqp is None:
            raise self._lost()
        return self._amqp

    @property
    def acknowledge_within(self) -> float:
        """Seconds within which to acknowledge a delivery, before the broker requeues it."""
        return self._connection.capabilities.acknowledge_within

    # -- messages

    def accepts(self, message: Message) -> bool:
        """Return whether the broker is known to accept a message of this size."""
        return len(message.body) <= self._connection.capabilities.accepted_size

    async def check_size(self, message: Message, label: str) -> None:
        """Check, before a message is sent, that the broker accepts its size.

        A broker that refuses a message closes the channel, with all other uses of the channel.

        Args:
            message: the message, which is not sent.
            label: its name in the error, as in ``The result``.

        Raises:
            MessageTooLarge: the broker refuses it.
            UnusableHeader: its headers do not fit into a frame of this connection.
            ConnectionLost: the connection was lost meanwhile.
        """
        if message.headers and self._fast is not None:
            self._fast.check_headers(message)
        if not self.accepts(message):
            size = len(message.body)
            try:
                await self._connection.check_size(size)
            except MessageTooLarge as refused:
                raise MessageTooLarge.of(size, refused.limit, label=label) from None

    async def publish(
        self, exchange: str, routing_key: str, message: Message, *, mandatory: bool = False
    ) -> None:
        """Send a message; with confirms, wait until the broker has confirmed it.

        Raises:
            Unroutable: it was `mandatory`, confirms are on, and it was routed to no queue.
            BrokerRefused: the exchange does not exist, or this user lacks permission to write.
            ConnectionLost: the connection was lost before the message was confirmed.
        """
        if self._connection.congested:
            await self._connection.drained()
        if self._fast is None:
            await self.ready()
        if not self._confirms:
            self.send(exchange, routing_key, message, mandatory=mandatory)
            return
        confirmed = asyncio.get_running_loop().create_future()
        settle = partial(_settle, confirmed)
        self.send(exchange, routing_key, message, mandatory=mandatory, on_outcome=settle)
        await confirmed

    def send(
        self,
        exchange: str,
        routing_key: str,
        message: Message,
        *,
        mandatory: bool = False,
        on_outcome: OnOutcome | None = None,
        at_once: bool = False,
    ) -> None:
        """Send a message; with confirms, call `on_outcome` with its outcome.

        It is written together with others of this iteration of the loop or, where none is expected,
        `at_once`. This ignores back-pressure; see `is_ready`.

        Raises:
            ConnectionLost: the channel is not open.
        """
        fast = self._fast
        if fast is None or fast.closed:
            raise self._lost()
        fast.publish(
            exchange,
            routing_key,
            message,
            mandatory=mandatory,
            on_outcome=on_outcome,
            at_once=at_once,
        )

    def answer(
        self, delivery: Delivery, queue: str, message: Message, *, at_once: bool = False
    ) -> None:
        """Send the reply to a delivery to a queue, and acknowledge the delivery, in one write.

        Raises:
            ConnectionLost: the channel is not open.
        """
        if (fast := self._fast_for(delivery)) is not None:
            fast.answer(queue, message, delivery.tag, at_once=at_once)
        else:  # a delivery of an earlier opening is requeued by the broker
            self.send("", queue, message, at_once=at_once)

    def ack(self, delivery: Delivery, *, multiple: bool = False, at_once: bool = False) -> None:
        """Acknowledge a delivery; the broker redelivers those of an earlier generation.

        With `at_once` it is written before the loop runs again, which the caller may block.
        """
        if (fast := self._fast_for(delivery)) is not None:
            fast.ack(delivery.tag, multiple=multiple, at_once=at_once)

    def reject(self, delivery: Delivery, *, requeue: bool) -> None:
        """Return a delivery to its queue, or to its dead letter exchange."""
        if (fast := self._fast_for(delivery)) is not None:
            fast.reject(delivery.tag, requeue=requeue)

    def can_acknowledge(self, delivery: Delivery) -> bool:
        """Return whether the channel that delivered it is still open."""
        return self._fast_for(delivery) is not None

    def _fast_for(self, delivery: Delivery) -> FastChannel | None:
        fast = self._fast
        if fast is None or fast.closed or delivery.generation != self.generation:
            return None
        return fast


def _settle(confirmed: asyncio.Future[None], error: FabricError | None) -> None:
    if confirmed.done():
        return
    if error is None:
        confirmed.set_result(None)
    else:
        confirmed.set_exception(error)


async def _close(amqp: AmqpChannel) -> None:
    # Not cancelled after the timeout: aiormq would send a second close, and that costs the
    # connection. It ends with the answer, or with the connection.
    await asyncio.wait([asyncio.ensure_future(_close_quietly(amqp))], timeout=CLOSE_TIMEOUT)


async def _close_quietly(amqp: AmqpChannel) -> None:
    with contextlib.suppress(Exception):
        await amqp.close()
