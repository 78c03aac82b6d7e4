"""A channel that can be opened again, and what is done on it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel as AmqpChannel
from pamqp import commands as spec

from fabric_nb.errors import (
    BrokerRefused,
    ConnectionLost,
    FabricError,
    MessageTooLarge,
    NotAcknowledgedInTime,
    NotConnected,
    TransientQueuesRefused,
)
from fabric_nb.fabric.amqp.fast_channel import FastChannel, OnDelivery, OnOutcome, Reason
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.amqp.topology import (
    ExchangeOfOthers,
    Link,
    OtherDurability,
    Topology,
)
from fabric_nb.fabric.amqp.translation import (
    connection_lost,
)

if TYPE_CHECKING:
    from aio_pika import IncomingMessage

log = logging.getLogger(__name__)

FIRST_RETRY, LAST_RETRY = 0.2, 4.0
"""Seconds."""
FIRST_RACE, RACES = 0.01, 8
"""Seconds before a setup is repeated because something it had declared was gone, and how often."""
CLOSE_TIMEOUT = 0.5
CONSUME_TIMEOUT = 15.0
"""Seconds; RabbitMQ (seen with 4.3) may never answer for a stream that is being deleted."""

Setup = Callable[["Channel"], Awaitable[None]]


def backoff(first: float = FIRST_RETRY) -> Iterator[float]:
    """Seconds to wait before each further try: doubling, jittered, at most `LAST_RETRY`."""
    ceiling = first
    while True:
        yield ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret
        ceiling = min(2 * ceiling, LAST_RETRY)


class Channel(Topology):
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
        super().__init__(link)
        self._on_lost_hook = on_lost
        self._callbacks: set[asyncio.Task[None]] = set()
        self._setup = setup
        self._prefetch = prefetch
        self._confirms = confirms
        self._amqp: AmqpChannel | None = None
        self._lane: FastChannel | None = None
        self._ready = asyncio.Event()
        self._tried = asyncio.Event()
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
            return await self._open_informed()
        except BaseException:
            await self.close()
            raise

    async def _open_informed(self) -> Self:
        """Open, again after each refusal that another declaration avoids.

        An auto-delete exchange or queue may go between its declaration and its use, when its last
        user leaves: the whole setup is repeated then, because a missing one costs the channel.
        """
        races = itertools.islice(backoff(FIRST_RACE), RACES)
        while True:
            try:
                return await self._open()
            except (TransientQueuesRefused, ExchangeOfOthers, OtherDurability):
                continue  # the link has learnt from it, and does not ask for the same again
            except BrokerRefused as refused:
                if not self._has_gone(refused) or (delay := next(races, None)) is None:
                    raise
                await asyncio.sleep(delay)

    def start(self) -> Self:
        """Open in the background, however long it takes; operations wait for it."""
        self._begin()
        self._link.recover(self)
        return self

    def _begin(self) -> None:
        self._link.check_loop()
        self._closed = False
        self._ready.clear()
        self._tried.clear()
        self._link.remember(self)

    async def _open(self) -> Self:
        with self._translated():
            amqp, lane = await self._link.open_channel(confirms=self._confirms)
        self._amqp, self._lane = amqp, lane
        self._forget_topology()
        self.generation += 1
        lane.generation = self.generation
        try:
            with self._translated():
                if self._prefetch:
                    await amqp.basic_qos(prefetch_count=self._prefetch)
                if self._setup is not None:
                    await self._setup(self)
            self._check_still_wanted(lane)
        except BaseException:
            self._leave(amqp, lane)
            await _close(amqp)
            raise
        amqp.on_consumer_cancel_callbacks.add(self._on_consumer_cancelled)
        amqp.closing.add_done_callback(lambda _: self._on_lost(amqp))
        lane.on_shut = partial(self._on_lost, amqp)
        self._ready.set()
        self._tried.set()
        return self

    async def amend(self, step: Setup) -> None:
        """Run a step that the setup has as well from now on.

        Where it is refused avoidably, or the channel is lost, the whole setup is run again.

        Raises:
            BrokerRefused: the broker refused it for good.
            NotConnected: the channel was closed.
        """
        try:
            await step(self)
        except (TransientQueuesRefused, ExchangeOfOthers, OtherDurability):
            await self.ready()
        except ConnectionLost:
            return  # it is opened again in the background, however long that takes
        except BrokerRefused as refused:
            if not self._has_gone(refused):
                raise
            await self.ready()

    async def close(self) -> None:
        """Close until it is opened again; what it consumed is requeued by the broker."""
        self._closed = True
        self._end_callbacks()
        self._ready.set()
        self._tried.set()
        self._link.forget(self)
        amqp, lane = self._amqp, self._lane
        if amqp is not None and lane is not None:
            self._leave(amqp, lane)
            await self._delete_own_queue(amqp)
            await _close(amqp)

    def _leave(self, amqp: AmqpChannel, lane: FastChannel) -> None:
        if self._amqp is amqp:
            self._amqp = self._lane = None
        lane.on_shut = None
        lane.shut(self._lost)

    def abandon(self) -> None:
        """The connection is gone for good: whoever waits for this channel is told so."""
        self._closed = True
        self._end_callbacks()
        self._fell()
        self._ready.set()

    def _end_callbacks(self) -> None:
        for task in self._callbacks:
            task.cancel()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _check_still_wanted(self, lane: FastChannel) -> None:
        if self._closed:
            raise NotConnected("The channel was closed while it was being opened.")
        if lane.closed:
            raise self._lost()

    async def reopen(self) -> None:
        """Open again, as often as it takes; run by the connection after a loss."""
        for attempt, delay in enumerate(backoff()):
            if self._closed:
                return
            try:
                await self._open_informed()
            except NotConnected:
                return
            except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
                refused = not isinstance(error, ConnectionLost)
                log.log(logging.WARNING if refused and attempt == 0 else logging.DEBUG, "%s", error)
                if refused:
                    self._tried.set()
                await asyncio.sleep(delay)
            else:
                return

    def _on_lost(self, amqp: AmqpChannel, reason: Reason | None = None) -> None:
        if self._closed or self._amqp is not amqp:
            return
        if reason is not None:
            self._learn_from(reason())
        self._fell(reason)
        self._link.recover(self)

    def _learn_from(self, error: FabricError) -> None:
        terms = self._link.terms
        if isinstance(error, MessageTooLarge):
            terms.max_message_size = terms.accepted_size = error.limit
        if isinstance(error, NotAcknowledgedInTime) and terms.consumer_timeout != error.seconds:
            terms.consumer_timeout = error.seconds
            log.warning(
                "%s takes back what is not acknowledged within %g s (its consumer_timeout), and"
                " closes the channel: calls that run for longer are acknowledged before they end",
                self._link.masked_uri,
                error.seconds,
            )

    def _fell(self, reason: Reason | None = None) -> None:
        lane, self._amqp, self._lane = self._lane, None, None
        self._ready.clear()
        self._tried.clear()
        if lane is not None:
            lane.shut(reason or self._lost)
        if self._on_lost_hook is not None:
            self._on_lost_hook()

    def _on_consumer_cancelled(self, frame: spec.Basic.Cancel) -> None:
        # Its queue was deleted, or has moved, or RabbitMQ 4.3 has taken back what a quorum queue's
        # consumer held for long. Whatever it was, a whole setup makes it good again.
        self._own_queue = None
        queue = self._consumed.get(str(frame.consumer_tag), "")
        log.info("The broker cancelled the consumer of %r, which is started again", queue)
        self.renew()

    def renew(self) -> None:
        """Close it and open it again, in the background; what is under way fails."""
        amqp = self._amqp
        if amqp is not None and not self._closed:
            self._fell()
            task = asyncio.ensure_future(_close(amqp))
            task.add_done_callback(lambda _: self._link.recover(self))

    @property
    def is_ready(self) -> bool:
        """Whether the channel and its setup stand, and what is sent flows."""
        return self._lane is not None and self._ready.is_set() and not self._link.congested

    async def tried(self) -> None:
        """Wait until it stands, or was refused something, since it was last lost."""
        await self._tried.wait()

    def ask(self) -> bool:
        """Ask the broker for a sign of life; False where the channel does not stand."""
        lane = self._lane
        if lane is None or lane.closed or not self._ready.is_set():
            return False
        lane.ask(self._prefetch)
        return True

    async def ready(self) -> None:
        """Wait until it is ready.

        Raises:
            NotConnected: it was closed.
        """
        while not self._closed:
            if self._amqp is not None and self._amqp.is_closed:
                self._on_lost(self._amqp)  # its own notice is still on the way
            await self._ready.wait()
            if self._link.congested:
                await self._link.drained()
            if self.is_ready:
                return
        raise NotConnected(f"The connection to {self._link.masked_uri} is closed.")

    async def check(self) -> None:
        """Wait until the broker has answered on this channel, which is opened again if need be.

        What is sent to a channel that the broker has just closed is lost without a word.

        Raises:
            NotConnected: it was closed.
        """
        while True:
            await self.ready()
            with contextlib.suppress(ConnectionLost, BrokerRefused), self._translated():
                await self._current.basic_qos(prefetch_count=self._prefetch)
                return

    def _lost(self) -> ConnectionLost:
        return connection_lost(self._link.masked_uri)

    @property
    def acknowledge_within(self) -> float:
        """Seconds within which to acknowledge a delivery, before the broker takes it back."""
        return self._link.terms.acknowledge_within

    # -- messages

    def takes(self, message: Message) -> bool:
        """Return whether the broker is known to take a message of this size."""
        return len(message.body) <= self._link.terms.accepted_size

    async def check_size(self, message: Message, what: str) -> None:
        """Find out whether the broker takes a message of this size, before it is sent.

        A broker that refuses a message closes the channel that it came by, with all that the
        channel is used for.

        Args:
            message: the message, which is not sent.
            what: its name in the error, as in ``The result``.

        Raises:
            MessageTooLarge: the broker refuses it.
            UnusableHeader: its headers do not fit into a frame of this connection.
            ConnectionLost: the connection was lost meanwhile.
        """
        if message.headers and self._lane is not None:
            self._lane.check_headers(message)
        if not self.takes(message):
            size = len(message.body)
            try:
                await self._link.check_size(size)
            except MessageTooLarge as refused:
                raise MessageTooLarge.of(size, refused.limit, what=what) from None

    @property
    def _current(self) -> AmqpChannel:
        """The AMQP channel of now, also while the setup is still running."""
        if self._amqp is None:
            raise self._lost()
        return self._amqp

    async def consume(
        self,
        queue: str,
        on_delivery: OnDelivery,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a consumer and return its tag; `on_delivery` is called in order of arrival.

        It must be quick and must not raise; use `consume_messages` for coroutines.
        """
        amqp, lane = self._current, self._lane
        tag = f"fabric_nb.{next(_TAGS)}"
        assert lane is not None  # noqa: S101 - it comes and goes with `_amqp`
        lane.consumers[tag.encode()] = on_delivery  # before the first delivery can come
        try:
            with self._translated():
                async with asyncio.timeout(CONSUME_TIMEOUT):
                    await amqp.basic_consume(
                        queue,
                        _never,
                        no_ack=no_ack,
                        exclusive=exclusive,
                        consumer_tag=tag,
                        arguments=dict(arguments or {}),
                    )
        except TimeoutError:
            raise self._lost() from None
        self._consumed[tag] = queue
        return tag

    async def consume_messages(
        self, queue: str, callback: Callable[[IncomingMessage], Awaitable[object]]
    ) -> str:
        """Start a consumer that awaits `callback` with aio-pika's own message object.

        This is what amqp-fabric hands to the callbacks of `subscribe_data`. A callback goes on when
        the channel is lost, and until this one is closed.
        """
        from fabric_nb.fabric.amqp.held import HeldMessage  # takes a while, and few need it

        async def deliver(delivered: DeliveredMessage) -> None:
            message = HeldMessage(delivered)
            task = asyncio.ensure_future(message.handled_by(callback, self.acknowledge_within))
            self._callbacks.add(task)
            task.add_done_callback(self._callbacks.discard)

        with self._translated():
            started = await self._current.basic_consume(queue, deliver)
        tag = str(started.consumer_tag)
        self._consumed[tag] = queue
        return tag

    async def cancel(self, consumer_tag: str) -> None:
        """Stop a consumer; what it holds unacknowledged stays with this channel."""
        self._consumed.pop(consumer_tag, None)
        with self._translated():
            await self._current.basic_cancel(consumer_tag)
        if self._lane is not None:
            self._lane.consumers.pop(consumer_tag.encode(), None)

    async def publish(
        self, exchange: str, routing_key: str, message: Message, *, mandatory: bool = False
    ) -> None:
        """Send a message; with confirms, wait until the broker has taken it.

        Raises:
            Unroutable: it was `mandatory`, confirms are on, and no queue took it.
            BrokerRefused: the exchange does not exist, or may not be written to.
            ConnectionLost: the connection went away before it was known to be taken.
        """
        if self._link.congested:
            await self._link.drained()
        if self._lane is None:
            await self.ready()
        if not self._confirms:
            self.send(exchange, routing_key, message, mandatory=mandatory)
            return
        taken = asyncio.get_running_loop().create_future()
        settle = partial(_settle, taken)
        self.send(exchange, routing_key, message, mandatory=mandatory, on_outcome=settle)
        await taken

    def send(
        self,
        exchange: str,
        routing_key: str,
        message: Message,
        *,
        mandatory: bool = False,
        on_outcome: OnOutcome | None = None,
    ) -> None:
        """Send a message now; with confirms, `on_outcome` is called with what became of it.

        It does not wait when much is under way; see `is_ready`.

        Raises:
            ConnectionLost: there is no channel to send it on.
        """
        lane = self._lane
        if lane is None or lane.closed:
            raise self._lost()
        lane.publish(exchange, routing_key, message, mandatory=mandatory, on_outcome=on_outcome)

    def ack(self, delivery: Delivery, *, multiple: bool = False) -> None:
        """Acknowledge; a delivery of an earlier opening is left to the broker to redeliver."""
        if (lane := self._lane_of(delivery)) is not None:
            lane.ack(delivery.tag, multiple=multiple)

    def reject(self, delivery: Delivery, *, requeue: bool) -> None:
        """Give a delivery back to its queue, or to its dead letter exchange."""
        if (lane := self._lane_of(delivery)) is not None:
            lane.reject(delivery.tag, requeue=requeue)

    def _lane_of(self, delivery: Delivery) -> FastChannel | None:
        lane = self._lane
        if lane is None or lane.closed or delivery.generation != self.generation:
            return None
        return lane


_TAGS = itertools.count(1)


async def _never(_: DeliveredMessage) -> None:
    """What aiormq calls with deliveries, of which the lane leaves it none."""


def _settle(taken: asyncio.Future[None], error: FabricError | None) -> None:
    if taken.done():
        return
    if error is None:
        taken.set_result(None)
    else:
        taken.set_exception(error)


async def _close(amqp: AmqpChannel) -> None:
    # It is not cancelled when it takes long: aiormq would send a second close, and one too many
    # costs the connection. It ends with the answer, or with the connection.
    await asyncio.wait([asyncio.ensure_future(_close_quietly(amqp))], timeout=CLOSE_TIMEOUT)


async def _close_quietly(amqp: AmqpChannel) -> None:
    with contextlib.suppress(Exception):
        await amqp.close()
