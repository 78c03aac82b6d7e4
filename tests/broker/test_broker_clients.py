"""Round trips with common client libraries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aio_pika
import kombu
import pika
import pytest
from aio_pika.patterns import RPC, JsonRPC
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from tests.broker.process import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


# aio-pika, on aiormq


@pytest.fixture
async def connection(broker: BrokerProcess) -> AsyncIterator[aio_pika.abc.AbstractConnection]:
    async with await aio_pika.connect(broker.uri) as connection:
        yield connection


async def test_aio_pika_publishes_consumes_and_confirms(
    connection: aio_pika.abc.AbstractConnection, name: str
) -> None:
    """Topology, confirmed publishing, acknowledgement and rejection."""
    channel = await connection.channel(publisher_confirms=True)
    await channel.set_qos(prefetch_count=10)
    exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, auto_delete=True)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(exchange, "a.#")
    for number in range(20):
        message = aio_pika.Message(b"%d" % number, headers={"n": number}, priority=1)
        await exchange.publish(message, "a.b")
    seen: list[Any] = []
    async with queue.iterator() as messages:
        async for message in messages:
            if message.body == b"3" and not message.redelivered:
                await message.nack(requeue=True)
                continue
            async with message.process():
                seen.append((message.body, message.headers["n"]))
            if len(seen) == 20:
                break
    assert sorted(number for _, number in seen) == list(range(20))  # type: ignore[type-var]
    assert (await queue.delete()).message_count == 0


async def test_aio_pika_rpc(
    broker: BrokerProcess, connection: aio_pika.abc.AbstractConnection, name: str
) -> None:
    """The RPC pattern over two connections, with errors, and a call that expires."""

    async def divide(*, a: int, b: int) -> float:
        return a / b

    entered = asyncio.Event()

    async def sleep() -> None:
        entered.set()
        await asyncio.Event().wait()

    async with await aio_pika.connect(broker.uri) as second:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        server = await JsonRPC.create(channel, exchange=name, auto_delete=True)
        await server.register("divide", divide, auto_delete=True)
        await server.register("sleep", sleep, auto_delete=True)
        client = await JsonRPC.create(await second.channel(), exchange=name, auto_delete=True)
        assert await client.proxy.divide(a=1, b=4) == 0.25
        with pytest.raises(aio_pika.patterns.rpc.JsonRPCError):
            await client.proxy.divide(a=1, b=0)
        with pytest.raises(aio_pika.exceptions.MessageProcessError):
            await client.call("nobody")
        # The server never finishes the first call, so the second one expires in the queue.
        busy = asyncio.ensure_future(client.call("sleep", expiration=60))
        await asyncio.wait_for(entered.wait(), 60)
        with pytest.raises(asyncio.TimeoutError):
            await client.call("sleep", expiration=0.1)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
    assert isinstance(client, RPC)


async def test_aio_pika_recovers_its_topology(name: str) -> None:
    """A robust connection reconnects to a restarted broker, and redeclares everything."""
    with BrokerProcess() as first:
        connection = await aio_pika.connect_robust(first.uri, reconnect_interval=0.05)
        channel = await connection.channel()
        exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.HEADERS)
        queue = await channel.declare_queue(name, exclusive=True)
        await queue.bind(exchange, arguments={"x-match": "all", "kind": "tick"})
        received: asyncio.Queue[bytes] = asyncio.Queue()

        async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            await received.put(message.body)

        await queue.consume(on_message, no_ack=True)
        reconnected = asyncio.Event()
        connection.reconnect_callbacks.add(lambda *_: reconnected.set())
    with BrokerProcess("--port", str(first.port)):
        await asyncio.wait_for(reconnected.wait(), 60)
        await exchange.publish(aio_pika.Message(b"again", headers={"kind": "tick"}), "")
        assert await asyncio.wait_for(received.get(), 60) == b"again"
        await connection.close()


async def test_aio_pika_raises_an_exception_per_close_code(
    connection: aio_pika.abc.AbstractConnection, broker: BrokerProcess, name: str
) -> None:
    """403, 404, 405 and 406 raise different exceptions."""
    await (await connection.channel()).declare_queue(name, exclusive=True)
    with pytest.raises(ChannelNotFoundEntity):
        await (await connection.channel()).declare_queue(f"{name}-none", passive=True)
    with pytest.raises(ChannelPreconditionFailed):
        await (await connection.channel()).declare_queue(name, exclusive=True, auto_delete=True)
    with pytest.raises(ChannelAccessRefused):
        await (await connection.channel()).declare_exchange("amq.own")
    async with await aio_pika.connect(broker.uri) as second:
        with pytest.raises(ChannelLockedResource):
            await (await second.channel()).get_queue(name)


async def test_aio_pika_transactions(
    connection: aio_pika.abc.AbstractConnection, name: str
) -> None:
    """A message that was rolled back is not delivered; a committed one is."""
    channel = await connection.channel(publisher_confirms=False)
    queue = await channel.declare_queue(name, exclusive=True)
    transaction = channel.transaction()
    await transaction.select()
    await channel.default_exchange.publish(aio_pika.Message(b"no"), name)
    await transaction.rollback()
    async with channel.transaction():
        await channel.default_exchange.publish(aio_pika.Message(b"yes"), name)
    message = await queue.get()
    assert message.body == b"yes"
    await message.ack()


# pika


@pytest.fixture
def blocking(broker: BrokerProcess) -> Iterator[pika.BlockingConnection]:
    with pika.BlockingConnection(pika.URLParameters(broker.uri + "%2F")) as connection:
        yield connection


def test_pika_round_trip(blocking: pika.BlockingConnection, name: str) -> None:
    """Declare, bind, publish with confirms, get, consume, requeue, cancel, purge, delete."""
    channel = blocking.channel()
    channel.confirm_delivery()
    channel.exchange_declare(name, "direct", auto_delete=True)
    channel.queue_declare(name, exclusive=True, arguments={"x-max-priority": 3})
    channel.queue_bind(name, name, "key")
    for priority in (1, 3, 2):
        properties = pika.BasicProperties(priority=priority, headers={"p": priority})
        channel.basic_publish(name, "key", b"%d" % priority, properties, mandatory=True)
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(name, "other", b"", mandatory=True)
    method, properties, data = channel.basic_get(name)
    assert (data, properties.headers, method.message_count) == (b"3", {"p": 3}, 2)
    channel.basic_nack(method.delivery_tag, requeue=True)
    channel.basic_qos(prefetch_count=2)
    bodies = []
    for method, _, data in channel.consume(name, inactivity_timeout=60):
        bodies.append((data, method.redelivered))
        channel.basic_ack(method.delivery_tag)
        if len(bodies) == 3:
            break
    assert bodies == [(b"3", True), (b"2", False), (b"1", False)]
    assert channel.cancel() == 0
    channel.basic_publish("", name, b"rest")
    assert channel.queue_purge(name).method.message_count == 1
    channel.queue_delete(name)


def test_pika_uses_direct_reply_to(blocking: pika.BlockingConnection, name: str) -> None:
    """The pattern of pika's example."""
    channel = blocking.channel()
    channel.queue_declare(name, exclusive=True)
    replies: list[bytes] = []
    channel.basic_consume(
        "amq.rabbitmq.reply-to",
        lambda _channel, _method, _properties, data: replies.append(data),
        auto_ack=True,
    )
    properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")
    channel.basic_publish("", name, b"ping", properties)
    server = blocking.channel()
    _, request, data = server.basic_get(name, auto_ack=True)
    server.basic_publish("", request.reply_to, data[::-1])
    while not replies:
        blocking.process_data_events(time_limit=5)
    assert replies == [b"gnip"]


# kombu


def test_kombu_round_trip(broker: BrokerProcess, name: str) -> None:
    """Producer, consumer, requeue and simple queue, on py-amqp."""
    exchange = kombu.Exchange(name, "topic", durable=False, auto_delete=True)
    queue = kombu.Queue(name, exchange, "a.*", durable=False, auto_delete=True)
    with kombu.Connection(broker.uri, heartbeat=10) as connection:
        seen: list[tuple[Any, bool]] = []

        def on_message(data: Any, message: Any) -> None:
            redelivered = bool(message.delivery_info["redelivered"])
            seen.append((data, redelivered))
            if redelivered:
                message.ack()
            else:
                message.requeue()

        with connection.Consumer(queue, callbacks=[on_message]):
            producer = connection.Producer(serializer="json")
            producer.publish({"n": 1}, exchange=exchange, routing_key="a.b", declare=[queue])
            while len(seen) < 2:
                connection.drain_events(timeout=60)
        assert seen == [({"n": 1}, False), ({"n": 1}, True)]
        simple = connection.SimpleBuffer(f"{name}-simple")
        simple.put({"simple": True})
        message = simple.get(timeout=60)
        assert message.payload == {"simple": True}
        message.ack()
        simple.close()
