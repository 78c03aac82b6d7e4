"""Messages to the instances of a service, from members and from other programs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.wire.instances import PING
from tests.support.fabric import next_message, until
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from fabric_nb import AmqBrokerConnector
    from tests.support.fabric import Members

API = f"{DOMAIN}.api.app.server"


class Asker:
    """A program that pings the service."""

    def __init__(self, channel: aio_pika.abc.AbstractChannel) -> None:
        self._channel = channel
        self.pings = 0

    async def open(self) -> None:
        self.replies = await self._channel.declare_queue(exclusive=True)
        self.exchange = await self._channel.get_exchange(API, ensure=False)

    async def ping(self, key: str = f"{API}.instances", **properties: Any) -> None:
        self.pings += 1
        options = {"type": PING, "reply_to": self.replies.name, "correlation_id": str(self.pings)}
        message = aio_pika.Message(b"null", **(options | properties))
        await self.exchange.publish(message, key)

    async def pong(self) -> dict[str, Any]:
        message = await next_message(self.replies)
        assert message.type == "pong"
        return json.loads(message.body) | {"ping": message.correlation_id}


@pytest.fixture
async def asker(raw: aio_pika.abc.AbstractChannel) -> Asker:
    asker = Asker(raw)
    await asker.open()
    return asker


@pytest.fixture
async def server(members: Members) -> AmqBrokerConnector:
    server = await members.join("server")
    await server.serve({"work": asyncio.Event().wait, "quick": lambda: 5})
    return server


async def test_each_instance_answers(members, server, asker):
    """A ping reaches all instances of a service, or the one that its key names."""
    other = await members.join("server")
    await other.serve({"quick": lambda: 5})
    await asker.ping()
    pongs = {pong["instance"]: pong for pong in [await asker.pong(), await asker.pong()]}
    assert set(pongs) == {server.instance, other.instance}
    first, second = pongs[server.instance]["methods"], pongs[other.instance]["methods"]
    assert set(first) == {"work", "quick", "health_check", "_describe"}
    assert all(age > 0 for age in first.values())
    assert set(second.values()) == {None}
    await asker.ping(f"{API}.instances.{other.instance}")
    pong = await asker.pong()
    assert (pong["instance"], pong["ping"]) == (other.instance, "2")


async def test_only_own_calls_are_listed(members, server, asker):
    """A pong lists the calls of the member that asks, and of no other."""
    caller = await members.join("caller")
    calling = asyncio.create_task(caller.call("app.server.work", timeout=60))
    await until(lambda: len(server.servers[0].running) == 1)
    await asker.ping()
    assert (await asker.pong())["calls"] == {}
    request = aio_pika.Message(
        b"{}", type="call", correlation_id="mine", reply_to=asker.replies.name
    )
    other = await members.join("server")
    await other.serve({"work": asyncio.Event().wait})
    await asker.exchange.publish(request, f"{API}::work")
    await until(lambda: len(other.servers[0].running) == 1)
    await asker.ping()
    pongs = [await asker.pong(), await asker.pong()]
    (listed,) = [pong["calls"] for pong in pongs if pong["calls"]]
    assert list(listed) == ["mine"]
    calling.cancel()


async def test_messages_that_are_not_accepted(server, asker):
    """Other messages in a control queue have no effect, and the service goes on."""
    await asker.ping(reply_to="app.queue")
    await asker.ping(type="nonsense", correlation_id="unknown")
    await asker.ping(type="cancel", correlation_id=None)
    await asker.ping(type=None)
    await asker.ping(reply_to=None)
    await until(lambda: server.rejected.counts["call"] == 1)
    await asker.ping()
    assert (await asker.pong())["ping"] == str(asker.pings)


async def test_only_admitted_users_are_answered(members, server, asker):
    """A service that accepts calls from certain users answers the pings of no others."""
    serving = server.servers[0]
    user = server.member.connection.user_id
    if user is None:
        pytest.skip("this broker does not verify users")
    serving.access.restrict(ServeOptions(allow={user}))
    await asker.ping()
    await asker.ping(user_id=user)
    assert (await asker.pong())["ping"] == "2"


async def test_pongs_that_nobody_asked_for(members, server, raw):
    """A pong that answers no ping of a member is counted, and has no effect."""
    caller = await members.join("caller")
    queue = caller.member.rpc.requester.reply_queue
    for body in (b"null", b"{}", b"[", b"[1, 2]"):
        pong = aio_pika.Message(body, type="pong", correlation_id="p")
        await raw.default_exchange.publish(pong, queue)
    await until(lambda: caller.rejected.counts["reply"] == 4)
    assert await caller.call("app.server.quick") == 5
