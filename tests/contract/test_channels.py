"""Channels: delivery, outcomes of messages, and recovery."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from fabric_nb.errors import BrokerRefused, ConnectionLost, NotConnected
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.amqp.translation import Unroutable
from tests.support.fabric import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUEUE = "channels.test"


@pytest.fixture
async def connection(broker_uri: str) -> AsyncIterator[Connection]:
    """Connection that is closed after the test."""
    async with Connection(broker_uri, name="channels") as connection:
        yield connection


class Consumer:
    """Consumer of the queue, started whenever the channel is opened."""

    def __init__(self, *, no_ack: bool = True) -> None:
        self.received = []
        self.no_ack = no_ack

    async def set_up(self, channel):
        await channel.topology.declare_queue(QUEUE, durable=True)
        await channel.consumers.start(QUEUE, self.received.append, no_ack=self.no_ack)

    async def count(self, count, *, timeout=60):
        await until(lambda: len(self.received) >= count, timeout=timeout)
        return self.received


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 1_000_000, 20_000_000])
async def test_bodies_of_any_length(connection, size):
    """A message of any length arrives complete, with its properties."""
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    consumer = Consumer()
    async with connection.channel(consumer.set_up), connection.channel(confirms=True) as channel:
        sent = Message(data, headers={"n": 1, "s": "x"}, correlation_id="c", type="t", priority=3)
        await channel.publish("", QUEUE, sent)
        (received,) = await consumer.count(1, timeout=60)
    assert received.body == data
    assert received.headers == {"n": 1, "s": "x"}
    assert (received.correlation_id, received.type, received.redelivered) == ("c", "t", False)


async def test_order_is_kept(connection):
    """Messages arrive in the order in which they were sent, large and small."""
    consumer = Consumer()
    async with connection.channel(consumer.set_up), connection.channel() as channel:
        sizes = [n * 7919 % 300_000 if n % 5 == 0 else n for n in range(100)]
        for size in sizes:
            await channel.publish("", QUEUE, Message(b"x" * size))
        received = await consumer.count(100, timeout=60)
    assert [len(each.body) for each in received] == sizes


async def test_mandatory_messages(connection):
    """A mandatory message that is routed to no queue is `Unroutable`, and no other message is."""
    async with connection.channel(confirms=True) as channel:
        await channel.topology.declare_queue(QUEUE, durable=True)
        outcomes = await asyncio.gather(
            *(
                channel.publish("", key, Message(b"x"), mandatory=True)
                for key in (QUEUE, "missing", QUEUE, "missing")
            ),
            return_exceptions=True,
        )
        await channel.publish("", "missing", Message(b"x"))  # not mandatory: dropped
    assert [type(each) for each in outcomes] == [type(None), Unroutable, type(None), Unroutable]


async def test_missing_exchange(connection):
    """Publishing to a missing exchange is refused, and the channel recovers."""
    async with connection.channel(confirms=True) as channel:
        await channel.topology.declare_queue(QUEUE, durable=True)
        for _ in range(3):
            with pytest.raises(BrokerRefused) as refused:
                await channel.publish("not.there", "", Message(b"x"))
            assert refused.value.code == 404
            await channel.publish("", QUEUE, Message(b"x"))
        assert channel.generation == 4


async def flood(channel):
    """Send in every iteration of the loop, until that raises."""
    while True:
        channel.send("", QUEUE, Message(b"y"))
        await asyncio.sleep(0)


async def test_frames_after_a_channel_is_closed(connection):
    """Sending on a channel that the broker is closing costs the channel, not the connection."""
    other = Consumer()
    async with connection.channel(other.set_up), connection.channel() as channel:
        for round_ in range(20):
            await channel.ready()
            channel.send("not.there", "", Message(b"x"))
            with pytest.raises(ConnectionLost):
                await flood(channel)
            assert channel.generation == round_ + 1
        await channel.publish("", QUEUE, Message(b"last"))
        await until(lambda: other.received and other.received[-1].body == b"last")
    assert connection.reconnects == 0


async def test_every_message_has_an_outcome(connection):
    """Each message has an outcome, however often the channel is lost and reopened."""
    consumer = Consumer()
    async with connection.channel(consumer.set_up), connection.channel(confirms=True) as channel:

        async def publish(who):
            accepted = 0
            for n in range(100):
                try:
                    await channel.publish("", QUEUE, Message(b"%d.%d" % (who, n)), mandatory=True)
                    accepted += 1
                except (ConnectionLost, BrokerRefused):
                    pass
                if n % 20 == who:
                    with contextlib.suppress(ConnectionLost):
                        channel.send("not.there", "", Message(b"x"))
            return accepted

        async with asyncio.timeout(60):
            accepted = sum(await asyncio.gather(*map(publish, range(10))))
        received = {each.body for each in await consumer.count(accepted)}
    assert channel.generation > 5
    assert accepted > 100
    assert len(received) >= accepted
    assert connection.reconnects == 0


async def test_acknowledged_and_rejected(connection):
    """Acknowledged messages are removed; rejected or unacknowledged ones are redelivered."""
    consumer = Consumer(no_ack=False)
    channel = connection.channel(consumer.set_up, prefetch=2)
    async with channel, connection.channel(confirms=True) as publisher:
        for n in range(4):
            await publisher.publish("", QUEUE, Message(b"%d" % n))
        first, second = await consumer.count(2)
        channel.reject(first, requeue=True)
        assert (await consumer.count(3))[2].body == b"0"
        assert consumer.received[2].redelivered
        channel.ack(consumer.received[2], multiple=True)
        await consumer.count(5)
        channel.ack(second)  # again, which the broker takes as an error
        await until(lambda: channel.generation == 2)
        await consumer.count(7)
    assert [each.body for each in consumer.received[5:]] == [b"2", b"3"]
    assert connection.reconnects == 0


async def test_acknowledging_an_earlier_generation(connection):
    """A delivery of an earlier generation is ignored, because its tag may be in use again."""
    consumer = Consumer(no_ack=False)
    channel = connection.channel(consumer.set_up)
    async with channel, connection.channel(confirms=True) as publisher:
        await publisher.publish("", QUEUE, Message(b"x"))
        (old,) = await consumer.count(1)
        channel.send("not.there", "", Message(b"x"))
        _, again = await consumer.count(2)
        channel.ack(old)
        channel.reject(old, requeue=False)
        assert again.redelivered
        assert again.generation == 2
        channel.reject(again, requeue=True)
        await consumer.count(3)


async def test_a_cancelled_consumer(connection):
    """A cancelled consumer gets no messages, and the channel stays open."""
    consumer = Consumer()
    async with connection.channel() as channel:
        await channel.topology.declare_queue(QUEUE, durable=True)
        tag = await channel.consumers.start(QUEUE, consumer.received.append, no_ack=True)
        await channel.publish("", QUEUE, Message(b"1"))
        await consumer.count(1)
        await channel.consumers.cancel(tag)
        await channel.publish("", QUEUE, Message(b"2"))
        await channel.consumers.start(QUEUE, consumer.received.append, no_ack=True)
        await consumer.count(2)
        assert channel.generation == 1


async def test_closing_fails_unconfirmed_messages(connection):
    """Closing a channel fails unconfirmed messages, and further ones are refused."""
    channel = await connection.channel(confirms=True).open()
    waiting = asyncio.ensure_future(channel.publish("", "missing", Message(b"x" * 1000)))
    await asyncio.sleep(0)
    await channel.close()
    with pytest.raises(ConnectionLost):
        await waiting
    with pytest.raises(NotConnected):
        await channel.publish("", "missing", Message(b"x"))
    with pytest.raises(ConnectionLost):
        channel.send("", "missing", Message(b"x"))


async def test_a_cancelled_setup(connection):
    """A setup that is cancelled leaves the connection usable."""
    consumer = Consumer()

    async def set_up(channel):
        for n in range(1000):
            await channel.topology.declare_queue(f"{QUEUE}.{n}", exclusive=True)

    for delay in (0.0, 0.003, 0.01, 0.03):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(delay), connection.channel(set_up):
                pass
    async with connection.channel(consumer.set_up) as channel:
        await channel.publish("", QUEUE, Message(b"x"))
        await consumer.count(1)
    assert connection.reconnects == 0
