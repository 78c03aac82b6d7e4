"""Peers on amqp-fabric with each other, as a basis of the other tests."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.peers import DOMAIN, PeerError


async def test_call(start_peer, rabbitmq_uri):
    """A call between two amqp-fabric services returns the method's result."""
    await start_peer("calc_service", rabbitmq_uri)
    caller = await start_peer("caller", rabbitmq_uri)

    assert await caller.call("calc1", "multiply", x=6, y=7) == 42
    value = {"a": [1, None, "ü"], "b": True}
    assert await caller.call("calc1", "echo", value=value) == value
    assert await caller.call("calc1", "health_check") is True


async def test_error_reaches_the_caller(start_peer, rabbitmq_uri):
    """A built-in error arrives as such, one of the service's own class as a JSON-RPC error."""
    await start_peer("calc_service", rabbitmq_uri)
    caller = await start_peer("caller", rabbitmq_uri)

    with pytest.raises(PeerError) as built_in:
        await caller.call("calc1", "fail", message="no such row")
    assert built_in.value.type == "builtins.ValueError"
    assert built_in.value.arguments == ["ValueError('no such row')", ["no such row"]]

    with pytest.raises(PeerError) as own:
        await caller.call("calc1", "refuse", reason="closed")
    assert own.value.type == "aio_pika.patterns.rpc.JsonRPCError"
    assert own.value.arguments[1]["error"] == {
        "type": "__main__.CalcError",
        "message": "CalcError('closed', 42)",
        "args": ["closed", 42],
    }


async def test_clique_shares_calls(start_peer, rabbitmq_uri):
    """Two instances share the calls; that of a killed one is redelivered to the other."""
    first = await start_peer("calc_service", rabbitmq_uri)
    second = await start_peer("calc_service", rabbitmq_uri)
    caller = await start_peer("caller", rabbitmq_uri)

    answers = {await caller.call("calc1", "whoami") for _ in range(4)}
    assert answers == {first.pid, second.pid}

    calls = [asyncio.create_task(caller.call("calc1", "slow", seconds=1)) for _ in range(2)]
    await asyncio.gather(first.event("slow_began"), second.event("slow_began"))
    first.kill()
    assert await asyncio.gather(*calls) == [second.pid, second.pid]


async def test_services_are_listed(start_peer, rabbitmq_uri):
    """A listener lists the services that announce themselves."""
    listener = await start_peer("listener", rabbitmq_uri)
    await start_peer("calc_service", rabbitmq_uri, id="calc7", keep_alive=0.2)

    alive = await listener.event("alive")
    assert alive["headers"] == {
        "msg_type": "keep_alive",
        "service_domain": DOMAIN,
        "service_type": "calc",
        "service_id": "calc7",
    }
    assert await listener.ask("services") == [{"domain": DOMAIN, "type": "calc", "id": "calc7"}]


async def test_data_by_headers(start_peer, rabbitmq_uri):
    """A subscriber receives data with matching headers, which have the publisher's name."""
    subscriber = await start_peer("data_subscriber", rabbitmq_uri, headers={"kind": "A"})
    publisher = await start_peer("data_publisher", rabbitmq_uri)

    await publisher.ask("publish", headers={"kind": "B"}, data={"n": 1})
    await publisher.ask("publish", headers={"kind": "A", "unit": "V"}, data={"n": 2})
    received = await subscriber.event("data")
    assert received["body"] == '{"n": 2}'
    assert received["headers"] == {
        "kind": "A",
        "unit": "V",
        "service_id": "publisher",
        "service_type": "peer",
    }


async def test_logs(start_peer, rabbitmq_uri):
    """A reader of the log exchange receives the records, filtered by their headers."""
    reader = await start_peer("log_subscriber", rabbitmq_uri, headers={"level_name": "WARNING"})
    logger = await start_peer("log_publisher", rabbitmq_uri)

    await logger.ask("log", level="INFO", message="all is well")
    await logger.ask("log", level="WARNING", message="disk is full")
    assert await reader.event("log") == {
        "headers": {"service_id": "logger", "service_type": "peer", "level_name": "WARNING"},
        "message": "disk is full",
    }


async def test_peer_ends_gracefully(start_peer, rabbitmq, rabbitmq_uri, vhost):
    """A service ends on request, and leaves no method queue behind."""
    calc = await start_peer("calc_service", rabbitmq_uri)
    assert f"{DOMAIN}.api.calc.calc1::multiply" in {q["name"] for q in rabbitmq.list_queues(vhost)}

    calc.terminate()
    assert await calc.exited() == 0
    assert rabbitmq.list_queues(vhost) == []
