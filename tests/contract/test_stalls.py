"""A loop that stands still, and the calls that come meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.errors import CallTimeout
from tests.support.fabric import Members
from tests.support.peers import DOMAIN

STALL = 2.0


async def test_a_call_whose_caller_gave_up_during_a_stall_is_not_run(
    members: Members, broker_uri: str
) -> None:
    """Who timed out while our loop stood still is not served afterwards; who waited is."""
    server = await members.join("still")
    ran: list[int] = []
    await server.serve({"take": lambda n: ran.append(n) or n})
    ready, stalled = threading.Event(), threading.Event()

    async def call() -> list[int]:
        async with AmqBrokerConnector(broker_uri, DOMAIN, "app", "caller") as caller:
            ready.set()
            await asyncio.to_thread(stalled.wait)
            with pytest.raises(CallTimeout):  # the first: it is delivered to us during the stall
                await caller.call("app.still.take", n=0, timeout=0.5)
            patient = [caller.call("app.still.take", n=n, timeout=30) for n in (1, 2, 3)]
            return await asyncio.gather(*patient)

    calling = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(call())))
    await asyncio.to_thread(ready.wait, 20)
    stalled.set()
    time.sleep(STALL)  # noqa: ASYNC251 - that is what is tested
    assert await calling == [1, 2, 3]
    assert ran == [1, 2, 3]
