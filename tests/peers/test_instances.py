"""Single instances, where services and callers on amqp-fabric take part."""

from __future__ import annotations

import pytest

from fabric_nb.errors import InstanceNotFound
from tests.support.fabric import wait_for_service
from tests.support.peers import DOMAIN


async def test_instances_of_an_amqp_fabric_service(members, start_peer, rabbitmq_uri):
    """Whoever asks for a single instance of amqp-fabric reads that there are none, at once."""
    await start_peer("calc_service", rabbitmq_uri, keep_alive=0.2)
    caller = await members.join("caller")
    await wait_for_service(caller, "calc1")
    for ask in (
        caller.ping("calc1"),
        caller.stats("calc1"),
        caller.drain("calc1@*"),
        caller.call("calc1@*.whoami"),
        caller.call("calc1@7f3a.whoami"),
        caller.ping(f"{DOMAIN}.calc.calc1"),
    ):
        with pytest.raises(InstanceNotFound, match="runs on amqp-fabric"):
            await ask
    assert await caller.call("calc1.multiply", x=2, y=3) == 6
    graph = await caller.graph()
    assert graph.attrs["unanswered"][f"{DOMAIN}.calc.calc1"].startswith(DOMAIN)


async def test_calls_of_amqp_fabric_callers_are_counted(members, start_peer, rabbitmq_uri):
    """Their calls have no caller in the graph, because they send no name."""
    server = await members.join("server", type="calc")
    await server.serve({"work": lambda seconds: seconds})
    peer = await start_peer("caller", rabbitmq_uri)
    for _ in range(3):
        assert await peer.call("server", "work", seconds=0.5) == 0.5
    asker = await members.join("asker")
    await wait_for_service(asker, "server")
    graph = await asker.graph()
    assert graph[["caller", "method", "calls"]].values.tolist() == [["", "work", 3]]
    stats = (await asker.stats("server")).set_index("method")
    assert stats.calls["work"] == 3
