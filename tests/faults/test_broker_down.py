"""The broker is killed, paused or restarted."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from fabric_nb import AmqpHandler
from fabric_nb.errors import BrokerUnavailable, CallTimeout, ConnectionLost
from fabric_nb.fabric.amqp.connection import State
from tests.support.fabric import LoopTime, until, wait_for_service


async def test_all_parts_recover_with_the_broker(members, rabbitmq):
    """All parts recover automatically after the node was killed and restarted."""
    fabric = await members.join("one", presence="thread")
    other = await members.join("other", type="client")
    go, running = asyncio.Event(), asyncio.Event()

    async def hang():
        running.set()
        await go.wait()

    await fabric.serve({"double": lambda x: 2 * x, "hang": hang})
    stream = await other.stream()
    feed = await other.logs()
    handler = AmqpHandler()
    await fabric.init_logging_handler(handler)
    callback_bodies = []

    async def callback(message):
        async with message.process():
            callback_bodies.append(message.body)

    await other.subscribe_data("sub", {}, callback)
    await fabric.publish_data({"n": 1})
    await stream.wait(1, timeout=60)
    pending = asyncio.create_task(other.call("app.one.hang", timeout=60))
    await running.wait()

    await asyncio.to_thread(rabbitmq.kill)
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(pending, 60)
    await until(lambda: fabric.state is State.RECONNECTING)
    handler.handle(logging.makeLogRecord({"name": "x", "msg": "meanwhile", "levelname": "INFO"}))
    published = fabric.publish_data({"n": 2})
    with pytest.raises(CallTimeout):
        await other.call("app.one.double", x=1, timeout=0.3)
    with pytest.raises(BrokerUnavailable):
        await members.join("late")
    go.set()

    await asyncio.to_thread(rabbitmq.restart_node)
    async with asyncio.timeout(60):
        await published
        while True:
            try:
                assert await other.call("app.one.double", x=21, timeout=60) == 42
                break
            except (LookupError, AttributeError):  # the caller reconnected before the service
                await asyncio.sleep(0.1)
    await until(lambda: stream.consumer.channel.is_ready and feed.channel.is_ready)
    await fabric.publish_data({"n": 3})
    handler.handle(logging.makeLogRecord({"name": "x", "msg": "after", "levelname": "INFO"}))
    await until(lambda: stream.rows and stream.df["n"].iloc[-1] == 3)
    await until(lambda: feed.records and feed.records[-1].message == "after")
    await until(lambda: callback_bodies and callback_bodies[-1] == b'{"n":3}')
    changes = other.registry.changes
    await until(lambda: other.registry.changes > changes + 3)
    await wait_for_service(other, "one", methods=3)


async def test_closing_without_a_broker(members, rabbitmq):
    """Closing without a broker takes less than two seconds, and leaves no task or thread."""
    tasks = asyncio.all_tasks()
    connectors = [members.connector(presence, presence=presence) for presence in ("loop", "thread")]
    for connector in connectors:
        await connector.open()
        await connector.serve({"x": lambda: 1})
        await connector.stream()
    await asyncio.to_thread(rabbitmq.kill)
    for connector in connectors:
        await until(lambda connector=connector: connector.state is State.RECONNECTING)
        connector.publish_data({"n": 1})
        with LoopTime() as took:
            await connector.close()
        assert took.seconds < 2
    await until(lambda: asyncio.all_tasks() == tasks)
    await until(
        lambda: "fabric companion" not in {thread.name for thread in threading.enumerate()},
    )


async def test_paused_broker(members, rabbitmq):
    """While the broker is paused calls time out; they succeed after it resumes."""
    fabric = await members.join("one")
    await fabric.serve({"double": lambda x: 2 * x})
    assert await fabric.call("app.one.double", x=1) == 2
    await asyncio.to_thread(rabbitmq.pause)
    try:
        with pytest.raises(CallTimeout):
            await fabric.call("app.one.double", x=1, timeout=0.5)
        with pytest.raises(BrokerUnavailable, match=r"within 0\.5 s"):
            await members.connector("two").open(timeout=0.5)
    finally:
        await asyncio.to_thread(rabbitmq.resume)
    assert await fabric.call("app.one.double", x=2, timeout=60) == 4


async def test_closing_with_a_paused_broker(members, rabbitmq):
    """Closing with a paused broker takes about two seconds."""
    tasks = asyncio.all_tasks()
    connector = await members.join("one")
    await asyncio.to_thread(rabbitmq.pause)
    try:
        with LoopTime() as took:
            await connector.close()
        assert took.seconds < 2.5
        await until(lambda: asyncio.all_tasks() == tasks)
    finally:
        await asyncio.to_thread(rabbitmq.resume)
