"""Producer of messages at the speed of the broker, with little CPU time."""

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

from benchmarks.payloads import DATA_EXCHANGE, Source, arrow_body, row_body

CHUNK = 100
"""Messages per write to the socket."""
FRAME = 120_000
"""Bytes of a body per frame; brokers accept frames of 128 KiB."""
JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"


class Producer:
    """Declares the queues of consumers, and publishes rows to them.

    aiormq's `basic_publish` would use as much CPU time as the measured consumer.
    """

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def declare(self, source: Source) -> None:
        """Declare the queue of a consumer like amqp-fabric, so that it can be filled."""
        await self._channel.queue_declare(source.queue, auto_delete=True)
        await self._channel.queue_bind(source.queue, source.exchange, "", arguments=source.binding)

    async def publish(self, headers: dict[str, str], count: int) -> None:
        """Publish the first `count` rows, and wait until the broker has routed them."""
        for first in range(0, count, CHUNK):
            await self.send(headers, map(row_body, range(first, min(first + CHUNK, count))), JSON)
        await self._routed()

    async def publish_batches(self, headers: dict[str, str], count: int, rows: int) -> None:
        """Publish the first `count` rows, `rows` per message, and wait as in `publish`."""
        for first in range(0, count, rows):
            await self.send(headers, [arrow_body(first, rows)], ARROW)
        await self._routed()

    async def send(self, headers: dict[str, str], bodies: Iterable[bytes], kind: str) -> None:
        """Write messages to the socket, and wait until it is drained."""
        number = self._channel.number
        properties = Basic.Properties(headers={**headers}, content_type=kind)
        method = frame.marshal(Basic.Publish(exchange=DATA_EXCHANGE), number)
        heads: dict[int, bytes] = {}  # by length of the body
        parts = []
        for body in bodies:
            if len(body) not in heads:
                head = ContentHeader(properties=properties, body_size=len(body))
                heads[len(body)] = frame.marshal(head, number)
            parts += [method, heads[len(body)]]
            parts += [
                frame.marshal(ContentBody(body[start : start + FRAME]), number)
                for start in range(0, len(body), FRAME)
            ]
        sent = asyncio.get_running_loop().create_future()
        await self._channel.connection.write_queue.put(
            ChannelFrame(payload=b"".join(parts), should_close=False, drain_future=sent)
        )
        await sent

    async def _routed(self) -> None:
        # The reply follows the routing of all messages published before on the channel.
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
