"""Messages for the consumers: as fast as the broker takes them, at little cost to the machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiormq
from aiormq.abc import AbstractChannel, ChannelFrame
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from benchmarks.payloads import DATA_EXCHANGE, Feed, arrow_body, body

CHUNK = 100
"""Messages that are handed to the socket at once."""
FRAME = 120_000
"""Bytes of a body in one frame; brokers take frames of 128 KiB."""
JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"


class Producer:
    """Declares the queues of consumers, and publishes rows for them.

    Going through aiormq's `basic_publish` would take as much of the machine as the consumer that is
    measured.
    """

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def declare(self, feed: Feed) -> None:
        """Make the queue of a consumer, as amqp-fabric declares it, so that it can be filled."""
        await self._channel.queue_declare(feed.queue, auto_delete=True)
        await self._channel.queue_bind(feed.queue, feed.exchange, "", arguments=feed.binding)

    async def publish(self, headers: dict[str, str], count: int) -> None:
        """Publish the first `count` rows; returns when the broker has routed them."""
        for first in range(0, count, CHUNK):
            await self.send(headers, map(body, range(first, min(first + CHUNK, count))), JSON)
        await self._routed()

    async def publish_batches(self, headers: dict[str, str], count: int, rows: int) -> None:
        """Publish the first `count` rows, so many to a message; likewise."""
        for first in range(0, count, rows):
            await self.send(headers, [arrow_body(first, rows)], ARROW)
        await self._routed()

    async def send(self, headers: dict[str, str], bodies: Iterable[bytes], kind: str) -> None:
        """Hand messages to the socket, and wait until it has taken them."""
        number = self._channel.number
        properties = Basic.Properties(headers={**headers}, content_type=kind)
        method = frame.marshal(Basic.Publish(exchange=DATA_EXCHANGE), number)
        heads: dict[int, bytes] = {}  # those of equally long bodies are the same
        parts = []
        for one in bodies:
            if len(one) not in heads:
                head = ContentHeader(properties=properties, body_size=len(one))
                heads[len(one)] = frame.marshal(head, number)
            parts += [method, heads[len(one)]]
            parts += [
                frame.marshal(ContentBody(one[start : start + FRAME]), number)
                for start in range(0, len(one), FRAME)
            ]
        sent = asyncio.get_running_loop().create_future()
        await self._channel.connection.write_queue.put(
            ChannelFrame(payload=b"".join(parts), should_close=False, drain_future=sent)
        )
        await sent

    async def _routed(self) -> None:
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
