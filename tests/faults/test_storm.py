"""Log floods: feeds are bounded, and dropped records are counted."""

from __future__ import annotations

import asyncio
import logging

from fabric_nb import AmqpHandler
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.wire.logs import LogRecord, log_message
from tests.support.fabric import until
from tests.support.peers import DOMAIN

RECORDS, KEPT = 5000, 1000
SERVICE = {"service_type": "app", "service_id": "loud"}


async def test_log_storm(members, rabbitmq_uri):
    """During a flood a feed keeps its maximum, counts the rest, and calls are answered."""
    fabric, other = await members.join("one"), await members.join("other")
    await fabric.serve({"double": lambda x: 2 * x})
    feed = await fabric.logs(max_records=KEPT)
    answered = 0

    async def storm():
        async with Connection(rabbitmq_uri, name="storm") as loud, loud.channel() as channel:
            for n in range(RECORDS):
                record = LogRecord(time=n, level="INFO", message=str(n), **SERVICE)
                await channel.publish(f"{DOMAIN}.log.records", "", log_message(record))
                if n % 100 == 0:
                    await asyncio.sleep(0)
            await until(lambda: feed.changes == RECORDS)

    storming = asyncio.create_task(storm())
    while not storming.done():
        assert await other.call(f"{fabric.fqn}.double", x=answered, timeout=60) == 2 * answered
        answered += 1
    await storming
    assert answered > 1
    assert len(feed.records) == KEPT
    assert feed.dropped == RECORDS - KEPT
    assert feed.records[-1].message == str(RECORDS - 1)


async def test_a_logging_function_does_not_loop(members):
    """A served function that logs creates one record per call, also in its member's feed."""
    fabric, other = await members.join("one"), await members.join("other")
    log = logging.getLogger("faults.storm")
    log.setLevel(logging.DEBUG)
    handler = AmqpHandler()
    await fabric.init_logging_handler(handler)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        feed = await fabric.logs()
        await fabric.serve({"shout": lambda n: log.info("called %d", n)})
        for n in range(20):
            await other.call(f"{fabric.fqn}.shout", n=n, timeout=60)
        await feed.wait(20, timeout=60)
        await handler.flushed()
        assert [record.message for record in feed.records] == [f"called {n}" for n in range(20)]
    finally:
        root.removeHandler(handler)
