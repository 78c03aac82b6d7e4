"""Calls to single instances of a service, and to all of them; pings, statistics and draining."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from fabric_nb.errors import (
    AmbiguousService,
    CallTimeout,
    InstanceNotFound,
    InvalidName,
    RemoteError,
    ServiceLost,
    UnknownService,
)
from fabric_nb.fabric.rpc import instance_calls
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName
from tests.support.fabric import next_message, until
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector
    from tests.support.fabric import Members

NAME = ServiceName(DOMAIN, "app", "server")


class Works:
    """An instance that can be told apart, and whose calls of `work` wait until the gate opens."""

    def __init__(self, connector: AmqBrokerConnector) -> None:
        self.connector = connector
        self.id = connector.instance
        self.gate = asyncio.Event()
        self.began: list[int] = []
        self.cancelled = 0

    def who(self) -> str:
        return self.id

    def fail(self) -> None:
        if self.id == min(self.failing):
            raise ValueError(self.id)

    failing: list[str]

    async def work(self, n: int = 0) -> int:
        self.began.append(n)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return n

    def rows(self, count: int) -> Any:
        for n in range(count):
            yield f"{self.id} {n}"


async def serve(members: Members, **options: Any) -> Works:
    connector = await members.join("server")
    works = Works(connector)
    await connector.serve(works, **options)
    return works


@pytest.fixture
async def two(members: Members) -> list[Works]:
    found = [await serve(members, prefetch=1), await serve(members, prefetch=1)]
    for one in found:
        one.failing = [each.id for each in found]
    return found


@pytest.fixture
async def caller(members: Members, two: list[Works]) -> AmqBrokerConnector:
    caller = await members.join("caller")
    await until(lambda: set(instances(caller)) >= {one.id for one in two})
    return caller


def instances(caller: AmqBrokerConnector) -> list[str]:
    service = caller.registry.get(NAME)
    return [] if service is None else [one.id for one in service.present(caller.registry.now)]


async def test_a_call_to_one_instance(caller, two):
    """A call with `@` and the beginning of an instance's id is answered by that instance."""
    for one in two:
        for form in (f"server@{one.id}", f"app.server@{one.id[:6]}", f"{NAME}@{one.id}"):
            assert [await caller.call(f"{form}.who") for _ in range(3)] == [one.id] * 3
        assert await caller.service(f"server@{one.id}").who() == one.id
        assert [row async for row in caller.call_stream(f"server@{one.id}.rows", count=2)] == [
            f"{one.id} 0",
            f"{one.id} 1",
        ]
    results = await caller.map(f"server@{two[1].id}.who", [{}] * 5)
    assert set(results["result"]) == {two[1].id}


async def test_instances_that_are_not_there(caller, two, members):
    """An unknown, ambiguous or invalid instance is refused in a sentence that lists those there."""
    with pytest.raises(InstanceNotFound, match=f"has no instance zz: it has .*{two[0].id}"):
        await caller.call("server@zz.who")
    for beginning in ("aab0", "aab1"):
        caller.registry.receive(KeepAlive(NAME, Announcement(instance=beginning, interval=60.0)))
    with pytest.raises(AmbiguousService, match="write more of the id"):
        await caller.call("server@aab.who")
    for name in ("server@", "server@a b", "server@a.b@c", "server@a@b"):
        with pytest.raises(InvalidName):
            await caller.call(f"{name}.who")
    other = await members.join("unheard", keep_alive_listen=False)
    with pytest.raises(InstanceNotFound, match="or it has left"):
        await other.call(f"{NAME}@77777777.who")
    with pytest.raises(UnknownService):
        await other.call(f"{DOMAIN}.app.nothing@77777777.who")
    with pytest.raises(RemoteError, match=r"no method 'nothing': it has .*who") as raised:
        await caller.call(f"server@{two[0].id}.nothing")
    assert isinstance(raised.value, AttributeError)


async def test_a_call_to_all_instances(caller, two):
    """A call with `@*` returns the results by instance; that of one that fails is its error."""
    ids = sorted(one.id for one in two)
    assert await caller.call("server@*.who") == {each: each for each in ids}
    failed = await caller.call("server@*.fail")
    assert isinstance(failed[ids[0]], RemoteError)
    assert failed[ids[1]] is None
    late = await caller.call("server@*.work", timeout=0.3)
    assert [type(late[each]) for each in ids] == [CallTimeout] * 2
    await until(lambda: [one.cancelled for one in two] == [1, 1])


async def test_concurrency_of_an_instance(caller, two):
    """Calls to an instance wait for its workers, as those of the clique do; none is lost."""
    one, other = two
    direct = [
        asyncio.create_task(caller.call(f"server@{one.id}.work", n=n, timeout=600))
        for n in range(3)
    ]
    await until(lambda: one.began == [0])
    shared = [
        asyncio.create_task(caller.call("server.work", n=n, timeout=600)) for n in range(10, 14)
    ]
    await until(lambda: other.began)
    other.gate.set()
    assert sorted(await asyncio.gather(*shared)) == [10, 11, 12, 13]
    assert one.began == [0]
    direct[1].cancel()
    await until(lambda: caller.member.rpc.pending == 2)
    one.gate.set()
    assert [await direct[0], await direct[2]] == [0, 2]
    assert 1 not in one.began
    assert not {0, 1, 2} & set(other.began)


async def test_an_instance_that_leaves_during_a_call(caller, two):
    """The call is lost with it, also if it waits there, and no other instance runs it."""
    one, other = two
    calls = [
        asyncio.create_task(caller.call(f"server@{one.id}.work", n=n, timeout=600, idempotent=True))
        for n in range(2)
    ]
    await until(lambda: one.began == [0])
    await one.connector.close()
    for call in calls:
        with pytest.raises(ServiceLost, match=f"Instance {one.id}"):
            await call
    assert not other.began


async def test_functions_that_are_replaced(caller, two):
    """A call that waits for a method which its instance no longer has fails, and is not lost."""
    one = two[0]
    running, waiting = (
        asyncio.create_task(caller.call(f"server@{one.id}.work", n=n, timeout=600))
        for n in range(2)
    )
    await until(lambda: one.connector.servers[0].waiting == 1)
    await one.connector.servers[0].replace({"who": one.who})
    with pytest.raises(RemoteError, match="no method 'work'"):
        await waiting
    one.gate.set()
    assert await running == 0


async def test_too_many_calls_to_an_instance(caller, two, monkeypatch):
    """An instance refuses calls beyond those that it keeps; the broker does not hold them back."""
    monkeypatch.setattr(instance_calls, "MAX_WAITING", 2)
    one = two[0]

    def call(n: int) -> asyncio.Task[int]:
        return asyncio.create_task(caller.call(f"server@{one.id}.work", n=n, timeout=600))

    running = call(0)
    await until(lambda: one.began)
    calls = [call(n) for n in range(1, 5)]
    await until(lambda: sum(each.done() for each in calls) == 2)
    one.gate.set()
    assert await running == 0
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[:2] == [1, 2]
    assert all("2 calls wait" in str(error) for error in results[2:])


async def test_ping(caller, two):
    """`ping` returns machine, process, version, round trip and clock of each instance."""
    frame = await caller.ping("server")
    assert sorted(frame.instance) == sorted(one.id for one in two)
    assert set(frame.host) == {socket.gethostname()[:64]}
    assert set(frame.pid) == {os.getpid()}
    assert (frame.rtt_ms > 0).all()
    assert (frame.clock_ms.abs() <= frame.rtt_ms).all()
    assert frame.up_since.notna().all()
    alone = await caller.ping(f"server@{two[1].id}")
    assert list(alone.instance) == [two[1].id]


async def test_a_ping_without_an_answer(caller, two):
    """An instance that is announced and does not answer has a row without figures."""
    caller.registry.receive(KeepAlive(NAME, Announcement(instance="silent", interval=60.0)))
    frame = (await caller.ping("server")).set_index("instance")
    assert frame.loc["silent"].isna().sum() == 4
    assert frame.loc[two[0].id].notna().all()
    with pytest.raises(InstanceNotFound, match="serves no methods"):
        await two[0].connector.ping("caller")
    with pytest.raises(UnknownService):
        await caller.ping("nothing")
    with pytest.raises(UnknownService):
        await caller.ping(f"{DOMAIN}.app.nothing")


async def test_statistics(caller, two):
    """`stats` has the exact statistics of each instance and method; `graph` who calls whom."""
    one, other = two
    for _ in range(3):
        await caller.call(f"server@{one.id}.who")
    await caller.call("server@*.fail")
    frame = (await caller.stats("server")).set_index(["instance", "method"])
    assert frame.loc[(one.id, "who"), ["calls", "errors"]].tolist() == [3, 0]
    assert frame.loc[(other.id, "who"), "calls"] == 0
    assert frame.xs("fail", level="method")["errors"].sum() == 1
    assert frame.loc[(one.id, "who"), "p95_ms"] > 0
    assert not {name for name in frame.index.get_level_values("method") if name.startswith("_")}
    assert not [name for name in caller.registry.get(NAME).methods if name.startswith("_")]
    alone = await caller.stats(f"server@{other.id}")
    assert set(alone.instance) == {other.id}

    graph = (await caller.graph()).set_index(["caller", "method"])
    assert not graph.empty
    assert graph.loc[(caller.fqn, "who"), ["service", "calls", "errors"]].tolist() == [
        NAME.fqn,
        3,
        0,
    ]
    assert graph.loc[(caller.fqn, "fail"), "errors"] == 1


async def test_drain(members, caller, two):
    """An instance that may be drained answers its calls and leaves; the others go on."""
    third = await serve(members, remote_drain=True)
    await until(lambda: third.id in instances(caller))
    running = asyncio.create_task(caller.call(f"server@{third.id}.work", n=7, timeout=600))
    await until(lambda: third.began)
    assert await caller.drain(f"server@{third.id}") == [third.id]
    assert await caller.drain(f"server@{third.id}") == []
    with pytest.raises(RemoteError, match="is leaving"):
        await caller.call(f"server@{third.id}.who")
    assert {await caller.call("server.who") for _ in range(6)} <= {one.id for one in two}
    assert not running.done()
    third.gate.set()
    assert await running == 7
    await until(lambda: third.id not in instances(caller))
    assert not third.connector.servers

    with pytest.raises(RemoteError, match="remote_drain") as refused:
        await caller.drain(f"server@{two[0].id}")
    assert isinstance(refused.value, PermissionError)
    with pytest.raises(InvalidName, match="names no instance"):
        await caller.drain("server")
    assert await caller.call(f"server@{two[0].id}.who") == two[0].id


async def test_requests_of_other_programs(caller, two, raw):
    """A request to an instance is taken from the service's exchange only, and names a method."""
    one = two[0]
    replies = await raw.declare_queue(exclusive=True)
    exchange = await raw.get_exchange(NAME.api_exchange, ensure=False)

    async def request(to: aio_pika.abc.AbstractExchange, key: str, **headers: Any) -> None:
        message = aio_pika.Message(
            b"{}", type="call", reply_to=replies.name, correlation_id="1", headers=headers
        )
        await to.publish(message, key)

    key = NAME.instance_key(one.id)
    for headers in ({}, {"x-fabric-method": 7}, {"x-fabric-method": "no such"}):
        await request(exchange, key, **headers)
        reply = await next_message(replies)
        assert reply.type == "error"
    await request(exchange, key, **{"x-fabric-method": "who"})
    assert (await next_message(replies)).body.decode() == f'"{one.id}"'
    rejected = one.connector.rejected.counts["call"]
    queue = one.connector.servers[0].control.queue
    await request(raw.default_exchange, queue, **{"x-fabric-method": "who"})
    await until(lambda: one.connector.rejected.counts["call"] == rejected + 1)
    for name in ("_stats", "_drain"):
        with pytest.raises(AttributeError):
            await caller.call(f"server.{name}")
