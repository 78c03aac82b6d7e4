"""Instances of a clique are killed or exit, on both kinds of broker."""

from __future__ import annotations

import asyncio

import pytest

from fabric_nb.errors import RemoteError, ServiceLost, UnknownService
from fabric_nb.fabric.discovery.services import ServiceState
from tests.support.fabric import Members, until, wait_for_service
from tests.support.peers import DOMAIN

KINDS = ("calc_service", "fabric_calc")
CALC = f"{DOMAIN}.calc.calc1"


@pytest.fixture
async def caller(broker_uri):
    """Open a calling member on a separate connection."""
    async with Members(broker_uri) as members:
        yield await members.join("caller")


@pytest.mark.parametrize("kind", KINDS)
async def test_killed_last_instance(caller, start_peer, broker_uri, kind):
    """When the last instance is killed, pending and new calls fail immediately."""
    peer = await start_peer(kind, broker_uri)
    waiting = asyncio.create_task(caller.call(f"{CALC}.slow", seconds=60, timeout=60))
    await peer.event("slow_began")
    queued = [
        asyncio.create_task(caller.call(f"{CALC}.slow", seconds=60, timeout=60)) for _ in range(3)
    ]
    await until(lambda: caller.member.rpc.pending == 4)
    peer.kill()
    async with asyncio.timeout(60):
        for call in (waiting, *queued):
            with pytest.raises(ServiceLost):
                await call
        assert "not known" in str(waiting.exception())
        with pytest.raises(UnknownService):
            await caller.call(f"{CALC}.echo", value=1, timeout=60)
    assert caller.member.rpc.pending == 0


@pytest.mark.parametrize("policy", ["run", "refuse"])
async def test_a_call_that_kills_its_process(caller, start_peer, broker_uri, policy):
    """With `refuse` it kills one instance and raises an error; with `run` it kills all in turn."""
    peers = [await start_peer("fabric_calc", broker_uri, redelivered=policy) for _ in range(3)]
    async with asyncio.timeout(60):
        with pytest.raises((RemoteError, ServiceLost)) as caught:
            await caller.call(f"{CALC}.die", timeout=60)
        if policy == "run":
            assert isinstance(caught.value, ServiceLost)
            await until(lambda: not any(peer.is_running for peer in peers))
            return
        assert isinstance(caught.value, RemoteError)
        assert "may have run it; it is not run again" in str(caught.value)
        assert await caller.call(f"{CALC}.multiply", x=2, y=3) == 6
        await until(lambda: sum(peer.is_running for peer in peers) == 2)


async def test_a_redelivered_call_is_refused(caller, start_peer, broker_uri):
    """With `refuse`, a call whose instance was killed is not run by another one."""
    first = await start_peer("fabric_calc", broker_uri, redelivered="refuse")
    call = asyncio.create_task(caller.call(f"{CALC}.slow", seconds=60, timeout=60))
    await first.event("slow_began")
    second = await start_peer("fabric_calc", broker_uri, redelivered="refuse")
    first.kill()
    with pytest.raises(RemoteError, match="not run again"):
        await call
    assert await caller.call(f"{CALC}.slow", seconds=0, timeout=60) == second.pid


async def test_an_instance_that_blocks_its_loop(caller, start_peer, broker_uri):
    """An instance with a blocked loop is late, not gone; a killed one is gone after its expiry."""
    peer = await start_peer("fabric_calc", broker_uri, keep_alive=1)
    service = await wait_for_service(caller, "calc1", methods=2)
    call = asyncio.create_task(caller.call("calc1.block", seconds=6, timeout=60))
    await peer.event("block_began")
    states = set()
    while not call.done():
        states.add(caller.registry.state(service))
        await asyncio.wait([call], timeout=0.05)
    assert call.result() is None
    assert states == {ServiceState.UP, ServiceState.LATE}
    await until(lambda: caller.registry.state(service) is ServiceState.UP)
    peer.kill()
    await until(lambda: caller.registry.state(service) is ServiceState.GONE)


async def test_unknown_policies_are_rejected(caller):
    """A policy other than `run` and `refuse` raises immediately."""
    with pytest.raises(ValueError, match="write 'run' or 'refuse'"):
        await caller.serve({"f": lambda: 1}, redelivered="maybe")
    assert caller.servers == ()


async def test_an_idempotent_call_is_retried(caller, start_peer, broker_uri):
    """An idempotent call whose instance was killed is answered by its successor."""
    peer = await start_peer("fabric_calc", broker_uri)
    call = asyncio.create_task(caller.call(f"{CALC}.slow", seconds=1, timeout=60, idempotent=True))
    await peer.event("slow_began")
    peer.kill()
    successor = await start_peer("fabric_calc", broker_uri)
    assert await call == successor.pid


async def test_long_calls_of_running_instances_continue(caller, start_peer, broker_uri):
    """A long call is answered, whatever the number of liveness checks."""
    await start_peer("calc_service", broker_uri)
    peer = await start_peer("fabric_calc", broker_uri)
    calls = [caller.call(f"{CALC}.slow", seconds=2.5, timeout=60) for _ in range(2)]
    assert peer.pid in await asyncio.gather(*calls)
    assert caller.member.rpc.requester.liveness.polls >= 3


async def test_graceful_exit_of_the_last_instance(caller, start_peer, broker_uri):
    """An instance answers its in-flight call after SIGTERM, even without a successor."""
    leaving = await start_peer("fabric_calc", broker_uri, grace=20)
    call = asyncio.create_task(caller.call(f"{CALC}.slow", seconds=2.5, timeout=60))
    await leaving.event("slow_began")
    leaving.terminate()
    assert await call == leaving.pid
    assert await leaving.exited() == 0
    with pytest.raises(UnknownService):
        await caller.call(f"{CALC}.slow", seconds=0, timeout=30)


async def test_graceful_exit_of_an_instance(caller, start_peer, broker_uri):
    """An instance answers its in-flight call after SIGTERM; queued calls go to other instances."""
    leaving = await start_peer("fabric_calc", broker_uri, grace=20)
    began = asyncio.create_task(caller.call(f"{CALC}.slow", seconds=1.5, timeout=60))
    await leaving.event("slow_began")
    staying = await start_peer("fabric_calc", broker_uri)
    queued = [
        asyncio.create_task(caller.call(f"{CALC}.slow", seconds=0.1, timeout=60)) for _ in range(6)
    ]
    leaving.terminate()
    assert await began == leaving.pid
    assert set(await asyncio.gather(*queued)) <= {staying.pid, leaving.pid}
    assert await leaving.exited() == 0
    assert await caller.call(f"{CALC}.slow", seconds=0.1, timeout=60) == staying.pid
