"""Services during an outage of the broker."""

from __future__ import annotations

import asyncio
import time

import pytest

from fabric_nb.errors import CallTimeout, ConnectionLost
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.discovery.services import ServiceState
from fabric_nb.fabric.doctor import peers
from fabric_nb.fabric.doctor.findings import Severity
from tests.faults.brokers import RestartableEmbedded, RestartableRabbitMq
from tests.support.fabric import KEEP_ALIVE, Members, until, wait_for_service

GONE_AFTER = 4 * KEEP_ALIVE + 1.0
"""Seconds without a keep-alive after which a member is gone."""


@pytest.fixture(params=["rabbitmq", "embedded"])
def broker(request):
    """Yield a broker of each kind, which may be killed."""
    if request.param == "rabbitmq":
        node, vhost = (request.getfixturevalue(name) for name in ("rabbitmq", "vhost"))
        yield RestartableRabbitMq(node, vhost)
    else:
        with RestartableEmbedded() as embedded:
            yield embedded


async def test_services_are_not_gone_during_an_outage(broker):
    """During an outage services are not gone, and calls by short or full name wait.

    Calls that time out during the outage name the missing connection.
    """
    async with Members(broker.uri) as members:
        server = await members.join("quote", type="pricing")
        await server.serve({"price": lambda: 7})
        caller = await members.join("me")
        await wait_for_service(caller, "quote", methods=2)
        running = [
            asyncio.create_task(caller.call(name, idempotent=True, timeout=120))
            for name in ("quote.price", "pricing.quote.price")
        ]
        assert await asyncio.gather(*running) == [7, 7]

        await asyncio.to_thread(broker.kill)
        await until(lambda: caller.state is State.RECONNECTING)
        ends = time.monotonic() + GONE_AFTER
        await until(lambda: time.monotonic() > ends)
        (service,) = caller.registry.find("pricing.quote", domain=caller.domain)
        assert caller.registry.state(service) is not ServiceState.GONE
        assert caller.registry.stale
        assert {service["id"] for service in caller.list_services()} == {"quote", "me"}
        for name in ("quote.price", "pricing.quote.price", "unknown.price"):
            with pytest.raises((CallTimeout, ConnectionLost), match="connection"):
                await caller.call(name, timeout=0.3)
        waiting = [
            asyncio.create_task(caller.call(name, timeout=120))
            for name in ("quote.price", "pricing.quote.price", f"{server.fqn}.price")
        ]
        await asyncio.to_thread(broker.restart)
        states = set()
        while not all(call.done() for call in waiting):
            states.add(caller.registry.state(service))
            await asyncio.wait(waiting, timeout=0.05)
        assert [call.result() for call in waiting] == [7, 7, 7]
        assert ServiceState.GONE not in states
        await until(lambda: not caller.registry.stale)


async def test_the_doctor_distinguishes_a_lost_connection_from_no_peers(rabbitmq, vhost):
    """A doctor that loses its connection while it listens does not report a lack of peers."""
    async with Members(rabbitmq.uri_for(vhost=vhost)) as members:
        fabric = await members.join("me", keep_alive_seconds=False)
        target = fabric.member.target()
        connection = Connection(target.uri, name="doctor")
        async with connection, peers.listening(target, connection) as received:
            await asyncio.to_thread(rabbitmq.close_connections, vhost)
            await until(lambda: connection.reconnects == 1)
        findings = {found.check: found for found in peers.peers(target, received, 1)}
        finding = findings["peers"]
        assert finding.severity is Severity.UNKNOWN
        assert "connection was lost" in finding.found
        assert "heard" not in finding.found
