"""Retries while the broker is away, twice."""

from __future__ import annotations

import asyncio
import time

from fabric_nb.fabric.amqp import connection as connecting
from fabric_nb.fabric.amqp.connection import State
from tests.faults.brokers import MortalEmbedded
from tests.support.fabric import Members, until

TRIES = 3


async def test_delays_grow_and_are_reset(monkeypatch):
    """Delays grow while the broker is away, differ between notebooks, and are reset each time."""
    waits, slept = [], []
    backoff = connecting.backoff

    def recorded():
        waits.append(mine := [])
        for delay in backoff():
            mine.append(delay)
            began = time.monotonic()
            yield delay
            slept.append(time.monotonic() - began >= delay)

    monkeypatch.setattr(connecting, "backoff", recorded)
    with MortalEmbedded() as broker:
        async with Members(broker.uri) as members:
            pair = [await members.join(one) for one in ("one", "two")]
            for outage in (1, 2):
                await asyncio.to_thread(broker.kill)
                await until(lambda n=2 * outage: len(waits) == n, timeout=5)
                await until(lambda: all(len(one) >= TRIES for one in waits[-2:]))
                await asyncio.to_thread(broker.restart)
                for one in pair:
                    await until(lambda one=one: one.state is State.CONNECTED)
            assert [one.member.connection.reconnects for one in pair] == [2, 2]
    assert len(waits) == 4
    assert len({delay for one in waits for delay in one}) == sum(map(len, waits))
    for one in waits:
        for delay, ceiling in zip(one, (0.2, 0.4, 0.8), strict=False):
            assert ceiling / 2 <= delay <= ceiling
    assert len(slept) >= 4 * (TRIES - 1)
    assert all(slept)
