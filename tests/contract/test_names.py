"""Names and numbers that AMQP does not allow are refused at once, without other effects."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from fabric_nb.errors import InvalidName, UnusableQueue
from tests.support.fabric import wait_for_service

pytestmark = pytest.mark.any_broker  # the names are checked before

NAMES = [b"orders", 5, None, "amq.orders", "x" * 256, "ü", "a\nb", "a\0b", "a;b", "\udc80", "a?b"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
async def test_invalid_queue_names(members, name):
    """An invalid name of a queue is refused in one sentence, wherever it is given."""
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
    assert member.member.consumer_connection.reconnects == member.member.connection.reconnects == 0


@pytest.mark.parametrize("name", ["x" * 255, "orders of the day", "a-b_c.d:e@f#g,h/i+j", "amqp"])
async def test_valid_queue_names(members, name):
    """All other names, up to 255 characters, can be used for a queue."""
    member = await members.join("one")
    async with await member.stream(name=name) as stream:
        await member.publish_data({"n": 1})
        await stream.wait(1, timeout=60)


@pytest.mark.parametrize("name", ["x" * 128, "ü", "a\nb", 5, b"x"], ids=repr)
async def test_invalid_exchange_names(members, name, monkeypatch):
    """An invalid name of an exchange is refused before anything is opened."""
    with pytest.raises(InvalidName, match=r"cannot be the name of an exchange: .*\.$"):
        members.connector("one", discovery_exchange=name)
    if isinstance(name, str):
        monkeypatch.setenv("DATA_EXCHANGE_NAME", name)
        with pytest.raises(InvalidName, match="cannot be the name of an exchange"):
            members.connector("one")


async def test_addresses_too_long_to_serve(members):
    """An address or method whose queue name would be too long is refused for serving."""
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
async def test_invalid_prefetch(members, prefetch):
    """The prefetch must be a whole number in AMQP's range."""
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
async def test_invalid_limits(members, name, bound):
    """A limit of rows or bytes must be a whole number from 1; others are refused before opening."""
    member = await members.join("one")
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least 1, not "):
        await member.stream(**{name: bound})


@pytest.mark.parametrize(
    "start",
    [-1, 2**63, True, 1.5, "middle", b"first", dt.datetime(1969, 1, 1, tzinfo=dt.UTC), [1]],
    ids=repr,
)
async def test_invalid_stream_offsets(members, start):
    """An invalid offset in a RabbitMQ stream is refused before anything is declared."""
    member = await members.join("one")
    with pytest.raises(UnusableQueue, match=r"^replay_from"):
        await member.stream(name="kept", replay_from=start)
