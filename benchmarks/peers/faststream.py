"""FastStream on its RabbitMQ broker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from faststream.rabbit import (  # type: ignore[import-not-found, unused-ignore]
    Channel,
    ExchangeType,
    RabbitBroker,
    RabbitExchange,
    RabbitQueue,
)

from benchmarks import payloads
from benchmarks.payloads import REQUEST, Source

PREFETCH = 500


def _broker(uri: str) -> Any:
    return RabbitBroker(uri, logger=None, log_level=logging.WARNING)


@asynccontextmanager
async def serve(uri: str, service: str, prefetch: int) -> AsyncIterator[None]:
    broker = _broker(uri)

    @broker.subscriber(  # type: ignore[untyped-decorator, unused-ignore]
        RabbitQueue(service, durable=False, auto_delete=True),
        channel=Channel(prefetch_count=prefetch),
    )
    async def echo(text: str, number: int) -> dict[str, Any]:
        return payloads.echo(text, number)

    async with broker:
        await broker.start()
        yield


@asynccontextmanager
async def call(uri: str, service: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async with _broker(uri) as broker:
        await broker.start()

        async def call_once() -> Any:
            reply = await broker.request(dict(REQUEST), queue=service, timeout=30)
            return await reply.decode()

        yield call_once


@asynccontextmanager
async def consume(
    uri: str, source: Source
) -> AsyncIterator[Callable[[int], Awaitable[list[dict[str, Any]]]]]:
    broker = _broker(uri)
    rows: list[dict[str, Any]] = []
    expected = 0
    complete = asyncio.Event()

    @broker.subscriber(  # type: ignore[untyped-decorator, unused-ignore]
        RabbitQueue(source.queue, durable=False, auto_delete=True, bind_arguments=source.binding),
        RabbitExchange(source.exchange, type=ExchangeType.HEADERS, durable=True),
        channel=Channel(prefetch_count=PREFETCH),
    )
    async def on_row(row: dict[str, Any]) -> None:
        rows.append(row)
        if len(rows) == expected:
            complete.set()

    async def receive(count: int) -> list[dict[str, Any]]:
        nonlocal expected
        expected = count
        await broker.start()
        await complete.wait()
        return rows

    async with broker:
        yield receive
