"""Durable streams, and replayed streams."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from fabric_nb.errors import BrokerRefused, UnusableQueue
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.data.stream import Stream
from fabric_nb.fabric.data.stream_options import StreamOptions
from tests.broker.process import BrokerProcess
from tests.support.fabric import Members, until


@pytest.fixture
async def kept(rabbitmq_uri):
    """Return members on a broker with durable queues."""
    async with Members(rabbitmq_uri) as members:
        yield members


async def publish(fabric, numbers):
    await asyncio.gather(*(fabric.publish_data({"n": n}) for n in numbers))


def numbers(stream):
    return sorted(stream.df["n"]) if len(stream) else []


async def test_durable_stream(kept, rabbitmq, vhost, caplog):
    """A durable stream stores messages while it is not open, until it is deleted."""
    fabric = await kept.join("one")
    async with await fabric.stream(name="orders", durable=True) as stream:
        await publish(fabric, range(10))
        await stream.wait(10, timeout=60)
    await publish(fabric, range(10, 20))
    reader = await kept.join("reader")
    stream = await reader.stream(name="orders", durable=True)
    await stream.wait(10, timeout=60)
    assert numbers(stream) == list(range(10, 20))
    (queue,) = [each for each in rabbitmq.list_queues(vhost) if each["name"] == "orders"]
    assert queue["arguments"] == {"x-queue-type": "quorum"}
    await stream.delete()
    assert stream.closed
    await asyncio.sleep(0.2)  # a silent interval
    assert "was deleted" not in caplog.text
    assert "orders" not in [each["name"] for each in rabbitmq.list_queues(vhost)]


async def test_replay(kept, rabbitmq, vhost):
    """Each reader of a replayed stream starts at its own offset, and resumes after a reconnect."""
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
    await first.wait(20, timeout=60)
    await fifth.wait(15, timeout=60)
    await later.wait(10, timeout=60)
    assert numbers(fifth) == list(range(5, 20))

    await until(lambda: rabbitmq.list_connections(vhost))
    generation = first.consumer.channel.generation
    rabbitmq.close_connections(vhost, "apart")
    await publish(fabric, range(20, 30))
    await until(lambda: first.consumer.channel.generation > generation)
    await first.wait(30, timeout=60)
    await until(lambda: upcoming.consumer.channel.is_ready)
    await publish(fabric, [30])
    await first.wait(31, timeout=60)
    await upcoming.wait(1, timeout=60)
    assert list(first.df["n"]) == list(range(31))  # once, and in order
    assert set(numbers(later)) >= set(range(10, 20))
    assert set(numbers(upcoming)) <= set(range(20, 31))
    await first.delete()


@pytest.mark.parametrize("how", [{"durable": True}, {"replay_from": "first"}])
async def test_broker_without_durable_queues(how):
    """The embedded broker refuses durable and replayed streams with the reason."""
    with BrokerProcess() as broker:
        async with Members(broker.uri) as members:
            fabric = await members.join("one")
            with pytest.raises(BrokerRefused, match="the embedded broker keeps nothing"):
                await fabric.stream(name="orders", **how)


async def test_same_name_of_another_kind(kept):
    """A name that belongs to a queue of another kind is refused."""
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
def test_invalid_options(how, why):
    """Invalid options are refused before anything is sent to the broker."""
    with pytest.raises(ValueError, match=why):
        Stream(
            Connection("amqp://nowhere/", name=""),
            "d",
            {},
            StreamOptions(**how),
            rejected=RejectedMessages(),
        )


@pytest.mark.parametrize("again", [3, 12, 40], ids=["fewer", "as many", "more"])
async def test_a_replayed_queue_that_is_deleted(kept, caplog, again):
    """A replayed stream whose queue is deleted continues with the first message of the new one."""
    fabric = await kept.join("one")
    stream = await fabric.stream(name="log", replay_from="first")
    await publish(fabric, range(12))
    await stream.wait(12, timeout=60)
    generation = stream.consumer.channel.generation
    operator = await kept.join("operator")
    async with operator.member.connection.channel() as channel:
        await channel.topology.delete_queue("log")
    other = await operator.stream(name="log", replay_from="next")  # it may be made anew by others
    await publish(fabric, range(100, 100 + again))
    await until(lambda: stream.consumer.channel.generation > generation)
    await stream.wait(12 + again, timeout=60)
    await publish(fabric, [999])
    await stream.wait(13 + again, timeout=60)
    assert numbers(stream) == [*range(12), *range(100, 100 + again), 999]
    assert stream.remade == 1
    assert "'log' was deleted" in caplog.text
    await other.delete()


@pytest.mark.parametrize(
    "options",
    [{"durable": True}, {"replay_from": "first"}, {}],
    ids=["durable", "replay", "shared"],
)
async def test_another_filter_than_the_queue_has(kept, options):
    """A stream is refused if its queue has another filter."""
    fabric, other = await kept.join("one"), await kept.join("other")
    stream = await fabric.stream(name="orders", currency="EUR", **options)
    for filters in ({"currency": "USD"}, {}, {"currency": "EUR", "kind": "A"}):
        with pytest.raises(UnusableQueue, match="'orders' gathers messages of another"):
            await other.stream(filters, name="orders", **options)
    with pytest.raises(UnusableQueue, match="another filter or domain"):
        await other.stream(name="orders", currency="EUR", domain="elsewhere", **options)
    shares = await other.stream(name="orders", currency="EUR", **options)
    await fabric.publish_data({"n": 1}, {"currency": "EUR"})
    await until(lambda: stream.rows + shares.rows >= 1)
    await shares.close()
    await stream.delete()
    async with await other.stream(name="orders", currency="USD", **options) as dollars:
        for n, currency in enumerate(["EUR", "USD"]):
            await fabric.publish_data({"n": n}, {"currency": currency})
        await dollars.wait(1, timeout=60)
        assert numbers(dollars) == [1]
        await dollars.delete()


async def test_queue_of_other_software(kept):
    """A queue without a known filter, of an operator or amqp-fabric, is read unchanged."""
    fabric = await kept.join("one")
    async with fabric.member.connection.channel() as channel:
        await channel.topology.declare_durable_queue("orders", "quorum")
    async with await fabric.stream(name="orders", durable=True, currency="EUR") as stream:
        await fabric.publish_data({"n": 1}, {"currency": "EUR"})
        await stream.wait(1, timeout=60)
