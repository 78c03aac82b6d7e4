"""A node of a cluster is killed, and connections move to another one.

One kill by default; `FABRIC_NB_ROUNDS=3` for the guaranteed number of kills and messages.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter

import pytest
from yarl import URL

from fabric_nb.fabric.amqp.connection import State
from tests.faults.traffic import Calls, Messages
from tests.support.fabric import Members, until
from tests.support.rabbitmq_supervisor import rabbitmq_version

ROUNDS = int(os.environ.get("FABRIC_NB_ROUNDS", "0"))
CALLS, MESSAGES, CONFIRMED = (200, 500, 10_000) if ROUNDS else (50, 300, 1000)
"""Calls per second, messages per second, and total confirmed messages."""
MOVED_WITHIN = 5.0
MARGIN = 0.0 if ROUNDS else 60.0
"""Additional seconds on a machine that runs other tests."""
EXPECTED = {"answered", "ConnectionLost", "ServiceLost", "UnknownService"}
QUEUES_STAY = rabbitmq_version() >= [4, 2]
"""True if RabbitMQ keeps all queues of a node that is down, so that their users wait for it."""
if QUEUES_STAY:
    EXPECTED.add("BrokerRefused")


def node_of(cluster, fabric):
    """Return the node to which a member is connected."""
    return cluster.node_at(URL(fabric.member.connection.masked_uri).port)


@pytest.mark.timeout(600 + 120 * ROUNDS)
async def test_nodes_are_killed_one_at_a_time(cluster):
    """Members of a killed node move to another one; a durable stream loses no message.

    On RabbitMQ 4.2 and later they recover when the killed node is back.
    """
    async with Members(cluster.uri_for()) as members:
        connectors = [
            await members.join(name) for name in ("server", "caller", "publisher", "reader")
        ]
        server, caller, publisher, reader = connectors
        await server.serve({"double": lambda x: 2 * x}, prefetch=20)
        durable = await reader.stream(name="kept", durable=True)
        plain = await reader.stream()
        assert await caller.call(f"{server.fqn}.double", x=1) == 2
        calls = Calls(caller, f"{server.fqn}.double", CALLS, timeout=60)
        messages = Messages(publisher, MESSAGES)
        stop, moved = asyncio.Event(), []
        running = asyncio.gather(*(load.run(stop) for load in (calls, messages)))
        for _ in range(ROUNDS or 1):
            goal = len(messages.confirmed) + CONFIRMED // (2 * (ROUNDS or 1))
            await until(lambda goal=goal: len(messages.confirmed) > goal, timeout=60)
            node = node_of(cluster, server)
            await asyncio.to_thread(node.kill)
            began = time.monotonic()
            affected = [
                connector for connector in connectors if node_of(cluster, connector) is node
            ]
            if QUEUES_STAY:
                await asyncio.to_thread(node.restart_node)
            for connector in affected:
                await until(
                    lambda connector=connector, node=node: (
                        connector.state is State.CONNECTED
                        and (QUEUES_STAY or node_of(cluster, connector) is not node)
                    ),
                    timeout=MOVED_WITHIN + MARGIN,
                    description="it has moved to another node",
                )
            answered = calls.outcomes["answered"]
            await until(lambda a=answered: calls.outcomes["answered"] > a)
            moved.append(time.monotonic() - began)
            for stream in (plain, durable):
                await until(
                    lambda stream=stream, rows=stream.rows: stream.rows > rows,
                    description=f"{stream.name or 'plain'} after {moved}: {messages.summary}",
                )
            if ROUNDS and not QUEUES_STAY:  # so that a majority remains after the next kill
                await asyncio.to_thread(node.restart_node)
        await until(lambda: len(messages.confirmed) >= CONFIRMED, timeout=120)
        stop.set()
        await asyncio.wait_for(running, 180)
        received = set()

        def all_received():
            received.update(durable.df["n"])
            return messages.confirmed <= received

        await until(all_received, timeout=60, description="all that was confirmed has come")
        assert calls.outcomes.total() == calls.started
        assert set(calls.outcomes) <= EXPECTED
        assert messages.duplicates(plain) == 0
        duplicates = sum(count - 1 for count in Counter(durable.df["n"]).values())
        print(
            f"{len(moved)} kills: answered again after {', '.join(f'{s:.1f} s' for s in moved)};"
            f" calls {dict(calls.outcomes)}; messages {messages.published}, confirmed"
            f" {len(messages.confirmed)}, received {len(received)}, duplicates {duplicates},"
            " missing in the plain stream"
            f" {len(messages.confirmed - set(plain.df['n']))}"
        )
        await durable.delete()
