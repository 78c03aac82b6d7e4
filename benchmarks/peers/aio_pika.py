"""aio-pika: its JSON RPC pattern, and a plain consumer that acknowledges each message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import orjson
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.patterns import JsonRPC

from benchmarks import payloads
from benchmarks.payloads import REQUEST, Source

PREFETCH = 500


async def _echo(text: str, number: int) -> dict[str, Any]:
    return payloads.echo(text, number)


@asynccontextmanager
async def serve(uri: str, service: str, prefetch: int) -> AsyncIterator[None]:
    async with await aio_pika.connect_robust(uri) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=prefetch)
        rpc = await JsonRPC.create(channel)
        await rpc.register(service, _echo, auto_delete=True)
        yield


@asynccontextmanager
async def call(uri: str, service: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async with await aio_pika.connect_robust(uri) as connection:
        rpc = await JsonRPC.create(await connection.channel())

        async def call_once() -> Any:
            return await rpc.call(service, dict(REQUEST))

        yield call_once


@asynccontextmanager
async def consume(
    uri: str, source: Source
) -> AsyncIterator[Callable[[int], Awaitable[list[dict[str, Any]]]]]:
    async with await aio_pika.connect_robust(uri) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)

        async def receive(count: int) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = []
            complete = asyncio.Event()

            async def on_row(message: AbstractIncomingMessage) -> None:
                rows.append(orjson.loads(message.body))
                await message.ack()
                if len(rows) == count:
                    complete.set()

            queue = await channel.declare_queue(source.queue, auto_delete=True)
            await queue.consume(on_row)
            await complete.wait()
            return rows

        yield receive
