"""Reports, cancellation and deadlines with amqp-fabric at the other end."""

from __future__ import annotations

import asyncio
import time

import pytest

import fabric_nb
from fabric_nb.errors import CallTimeout
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.wire.names import parse_call
from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN


async def test_an_amqp_fabric_service_reports_nothing(members, start_peer, rabbitmq_uri):
    """Its calls are answered as without a report; a cancelled one runs to its end."""
    peer = await start_peer("calc_service", rabbitmq_uri)
    caller = await members.join("caller")
    await wait_for_service(caller, "calc1")
    pattern, method = parse_call("calc.calc1.slow", domain=DOMAIN)

    async def call(report: CallReport, seconds: float) -> int:
        kwargs = {"seconds": seconds}
        pid = await caller.member.rpc.call(pattern, method, kwargs, timeout=60, report=report)
        return int(pid)

    report = CallReport("output")
    polls = caller.member.rpc.requester.liveness.polls
    assert await call(report, seconds=1.5) == peer.pid
    await peer.event("slow_began")
    assert caller.member.rpc.requester.liveness.polls >= polls + 2
    assert (report.instance, report.began, report.progress, list(report.lines)) == (
        "",
        None,
        None,
        [],
    )
    first = asyncio.create_task(call(CallReport("output"), seconds=1.5))
    await peer.event("slow_began")
    report = CallReport("output")
    queued = asyncio.create_task(call(report, seconds=3))
    await until(lambda: report.ahead is not None)
    await peer.event("slow_began")
    await until(lambda: report.ahead is None)  # it has left the queue
    assert await first == await queued == peer.pid

    report = CallReport("output")
    calling = asyncio.create_task(call(report, seconds=1))
    await peer.event("slow_began")
    calling.cancel()
    assert await report.wait_stopped(0.3) is None
    assert await caller.call("calc1.whoami", timeout=60) == peer.pid
    assert not caller.rejected.counts


async def test_a_call_to_amqp_fabric_continues_after_its_timeout(members, start_peer, rabbitmq_uri):
    """A service on amqp-fabric runs a call to its end, which its caller does not know for sure."""
    peer = await start_peer("calc_service", rabbitmq_uri)
    caller = await members.join("caller")
    await wait_for_service(caller, "calc1")
    with pytest.raises(CallTimeout, match="continues if an instance has begun it, which is not"):
        await caller.call("calc1.slow", seconds=1, timeout=0.5, cancel_on_timeout=False)
    assert await caller.call("calc1.whoami", timeout=60) == peer.pid
    assert not caller.rejected.counts


async def test_a_call_that_blocks_a_service_of_amqp_fabric(members, start_peer, rabbitmq_uri):
    """Of a cancelled call of a function that blocks amqp-fabric it is not known whether it runs."""
    peer = await start_peer("calc_service", rabbitmq_uri)
    caller = await members.join("caller")
    await wait_for_service(caller, "calc1")
    handle = caller.start("calc1.block", seconds=1.5)
    await peer.event("block_began")
    polls = caller.member.rpc.requester.liveness.polls
    await until(lambda: caller.member.rpc.requester.liveness.polls >= polls + 2)
    assert await handle.stop() is None
    assert "and it is not known whether it was stopped" in handle.cancellation
    assert await caller.call("calc1.whoami", timeout=60) == peer.pid


async def test_an_amqp_fabric_caller_receives_only_its_reply(members, start_peer, rabbitmq_uri):
    """A function that reports progress and prints answers a caller on amqp-fabric as any other."""

    def work(seconds: float) -> float | None:
        for _ in fabric_nb.track(range(5), "steps"):
            print("step")
            time.sleep(seconds / 5)
        who = fabric_nb.caller()
        return None if who is None else who.remaining

    server = await members.join("server", type="calc")
    await server.serve({"work": work}, threads=True)
    peer = await start_peer("caller", rabbitmq_uri)
    result = await peer.call("server", "work", seconds=1.0)
    assert result is None or result >= 0
    await until(lambda: server.servers[0].stats["work"].calls == 1)
    assert not server.rejected.counts
