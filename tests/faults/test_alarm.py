"""Memory and disk alarms of the broker, which block publishers until they are cleared."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from fabric_nb import AmqpHandler
from fabric_nb.errors import BrokerRefused, BrokerUnavailable, CallTimeout, ConnectionLost
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.amqp.silence import DEAD_AFTER
from fabric_nb.fabric.data import publisher as publishing
from fabric_nb.notebook.table.static import static_page
from fabric_nb.notebook.views.base import PageView
from fabric_nb.notebook.views.calls import CallsView
from fabric_nb.notebook.views.card import ConnectionCard
from fabric_nb.notebook.views.logs import LogView
from fabric_nb.notebook.views.registry import RegistryView
from fabric_nb.notebook.views.serving import AllServingView, ServingView
from fabric_nb.notebook.views.stream import StreamView
from fabric_nb.notebook.views.streams import StreamsView
from tests.broker.process import BrokerProcess
from tests.faults.brokers import RestartableEmbedded
from tests.support.fabric import Members, until
from tests.support.pages import read

BLOCKED = "blocked by the broker"


@pytest.fixture
def low_on():
    """Return the resource of the alarm."""
    return "memory"


@pytest.fixture
def alarm(rabbitmq, low_on):
    """Return a function that raises or clears the node's alarm."""
    set_node = {"memory": rabbitmq.set_memory_alarm, "disk": rabbitmq.set_disk_alarm}[low_on]
    now = False

    def set_alarm(*, raised):
        nonlocal now
        set_node(raised=raised)
        now = raised

    yield set_alarm
    if now:
        set_node(raised=False)


@pytest.fixture
def short_timeout(monkeypatch):
    """Set the publisher's timeout to one second."""
    monkeypatch.setattr(publishing, "PATIENCE", 1.0)
    monkeypatch.setattr(publishing, "CHECK_EVERY", 0.05)


async def until_publishers_are_blocked(uri):
    """Wait until the alarm blocks connections, which takes effect at the next message."""
    async with Connection(uri, name="canary") as canary, canary.channel() as channel:

        def blocked():
            if canary.state is not State.BLOCKED:
                channel.send("", "fabric_nb.no_queue", Message(b""))
            return canary.state is State.BLOCKED

        await until(blocked)


async def fill(uri, queue, count):
    """Publish messages directly to the queue of a stream."""
    async with Connection(uri, name="fill") as connection, connection.channel() as channel:
        for n in range(count):
            await channel.publish("", queue, Message(b'{"n": %d}' % n))


def shown(view):
    """Return the current texts of a view."""
    if isinstance(view, PageView):
        return read(view.page()).texts
    view.fill(model := view.model())
    return read(static_page(model, time.time())).texts


@pytest.mark.parametrize("low_on", ["memory", "disk"])
async def test_publishing_waits_and_consumers_continue(members, rabbitmq_uri, low_on, alarm):
    """During an alarm every view shows it, publishing waits, and rows are still received."""
    fabric = await members.join("one", presence="thread")
    server = await fabric.serve({"double": lambda x: 2 * x})
    assert await fabric.call("app.one.double", x=1) == 2
    stream = await fabric.stream(name="rows", prefetch=20)
    views = [
        *(view(fabric) for view in (ConnectionCard, RegistryView, CallsView, AllServingView)),
        ServingView(fabric, server),
        StreamView(fabric, stream),
        StreamsView(fabric, lambda: [("rows", stream)]),
        LogView(fabric, await fabric.logs()),
    ]
    await fabric.publish_data({"n": -1})
    await stream.wait(1, timeout=60)
    await stream.pause()
    await fill(rabbitmq_uri, "rows", 500)
    states = []
    fabric.on_state(states.append)

    await asyncio.to_thread(alarm, raised=True)
    published = [fabric.publish_data({"n": 1000 + n}) for n in range(3)]
    await until(lambda: fabric.state is State.BLOCKED)
    assert [type(view) for view in views if BLOCKED not in shown(view)] == []
    await stream.resume()
    await stream.wait(501, timeout=60)  # beyond the prefetch: acknowledgements are still read
    with pytest.raises(CallTimeout, match=rf"takes no messages \(low on {low_on}\)"):
        await fabric.call("app.one.double", x=2, timeout=0.5)
    assert fabric.publisher.waiting == 3
    assert "3 waiting" in repr(fabric.publisher)

    await asyncio.to_thread(alarm, raised=False)
    async with asyncio.timeout(60):
        await asyncio.gather(*published)
    assert await fabric.call("app.one.double", x=3, timeout=60) == 6
    await stream.wait(504, timeout=60)
    assert states == [State.BLOCKED, State.CONNECTED]
    assert [type(view) for view in views if BLOCKED in shown(view)] == []


async def test_a_large_message_survives_a_long_alarm(members, alarm):
    """A message that the broker has read in part when it blocks arrives after the alarm."""
    fabric = await members.join("one")
    async with await fabric.stream() as stream:
        await fabric.publish_data({"text": ""})
        await asyncio.to_thread(alarm, raised=True)
        published = fabric.publish_data({"text": "x" * 30_000_000})  # beyond the socket's buffers
        await until(lambda: fabric.state is State.BLOCKED)
        await asyncio.sleep(DEAD_AFTER + 2)  # there is no event for a connection that is not lost
        await asyncio.to_thread(alarm, raised=False)
        await published
        await stream.wait(2, timeout=60)
        assert list(stream.df["text"].str.len()) == [0, 30_000_000]
    assert fabric.member.connection.reconnects == 0


async def test_full_embedded_broker_blocks_publishers():
    """The embedded broker blocks a publisher at its limit, shows it, and resumes it later."""
    row, count = {"text": "x" * 100_000}, 400  # more than its memory and the socket buffers
    with BrokerProcess("--memory-limit", "16") as broker:
        async with Members(broker.uri) as members:
            fabric, reader = [await members.join(name) for name in ("one", "reader")]
            states = []
            fabric.on_state(states.append)
            stream = await reader.stream(prefetch=5)
            await stream.pause()
            published = [fabric.publish_data(row) for _ in range(count)]
            await until(lambda: fabric.state is State.BLOCKED)
            assert BLOCKED in shown(ConnectionCard(fabric))
            assert BLOCKED in shown(RegistryView(fabric))
            assert fabric.member.connection.blocked == "low on memory"
            assert fabric.publisher.waiting > 0
            assert reader.state is State.CONNECTED  # it has published nothing
            await stream.resume()
            async with asyncio.timeout(60):
                await asyncio.gather(*published)
            await stream.wait(count, timeout=60)
            await until(lambda: fabric.state is State.CONNECTED)
            assert set(states) == {State.BLOCKED, State.CONNECTED}
            assert (fabric.publisher.published, fabric.publisher.failed) == (count, 0)
            assert BLOCKED not in shown(ConnectionCard(fabric))


async def test_publishing_times_out(short_timeout, members, alarm, caplog):
    """Messages that are not accepted in time fail, are counted, and are logged in few lines.

    Closing a member does not wait for the broker.
    """
    fabric = await members.join("one", presence="thread")
    other = await members.join("two", presence="thread")
    stream = await other.stream()
    leaving = await members.join("leaving", presence="thread")
    handler = AmqpHandler()
    await fabric.init_logging_handler(handler)
    await asyncio.to_thread(alarm, raised=True)
    await until_publishers_are_blocked(members.uri)
    sent = fabric.publish_data({"n": 0})
    await until(lambda: fabric.state is State.BLOCKED)
    waiting = [fabric.publish_data({"n": n}) for n in range(1, 4)]
    handler.handle(logging.makeLogRecord({"name": "x", "msg": "kept", "levelname": "INFO"}))
    with caplog.at_level(logging.WARNING, "fabric_nb"):
        async with asyncio.timeout(60):
            for message in (sent, *waiting):
                with pytest.raises(BrokerRefused, match=r"takes no messages \(low on memory\)"):
                    await message
        assert fabric.publisher.failed == 4
        message = leaving.publish_data({"n": 0})
        await until(lambda: leaving.state is State.BLOCKED)
        async with asyncio.timeout(60):
            await leaving.close()
        assert leaving.publisher.waiting == 0
        assert message.exception() is not None
        await asyncio.to_thread(alarm, raised=False)
        await until(lambda: fabric.state is State.CONNECTED)
        await fabric.publish_data({"n": 4})
    await until(lambda: stream.rows and stream.df["n"].iloc[-1] == 4)
    assert set(stream.df["n"]) <= {0, 4}  # the first was sent before the block
    assert len(caplog.messages) == 3  # one per member, and the total
    assert "4 messages" in caplog.messages[2]
    await until(lambda: handler.sent == 1)


async def test_waiting_messages_are_bounded(monkeypatch):
    """During an outage messages wait up to a limit; further ones fail."""
    monkeypatch.setattr(publishing, "MAX_WAITING", 5)
    monkeypatch.setattr(publishing, "MAX_WAITING_BYTES", 1000)
    with RestartableEmbedded() as broker:
        async with Members(broker.uri) as members:
            fabric = await members.join("one", presence="thread")
            await asyncio.to_thread(broker.kill)
            await until(lambda: fabric.state is State.RECONNECTING)
            small = [fabric.publish_data({"n": n}) for n in range(8)]
            large = fabric.publish_data(b"x" * 2000)
            for refused in (*small[5:], large):
                with pytest.raises(BrokerUnavailable, match="5 messages wait"):
                    await refused
            assert (fabric.publisher.waiting, fabric.publisher.failed) == (5, 4)
            await asyncio.to_thread(broker.restart)
            async with asyncio.timeout(60):
                await asyncio.gather(*small[:5])
            assert fabric.publisher.published == 5


async def test_waiting_messages_are_bounded_in_bytes(monkeypatch):
    """During an outage messages wait up to a limit in bytes; further ones fail."""
    monkeypatch.setattr(publishing, "MAX_WAITING_BYTES", 1000)
    with RestartableEmbedded() as broker:
        async with Members(broker.uri) as members:
            fabric = await members.join("one", presence="thread")
            await asyncio.to_thread(broker.kill)
            await until(lambda: fabric.state is State.RECONNECTING)
            sent = [fabric.publish_data(b"x" * size) for size in (400, 400, 400, 200, 1)]
            for refused in (sent[2], sent[4]):
                with pytest.raises(BrokerUnavailable, match=r"[23] messages wait for it already"):
                    await refused
            assert (fabric.publisher.waiting, fabric.publisher.failed) == (3, 2)
            await asyncio.to_thread(broker.restart)
            async with asyncio.timeout(60):
                await asyncio.gather(*sent[:2], sent[3])
            assert fabric.publisher.published == 3
            assert fabric.publisher.waiting_bytes == 0  # the quota is released


async def test_a_full_queue_rejects_messages(members, rabbitmq_uri):
    """Messages that a full queue rejects fail; later messages are published."""
    fabric = await members.join("one")
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    async with Connection(rabbitmq_uri, name="full") as connection, connection.channel() as channel:
        await channel.topology.declare_queue("full", durable=True, arguments=full)
        await channel.topology.bind("full", fabric.data_exchange, arguments={"x-match": "all"})
        await fabric.publish_data({"n": 0})
        generation = fabric.publisher.channel.generation
        async with asyncio.timeout(60):
            while fabric.publisher.channel.generation == generation:
                with pytest.raises((BrokerRefused, ConnectionLost)):
                    await fabric.publish_data({"n": 1})
        await channel.topology.delete_queue("full")
    await fabric.publish_data({"n": 2})
    assert fabric.publisher.published == 2


async def test_an_alarm_does_not_close_connections(members, alarm):
    """A long alarm does not close connections, whether they publish or not."""
    quiet = {"keep_alive_seconds": False, "keep_alive_listen": False}
    idle, busy = await members.join("idle", **quiet), await members.join("busy", **quiet)
    for fabric in (idle, busy):
        await fabric.publish_data({"n": 0})
    async with await busy.stream(name="rows"):
        connections = [
            connection
            for fabric in (idle, busy)
            for connection in (fabric.member.connection, fabric.member.consumer_connection)
        ]
        reconnects = [connection.reconnects for connection in connections]
        await asyncio.to_thread(alarm, raised=True)
        published = busy.publish_data({"n": 1})
        await until(lambda: busy.state is State.BLOCKED)
        ends = time.monotonic() + DEAD_AFTER + 2
        await until(lambda: time.monotonic() > ends, timeout=60)
        await asyncio.to_thread(alarm, raised=False)
        await published
        assert [connection.reconnects for connection in connections] == reconnects
