"""Members on uvloop, another implementation of asyncio's event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fabric_nb.errors import CallTimeout, ConnectionLost, RemoteError
from tests.support.fabric import Members, until
from tests.support.internals import lose_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fabric_nb import AmqBrokerConnector

uvloop = pytest.importorskip("uvloop")  # not on Windows


def on_uvloop(test: Callable[[Members], Coroutine[Any, Any, None]], uri: str) -> None:
    """Run a test with members on uvloop."""

    async def run() -> None:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        async with Members(uri) as members:
            await test(members)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_calls(broker_uri: str) -> None:
    """Plain and async functions are called, fail, time out and stream their items."""

    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    async def slow() -> None:
        await asyncio.sleep(60)

    def fail() -> None:
        raise ValueError("not today")

    def text(size: int) -> str:
        return "x" * size

    def count(n: int) -> Any:
        yield from range(n)

    async def test(members: Members) -> None:
        server, caller = await members.join("server"), await members.join("caller")
        functions = {"double": double, "slow": slow, "fail": fail, "text": text, "count": count}
        await server.serve(functions, prefetch=20)
        remote = caller.service(f"{server.domain}.app.server")
        assert [await remote.double(n=n) for n in range(10)] == list(range(0, 20, 2))
        doubled = await asyncio.gather(*(remote.double(n=n) for n in range(200)))
        assert doubled == list(range(0, 400, 2))
        assert len(await remote.text(size=3_000_000)) == 3_000_000
        with pytest.raises(RemoteError, match="not today"):
            await remote.fail()
        with pytest.raises(CallTimeout):
            await caller.call(f"{server.domain}.app.server.slow", timeout=0.1)
        assert [item async for item in remote.count.stream(n=500)] == list(range(500))

    on_uvloop(test, broker_uri)


def test_data_streams(broker_uri: str) -> None:
    """Rows arrive in order and complete, one by one and in large messages."""

    async def test(members: Members) -> None:
        publisher, subscriber = await members.join("publisher"), await members.join("subscriber")
        async with await subscriber.stream(msg_type="N") as stream:
            for n in range(2000):
                publisher.publish_data({"n": n}, headers={"msg_type": "N"})
            rows = [{"n": n} for n in range(2000, 100_000)]
            publisher.publish_data(rows, headers={"msg_type": "N"}, format="json")
            await stream.wait(100_000, timeout=60)
            assert list(stream.df["n"]) == list(range(100_000))
            await until(lambda: not stream.consumer.unacknowledged)

    on_uvloop(test, broker_uri)


def test_reconnecting(broker_uri: str) -> None:
    """After a lost connection, a service is served and a stream received again."""

    def lose(member: AmqBrokerConnector) -> None:
        lose_connection(member.member.connection)

    async def test(members: Members) -> None:
        server, caller = await members.join("server"), await members.join("caller")
        await server.serve({"echo": lambda n: n})
        async with await caller.stream(msg_type="N") as stream:
            for round_, member in enumerate((server, caller)):
                connection = member.member.connection
                reconnects = connection.reconnects
                lose(member)
                await until(lambda c=connection, r=reconnects: c.reconnects > r)
                await until(lambda: server.servers[0].channel.is_ready)
                echo = f"{server.domain}.app.server.echo"
                echoed = await caller.call(echo, n=round_, timeout=30, idempotent=True)
                assert echoed == round_
            server.publish_data({"n": 1}, headers={"msg_type": "N"})
            await stream.wait(1, timeout=30)

    on_uvloop(test, broker_uri)


def test_calls_in_flight(broker_uri: str) -> None:
    """A call in flight when the caller's connection is lost raises `ConnectionLost`."""

    async def test(members: Members) -> None:
        server, caller = await members.join("server"), await members.join("caller")
        began = asyncio.Event()

        async def hang() -> None:
            began.set()
            await asyncio.sleep(60)

        await server.serve({"hang": hang})
        call = asyncio.create_task(caller.call(f"{server.domain}.app.server.hang"))
        await began.wait()
        lose_connection(caller.member.connection)
        with pytest.raises(ConnectionLost):
            await call

    on_uvloop(test, broker_uri)
