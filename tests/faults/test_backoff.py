"""Backoff of reconnection during two outages of the broker."""

from __future__ import annotations

import asyncio
import time

from fabric_nb.fabric.amqp import connection as connecting
from fabric_nb.fabric.amqp.connection import State
from tests.faults.brokers import RestartableEmbedded
from tests.support.fabric import Members, until

TRIES = 3


async def test_backoff_grows_and_restarts(monkeypatch):
    """Delays grow during an outage, differ between connections, and restart at each outage."""
    waits, slept = [], []
    backoff = connecting.backoff

    def recorded():
        waits.append(delays := [])
        for delay in backoff():
            delays.append(delay)
            began = time.monotonic()
            yield delay
            slept.append(time.monotonic() - began >= delay)

    monkeypatch.setattr(connecting, "backoff", recorded)
    with RestartableEmbedded() as broker:
        async with Members(broker.uri) as members:
            pair = [await members.join(name) for name in ("one", "two")]
            for outage in (1, 2):
                await asyncio.to_thread(broker.kill)
                await until(lambda n=2 * outage: len(waits) == n)
                await until(lambda: all(len(delays) >= TRIES for delays in waits[-2:]))
                await asyncio.to_thread(broker.restart)
                for connector in pair:
                    await until(lambda connector=connector: connector.state is State.CONNECTED)
            assert [connector.member.connection.reconnects for connector in pair] == [2, 2]
    assert len(waits) == 4
    assert len({delay for delays in waits for delay in delays}) == sum(map(len, waits))
    for delays in waits:
        for delay, ceiling in zip(delays, (0.2, 0.4, 0.8), strict=False):
            assert ceiling / 2 <= delay <= ceiling
    assert len(slept) >= 4 * (TRIES - 1)
    assert all(slept)
