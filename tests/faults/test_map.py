"""Instances are killed during a map."""

from __future__ import annotations

import asyncio

import pytest

from fabric_nb.errors import MapStopped, RemoteError
from tests.support.fabric import Members, until
from tests.support.peers import DOMAIN

CALC = f"{DOMAIN}.calc.calc1"
COUNT = 40


@pytest.fixture
async def caller(broker_uri):
    """Open a calling member on a separate connection."""
    async with Members(broker_uri) as members:
        yield await members.join("caller")


async def test_an_instance_is_killed_during_an_idempotent_map(caller, start_peer, broker_uri):
    """No row is lost with an instance, and one that starts during the map is used."""
    first, second = [await start_peer("fabric_calc", broker_uri) for _ in range(2)]

    def rows_until_three_instances_answered():
        while len(handle.progress.instances) < 3:
            yield {"seconds": 0.01}

    rows = rows_until_three_instances_answered()
    handle = caller.map(f"{CALC}.slow", rows, in_flight=4, idempotent=True, timeout=60)
    await until(lambda: len(handle.progress.instances) == 2)
    first.kill()
    third = await start_peer("fabric_calc", broker_uri)
    results = await handle
    assert results.error.isna().all()
    assert set(results.result) == {first.pid, second.pid, third.pid}
    assert set(handle.progress.instances) == set(results.instance)


async def test_the_last_instance_is_killed_during_a_map(caller, start_peer, broker_uri):
    """A map whose service disappears stops, keeps its results, and continues later."""
    peer = await start_peer("fabric_calc", broker_uri, keep_alive=0.2)

    def rows():
        for n in range(2_000):
            if n == 1_000:
                peer.kill()
            yield {"value": n}

    handle = caller.map(f"{CALC}.echo", rows(), in_flight=64, idempotent=True, timeout=3)
    with pytest.raises(MapStopped, match="continues"):
        await handle
    progress = handle.progress
    assert progress.done >= 1_000 - 64
    assert len(handle.results) == progress.done
    await start_peer("fabric_calc", broker_uri, keep_alive=0.2)
    await handle.resume()
    results = await handle.retry_failed()
    assert results.error.isna().all()
    assert results.result.tolist() == list(range(2_000))
    assert len(handle.progress.instances) == 2


async def begins(peer, seconds):
    """Return a peer when it begins a call of this duration."""
    while (await peer.event("slow_began"))["seconds"] != seconds:
        pass
    return peer


async def test_an_instance_is_killed_during_another_map(caller, start_peer, broker_uri):
    """Exactly the row that a killed instance was running fails, where none may be run twice."""
    peers = [await start_peer("fabric_calc", broker_uri, redelivered="refuse") for _ in range(2)]
    rows = [{"seconds": 55}, *[{"seconds": 0.01}] * COUNT]
    handle = caller.map(f"{CALC}.slow", rows, in_flight=4, timeout=60)
    beginning = [asyncio.create_task(begins(peer, 55)) for peer in peers]
    (begun,), others = await asyncio.wait(beginning, return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        other.cancel()
    await until(lambda: handle.progress.done >= 5)
    begun.result().kill()
    results = await handle
    assert handle.failed.index.tolist() == [0]
    assert isinstance(results.error[0], RemoteError)
    assert "may have run it" in str(results.error[0])
    assert results.result.notna().sum() == COUNT
