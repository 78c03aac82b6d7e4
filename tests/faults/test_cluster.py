"""Failover: a node of a cluster dies, and another one is used.

One failure by default; `FABRIC_NB_ROUNDS=3` for the number, and the load, of the guarantee.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter

import pytest

from fabric_nb.fabric.amqp.connection import State
from tests.faults.traffic import Calls, Messages
from tests.support.fabric import Members, until

ROUNDS = int(os.environ.get("FABRIC_NB_ROUNDS", "0"))
CALLS, MESSAGES, CONFIRMED = (200, 500, 10_000) if ROUNDS else (50, 300, 1000)
"""A second, a second, and in all."""
MOVED_WITHIN = 5.0
MARGIN = 0.0 if ROUNDS else 15.0
"""Seconds; a machine that runs other tests beside is given more."""
EXPECTED = {"answered", "ConnectionLost", "ServiceLost", "UnknownService"}


def node_of(cluster, fabric):
    """Return the node that a member is connected to."""
    return cluster.node_at(fabric.member.connection._nodes.url.port)


@pytest.mark.timeout(240 + 120 * ROUNDS)
async def test_nodes_die_one_at_a_time(cluster):
    """Members of a node that died reconnect to another; a durable stream loses nothing."""
    async with Members(cluster.uri_for()) as members:
        everybody = [await members.join(one) for one in ("server", "caller", "publisher", "reader")]
        server, caller, publisher, reader = everybody
        await server.serve({"double": lambda x: 2 * x}, prefetch=20)
        kept = await reader.stream(name="kept", durable=True)
        plain = await reader.stream()
        assert await caller.call(f"{server.fqn}.double", x=1) == 2
        calls = Calls(caller, f"{server.fqn}.double", CALLS, timeout=60)
        messages = Messages(publisher, MESSAGES)
        stop, moved = asyncio.Event(), []
        running = asyncio.gather(*(one.run(stop) for one in (calls, messages)))
        for _ in range(ROUNDS or 1):
            goal = len(messages.confirmed) + CONFIRMED // (2 * (ROUNDS or 1))
            await until(lambda goal=goal: len(messages.confirmed) > goal, timeout=60)
            node = node_of(cluster, server)
            await asyncio.to_thread(node.kill)
            began = time.monotonic()
            hit = [one for one in everybody if node_of(cluster, one) is node]
            for one in hit:
                await until(
                    lambda one=one, node=node: (
                        one.state is State.CONNECTED and node_of(cluster, one) is not node
                    ),
                    timeout=MOVED_WITHIN + MARGIN,
                    description="it has moved to another node",
                )
            answered = calls.outcomes["answered"]
            await until(lambda a=answered: calls.outcomes["answered"] > a, timeout=30)
            moved.append(time.monotonic() - began)
            for stream in (plain, kept):
                await until(
                    lambda stream=stream, rows=stream.rows: stream.rows > rows,
                    timeout=30,
                    description=f"{stream.name or 'plain'} after {moved}: {messages.summary}",
                )
            if ROUNDS:  # so that the next death leaves a majority
                await asyncio.to_thread(node.restart_node)
        await until(lambda: len(messages.confirmed) >= CONFIRMED, timeout=120)
        stop.set()
        await asyncio.wait_for(running, 60)
        came = set()

        def all_kept():
            came.update(kept.df["n"])
            return messages.confirmed <= came

        await until(all_kept, timeout=60, description="all that was confirmed has come")
        assert calls.outcomes.total() == calls.started
        assert set(calls.outcomes) <= EXPECTED
        assert messages.duplicates(plain) == 0
        twice = sum(count - 1 for count in Counter(kept.df["n"]).values())
        print(
            f"{len(moved)} deaths: answered again after {', '.join(f'{s:.1f} s' for s in moved)};"
            f" calls {dict(calls.outcomes)}; messages {messages.published}, confirmed"
            f" {len(messages.confirmed)}, kept {len(came)}, twice {twice}, plain stream missed"
            f" {len(messages.confirmed - set(plain.df['n']))}"
        )
        await kept.delete()
