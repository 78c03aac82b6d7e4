"""Cancelled calls of plain functions that block the event loop of their process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector
    from tests.conftest import StartPeer
    from tests.support.fabric import Members
    from tests.support.peers import Peer

BLOCK = f"{DOMAIN}.calc.calc1.block"
SECONDS = 3.0
"""Seconds that a call blocks its process."""


@pytest.fixture
async def caller(members: Members) -> AmqBrokerConnector:
    return await members.join("caller")


@pytest.fixture
async def peer(start_peer: StartPeer, broker_uri: str, caller: AmqBrokerConnector) -> Peer:
    """Process that serves `calc1` with one plain function at a time."""
    peer = await start_peer("fabric_calc", broker_uri, keep_alive=0.2)
    await wait_for_service(caller, "calc1")
    return peer


def instance(caller: AmqBrokerConnector) -> str:
    (service,) = caller.registry.find("calc1", domain=DOMAIN)
    (found,) = service.instances
    return found


async def polled(caller: AmqBrokerConnector, times: int = 2) -> None:
    """Wait until the instances have been pinged again, and their answers read."""
    liveness = caller.member.rpc.requester.liveness
    before = liveness.polls
    await until(lambda: liveness.polls > before + times)


async def test_a_call_that_has_said_that_it_begins(caller, peer):
    """A function that may block tells a caller that asks for progress so, before it blocks."""
    handle = caller.start(BLOCK, seconds=SECONDS)
    await peer.event("block_began")
    await until(lambda: handle.report.began is not None)
    assert handle.facts[0].startswith(f"running on calc1 {instance(caller)}")
    assert await handle.stop() is None
    assert handle.cancellation == (
        f"{BLOCK} was cancelled, but is still running on calc1 {instance(caller)}: a plain function"
        " on an event loop runs to its end."
    )
    assert await caller.call("calc1.multiply", x=2, y=3, timeout=60) == 6


async def test_a_call_that_has_said_nothing(caller, peer):
    """Of a function whose calls were short it is known which instance does not answer."""
    await caller.call(BLOCK, seconds=0.0)
    handle = caller.start(BLOCK, seconds=SECONDS)
    queued = caller.start(BLOCK, seconds=0.0)
    await peer.event("block_began")
    await peer.event("block_began")
    await polled(caller)
    assert handle.report.began is None
    assert await queued.stop(0) is None
    assert "was cancelled in its queue" in queued.cancellation
    assert await handle.stop() is None
    assert f"because calc1 {instance(caller)} has not answered for " in handle.cancellation
    assert handle.cancellation.startswith(
        f"{BLOCK} was cancelled, but is still running as far as is known, because "
    )
    assert await caller.call("calc1.multiply", x=2, y=3, timeout=60) == 6


async def test_a_call_of_a_process_that_was_blocked_before(caller, peer):
    """Of an instance that is blocked by another call, nothing is concluded for a later one."""
    first = caller.start(BLOCK, seconds=SECONDS)
    await peer.event("block_began")
    handle = caller.start("calc1.multiply", x=1, y=2)
    await polled(caller)
    assert await handle.stop() is None
    await first.stop()
    assert await caller.call("calc1.multiply", x=2, y=3, timeout=60) == 6


async def test_rows_of_a_map(caller, peer):
    """A cancelled map says how many of its rows are still running."""
    rows: list[dict[str, Any]] = [{"seconds": SECONDS}, {"seconds": 0.0}]
    handle = caller.map(BLOCK, rows, in_flight=2)
    await peer.event("block_began")
    await polled(caller)
    assert await handle.stop() is None
    assert handle.cancellation == (
        "Of the 2 rows under way, 1 is still running as far as is known and 1 will not begin,"
        " unless they had begun already."
    )
    assert await caller.call("calc1.multiply", x=2, y=3, timeout=60) == 6
