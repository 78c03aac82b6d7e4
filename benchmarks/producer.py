"""Messages for the consumers: as fast as the broker takes them, at little cost to the machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiormq
from aiormq.abc import AbstractChannel, ChannelFrame
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from benchmarks.payloads import DATA_EXCHANGE, ROW_BYTES, Feed, body

CHUNK = 100
"""Messages that are handed to the socket at once."""


class Producer:
    """Declares the queues of consumers, and publishes rows for them.

    The same frames precede each body, so they are made once; going through aiormq's `basic_publish`
    would take as much of the machine as the consumer that is measured.
    """

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def declare(self, feed: Feed) -> None:
        """Make the queue of a consumer, as amqp-fabric declares it, so that it can be filled."""
        await self._channel.queue_declare(feed.queue, auto_delete=True)
        await self._channel.queue_bind(feed.queue, feed.exchange, "", arguments=feed.binding)

    async def publish(self, headers: dict[str, str], count: int) -> None:
        """Publish the first `count` rows; returns when the broker has routed them."""
        number = self._channel.number
        properties = Basic.Properties(headers={**headers}, content_type="application/json")
        before = frame.marshal(Basic.Publish(exchange=DATA_EXCHANGE), number)
        before += frame.marshal(ContentHeader(properties=properties, body_size=ROW_BYTES), number)
        for first in range(0, count, CHUNK):
            payload = b"".join(
                before + frame.marshal(ContentBody(body(index)), number)
                for index in range(first, min(first + CHUNK, count))
            )
            sent = asyncio.get_running_loop().create_future()
            await self._channel.connection.write_queue.put(
                ChannelFrame(payload=payload, should_close=False, drain_future=sent)
            )
            await sent
        # Answered behind all that was published before it on the channel.
        await self._channel.exchange_declare(DATA_EXCHANGE, passive=True)


@asynccontextmanager
async def produce(uri: str) -> AsyncIterator[Producer]:
    connection = await aiormq.connect(uri)
    try:
        channel = await connection.channel(publisher_confirms=False)
        await channel.exchange_declare(DATA_EXCHANGE, exchange_type="headers", durable=True)
        yield Producer(channel)
    finally:
        await connection.close()
