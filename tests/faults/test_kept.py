"""Durable streams of a single RabbitMQ that is killed and restarted."""

from __future__ import annotations

import asyncio

import pytest

from fabric_nb.fabric.amqp.connection import State
from tests.faults.brokers import RestartableRabbitMq
from tests.faults.traffic import Messages
from tests.support.fabric import Members, until

RATE, CONFIRMED = 200, 200
"""Messages per second, and confirmed messages before and after the kill."""


@pytest.fixture
def broker(rabbitmq, vhost):
    """Return the node, which may be killed."""
    return RestartableRabbitMq(rabbitmq, vhost)


async def all_received(stream, numbers):
    """Wait until a stream has received all these numbers."""

    def missing():
        return sorted(numbers - set(stream.df["n"]))

    try:
        await until(lambda: not missing())
    except AssertionError:
        lost = missing()
        pytest.fail(f"{stream.name} lacks {len(lost)}, from {lost[:1]} to {lost[-1:]}")


async def test_a_durable_stream_survives_a_killed_broker(broker):
    """A durable stream receives all confirmed messages, including those during the restart.

    Failed messages are counted. Replayed streams are not tested, because after a kill the stream
    queues of a single RabbitMQ 3.10 sometimes store nothing but still confirm.
    """
    async with Members(broker.uri) as members:
        publisher, reader = [await members.join(name) for name in ("publisher", "reader")]
        durable = await reader.stream(name="durable", durable=True)
        messages = Messages(publisher, RATE)
        stop = asyncio.Event()
        running = asyncio.create_task(messages.run(stop))
        await until(lambda: durable.rows > CONFIRMED)

        await asyncio.to_thread(broker.kill)
        for connector in (publisher, reader):
            await until(lambda connector=connector: connector.state is State.RECONNECTING)
        before = len(messages.confirmed)
        await asyncio.to_thread(broker.restart)
        await until(lambda: len(messages.confirmed) > before + CONFIRMED, timeout=60)
        stop.set()
        await asyncio.wait_for(running, 180)

        await all_received(durable, messages.confirmed)
        afterwards = range(messages.published, messages.published + CONFIRMED)
        other = await members.join("other")
        for n in afterwards:
            await other.publish_data({"n": n})
        await all_received(durable, set(afterwards))
        assert publisher.publisher.failed == len(messages.failed)
        assert publisher.publisher.published == len(messages.confirmed)
        print(f"{messages.summary}; {messages.duplicates(durable)} duplicates")
        await durable.delete()
