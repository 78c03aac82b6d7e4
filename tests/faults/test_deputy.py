"""Confused deputy: a service's permissions cannot be used to reach another service.

Each attack runs on RabbitMQ, by users with the permissions of `docs/security.md` or fewer.
"""

from __future__ import annotations

import json
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest

from fabric_nb.errors import BrokerRefused, MalformedMessage
from fabric_nb.fabric.rpc.access import is_reply_queue
from tests.faults.test_permissions import permissions
from tests.support.fabric import Members, next_message, until
from tests.support.peers import DOMAIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fabric_nb import AmqBrokerConnector
    from tests.support.rabbitmq import RabbitMq

API = f"{DOMAIN}.api.app"
CALL = {"type": "call", "correlation_id": "1"}


class Bank:
    """A service that records transfers."""

    def __init__(self) -> None:
        self.transfers: list[Any] = []

    def transfer(self, to: object = None, **_: object) -> str:
        """Record a transfer."""
        self.transfers.append(to)
        return "done"

    def balance(self, to: object = None) -> int:
        """Return a number."""
        return 5


@pytest.fixture
def bank_api() -> Bank:
    """Return the API of the bank, which records transfers."""
    return Bank()


@pytest.fixture(params=[False, True], ids=["clique", "leader"])
async def bank(request, members: Members, bank_api: Bank) -> AmqBrokerConnector:
    """Serve the target of the attacks, with all permissions."""
    bank = await members.join("bank")
    await bank.serve(bank_api, single_active=request.param)
    return bank


@pytest.fixture
async def lookup(members: Members, bank: AmqBrokerConnector) -> AmqBrokerConnector:
    """Serve an echo method in the same domain that all users may call."""
    lookup = await members.join("lookup")
    await lookup.serve({"echo": lambda **kwargs: kwargs})
    return lookup


@asynccontextmanager
async def as_user(
    rabbitmq: RabbitMq, vhost: str, name: str, **patterns: str
) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """Yield a raw aio-pika channel of a user with these permissions."""
    uri = rabbitmq.add_user(f"{name}-{vhost}", "secret", vhost=vhost, **patterns)
    async with await aio_pika.connect(uri) as connection:
        yield await connection.channel()


async def call(
    channel: aio_pika.abc.AbstractChannel, exchange: str, key: str, reply_to: str, **properties: Any
) -> None:
    """Publish a raw request."""
    target = await channel.get_exchange(exchange, ensure=False) if exchange else None
    message = aio_pika.Message(
        json.dumps({"to": "mallory"}).encode(), reply_to=reply_to, **{**CALL, **properties}
    )
    await (target or channel.default_exchange).publish(message, key)


def methods_queue(service: str, method: str) -> str:
    return f"{API}.{service}::{method}"


async def assert_rejected(fabric: AmqBrokerConnector, text: str, count: int = 1) -> None:
    """Wait until `count` calls were rejected, the last one with this reason."""
    await until(lambda: fabric.rejected.counts["call"] == count)
    assert text in fabric.rejected.last[-1].reason


async def test_reply_addresses_cannot_be_method_queues(bank, bank_api, lookup, rabbitmq, vhost):
    """A user who may only call `lookup` cannot make it reply to a method queue of `bank`."""
    permissions = {
        "configure": r"^amq\.gen.*$",
        "write": rf"^(amq\.gen.*|{API}\.lookup)$".replace("app.", r"app\."),
        "read": r"^amq\.gen.*$",
    }
    leader = f"{API}.bank.leader"
    async with as_user(rabbitmq, vhost, "mallory", **permissions) as channel:
        for queue in (methods_queue("bank", "transfer"), leader, methods_queue("lookup", "echo")):
            await call(channel, f"{API}.lookup", methods_queue("lookup", "echo"), queue)
        await assert_rejected(lookup, "wants its reply in", 3)
        # A server-named queue receives the reply.
        queue = await channel.declare_queue("", exclusive=True)
        await call(channel, f"{API}.lookup", methods_queue("lookup", "echo"), queue.name)
        reply = await next_message(queue)
        assert json.loads(reply.body) == {"to": "mallory"}
    assert bank_api.transfers == []
    assert lookup.servers[0].stats["echo"].calls == 1


@pytest.mark.parametrize("kind", ["result", "error", "call", None])
async def test_messages_by_the_default_exchange_are_not_calls(
    bank, bank_api, lookup, members, rabbitmq_uri, kind
):
    """Messages to a method queue by the default exchange are counted and ignored.

    So a service of amqp-fabric, which replies to any address, cannot be used for an attack.
    """
    leads = await bank.member.connection.channel().open()
    leader = await leads.topology.has_queue(f"{API}.bank.leader")
    queue = f"{API}.bank.leader" if leader else methods_queue("bank", "transfer")
    async with await aio_pika.connect(rabbitmq_uri) as connection:
        channel = await connection.channel()
        replies = await channel.declare_queue("", exclusive=True)
        await call(channel, "", queue, replies.name, type=kind)
        await assert_rejected(bank, "published to another exchange")
        assert await replies.get(fail=False) is None
    assert bank_api.transfers == []


@pytest.fixture
async def mallory(
    rabbitmq: RabbitMq, vhost: str, lookup: AmqBrokerConnector
) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """Connect as a user with the documented permissions of a server, in the clique of `lookup`."""
    async with as_user(rabbitmq, vhost, "mallory", **permissions("server")) as channel:
        yield channel


async def test_permissions_of_a_server(bank, bank_api, members, rabbitmq, vhost):
    """A server may serve its service and call others, but not consume their calls."""
    uri = rabbitmq.add_user(f"lookup-{vhost}", "secret", vhost=vhost, **permissions("lookup"))
    fabric = await members.join("lookup", uri=uri)
    await fabric.serve({"twice": lambda x: 2 * x})
    assert await bank.call("app.lookup.twice", x=2, timeout=60) == 4
    assert await fabric.call(f"{DOMAIN}.app.bank.transfer", to="bob", timeout=60) == "done"
    for operation in (
        lambda channel, queue: channel.topology.bind(
            queue, f"{API}.bank", methods_queue("bank", "balance")
        ),
        lambda channel, _: channel.topology.bind(
            methods_queue("bank", "transfer"), f"{API}.lookup", methods_queue("lookup", "twice")
        ),
        lambda channel, _: channel.consumers.start(methods_queue("bank", "transfer"), print),
    ):
        async with fabric.member.connection.channel() as channel:
            queue = await channel.topology.declare_queue(exclusive=True)
            with pytest.raises(BrokerRefused, match="lacks permission"):
                await operation(channel, queue)


@pytest.fixture
async def ann(members: Members, rabbitmq: RabbitMq, vhost: str) -> AmqBrokerConnector:
    """Connect as a user who may call `lookup` and the bank."""
    uri = rabbitmq.add_user(f"ann-{vhost}", "secret", vhost=vhost, **permissions("caller"))
    return await members.join("ann", uri=uri)


async def bind(channel: aio_pika.abc.AbstractChannel, method: str, leader: bool) -> None:
    """Route copies of calls of `lookup.echo` to the bank's queue."""
    queue = f"{API}.bank.leader" if leader else methods_queue("bank", "transfer")
    underlay = await channel.get_underlay_channel()
    key = methods_queue("lookup", "echo")
    if method == "queue":
        await underlay.queue_bind(queue, f"{API}.lookup", key)
    elif method == "exchange":
        await underlay.exchange_bind(
            destination=f"{API}.bank", source=f"{API}.lookup", routing_key=key
        )
        await underlay.queue_bind(queue, f"{API}.bank", key)
    else:  # the copy expires in a queue of mallory's, and is dead-lettered to the bank
        arguments = {
            "x-message-ttl": 0,
            "x-dead-letter-exchange": f"{API}.bank",
            "x-dead-letter-routing-key": methods_queue("bank", "transfer"),
        }
        dying = await underlay.queue_declare("", exclusive=True, arguments=arguments)
        await underlay.queue_bind(dying.queue, f"{API}.lookup", key)


@pytest.mark.parametrize("method", ["queue", "exchange", "dead letters"])
async def test_bindings_of_other_users_do_not_cause_calls(
    bank, bank_api, lookup, mallory, ann, method
):
    """A call is not run by another service, whatever the bindings of other users.

    Its caller receives the reply of the called service.
    """
    channel = await bank.member.connection.channel().open()
    leader = await channel.topology.has_queue(f"{API}.bank.leader")
    await bind(mallory, method, leader)
    assert await ann.call("app.lookup.echo", to="mallory", timeout=60) == {"to": "mallory"}
    await assert_rejected(bank, "dead-lettered" if method == "dead letters" else "another exchange")
    assert bank_api.transfers == []
    assert await ann.call(f"{DOMAIN}.app.bank.transfer", to="bob", timeout=60) == "done"
    assert bank_api.transfers == ["bob"]


@pytest.mark.parametrize("bank", [False], indirect=True, ids=["clique"])
async def test_a_call_does_not_run_another_method(bank, bank_api, mallory, ann):
    """A call is not run as another method of the same service."""
    underlay = await mallory.get_underlay_channel()
    queue, key = methods_queue("bank", "transfer"), methods_queue("bank", "balance")
    await underlay.queue_bind(queue, f"{API}.bank", key)
    assert await ann.call(f"{DOMAIN}.app.bank.balance", to="mallory", timeout=60) == 5
    await assert_rejected(bank, "for another method")
    assert bank_api.transfers == []


async def test_a_dead_lettered_copy_does_not_end_the_call(bank, bank_api, lookup, mallory, ann):
    """A copy of a call that expires in another user's queue does not end the call."""
    underlay = await mallory.get_underlay_channel()
    arguments = {"x-message-ttl": 0, "x-dead-letter-exchange": "rpc.dlx"}
    dying = await underlay.queue_declare("", exclusive=True, arguments=arguments)
    await underlay.queue_bind(dying.queue, f"{API}.lookup", methods_queue("lookup", "slow"))

    async def slow() -> str:
        await until(lambda: ann.rejected.counts["reply"] == 1)
        return "answer"

    await lookup.servers[0].replace({"slow": slow})
    assert await ann.call("app.lookup.slow", timeout=60) == "answer"
    assert "in place of its reply" in ann.rejected.last[-1].reason


async def test_credit_is_sent_only_to_server_queues(bank, bank_api, lookup, mallory, members):
    """A hostile server cannot make its caller publish to the queue of another service."""
    underlay = await mallory.get_underlay_channel()
    await underlay.exchange_declare(f"{API}.evil", auto_delete=True)
    queue = await mallory.declare_queue(
        methods_queue("evil", "items"), durable=True, auto_delete=True
    )
    await queue.bind(f"{API}.evil", queue.name)

    async def begin(request: aio_pika.abc.AbstractIncomingMessage) -> None:
        await mallory.default_exchange.publish(
            aio_pika.Message(
                b"null",
                type="begin",
                correlation_id=request.correlation_id,
                reply_to=methods_queue("bank", "transfer"),
            ),
            request.reply_to or "",
        )

    await queue.consume(begin, no_ack=True)
    caller = await members.join("caller")
    with pytest.raises(MalformedMessage, match="no server has"):
        async for _ in caller.call_stream(f"{DOMAIN}.app.evil.items", timeout=60):
            pass
    assert await caller.call(f"{DOMAIN}.app.bank.balance") == 5
    assert bank.rejected.total == 0
    assert bank_api.transfers == []


@pytest.mark.parametrize("bank", [False], indirect=True, ids=["clique"])
async def test_allowed_exchanges_and_reply_queues(bank, bank_api, members, rabbitmq_uri):
    """A service can allow calls by other exchanges and reply queues."""
    open_bank = await members.join("open")
    await open_bank.serve(bank_api, exchanges=[""], reply_queues=["rpc.reply-*"])
    async with await aio_pika.connect(rabbitmq_uri) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(f"rpc.reply-{uuid.uuid4()}", exclusive=True)
        for exchange in ("", f"{API}.open"):
            await call(channel, exchange, methods_queue("open", "balance"), queue.name)
            assert json.loads((await next_message(queue)).body) == 5
    assert open_bank.rejected.total == 0


@pytest.mark.parametrize("bank", [False], indirect=True, ids=["clique"])
async def test_direct_reply_to(bank, rabbitmq_uri):
    """Callers that use direct reply-to receive replies."""
    async with await aio_pika.connect(rabbitmq_uri) as connection:
        channel = await connection.channel(publisher_confirms=False)
        underlay = await channel.get_underlay_channel()
        replies: list[Any] = []

        async def on_reply(message: Any) -> None:
            replies.append(message.body)

        await underlay.basic_consume("amq.rabbitmq.reply-to", on_reply, no_ack=True)
        exchange = await channel.get_exchange(f"{API}.bank", ensure=False)
        message = aio_pika.Message(b"{}", reply_to="amq.rabbitmq.reply-to", **CALL)
        await exchange.publish(message, methods_queue("bank", "balance"))
        await until(lambda: replies)
    assert replies == [b"5"]


@pytest.mark.parametrize("bank", [False], indirect=True, ids=["clique"])
async def test_a_call_without_its_type(bank, bank_api, rabbitmq_uri):
    """A message of another type is not a call, and its sender receives an error."""
    async with await aio_pika.connect(rabbitmq_uri) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("", exclusive=True)
        await call(
            channel, f"{API}.bank", methods_queue("bank", "transfer"), queue.name, type="result"
        )
        error = json.loads((await next_message(queue)).body)
    assert "must have the type 'call'" in error["error"]["message"]
    assert bank_api.transfers == []


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("amq.gen-X4LGVLwQBpQh0Fg5ZP6ojA", True),  # RabbitMQ's, and the embedded broker's
        ("amq.rabbitmq.reply-to.g1h2AA5yZXBseUAyODYzOTAyMwAAC64AAAAAZYQ.nQ==", True),
        (f"amq_{uuid.UUID(int=2**127).hex}", True),  # aio-pika's, robust
        ("", False),
        ("amq.", False),
        ("amq.gen-x\n", False),
        ("amq_orders", False),
        (f"amq_{uuid.UUID(int=2**127).hex}x", False),
        (methods_queue("bank", "transfer"), False),
        (f"{API}.bank.leader", False),
        ("orders", False),
    ],
)
def test_names_of_reply_queues(name, allowed):
    """Reply queues have names generated by brokers or aio-pika."""
    assert is_reply_queue(name) is allowed
