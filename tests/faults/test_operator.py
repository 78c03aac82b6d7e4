"""An operator deletes queues and exchanges, which are redeclared."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import aio_pika
import pytest

from fabric_nb import AmqpHandler
from fabric_nb.errors import BrokerRefused, CallError, ConnectionLost, UnknownService
from fabric_nb.fabric.amqp import connection
from tests.support.fabric import until, wait_for_service
from tests.support.peers import DOMAIN
from tests.support.rabbitmq import deletes_declared_exchanges


@pytest.fixture
async def raw(rabbitmq, vhost):
    """Yield a raw aio-pika channel of another user."""
    uri = rabbitmq.add_user("operator", "operator", vhost=vhost)
    async with await aio_pika.connect(uri) as connection:
        yield await connection.channel()


async def eventually(work, *errors):
    """Retry until it succeeds, because redeclaration takes some time."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await work()
            except errors:
                await asyncio.sleep(0.05)


async def test_deleted_method_queue(members, raw):
    """A deleted method queue is redeclared, and other methods are still served."""
    fabric = await members.join("one")
    serving = await fabric.serve({"double": lambda x: 2 * x, "other": lambda: 1})
    for x in range(3):
        generation = serving.channel.generation
        await raw.queue_delete(fabric.name.method_queue("double"))
        await until(lambda generation=generation: serving.channel.generation > generation)
        await until(lambda: serving.channel.is_ready)
        assert await fabric.call("app.one.double", x=x, timeout=60) == 2 * x
        assert await fabric.call("app.one.other", timeout=60) == 1


async def test_running_call_of_a_deleted_queue(members, raw):
    """A running call is answered although its queue is deleted."""
    fabric = await members.join("one")
    go, began = asyncio.Event(), asyncio.Event()

    async def work():
        began.set()
        await go.wait()
        return "done"

    await fabric.serve({"work": work})
    call = asyncio.create_task(fabric.call("app.one.work", timeout=60))
    await began.wait()
    await raw.queue_delete(fabric.name.method_queue("work"))
    go.set()
    assert await call == "done"


@pytest.fixture
def frequent_redeclaration(monkeypatch):
    """Shorten the interval of redeclarations."""
    monkeypatch.setattr(connection, "REDECLARE_EVERY", 0.2)


@deletes_declared_exchanges
async def test_deleted_api_exchange(frequent_redeclaration, members, raw):
    """A deleted exchange is redeclared, and in-flight calls are answered."""
    fabric = await members.join("one")
    go, began = asyncio.Event(), asyncio.Event()

    async def work():
        began.set()
        await go.wait()
        return "done"

    serving = await fabric.serve({"double": lambda x: 2 * x, "work": work})
    in_flight = asyncio.create_task(fabric.call("app.one.work", timeout=60))
    await began.wait()
    generation = serving.channel.generation
    for x in range(2):
        await raw.exchange_delete(fabric.name.api_exchange)
        assert (
            await eventually(lambda x=x: fabric.call("app.one.double", x=x, timeout=60), CallError)
            == 2 * x
        )
    go.set()
    assert await in_flight == "done"
    assert serving.channel.generation == generation


@deletes_declared_exchanges
async def test_deleted_exchanges_of_open_parts(frequent_redeclaration, members, raw):
    """Streams, subscribers, log feeds and discovery recover after exchanges were deleted."""
    fabric, other = await members.join("one"), await members.join("two")
    stream, feed, got = await fabric.stream(), await fabric.logs(), []

    async def callback(message):
        async with message.process():
            got.append(message.body)

    await fabric.subscribe_data("sub", {}, callback)
    handler = AmqpHandler()
    await other.init_logging_handler(handler)
    seen = (await wait_for_service(fabric, "two")).last_seen
    for exchange in (fabric.data_exchange, f"{DOMAIN}.log.records", "msc.discovery"):
        await raw.exchange_delete(exchange)

    async def all_received():
        with contextlib.suppress(BrokerRefused):
            await other.publish_data({"n": 1})
        handler.handle(logging.makeLogRecord({"name": "x", "msg": "m", "levelname": "INFO"}))
        assert stream.rows
        assert got
        assert feed.records
        assert (await wait_for_service(fabric, "two")).last_seen > seen + 1

    await eventually(all_received, AssertionError)


async def test_deleted_stream_queue(members, raw):
    """A stream and a subscriber whose queues were deleted recover."""
    fabric = await members.join("one")
    stream = await fabric.stream(name="rows")
    got = []

    async def callback(message):
        async with message.process():
            got.append(message.body)

    await fabric.subscribe_data("sub", {}, callback)
    for queue in ("rows", "sub"):
        await raw.queue_delete(queue)

    async def publish():
        await fabric.publish_data({"n": 1})
        assert stream.rows
        assert got

    await eventually(publish, AssertionError)


async def refused(fabric, raw):
    """Declare an existing queue with different properties: 406."""
    await raw.declare_queue("taken", durable=True)
    with pytest.raises(BrokerRefused, match=r"refused.*taken") as caught:
        await fabric.stream(name="taken")
    assert caught.value.code == 406


async def unknown_service(fabric, raw):
    """Call an unknown service: 404."""
    with pytest.raises(UnknownService):
        await fabric.call(f"{DOMAIN}.app.missing.x", timeout=5)


async def queue_deleted(fabric, raw):
    """Delete the queue of a stream: its consumer is cancelled."""
    await raw.queue_delete("rows")


@pytest.mark.parametrize("fault", [refused, unknown_service, queue_deleted])
async def test_closed_channel_does_not_affect_others(members, raw, fault):
    """If the broker closes one channel, calls, rows and records of others are not affected."""
    fabric, other = await members.join("one"), await members.join("other")
    serving = await fabric.serve({"double": lambda x: 2 * x})
    await fabric.stream(name="rows")
    stream, feed = await fabric.stream(), await fabric.logs()
    handler = AmqpHandler()
    await other.init_logging_handler(handler)
    answer = asyncio.Event()
    await other.serve({"wait": answer.wait}, id="waiting")
    channels = (serving.channel, stream.consumer.channel, feed.channel)
    # A broker that refuses transient queues closes the connection of the first service.
    await until(lambda: all(channel.is_ready for channel in channels))
    generations = [channel.generation for channel in channels]
    reconnects = fabric.member.connection.reconnects
    waiting = asyncio.create_task(fabric.call("app.waiting.wait", timeout=None))
    await until(lambda: other.servers[0].stats["wait"].running == 1)
    for n in range(60):
        assert await other.call(f"{fabric.fqn}.double", x=n, timeout=60) == 2 * n
        await other.publish_data({"n": n})
        handler.handle(logging.makeLogRecord({"name": "x", "msg": f"{n}", "levelname": "INFO"}))
        if n % 20 == 10:
            await fault(fabric, raw)
    await stream.wait(60, timeout=60)
    await feed.wait(60, timeout=60)
    assert list(stream.df["n"]) == list(range(60))
    assert [record.message for record in feed.records] == [str(n) for n in range(60)]
    assert [channel.generation for channel in channels] == generations
    answer.set()
    assert await waiting is True  # its reply came on the channel that it was to come on
    assert fabric.member.connection.reconnects == reconnects


async def test_deleted_exchanges(members, raw):
    """Deleted data and log exchanges are redeclared at the next use."""
    fabric = await members.join("one")
    handler = AmqpHandler()
    await fabric.init_logging_handler(handler)
    for exchange in (fabric.data_exchange, f"{DOMAIN}.log.records"):
        await raw.exchange_delete(exchange)

    await eventually(lambda: fabric.publish_data({"n": 1}), Exception)
    stream, feed = await fabric.stream(), await fabric.logs()
    await fabric.publish_data({"n": 2})
    await stream.wait(1, timeout=60)

    async def log():
        handler.handle(logging.makeLogRecord({"name": "x", "msg": "m", "levelname": "INFO"}))
        await feed.wait(1, timeout=0.2)

    await eventually(log, TimeoutError)


async def test_deleted_discovery_exchange(members, raw):
    """A deleted discovery exchange is redeclared, and discovery recovers."""
    await members.join("one")
    await raw.exchange_delete("msc.discovery")
    newcomer = await members.join("two")
    await wait_for_service(newcomer, "one")


async def test_deleted_virtual_host(members, rabbitmq, vhost):
    """After the deletion of the virtual host, calls fail and closing does not hang."""
    fabric = await members.join("one")
    began = asyncio.Event()

    async def hang():
        began.set()
        await asyncio.Event().wait()

    await fabric.serve({"hang": hang})
    call = asyncio.create_task(fabric.call("app.one.hang"))
    await began.wait()
    rabbitmq.delete_vhost(vhost)
    try:
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(call, 60)
        async with asyncio.timeout(60):
            await fabric.close()
    finally:
        rabbitmq.add_vhost(vhost)


async def test_missing_permissions(members, rabbitmq, vhost):
    """Missing permissions raise an error of one sentence, and no resource remains."""
    uri = rabbitmq.add_user("reader", "reader", vhost=vhost, configure="", write="", read=".*")
    tasks = asyncio.all_tasks()
    with pytest.raises(Exception, match="refused") as caught:
        await members.join("one", uri=uri)
    assert "\n" not in str(caught.value)
    await until(lambda: asyncio.all_tasks() == tasks)
    await until(
        lambda: rabbitmq.list_connections(vhost) == [], description="no connections are left"
    )
