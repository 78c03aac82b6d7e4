"""Changes of the machine's clock while members run."""

from __future__ import annotations

import logging
import time

import pytest

from fabric_nb import AmqpHandler
from tests.support.fabric import until, wait_for_service

pytestmark = pytest.mark.any_broker  # times are read by the member

DAY = 86_400.0


@pytest.mark.parametrize("when", [-1e9, 0.0, 1.0, 2**33], ids=str)
async def test_clock_is_set(members, monkeypatch, when):
    """With any time, calls, items, keep-alives, data and logs work, and no service is gone."""
    server = await members.join("server")
    caller = await members.join("caller", presence="thread")

    async def items():
        yield 1
        yield 2

    await server.serve({"double": lambda x: 2 * x, "items": items})
    service = await wait_for_service(caller, "server", methods=3)
    handler = AmqpHandler()
    await caller.init_logging_handler(handler)
    async with await caller.stream() as stream, await caller.logs() as feed:
        monkeypatch.setattr(time, "time", lambda: when)
        assert await caller.call("server.double", x=4, timeout=60) == 8
        assert [item async for item in caller.call_stream("server.items", timeout=60)] == [1, 2]
        seen = caller.registry.changes
        await until(lambda: caller.registry.changes > seen + 5)
        assert {service.name.id for service in caller.registry.services()} == {"server", "caller"}
        await until(lambda: caller.registry.state(service) == "up")
        await caller.publish_data({"n": 1})
        await stream.wait(1, timeout=60)
        handler.handle(logging.makeLogRecord({"msg": "hello", "levelname": "INFO"}))
        await feed.wait(1, timeout=60)
        assert len(caller.calls.df) == 2
    assert caller.rejected.total == 0


async def test_clock_is_set_back_while_a_loop_is_watched(members, monkeypatch):
    """A member is not busy because its clock was set back or forth."""
    offset, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    one = await members.join("one", presence="thread")
    other = await members.join("other")
    service = await wait_for_service(other, "one")
    for leap in (-DAY, DAY, 30 * DAY):
        offset[0] = leap
        seen = other.registry.changes
        await until(lambda seen=seen: other.registry.changes > seen + 5)
        await until(lambda: other.registry.state(service) == "up")
    assert one.state == "connected"
