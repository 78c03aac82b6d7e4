"""Consumers that a channel has started."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel as AmqpChannel

from fabric_nb.fabric.amqp.fast_channel import Batches, FastChannel, OnBatch, OnDelivery
from fabric_nb.fabric.amqp.topology import Broker, Topology
from fabric_nb.fabric.amqp.translation import connection_lost, translated

if TYPE_CHECKING:
    from aio_pika import IncomingMessage

CONSUME_TIMEOUT = 15.0
"""Seconds; RabbitMQ (seen with 4.3) may never answer for a stream that is being deleted."""


class Consumers:
    """Consumers of one channel, which end with its current AMQP channel.

    Args:
        broker: what is known of the broker.
        topology: declarations of the channel, which know the queue of each consumer.
        current: returns the open AMQP channel; raises `ConnectionLost` if there is none.
        fast: returns its fast channel; None if there is none.
    """

    def __init__(
        self,
        broker: Broker,
        topology: Topology,
        current: Callable[[], AmqpChannel],
        fast: Callable[[], FastChannel | None],
    ) -> None:
        self._broker = broker
        self._topology = topology
        self._current = current
        self._fast = fast
        self._callbacks: set[asyncio.Task[None]] = set()

    async def start(
        self,
        queue: str,
        on_delivery: OnDelivery,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a consumer and return its tag; `on_delivery` is called in order of arrival.

        It must be quick and must not raise; use `start_messages` for coroutines.
        """
        amqp, fast = self._current(), self._fast()
        tag = f"fabric_nb.{next(_TAGS)}"
        assert fast is not None  # noqa: S101 - set and cleared together with the AMQP channel
        fast.consumers[tag.encode()] = on_delivery  # before the first delivery can arrive
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
            raise connection_lost(self._broker.masked_uri) from None
        self._topology.consumers[tag] = queue
        return tag

    async def start_batches(
        self, queue: str, on_batch: OnBatch, *, arguments: Mapping[str, Any] | None = None
    ) -> str:
        """Start a consumer as `start`; `on_batch` is called with deliveries read together."""
        fast = self._fast()
        if fast is None:
            raise connection_lost(self._broker.masked_uri)
        return await self.start(queue, Batches(fast, on_batch), arguments=arguments)

    async def start_messages(
        self, queue: str, callback: Callable[[IncomingMessage], Awaitable[object]]
    ) -> str:
        """Start a consumer that awaits `callback` with aio-pika's own message object.

        These are the message objects that amqp-fabric passes to the callbacks of `subscribe_data`.
        A running callback is not cancelled when the channel is lost, only when it is closed.
        """
        from fabric_nb.fabric.amqp.timed_message import TimedMessage  # slow to import

        async def deliver(delivered: DeliveredMessage) -> None:
            message = TimedMessage(delivered)
            within = self._broker.capabilities.acknowledge_within
            task = asyncio.ensure_future(message.handle(callback, within))
            self._callbacks.add(task)
            task.add_done_callback(self._callbacks.discard)

        with self._translated():
            started = await self._current().basic_consume(queue, deliver)
        tag = str(started.consumer_tag)
        self._topology.consumers[tag] = queue
        return tag

    async def cancel(self, tag: str) -> None:
        """Stop a consumer; its unacknowledged deliveries stay with the channel."""
        self._topology.consumers.pop(tag, None)
        with self._translated():
            await self._current().basic_cancel(tag)
        if (fast := self._fast()) is not None:
            fast.consumers.pop(tag.encode(), None)

    def cancel_callbacks(self) -> None:
        """Cancel the callbacks of `start_messages` that are running."""
        for task in self._callbacks:
            task.cancel()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._broker.masked_uri)


_TAGS = itertools.count(1)


async def _never(_: DeliveredMessage) -> None:
    pass  # required by aiormq; deliveries are intercepted before it would call this
