"""Names and numbers that AMQP does not have are refused at once, and harm nothing beside them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from fabric_nb.errors import InvalidName, UnusableQueue
from tests.support.fabric import wait_for_service

NAMES = [b"orders", 5, None, "amq.orders", "x" * 256, "ü", "a\nb", "a\0b", "a;b", "\udc80", "a?b"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
async def test_queues_that_cannot_be(members, name):
    """A queue's name that AMQP refuses is refused here, in a sentence, wherever it is given."""
    member = await members.join("one")
    for refused in (
        lambda: member.stream(name=name),
        lambda: member.stream(name=name, durable=True),
        lambda: member.subscribe_data(name, {}, print),
        lambda: member.diagnose(subscriptions=[name]),
    ):
        with pytest.raises(UnusableQueue, match=r"\.$") as caught:
            await refused()
        assert isinstance(caught.value, ValueError)
    assert member._reading.reconnects == member._connection.reconnects == 0


@pytest.mark.parametrize("name", ["x" * 255, "orders of the day", "a-b_c.d:e@f#g,h/i+j", "amqp"])
async def test_queues_that_can_be(members, name):
    """All other names may be a queue's, up to 255 characters."""
    member = await members.join("one")
    async with await member.stream(name=name) as stream:
        await member.publish_data({"n": 1})
        await stream.wait(1, timeout=5)


@pytest.mark.parametrize("name", ["x" * 128, "ü", "a\nb", 5, b"x"], ids=repr)
async def test_exchanges_that_cannot_be(members, name, monkeypatch):
    """The name of an exchange that clients do not take is refused before anything is opened."""
    with pytest.raises(InvalidName, match=r"cannot be the name of an exchange: .*\.$"):
        members.connector("one", discovery_exchange=name)
    if isinstance(name, str):
        monkeypatch.setenv("DATA_EXCHANGE_NAME", name)
        with pytest.raises(InvalidName, match="cannot be the name of an exchange"):
            members.connector("one")


async def test_addresses_too_long_to_serve(members):
    """An address or method whose queue would have too long a name is refused, and can be heard."""
    longest = await members.join("i" * 63, type="t" * 63)
    with pytest.raises(InvalidName, match="too long an address to serve under"):
        await longest.serve({"work": lambda: 1})
    member = await members.join("i" * 55, type="t" * 55)
    with pytest.raises(InvalidName, match="too long a method to serve"):
        await member.serve({"m" * 128: lambda: 1, "work": lambda: 1})
    server = await member.serve({"work": lambda: 1})
    with pytest.raises(InvalidName, match="too long a method to serve"):
        await server.replace({"m" * 128: lambda: 1})
    await wait_for_service(longest, "i" * 55, methods=1)
    assert await longest.call(f"{'i' * 55}.work") == 1


@pytest.mark.parametrize("prefetch", [0, -1, 65_536, 1.5, "5", True, None])
async def test_prefetch_that_is_no_number_of_messages(members, prefetch):
    """How many messages may be on their way is a whole number that AMQP has."""
    member = await members.join("one")
    with pytest.raises(ValueError, match=r"^prefetch is .*\.$"):
        await member.stream(prefetch=prefetch)
    with pytest.raises(ValueError, match=r"^prefetch is .*\.$"):
        await member.serve({"work": lambda: 1}, prefetch=prefetch)
    await member.serve({"work": lambda: 1}, prefetch=np.int64(2))
    async with await member.stream(prefetch=np.int64(10)):
        assert await member.call("app.one.work") == 1


@pytest.mark.parametrize("bound", [0, -1, 1.5, "5", True])
@pytest.mark.parametrize("name", ["max_rows", "max_bytes"])
async def test_bounds_that_are_none(members, name, bound):
    """A bound of rows or bytes is a whole number from 1; others are refused before opening."""
    member = await members.join("one")
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least 1, not "):
        await member.stream(**{name: bound})


@pytest.mark.parametrize(
    "start",
    [-1, 2**63, True, 1.5, "middle", b"first", dt.datetime(1969, 1, 1, tzinfo=dt.UTC), [1]],
    ids=repr,
)
async def test_places_in_a_stream_that_are_none(members, start):
    """What is no place in a RabbitMQ stream is refused before anything is declared."""
    member = await members.join("one")
    with pytest.raises(UnusableQueue, match=r"^replay_from"):
        await member.stream(name="kept", replay_from=start)
