"""Clique with one instance on amqp-fabric and one on fabric_nb."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from fabric_nb.errors import CallError, ConnectionLost
from fabric_nb.fabric.discovery import registry
from tests.support.fabric import until, wait_for_service
from tests.support.peers import PeerError

KINDS = ("calc_service", "fabric_calc")


@pytest.fixture
async def clique(start_peer, rabbitmq_uri):
    """Return the two instances by library."""
    members = (start_peer(kind, rabbitmq_uri, keep_alive=0.2) for kind in KINDS)
    return dict(zip(KINDS, await asyncio.gather(*members), strict=True))


@pytest.fixture
async def call(request, members, start_peer, rabbitmq_uri, clique):
    """Return a function that calls the clique, from fabric_nb or from amqp-fabric."""
    if request.param == "amqp-fabric":
        return (await start_peer("caller", rabbitmq_uri)).call
    fabric = await members.join("me")

    async def call(target, method, **kwargs):
        return await fabric.call(f"calc.{target}.{method}", **kwargs)

    return call


from_both = pytest.mark.parametrize("call", ["fabric_nb", "amqp-fabric"], indirect=True)


@from_both
async def test_instances_share_the_calls(call, clique):
    """The instances on both libraries share the calls."""
    answers = Counter([await call("calc1", "whoami") for _ in range(10)])
    assert set(answers) == {member.pid for member in clique.values()}


@from_both
@pytest.mark.parametrize("killed", KINDS)
async def test_call_of_a_killed_instance_is_redelivered(call, clique, killed):
    """The call of an instance that is killed is redelivered to the other one."""
    calls = [asyncio.create_task(call("calc1", "slow", seconds=0.5)) for _ in range(2)]
    await asyncio.gather(*(member.event("slow_began") for member in clique.values()))
    clique[killed].kill()
    (survivor,) = (member for kind, member in clique.items() if kind != killed)
    async with asyncio.timeout(60):
        assert await asyncio.gather(*calls) == [survivor.pid] * 2


@from_both
@pytest.mark.parametrize("killed", KINDS)
async def test_every_call_has_one_outcome(call, clique, killed):
    """If an instance is killed under load, each call has one reply, or an error with the reason."""
    answers = Counter()

    async def one(n):
        try:
            assert await call("calc1", "echo", value=n) == n
            answers["answered"] += 1
        except (CallError, ConnectionLost, PeerError):
            answers["failed"] += 1
        if n == 50:
            clique[killed].kill()

    async with asyncio.timeout(60):
        for start in range(0, 300, 10):
            await asyncio.gather(*(one(n) for n in range(start, start + 10)))
    assert answers.total() == 300
    assert answers["answered"] >= 290


async def test_registry_of_a_mixed_clique(members, clique):
    """A mixed clique is one service, with the methods that the fabric_nb instance announces."""
    fabric = await members.join("me")
    service = await wait_for_service(fabric, "calc1", instances=2)
    assert "multiply" in service.methods
    await until(lambda: fabric.registry.df.set_index("id").loc["calc1"].state == "up")


async def test_size_of_a_clique_on_amqp_fabric(members, start_peer, rabbitmq_uri, monkeypatch):
    """Instances on amqp-fabric are counted, and the calls that wait in the queues of their methods.

    They announce no statistics, and are not affected by those of others.
    """
    monkeypatch.setattr(registry, "COUNT_PERIOD", 0.2)
    fabric = await members.join("me", keep_alive_listen=True)
    await fabric.serve({"double": lambda x: 2 * x}, type="calc", id="busy")

    def row():
        return fabric.registry.df.set_index("id").loc["calc1"]

    peers = [
        await start_peer("calc_service", rabbitmq_uri, id="calc1", keep_alive=0.5) for _ in range(2)
    ]
    caller = await start_peer("caller", rabbitmq_uri)
    await wait_for_service(fabric, "calc1")
    await until(lambda: row().instances == 2, found=row)
    assert row()["calls":].isna().all()
    assert await fabric.call("calc1.slow", seconds=0) in [peer.pid for peer in peers]
    calls = [asyncio.create_task(fabric.call("calc1.slow", seconds=600)) for _ in range(5)]
    await until(lambda: row().waiting == 3, found=row)
    assert await caller.call("busy", "double", x=4) == 8
    peers[0].kill()
    await until(lambda: row().instances == 1, found=row)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
