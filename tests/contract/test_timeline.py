"""Timeline: calls, instances, streams and logs of a connector as events."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest

from fabric_nb import AmqpHandler
from fabric_nb.errors import RemoteError
from tests.support.fabric import KEEP_ALIVE, until, wait_for_service

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector, Timeline
    from tests.support.fabric import Members

pytestmark = pytest.mark.any_broker  # these are of fabric_nb itself, unless marked otherwise


def seen(timeline: Timeline, lane: str) -> list[tuple[str, str, str]]:
    """Return kind, method and level of each event of a lane."""
    return [
        (event.kind, event.method, event.level) for event in timeline.events if event.lane == lane
    ]


async def test_calls_of_both_ends(members: Members) -> None:
    """A call is an event of its caller and of its service, with its outcome."""
    caller, calc = await members.join("caller"), await members.join("calc")

    def half(x: int) -> float:
        if x < 0:
            raise ValueError("no")
        return x / 2

    await calc.serve({"half": half})
    await wait_for_service(caller, "calc", methods=2)
    await caller.call("calc.half", x=4)
    with pytest.raises(RemoteError):
        await caller.call("calc.half", x=-4)
    made, served = caller.timeline(), calc.timeline(60)
    for timeline, kind in ((made, "made"), (served, "served")):
        assert seen(timeline, "app.calc") == [(kind, "half", "ok"), (kind, "half", "failed")]
    assert made.counts[0] == "2 calls"
    frame = served.df.query("kind == 'served'")
    assert set(frame.instance) == {calc.instance}
    assert (frame.ms > 0).all()
    assert "ValueError: no" in made.text or "!" in made.text


async def test_instances_that_come_and_go(members: Members) -> None:
    """An instance that joins, leaves and joins again is seen to do so, with its id."""
    watcher = await members.join("watcher")
    calc = await members.join("calc")
    await wait_for_service(watcher, "calc")
    await calc.close()
    service = calc.name.fqn

    def kinds() -> list[str]:
        events = watcher.timeline("1min").events
        return [
            event.kind
            for event in events
            if event.service == service and event.instance == calc.instance
        ]

    await until(lambda: kinds() == ["came", "left"])
    await members.open(calc)
    await until(lambda: kinds() == ["came", "left", "back"])


async def test_streams_and_logs(members: Members) -> None:
    """Rows of open streams and records of open feeds are events; those of closed ones are not."""
    reader = await members.join("reader")
    sender = await members.join("sender")
    stream = await reader.stream(kind="ORDER")
    closed = await reader.stream(kind="OTHER")
    feed = await reader.logs()
    handler = AmqpHandler()
    await sender.init_logging_handler(handler)
    handler.handle(
        logging.makeLogRecord({"msg": "low stock", "levelname": "WARNING", "levelno": 30})
    )
    for number in range(20):
        await sender.publish_data({"n": number}, {"kind": "ORDER"})
        await sender.publish_data({"n": number}, {"kind": "OTHER"})
    await stream.wait(20, timeout=30)
    await closed.wait(20, timeout=30)
    await closed.close()
    await feed.wait(1, timeout=30)
    timeline = reader.timeline("5min")
    rows = [event for event in timeline.events if event.kind == "rows"]
    assert {event.lane for event in rows} == {"kind=ORDER"}
    assert sum(event.number for event in rows) == 20
    (record,) = [event for event in timeline.events if event.kind == "log"]
    assert (record.lane, record.text, record.service) == (
        "WARNING",
        "low stock",
        sender.name.fqn,
    )
    assert abs(record.time - time.time()) < 60


async def test_calls_of_other_services(members: Members) -> None:
    """Calls between services are events, as far as they are in a trace of this connector."""
    caller: AmqBrokerConnector = await members.join("caller")
    shop, price = await members.join("shop"), await members.join("price")

    async def order() -> float:
        return float(await shop.call("price.quote"))

    await shop.serve({"order": order})
    await price.serve({"quote": lambda: 2})
    for member in (caller, shop):
        await wait_for_service(member, "price", methods=2)
    await wait_for_service(caller, "shop", methods=2)
    await caller.trace("shop.order")
    timeline = caller.timeline()
    assert seen(timeline, "app.shop") == [("made", "order", "ok")]
    assert seen(timeline, "app.price") == [("traced", "quote", "ok")]


async def test_silent_instance(members: Members) -> None:
    """An instance that ends without a goodbye is gone, from the time of its silence on."""
    watcher = await members.join("watcher")
    calc = members.connector("calc", keep_alive_seconds=KEEP_ALIVE)
    await members.open(calc)
    await wait_for_service(watcher, "calc")
    begun = time.time()
    await calc.member.connection.close()

    def gone() -> bool:
        return any(
            event.kind == "gone" and event.service == calc.name.fqn and event.time > begun
            for event in watcher.timeline().events
        )

    await until(gone)
