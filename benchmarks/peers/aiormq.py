"""Bare aiormq, the lower bound: the same operations without any extras.

The caller uses RabbitMQ's direct reply-to, counts its correlation ids and awaits neither drain nor
confirm; the server has no limit and no acknowledgements, unless it has a prefetch: then it
acknowledges each call after the reply, which prevents losses; the consumer
acknowledges a hundred messages at once. There are no timeouts, errors, recovery or message
metadata.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiormq
import orjson
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from benchmarks.payloads import REQUEST, Source, echo

PREFETCH = 500
ACK_EVERY = 100
_REPLIES = "amq.rabbitmq.reply-to"


@asynccontextmanager
async def _channel(uri: str) -> AsyncIterator[Channel]:
    connection = await aiormq.connect(uri)
    try:
        yield cast(Channel, await connection.channel(publisher_confirms=False))
    finally:
        await connection.close()


@asynccontextmanager
async def serve(uri: str, service: str, prefetch: int) -> AsyncIterator[None]:
    async with _channel(uri) as channel:

        async def reply(message: DeliveredMessage) -> None:
            request = message.header.properties
            await channel.basic_publish(
                orjson.dumps(echo(**orjson.loads(message.body))),
                routing_key=request.reply_to or "",
                properties=Basic.Properties(
                    content_type="application/json",
                    correlation_id=request.correlation_id,
                    message_id=request.correlation_id,  # aiormq would generate one
                ),
                wait=False,
            )
            if prefetch:
                await channel.basic_ack(message.delivery_tag or 0, wait=False)

        if prefetch:
            await channel.basic_qos(prefetch_count=prefetch)
        await channel.queue_declare(service, auto_delete=True)
        await channel.basic_consume(service, reply, no_ack=not prefetch)
        yield


@asynccontextmanager
async def call(uri: str, service: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async with _channel(uri) as channel:
        numbers = itertools.count(1)
        pending: dict[str, asyncio.Future[bytes]] = {}
        loop = asyncio.get_running_loop()

        async def on_reply(message: DeliveredMessage) -> None:
            number = message.header.properties.correlation_id or ""
            pending.pop(number).set_result(message.body)

        async def call_once() -> Any:
            number = str(next(numbers))
            reply = pending[number] = loop.create_future()
            await channel.basic_publish(
                orjson.dumps(REQUEST),
                routing_key=service,
                properties=Basic.Properties(
                    content_type="application/json",
                    correlation_id=number,
                    message_id=number,
                    reply_to=_REPLIES,
                ),
                wait=False,
            )
            return orjson.loads(await reply)

        await channel.basic_consume(_REPLIES, on_reply, no_ack=True)
        yield call_once


@asynccontextmanager
async def consume(
    uri: str, source: Source
) -> AsyncIterator[Callable[[int], Awaitable[list[dict[str, Any]]]]]:
    async with _channel(uri) as channel:

        async def receive(count: int) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = []
            complete = asyncio.Event()

            async def on_row(message: DeliveredMessage) -> None:
                rows.append(orjson.loads(message.body))
                if len(rows) % ACK_EVERY == 0 or len(rows) == count:
                    tag = message.delivery_tag
                    assert tag is not None
                    await channel.basic_ack(tag, multiple=True, wait=False)
                if len(rows) == count:
                    complete.set()

            await channel.basic_qos(prefetch_count=PREFETCH)
            await channel.basic_consume(source.queue, on_row)
            await complete.wait()
            return rows

        yield receive
