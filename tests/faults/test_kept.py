"""One RabbitMQ is killed and started again: what the streams that it keeps have then."""

from __future__ import annotations

import asyncio

import pytest

from fabric_nb.fabric.amqp import State
from tests.faults.brokers import MortalRabbitMq
from tests.faults.traffic import Messages
from tests.support.fabric import Members, until

RATE, CONFIRMED = 200, 200
"""Messages a second, and how many are confirmed before and after the death."""


@pytest.fixture
def broker(rabbitmq, vhost):
    """The node, which may be killed."""
    return MortalRabbitMq(rabbitmq, vhost)


async def all_came(stream, numbers):
    """Wait until all these are in a stream."""

    def missing():
        return sorted(numbers - set(stream.df["n"]))

    try:
        await until(lambda: not missing(), timeout=30)
    except AssertionError:
        lost = missing()
        pytest.fail(f"{stream.name} lacks {len(lost)}, from {lost[:1]} to {lost[-1:]}")


async def test_kept_streams_of_a_broker_that_is_killed(broker):
    """A durable stream has all that was confirmed; a replayed one goes on, once and in order.

    What failed meanwhile is counted. Of a replayed stream nothing is asked that was published while
    the node came back: RabbitMQ 3.10 at times confirms that, and does not keep it.
    """
    async with Members(broker.uri) as members:
        publisher, reader = [await members.join(name) for name in ("publisher", "reader")]
        durable = await reader.stream(name="durable", durable=True)
        replayed = await reader.stream(name="replayed", replay_from="first")
        messages = Messages(publisher, RATE)
        stop = asyncio.Event()
        running = asyncio.create_task(messages.run(stop))
        for stream in (durable, replayed):
            await until(lambda stream=stream: stream.rows > CONFIRMED, timeout=30)

        await asyncio.to_thread(broker.kill)
        for one in (publisher, reader):
            await until(lambda one=one: one.state is State.RECONNECTING, timeout=5)
        before = set(messages.confirmed)
        await asyncio.to_thread(broker.restart)
        await until(lambda: len(messages.confirmed) > len(before) + CONFIRMED, timeout=60)
        stop.set()
        await asyncio.wait_for(running, 60)

        await all_came(durable, messages.confirmed)
        afterwards = range(messages.made, messages.made + CONFIRMED)
        other = await members.join("other")
        for n in afterwards:
            await other.publish_data({"n": n})
        await all_came(durable, set(afterwards))
        await all_came(replayed, {*before, *afterwards})
        came = list(replayed.df["n"])
        assert came == sorted(set(came))
        assert publisher.publisher.failed == len(messages.failed)
        assert publisher.publisher.published == len(messages.confirmed)

        # Somebody who comes later reads the same.
        later = await publisher.stream(name="replayed", replay_from="first")
        await later.wait(len(came), timeout=10)
        assert list(later.df["n"]) == came
        twice, lost = messages.twice(durable), len(messages.confirmed - set(came))
        print(f"{messages.outcome}; durable: {twice} twice; replayed: lost {lost}")
        await later.delete()
        await durable.delete()
