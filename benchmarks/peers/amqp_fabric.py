"""amqp-fabric 0.2.3, which fabric_nb replaces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from amqp_fabric.abstract_service_api import AbstractServiceApi
from amqp_fabric.amq_broker_connector import AmqBrokerConnector

from benchmarks import payloads
from benchmarks.payloads import DOMAIN, REQUEST, SERVICE_TYPE, Source


class Api(AbstractServiceApi):  # type: ignore[misc]
    def echo(self, text: str, number: int) -> dict[str, Any]:
        return payloads.echo(text, number)


@asynccontextmanager
async def _connector(uri: str, service_type: str, service: str) -> AsyncIterator[Any]:
    connector = AmqBrokerConnector(uri, DOMAIN, service_type, service)
    await connector.open()
    try:
        yield connector
    finally:
        await connector.close()


@asynccontextmanager
async def serve(uri: str, service: str, prefetch: int) -> AsyncIterator[None]:
    """Serve; the library's prefetch of 1 cannot be changed."""
    async with _connector(uri, SERVICE_TYPE, service) as connector:
        await connector.rpc_register(Api())
        yield


@asynccontextmanager
async def call(uri: str, service: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async with _connector(uri, "caller", service) as connector:
        remote = await connector.rpc_proxy(DOMAIN, service, SERVICE_TYPE)

        async def call_once() -> Any:
            return await remote.echo(**REQUEST)

        yield call_once


@asynccontextmanager
async def consume(
    uri: str, source: Source
) -> AsyncIterator[Callable[[int], Awaitable[list[dict[str, Any]]]]]:
    async with _connector(uri, "consumer", "one") as connector:

        async def receive(count: int) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = []
            complete = asyncio.Event()

            async def on_row(message: Any) -> None:
                async with message.process():
                    rows.append(json.loads(message.body))
                    if len(rows) == count:
                        complete.set()

            await connector.subscribe_data(source.queue, source.headers, on_row)
            await complete.wait()
            return rows

        yield receive
