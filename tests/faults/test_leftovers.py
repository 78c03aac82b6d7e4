"""Release of resources: tasks, threads, channels, queues, exchanges, connections."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest

from fabric_nb import AmqpHandler
from fabric_nb.errors import CallError
from tests.support.fabric import until

KEPT = {"msc.discovery", "my_project.data", "my_project.log.records"}
"""Durable exchanges of the wire contract."""


async def no_new_tasks(tasks):
    """Wait until there are no other tasks than these."""
    try:
        await until(lambda: asyncio.all_tasks() <= tasks)
    except AssertionError:
        pytest.fail(f"new tasks: {asyncio.all_tasks() - tasks}")


@pytest.mark.parametrize("presence", ["loop", "thread"])
async def test_closing_releases_all_resources(members, rabbitmq, vhost, presence):
    """After closing no task, thread, connection, queue or transient exchange remains."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    log = logging.getLogger("faults.leftovers")
    log.setLevel(logging.INFO)
    for _ in range(2):
        connector = members.connector("one", presence=presence)
        await connector.open()
        await connector.serve({"one": lambda: 1, "slow": asyncio.Event().wait}, prefetch=3)
        await connector.serve({"two": lambda: 2}, id="two", threads=True)
        stream = await connector.stream()
        reading = asyncio.create_task(anext(stream.batches(), None))
        await connector.stream(name="named")
        await connector.logs(level="INFO")
        await connector.subscribe_data("sub", {}, print)
        log.addHandler(handler := AmqpHandler())
        await connector.init_logging_handler(handler)
        log.info("hello")
        assert await connector.call("one.one") == 1
        assert await connector.call("two.two") == 2
        with pytest.raises(CallError):
            await connector.call("app.missing.x", timeout=1)
        hanging = asyncio.create_task(connector.call("one.slow"))
        await until(lambda server=connector.servers[0]: server.stats["slow"].running)
        connector.publish_data({"n": 1})
        await connector.close()
        log.removeHandler(handler)
        await asyncio.wait([hanging, reading], timeout=2)
        assert hanging.exception() is not None

    gc.collect()
    await no_new_tasks(tasks)
    pool = "asyncio_"  # threads of the loop's executor
    remaining = {
        thread
        for thread in set(threading.enumerate()) - threads
        if not thread.name.startswith(pool)
    }
    assert remaining == set()
    await until(
        lambda: rabbitmq.list_connections(vhost) == [], description="no connections are left"
    )
    assert rabbitmq.list_queues(vhost) == []
    assert {exchange["name"] for exchange in rabbitmq.list_exchanges(vhost)} <= KEPT


async def test_closing_single_parts_releases_their_resources(members, rabbitmq, vhost):
    """Closed services, streams and feeds of an open connector leave no resources."""
    connector = await members.join("one")
    # A broker that refuses transient queues closes the connection of the first service.
    await (await connector.serve({"one": lambda: 1}, id="x")).close()
    await until(lambda: connector.member.connection.open_channels == 4)
    await until(lambda: len(rabbitmq.list_queues(vhost)) == 2)  # replies and keep-alives
    tasks = asyncio.all_tasks()
    channels = connector.member.connection.open_channels
    for _ in range(3):
        server = await connector.serve({"one": lambda: 1}, id="x", prefetch=2)
        stream = await connector.stream(name="named")
        feed = await connector.logs()
        await server.close()
        await stream.close()
        await feed.close()
    await no_new_tasks(tasks)
    await until(lambda: len(rabbitmq.list_queues(vhost)) == 2, description="no queues are left")
    assert connector.member.connection.open_channels == channels


async def test_failed_calls_leave_no_channels(members):
    """Calls of unknown services do not accumulate channels."""
    connector = await members.join("one")
    await connector.serve({"one": lambda: 1})
    assert await connector.call("app.one.one") == 1

    async def fail(n):
        with pytest.raises(CallError):
            await connector.call(f"app.missing{n % 5}.x", timeout=5)

    for _ in range(10):
        await asyncio.gather(*(fail(n) for n in range(20)))
    assert await connector.call("app.one.one") == 1
    await until(lambda: connector.member.connection.open_channels <= 8)
    assert len(connector.member.connection.channels) <= 7
    assert connector.member.rpc.pending == 0
