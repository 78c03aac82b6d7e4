"""Calls that arrive while the loop of the service is blocked."""

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


async def test_call_that_expired_while_the_loop_was_blocked_is_not_run(
    members: Members, broker_uri: str
) -> None:
    """A call that timed out while the loop was blocked is not run; other calls are."""
    server = await members.join("still")
    ran: list[int] = []
    await server.serve({"append": lambda n: ran.append(n) or n})
    ready, stalled = threading.Event(), threading.Event()

    async def call() -> list[int]:
        async with AmqBrokerConnector(broker_uri, DOMAIN, "app", "caller") as caller:
            ready.set()
            await asyncio.to_thread(stalled.wait)
            with pytest.raises(CallTimeout):  # it is delivered while the loop is blocked
                await caller.call("app.still.append", n=0, timeout=0.5)
            others = [caller.call("app.still.append", n=n, timeout=60) for n in (1, 2, 3)]
            return await asyncio.gather(*others)

    calling = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(call())))
    await asyncio.to_thread(ready.wait, 20)
    stalled.set()
    time.sleep(STALL)  # noqa: ASYNC251 - that is what is tested
    assert await calling == [1, 2, 3]
    assert ran == [1, 2, 3]
