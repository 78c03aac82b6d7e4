"""Caller identity, and access control."""

from __future__ import annotations

import asyncio
import json

import aio_pika
import pytest
from yarl import URL

import fabric_nb
from fabric_nb.errors import BrokerRefused, RemoteError
from fabric_nb.fabric.connector import AmqBrokerConnector
from fabric_nb.fabric.rpc.access import CallerIdentity
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from tests.support.fabric import until
from tests.support.internals import rename_user
from tests.support.peers import DOMAIN

pytestmark = pytest.mark.any_broker  # these are of fabric_nb itself, unless marked otherwise


def whoami():
    """Return the caller as data."""
    who = fabric_nb.caller()
    assert who is not None
    return [who.service, who.instance, who.user]


async def awhoami():
    await asyncio.sleep(0)
    return whoami()


def items():
    yield whoami()
    yield whoami()


@pytest.fixture
async def caller(members):
    """Return a member that calls."""
    return await members.join("client", type="cli")


def user_of(fabric: AmqBrokerConnector) -> str | None:
    return URL(str(fabric.member.target().uri)).user


@pytest.mark.parametrize("threads", [False, True])
async def test_caller_of_a_function(members, caller, threads):
    """Service and instance are claimed by the caller; the user is verified by the broker."""
    server = await members.join("server")
    functions = {"plain": whoami, "coroutine": awhoami, "items": items}
    await server.serve(functions, threads=threads)
    expected = [f"{DOMAIN}.cli.client", caller.instance, user_of(caller)]
    assert user_of(caller)
    assert await caller.call("app.server.plain") == expected
    assert await caller.call("app.server.coroutine") == expected
    assert await caller.call("app.server.items") == [expected, expected]
    assert [item async for item in caller.call_stream("app.server.items")] == [expected] * 2
    assert fabric_nb.caller() is None


async def test_callers_of_concurrent_calls(members):
    """Each of several concurrent calls has its own caller, also in tasks that it starts."""
    server = await members.join("server")
    go = asyncio.Event()

    async def wait_and_return_caller():
        await go.wait()
        return await asyncio.create_task(awhoami())

    await server.serve({"whoami": wait_and_return_caller}, prefetch=10)
    clients = [await members.join(f"c{n}") for n in range(5)]
    calls = [asyncio.create_task(client.call("app.server.whoami")) for client in clients]
    await until(lambda: server.servers[0].stats["whoami"].running == 5)
    go.set()
    replies = await asyncio.gather(*calls)
    assert [instance for _, instance, _ in replies] == [client.instance for client in clients]


async def test_caller_on_another_library(members, raw):
    """A caller without a valid header has no identity."""
    server = await members.join("server")
    seen: list[CallerIdentity | None] = []
    await server.serve({"note": lambda: seen.append(fabric_nb.caller())})
    exchange = await raw.get_exchange(server.name.api_exchange)
    claims = [
        None,
        7,
        "",
        "a.b.c",
        "a.b.c.d.e",
        f"{DOMAIN}.app.x.<script>",
        "x" * 100_000,
        f"{DOMAIN}.app.bank.1",  # anybody can say that
    ]
    for claim in claims:
        message = aio_pika.Message(b"{}", type="call", headers={"x-fabric-caller": claim})
        await exchange.publish(message, server.name.method_queue("note"))
    await until(lambda: len(seen) == len(claims))
    assert seen == [CallerIdentity()] * 7 + [CallerIdentity(f"{DOMAIN}.app.bank", "1")]


async def test_user_cannot_be_forged(members, raw):
    """The broker refuses a message with the name of another user."""
    server = await members.join("server")
    await server.serve({"whoami": whoami})
    exchange = await raw.get_exchange(server.name.api_exchange)
    with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed, match="user_id"):
        await exchange.publish(
            aio_pika.Message(b"{}", user_id="another-user"), server.name.method_queue("whoami")
        )


async def test_user_with_another_name_at_the_broker(members, caller):
    """If the broker's user name is not that of the URI, calls are sent without a user."""
    server = await members.join("server")
    await server.serve({"whoami": whoami, "items": items})
    for work in (
        lambda: caller.call("app.server.whoami", timeout=60),
        lambda: anext(caller.call_stream("app.server.items", timeout=60)),
    ):
        rename_user(caller.member.connection, "of-the-token")
        replies = await asyncio.gather(*(work() for _ in range(5)))
        assert replies == [[f"{DOMAIN}.cli.client", caller.instance, None]] * 5


async def test_allowed_users(members, caller, raw):
    """`allow` accepts calls of these users only; others are refused, and counted as errors."""
    server = await members.join("server")
    serving = await server.serve({"whoami": whoami, "items": items}, allow=[user_of(caller)])
    assert (await caller.call("app.server.whoami"))[2] == user_of(caller)

    serving.access.restrict(ServeOptions(allow={"another-user"}))
    for call in (
        caller.call("app.server.whoami", timeout=60),
        caller.call("app.server.items", timeout=60),
        anext(caller.call_stream("app.server.items", timeout=60)),
    ):
        with pytest.raises(PermissionError, match=f"does not take calls of {user_of(caller)}") as e:
            await call
        assert isinstance(e.value, RemoteError)
    assert serving.stats["whoami"].errors == 1
    assert serving.stats["whoami"].last_error.startswith("PermissionError")

    replies = await raw.declare_queue(exclusive=True)
    exchange = await raw.get_exchange(server.name.api_exchange)
    anonymous = aio_pika.Message(b"{}", type="call", reply_to=replies.name, correlation_id="1")
    await exchange.publish(anonymous, server.name.method_queue("whoami"))
    async with replies.iterator(timeout=10) as messages:
        error = json.loads((await anext(messages)).body)["error"]
    assert error["type"] == "builtins.PermissionError"
    assert "a caller without a verified user" in error["message"]

    serving.access.restrict(ServeOptions())
    assert (await caller.call("app.server.whoami"))[2] == user_of(caller)


@pytest.fixture
async def unknown_broker(broker_uri):
    """Yield the URI of a proxy that changes the product name of the broker."""

    async def pump(reader, writer, *names):
        with_name = [name.encode() for name in names]
        try:
            while data := await reader.read(65536):
                for name in with_name:
                    data = data.replace(name, b"X" * len(name))
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connect(reader, writer):
        url = URL(broker_uri)
        far_reader, far_writer = await asyncio.open_connection(url.host, url.port)
        await asyncio.gather(
            pump(reader, far_writer),
            pump(far_reader, writer, "RabbitMQ", "fabric_nb embedded broker"),
        )

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    before, _, after = broker_uri.rpartition(":")
    yield f"{before}:{port}/{after.partition('/')[2]}"
    server.close()  # not waited for: from Python 3.12 on that takes as long as its connections


async def test_broker_that_does_not_verify(members, unknown_broker):
    """If the broker does not verify users, the caller has none, and `allow` is refused."""
    server = await members.join("server", uri=unknown_broker)
    with pytest.raises(BrokerRefused, match="does not verify which user sends a message") as caught:
        await server.serve({"whoami": whoami}, allow=["ann"])
    assert "XXXX" in str(caught.value)  # it is named
    assert server.servers == ()
    await server.serve({"whoami": whoami})
    assert (await server.call("app.server.whoami"))[2] is None
