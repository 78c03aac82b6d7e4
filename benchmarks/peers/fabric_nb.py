"""fabric_nb."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pandas as pd

from benchmarks.payloads import DOMAIN, REQUEST, SERVICE_TYPE, Source, echo
from fabric_nb import AmqBrokerConnector
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.wire.names import parse_call


@asynccontextmanager
async def serve(uri: str, service: str, prefetch: int) -> AsyncIterator[None]:
    async with AmqBrokerConnector(uri, DOMAIN, SERVICE_TYPE, service) as fabric:
        await fabric.serve({"echo": echo, "wait": _wait, "ended": _ended.get}, prefetch=prefetch)
        yield


_ended: asyncio.Queue[float] = asyncio.Queue()
"""Times at which waiting calls were cancelled, in seconds of a clock of the machine."""


async def _wait() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        _ended.put_nowait(time.monotonic())


@asynccontextmanager
async def call(uri: str, service: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async with AmqBrokerConnector(uri, DOMAIN, "caller", service) as fabric:
        remote = fabric.service(f"{DOMAIN}.{SERVICE_TYPE}.{service}")
        request: Mapping[str, Any] = REQUEST

        async def call_once() -> Any:
            return await remote.echo(**request)

        yield call_once


@asynccontextmanager
async def call_with_reports(uri: str, service: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async with AmqBrokerConnector(uri, DOMAIN, "caller", service) as fabric:
        pattern, method = parse_call(f"{SERVICE_TYPE}.{service}.echo", domain=DOMAIN)

        async def call_once() -> Any:
            report = CallReport("output")
            return await fabric.member.rpc.call(pattern, method, REQUEST, report=report)

        yield call_once


@asynccontextmanager
async def cancel(uri: str, service: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Yield a function that cancels a running call, and returns the seconds until it has ended."""
    async with AmqBrokerConnector(uri, DOMAIN, "caller", service) as fabric:
        pattern, method = parse_call(f"{SERVICE_TYPE}.{service}.wait", domain=DOMAIN)

        async def cancel_once() -> float:
            began = asyncio.Event()
            report = CallReport("progress", on_change=began.set)
            work = fabric.member.rpc.call(pattern, method, {}, report=report)
            calling = asyncio.create_task(work)
            await began.wait()
            cancelled = time.monotonic()
            calling.cancel()
            ended = await fabric.call(f"{SERVICE_TYPE}.{service}.ended")
            return float(ended) - cancelled

        yield cancel_once


@asynccontextmanager
async def map_rows(
    uri: str, service: str
) -> AsyncIterator[Callable[[Iterator[Any], int], Awaitable[list[Any]]]]:
    async with AmqBrokerConnector(uri, DOMAIN, "caller", service) as fabric:

        async def results_of(rows: Iterator[Any], in_flight: int) -> list[Any]:
            call = f"{DOMAIN}.{SERVICE_TYPE}.{service}.echo"
            results = await fabric.map(call, rows, in_flight=in_flight, spread=False)
            return list(results.result)

        yield results_of


@asynccontextmanager
async def bench(uri: str, service: str) -> AsyncIterator[Callable[[int, float], Awaitable[int]]]:
    """Yield a function that measures calls, and returns their number."""
    async with AmqBrokerConnector(uri, DOMAIN, "caller", service) as fabric:
        pattern, method = parse_call(f"{SERVICE_TYPE}.{service}.echo", domain=DOMAIN)

        async def measure(in_flight: int, seconds: float) -> int:
            result = await fabric.bench_service(
                pattern,
                method,
                REQUEST,
                in_flight=in_flight,
                seconds=seconds,
                warmup=0,
                repeatable=True,
            )
            assert not result.errors
            return result.calls

        yield measure


@asynccontextmanager
async def consume(
    uri: str, source: Source
) -> AsyncIterator[Callable[[int], Awaitable[pd.DataFrame]]]:
    async with (
        AmqBrokerConnector(uri, DOMAIN, "consumer", "one") as fabric,
        AsyncExitStack() as until_the_end,
    ):

        async def receive(count: int) -> pd.DataFrame:
            stream = await fabric.stream(source.headers, name=source.queue)
            await until_the_end.enter_async_context(stream)
            await stream.wait(rows=count)
            return stream.df

        yield receive
