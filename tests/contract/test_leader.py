"""Leader election: one instance serves, the others stand by."""

from __future__ import annotations

import asyncio

import pytest

from fabric_nb.errors import BrokerRefused, CallError, RemoteError
from tests.support.fabric import Members, until, wait_for_service
from tests.support.peers import DOMAIN

LEADER = f"{DOMAIN}.app.boss"
CALC = f"{DOMAIN}.calc.calc1"
SHARED = {f"{DOMAIN}.api.app.clique::{method}" for method in ("who", "me")}
"""Queues of a clique, one for each method."""
SINGLE = "x-single-active-consumer"


def who(n):
    return {"who": lambda: n, "me": lambda: n}


async def test_instances_of_a_leader_service(members):
    """A standby instance runs no call that names it; it can be pinged and measured."""
    caller = await members.join("caller")
    leader = await members.join("leader")
    await leader.serve(who(1), id="boss", single_active=True)
    await wait_for_service(caller, "boss", methods=2)
    with pytest.raises(RemoteError, match="without @"):
        await caller.call(f"boss@{leader.instance}.who")
    assert list((await caller.ping("boss")).instance) == [leader.instance]
    assert {"who", "me"} <= set((await caller.stats("boss")).method)


async def test_one_leads_and_another_takes_over(members, broker_uri):
    """One instance serves all calls of all methods; when it leaves, the next one does."""
    caller = await members.join("caller")
    apart = [Members(broker_uri) for _ in range(3)]
    leaders = [await one.join(f"leader{n}") for n, one in enumerate(apart)]
    servers = [
        await one.serve(who(n), id="boss", single_active=True) for n, one in enumerate(leaders)
    ]
    for n in range(3):
        calls = [caller.call(f"{LEADER}.{name}", timeout=60) for name in ("who", "me") * 5]
        assert await asyncio.gather(*calls) == [n] * 10
        found = await wait_for_service(caller, "boss", methods=2)
        assert {"who", "me"} <= set(found.methods)
        if n == 0:
            await servers[0].close()
        elif n == 1:
            await leaders[1].close()
    for one in apart:
        await one.__aexit__()


async def test_running_call_of_a_leader_that_leaves(members):
    """A running call of a leader that leaves is redelivered to the next one."""
    caller, first, second = [await members.join(name) for name in ("caller", "first", "second")]
    began = asyncio.Event()

    async def hang():
        began.set()
        await asyncio.Event().wait()

    await first.serve({"work": hang}, id="boss", single_active=True)
    await second.serve({"work": lambda: "done"}, id="boss", single_active=True)
    call = asyncio.create_task(caller.call(f"{LEADER}.work", timeout=60))
    await began.wait()
    await first.close()
    assert await call == "done"


async def test_leader_replaces_its_methods(members):
    """The methods of a leader can be replaced, added and removed while it serves."""
    caller, leader = [await members.join(name) for name in ("caller", "leader")]
    server = await leader.serve({"a": lambda: 1, "b": lambda: 1}, id="boss", single_active=True)
    assert await caller.call(f"{LEADER}.a", timeout=60) == 1
    await server.replace({"a": lambda: 2, "c": lambda: 3})
    assert await caller.call(f"{LEADER}.a", timeout=60) == 2
    assert await caller.call(f"{LEADER}.c", timeout=60) == 3
    with pytest.raises(CallError):
        await caller.call(f"{LEADER}.b", timeout=5)


async def test_not_beside_members_that_share(members):
    """A leader is refused while other instances share the calls, because both would serve."""
    sharing, leader = [await members.join(name) for name in ("sharing", "leader")]
    server = await sharing.serve(who(0), id="boss")
    with pytest.raises(BrokerRefused, match=r"boss is served already by instances that share"):
        await leader.serve(who(1), id="boss", single_active=True)
    await server.close()
    await until(lambda: server.closed)
    await leader.serve(who(1), id="boss", single_active=True)
    assert await sharing.call(f"{LEADER}.who", timeout=60) == 1


async def test_leader_is_killed(members, broker_uri, start_peer):
    """When the leader crashes during a call, another instance takes over, with its calls.

    Callers on amqp-fabric call the leader like any other service.
    """
    caller = await members.join("caller")
    peer, first, second = await asyncio.gather(
        start_peer("caller", broker_uri),
        *(start_peer("fabric_calc", broker_uri, single_active=1) for _ in range(2)),
    )

    async def answered_by():
        pid = await caller.call(f"{CALC}.whoami", timeout=60)
        request = {"target": "calc1", "method": "whoami"}
        assert await peer.ask("call", **request, timeout=60) == pid
        return pid

    leading = await answered_by()
    leader, other = (first, second) if leading == first.pid else (second, first)
    assert await answered_by() == leader.pid
    call = asyncio.create_task(caller.call(f"{CALC}.slow", seconds=1, timeout=60))
    await leader.event("slow_began")
    leader.kill()
    assert await call == other.pid
    assert await answered_by() == other.pid


async def test_only_queues_of_leaders_have_one_consumer(rabbitmq, vhost, rabbitmq_uri):
    """A leader has a queue of its own; those of the wire contract are unchanged."""
    async with Members(rabbitmq_uri) as members:
        caller, first, second, sharing = [
            await members.join(name) for name in ("caller", "first", "second", "sharing")
        ]
        for one in (first, second):
            await one.serve(who(1), id="boss", single_active=True)
        await sharing.serve(who(2), id="clique")
        await caller.stream(name="rows")
        await caller.logs()
        for name in ("boss", "clique"):
            await caller.call(f"{DOMAIN}.app.{name}.who", timeout=60)
        queues = {one["name"]: one["arguments"] for one in rabbitmq.list_queues(vhost)}
        assert set(queues) >= SHARED
        single = [name for name, arguments in queues.items() if SINGLE in arguments]
        assert single == [f"{DOMAIN}.api.app.boss.leader"]
        assert queues[single[0]][SINGLE] is True
