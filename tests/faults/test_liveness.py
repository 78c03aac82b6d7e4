"""Calls that are lost with their instance or with their queue fail within seconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fabric_nb.errors import FabricError, ServiceLost, UnknownService
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.wire.names import parse_call
from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector
    from tests.support.fabric import Members


class Gate:
    """A method that waits until the gate opens."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.began: list[int] = []

    async def work(self, n: int) -> int:
        self.began.append(n)
        await self.open.wait()
        return n


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def caller(members: Members) -> AmqBrokerConnector:
    return await members.join("caller")


async def serve(members: Members, gate: Gate, id: str = "server") -> AmqBrokerConnector:  # noqa: A002
    """Return a new instance that runs one call at a time."""
    server = await members.join(id)
    await server.serve({"work": gate.work}, prefetch=1)
    return server


async def call(caller: AmqBrokerConnector, gate: Gate, count: int, **options: Any) -> list[Any]:
    """Return calls of which the first has begun, and the others wait in the queue."""
    await wait_for_service(caller, "server", methods=2)
    calls = [
        asyncio.create_task(caller.call("app.server.work", n=n, timeout=600, **options))
        for n in range(count)
    ]
    await until(lambda: len(gate.began) == 1 and caller.member.rpc.pending == count)
    return calls


async def test_a_restart_loses_running_and_waiting_calls(members, caller, gate):
    """Calls of a service that is restarted at once raise `ServiceLost`; none waits for its end."""
    server = await serve(members, gate)
    calls = await call(caller, gate, 3)
    await server.close()
    again = Gate()
    await serve(members, again)
    for one in calls:
        with pytest.raises(ServiceLost, match="not known"):
            await one
    assert not again.began
    again.open.set()
    assert await caller.call("app.server.work", n=7, timeout=60) == 7


async def test_a_restart_between_idempotent_calls(members, caller, gate):
    """Idempotent calls of a service that is restarted at once are answered by the new one."""
    server = await serve(members, gate)
    calls = await call(caller, gate, 3, idempotent=True)
    await server.close()
    gate.open.set()
    await serve(members, gate)
    assert await asyncio.gather(*calls) == [0, 1, 2]


async def test_calls_of_instances_that_remain_are_not_lost(members, caller, gate):
    """Waiting calls of a service are not lost with one instance, nor with a new one."""
    server = await serve(members, gate)
    calls = await call(caller, gate, 3)
    second = Gate()
    await serve(members, second)
    await server.close()
    await until(lambda: second.began)
    third = Gate()
    await serve(members, third)
    polls = caller.member.rpc.requester.liveness.polls
    await until(lambda: caller.member.rpc.requester.liveness.polls >= polls + 4)
    assert not any(one.done() for one in calls)
    second.open.set()
    third.open.set()
    assert await asyncio.gather(*calls) == [0, 1, 2]


async def test_the_last_instance_leaves_in_order(members, caller, gate):
    """It answers its running call, however long that lasts; calls that wait in its queue fail."""
    server = await serve(members, gate)
    running, *waiting = await call(caller, gate, 3)
    closing = asyncio.create_task(server.close(grace=None))
    for one in waiting:
        with pytest.raises(ServiceLost):
            await one
    assert not running.done()
    with pytest.raises(UnknownService):
        await caller.call("app.server.work", n=3, timeout=60)
    gate.open.set()
    assert await running == 0
    await closing


async def test_a_successor_of_an_instance_that_leaves(members, caller, gate):
    """Calls that wait are answered by the other instance; the running one by its own."""
    server = await serve(members, gate)
    running, *waiting = await call(caller, gate, 3)
    other = Gate()
    other.open.set()
    await serve(members, other)
    closing = asyncio.create_task(server.close(grace=None))
    assert await asyncio.gather(*waiting) == [1, 2]
    polls = caller.member.rpc.requester.liveness.polls
    await until(lambda: caller.member.rpc.requester.liveness.polls >= polls + 4)
    assert not running.done()
    gate.open.set()
    assert await running == 0
    await closing


async def test_an_acknowledged_call_is_lost_with_its_instance(members, caller, gate):
    """A call that was acknowledged early fails with its instance, though others are left."""
    server = await serve(members, gate)
    server.member.connection.capabilities.consumer_timeout = 0.5  # as if exceeded before
    (calling,) = await call(caller, gate, 1)
    (running,) = (one for one in server.servers[0].running if one.method.name == "work")
    await until(lambda: running.acknowledged)
    requester = caller.member.rpc.requester
    polls = requester.liveness.polls
    await until(lambda: requester.liveness.polls >= polls + 2)
    await serve(members, Gate())
    assert not calling.done()
    await server.close()
    with pytest.raises(ServiceLost):
        await calling


async def test_calls_that_are_acknowledged_when_they_begin(members, caller, gate):
    """With `ack="begin"` no call is delivered twice; it is lost with its instance, and only it."""
    server = await members.join("server")
    await server.serve({"work": gate.work}, ack="begin")
    running, waiting = await call(caller, gate, 2)
    other = Gate()
    other.open.set()
    second = await members.join("server")
    await second.serve({"work": other.work}, ack="begin")
    assert await waiting == 1
    polls = caller.member.rpc.requester.liveness.polls
    await until(lambda: caller.member.rpc.requester.liveness.polls >= polls + 2)
    assert not running.done()
    await server.close()
    with pytest.raises(ServiceLost):
        await running
    assert other.began == [1]


@pytest.mark.parametrize("level", ["progress", "instance"])
async def test_a_caller_that_is_gone(members, gate, level):
    """A call that reports to its caller is cancelled if that is gone, and not run elsewhere."""
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await gate.work(1)
        finally:
            ended.set()

    server = await members.join("server")
    await server.serve({"work": work})
    leaving = members.connector("caller")
    await leaving.open()
    pattern, method = parse_call("app.server.work", domain=DOMAIN)
    report = CallReport(level)
    calling = asyncio.create_task(
        leaving.member.rpc.call(pattern, method, {}, timeout=600, report=report)
    )
    await until(lambda: report.began)
    await leaving.member.connection.close()
    await ended.wait()
    await until(lambda: server.servers[0].stats["work"].cancelled == 1)
    with pytest.raises(FabricError):
        await calling
    await leaving.close()


async def test_a_call_that_waits_at_an_instance_that_leaves(members, caller, gate):
    """A call that an instance has received before it leaves is answered within its grace."""
    server = await members.join("server")
    await server.serve({"work": gate.work}, ack="begin")
    running = asyncio.create_task(caller.call("app.server.work", n=0, timeout=600))
    await until(lambda: gate.began)
    waiting = asyncio.create_task(caller.call("app.server.work", n=1, timeout=600))
    serving, liveness = server.servers[0], caller.member.rpc.requester.liveness
    await until(lambda: serving.waiting == 1)
    closing = asyncio.create_task(server.close(grace=None))
    polls = liveness.polls
    await until(lambda: liveness.polls >= polls + 6)
    assert [running.done(), waiting.done()] == [False, False]
    gate.open.set()
    assert await asyncio.gather(running, waiting) == [0, 1]
    await closing
