"""Streams that the broker keeps: durable ones, and those that are read again from the beginning."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from fabric_nb.errors import BrokerRefused
from fabric_nb.fabric.amqp import Connection
from fabric_nb.fabric.malformed import MalformedLog
from fabric_nb.fabric.streams import Stream
from tests.broker.process import BrokerProcess
from tests.support.fabric import Members, until


@pytest.fixture
async def kept(rabbitmq_uri):
    """Members on a broker that keeps queues."""
    async with Members(rabbitmq_uri) as members:
        yield members


async def publish(fabric, numbers):
    await asyncio.gather(*(fabric.publish_data({"n": n}) for n in numbers))


def numbers(stream):
    return sorted(stream.df["n"]) if len(stream) else []


async def test_durable_stream(kept, rabbitmq, vhost):
    """A durable stream has what came while nobody listened, until it is deleted."""
    fabric = await kept.join("one")
    async with await fabric.stream(name="orders", durable=True) as stream:
        await publish(fabric, range(10))
        await stream.wait(10, timeout=10)
    await publish(fabric, range(10, 20))
    reader = await kept.join("reader")
    stream = await reader.stream(name="orders", durable=True)
    await stream.wait(10, timeout=10)
    assert numbers(stream) == list(range(10, 20))
    (queue,) = [one for one in rabbitmq.list_queues(vhost) if one["name"] == "orders"]
    assert queue["arguments"] == {"x-queue-type": "quorum"}
    await stream.delete()
    assert stream.closed
    assert "orders" not in [one["name"] for one in rabbitmq.list_queues(vhost)]


async def test_replay(kept, rabbitmq, vhost):
    """A replayed stream is read from where one likes, by each reader, and goes on after a loss."""
    fabric = await kept.join("one")
    await (await fabric.stream(name="log", replay_from="next")).close()
    await publish(fabric, range(10))
    middle = datetime.now(UTC)
    await asyncio.sleep(1.1)  # its times are whole seconds
    await publish(fabric, range(10, 20))

    uri = rabbitmq.add_user("apart", "apart", vhost=vhost)
    reader = await kept.join("reader", uri=uri)
    first = await reader.stream(name="log", replay_from="first")
    fifth = await reader.stream(name="log", replay_from=5, prefetch=3)
    later = await reader.stream(name="log", replay_from=middle + timedelta(seconds=0.5))
    upcoming = await reader.stream(name="log", replay_from="next")
    await first.wait(20, timeout=10)
    await fifth.wait(15, timeout=10)
    await later.wait(10, timeout=10)
    assert numbers(fifth) == list(range(5, 20))

    await until(lambda: rabbitmq.list_connections(vhost))
    generation = first._channel.generation
    rabbitmq.close_connections(vhost, "apart")
    await publish(fabric, range(20, 30))
    await until(lambda: first._channel.generation > generation, timeout=20)
    await first.wait(30, timeout=10)
    await until(upcoming._channel._ready.is_set)
    await publish(fabric, [30])
    await first.wait(31, timeout=10)
    await upcoming.wait(1, timeout=10)
    assert list(first.df["n"]) == list(range(31))  # once, and in order
    assert set(numbers(later)) >= set(range(10, 20))
    assert set(numbers(upcoming)) <= set(range(20, 31))
    await first.delete()


@pytest.mark.parametrize("how", [{"durable": True}, {"replay_from": "first"}])
async def test_broker_that_keeps_nothing(how):
    """On the embedded broker, which keeps nothing, such a stream is refused with that reason."""
    with BrokerProcess() as broker:
        async with Members(broker.uri) as members:
            fabric = await members.join("one")
            with pytest.raises(BrokerRefused, match="the embedded broker keeps nothing"):
                await fabric.stream(name="orders", **how)


async def test_same_name_of_another_kind(kept):
    """A name that is a queue of another kind already is refused."""
    fabric = await kept.join("one")
    await fabric.stream(name="rows")
    with pytest.raises(BrokerRefused, match=r"refused.*rows"):
        await fabric.stream(name="rows", durable=True)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"durable": True}, "needs a name"),
        ({"replay_from": "first"}, "needs a name"),
        ({"replay_from": "first", "durable": True, "name": "x"}, "not both"),
        ({"replay_from": "begin", "name": "x"}, "'first', 'last', 'next'"),
        ({"replay_from": -1, "name": "x"}, "'first', 'last', 'next'"),
        ({"replay_from": True, "name": "x"}, "'first', 'last', 'next'"),
        ({"replay_from": datetime(2026, 1, 1), "name": "x"}, "no time zone"),  # noqa: DTZ001
    ],
)
def test_mistakes(how, why):
    """What cannot be is refused before anything is asked of the broker."""
    with pytest.raises(ValueError, match=why):
        Stream(Connection("amqp://nowhere/", name=""), "d", {}, malformed=MalformedLog(), **how)
