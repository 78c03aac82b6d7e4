"""An outage of the broker is distinguished from missing services."""

from __future__ import annotations

import asyncio
import time

import pytest

from fabric_nb.errors import CallTimeout, ConnectionLost
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.discovery.registry import ServiceState
from fabric_nb.fabric.doctor import peers
from fabric_nb.fabric.doctor.findings import Severity
from tests.faults.brokers import MortalEmbedded, MortalRabbitMq
from tests.support.fabric import KEEP_ALIVE, Members, until, wait_for_service

GONE_AFTER = 4 * KEEP_ALIVE + 1.0
"""Seconds without a keep-alive after which a member of the tests is gone."""


@pytest.fixture(params=["rabbitmq", "embedded"])
def mortal(request):
    """Broker that can be killed, of each kind."""
    if request.param == "rabbitmq":
        node, vhost = (request.getfixturevalue(name) for name in ("rabbitmq", "vhost"))
        yield MortalRabbitMq(node, vhost)
    else:
        with MortalEmbedded() as embedded:
            yield embedded


async def test_an_outage_is_not_the_absence_of_services(mortal):
    """During an outage no service is gone; calls by short and full names wait and are answered.

    Errors during the outage name the missing connection.
    """
    async with Members(mortal.uri) as members:
        server = await members.join("quote", type="pricing")
        await server.serve({"price": lambda: 7})
        caller = await members.join("me")
        await wait_for_service(caller, "quote", methods=2)
        running = [
            asyncio.create_task(caller.call(name, idempotent=True, timeout=120))
            for name in ("quote.price", "pricing.quote.price")
        ]
        assert await asyncio.gather(*running) == [7, 7]

        await asyncio.to_thread(mortal.kill)
        await until(lambda: caller.state is State.RECONNECTING)
        ends = time.monotonic() + GONE_AFTER
        await until(lambda: time.monotonic() > ends)
        (service,) = caller.registry.find("pricing.quote", domain=caller.domain)
        assert caller.registry.state(service) is ServiceState.UP
        assert caller.registry.deaf
        assert {one["id"] for one in caller.list_services()} == {"quote", "me"}
        for name in ("quote.price", "pricing.quote.price", "unheard.price"):
            with pytest.raises((CallTimeout, ConnectionLost), match="connection"):
                await caller.call(name, timeout=0.3)
        waiting = [
            asyncio.create_task(caller.call(name, timeout=120))
            for name in ("quote.price", "pricing.quote.price", f"{server.fqn}.price")
        ]
        await asyncio.to_thread(mortal.restart)
        states = set()
        while not all(call.done() for call in waiting):
            states.add(caller.registry.state(service))
            await asyncio.wait(waiting, timeout=0.05)
        assert [call.result() for call in waiting] == [7, 7, 7]
        assert ServiceState.GONE not in states
        await until(lambda: not caller.registry.deaf)


async def test_the_doctor_detects_a_lost_connection(rabbitmq, vhost):
    """A doctor whose connection is lost while it listens does not report missing members."""
    async with Members(rabbitmq.uri_for(vhost=vhost)) as members:
        fabric = await members.join("me", keep_alive_seconds=False)
        target = fabric.member.target()
        connection = Connection(target.uri, name="doctor")
        async with connection, peers.listening(target, connection) as heard:
            await asyncio.to_thread(rabbitmq.close_connections, vhost)
            await until(lambda: connection.reconnects == 1)
        found = {one.check: one for one in peers.peers(target, heard, 1)}["peers"]
        assert found.severity is Severity.UNKNOWN
        assert "connection was lost" in found.found
        assert "heard" not in found.found
