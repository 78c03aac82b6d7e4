"""The broker closes connections, and all parts recover automatically."""

from __future__ import annotations

import asyncio
import logging

import aio_pika
import pytest

from fabric_nb import AmqpHandler
from fabric_nb.errors import CallTimeout, ConnectionLost, InvalidName, UnknownService
from fabric_nb.fabric.amqp.connection import State
from fabric_nb.fabric.rpc import liveness
from tests.support.fabric import LoopTime, until, wait_for_service
from tests.support.peers import DOMAIN


@pytest.fixture
async def fabric(members):
    """Open a member."""
    return await members.join("one")


@pytest.fixture
def cut(rabbitmq, vhost):
    """Return a function that closes the connections of a user at the broker."""

    async def cut(*connectors, user=None):
        lost = {connector: asyncio.Event() for connector in connectors}
        back = {connector: asyncio.Event() for connector in connectors}

        def listener(connector):
            def on_state(state):
                if state is State.RECONNECTING:
                    lost[connector].set()
                elif lost[connector].is_set():
                    back[connector].set()

            return on_state

        for connector in connectors:
            connector.on_state(listener(connector))
        assert await asyncio.to_thread(rabbitmq.close_connections, vhost, user)
        async with asyncio.timeout(60):
            await asyncio.gather(*(event.wait() for event in lost.values()))
        return lambda: asyncio.gather(*(event.wait() for event in back.values()))

    return cut


@pytest.fixture
async def apart(members, rabbitmq, vhost):
    """Open a member of another user, whose connections can be closed separately."""
    uri = rabbitmq.add_user("apart", "apart", vhost=vhost)
    return await members.join("apart", uri=uri)


async def test_states_are_notified(fabric, cut):
    """State listeners are notified of loss and reconnection."""
    states = []
    fabric.on_state(states.append)
    back = await cut(fabric)
    await back()
    assert states == [State.RECONNECTING, State.CONNECTED]
    assert fabric.state is State.CONNECTED


async def test_connected_means_that_all_parts_are_ready(fabric, apart, cut):
    """All parts are ready when a connector reports that it is connected again."""
    await fabric.serve({"double": lambda x: 2 * x})
    await fabric.stream()
    await fabric.logs()
    ready = []

    def on_state(state):
        if state is State.CONNECTED:
            ready.append([channel.is_ready for channel in fabric.member.connection.channels])

    fabric.on_state(on_state)
    for n in range(3):
        back = await cut(fabric)
        await back()
        assert await apart.call("app.one.double", x=n, timeout=60) == 2 * n
    assert len(ready) == 3
    assert all(len(channels) >= 6 and all(channels) for channels in ready)


async def test_a_refused_part_does_not_delay_the_others(fabric, apart, rabbitmq, vhost, cut):
    """A part without permission stays down; the connector is connected without it."""
    await fabric.serve({"double": lambda x: 2 * x})
    stream = await fabric.stream(name="taken")
    rabbitmq.add_user(vhost, rabbitmq.password, vhost=vhost, configure="^(?!taken)")
    back = await cut(fabric)
    await back()
    assert fabric.state is State.CONNECTED
    assert await apart.call("app.one.double", x=1, timeout=60) == 2
    assert not stream.consumer.channel.is_ready
    rabbitmq.add_user(vhost, rabbitmq.password, vhost=vhost)
    await until(lambda: stream.consumer.channel.is_ready)


async def test_lone_server_answers_calls_after_reconnecting(monkeypatch, fabric, apart, cut):
    """A lone server answers its in-flight calls after a short disconnection."""
    monkeypatch.setattr(liveness, "GRACE", 20.0)  # for slow machines
    go, began = asyncio.Event(), []

    async def work(n):
        began.append(n)
        await go.wait()
        return n

    await apart.serve({"work": work}, prefetch=2)
    calls = [asyncio.create_task(fabric.call("app.apart.work", n=n, timeout=60)) for n in range(2)]
    await until(lambda: len(began) == 2)
    back = await cut(apart, user="apart")
    await back()
    go.set()
    assert await asyncio.gather(*calls) == [0, 1]
    assert sorted(began) == [0, 1]


async def test_pending_calls_fail_and_new_ones_succeed(fabric, apart, cut):
    """In-flight calls raise `ConnectionLost`; a call during the outage waits and is answered."""
    go, running = asyncio.Event(), []

    async def work(n):
        running.append(n)
        await go.wait()
        return n

    await apart.serve({"work": work}, prefetch=5)
    calls = [asyncio.create_task(fabric.call("app.apart.work", n=n)) for n in range(5)]
    await until(lambda: len(running) == 5)
    back = await cut(fabric)
    for call in calls:
        with pytest.raises(ConnectionLost, match="not known"):
            await call
    go.set()
    assert await fabric.call("app.apart.work", n=7, timeout=60) == 7
    await back()
    assert fabric.member.rpc.pending == 0


async def test_waiting_for_the_connection_counts_towards_the_timeout(fabric, rabbitmq, vhost, cut):
    """A call that waited for the connection expires with its original timeout."""
    key = f"{DOMAIN}.api.app.raw::work"
    uri = rabbitmq.add_user("raw", "raw", vhost=vhost)
    async with await aio_pika.connect(uri) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(f"{DOMAIN}.api.app.raw", "direct")
        queue = await channel.declare_queue(key, durable=True)
        await queue.bind(exchange, key)
        await cut(fabric)
        received = asyncio.Queue()
        await queue.consume(received.put, no_ack=True)
        call = asyncio.create_task(fabric.call("app.raw.work", timeout=2))
        message = await received.get()
        assert message.expiration < 1.95  # reconnection takes at least 0.1 s
        with pytest.raises(CallTimeout):
            await call


async def test_served_call_is_redelivered_and_answered(fabric, apart, cut):
    """A running call of a disconnected member is redelivered and answered."""
    began, go = [], asyncio.Event()

    async def work(n):
        began.append(n)
        await go.wait()
        return n

    serving = await apart.serve({"work": work, "other": lambda: "other"})
    call = asyncio.create_task(fabric.call("app.apart.work", n=1, timeout=60))
    await until(lambda: began == [1])
    second = await fabric.serve({"work": lambda n: ["second", n]}, id="apart")
    back = await cut(apart, user="apart")
    assert await call == ["second", 1]
    await second.close()
    await back()
    go.set()
    await until(lambda: serving.stats["work"].running == 0 and serving.channel.is_ready)
    assert await fabric.call("app.apart.work", n=2, timeout=60) == 2
    assert await fabric.call("app.apart.other", timeout=60) == "other"


async def test_lone_server_recovers(fabric, apart, cut):
    """A lone server recovers repeatedly."""
    await apart.serve({"double": lambda x: 2 * x})
    await wait_for_service(fabric, "apart", methods=2)
    for n in range(3):
        assert await fabric.call("apart.double", x=n, timeout=60) == 2 * n
        back = await cut(apart, user="apart")
        await back()
        await until(lambda: apart.servers[0].channel.is_ready)


def fail_next(method, channel, monkeypatch):
    """Make the next call of a method of a channel fail as with a lost connection."""
    original = getattr(channel, method)

    def fail(*args, **kwargs):
        monkeypatch.setattr(channel, method, original)
        channel.renew()
        raise ConnectionLost("in this very moment")

    monkeypatch.setattr(channel, method, fail)


async def test_lost_reply(fabric, apart, monkeypatch):
    """A call whose reply is lost is answered by another member; both keep serving."""
    runs = []

    def work(n):
        runs.append(n)
        return n

    serving = await apart.serve({"work": work})
    second = await fabric.serve({"work": work}, id="apart")
    for n in range(3):
        fail_next("answer", serving.channel, monkeypatch)
        generation = serving.channel.generation
        while serving.channel.generation == generation:  # until it was dispatched a call
            assert await fabric.call("app.apart.work", n=n, timeout=60) == n
        await until(lambda: serving.channel.is_ready)
    assert len(runs) == serving.stats["work"].calls + second.stats["work"].calls
    await second.close()
    assert await fabric.call("app.apart.work", n=7, timeout=60) == 7


async def test_lost_log_record(fabric, apart, monkeypatch):
    """A lost log record is sent again, possibly duplicated, and others follow."""
    channels = []
    make = fabric.member.connection.channel
    monkeypatch.setattr(
        fabric.member.connection,
        "channel",
        lambda *a, **k: channels.append(make(*a, **k)) or channels[-1],
    )
    handler = AmqpHandler()
    await fabric.init_logging_handler(handler)
    (channel,) = channels
    async with await apart.logs() as feed:
        for n in range(3):
            fail_next("send", channel, monkeypatch)
            handler.handle(logging.makeLogRecord({"msg": str(n), "levelname": "INFO"}))
            await until(lambda n=n: str(n) in [record.message for record in feed.records])
        received = dict.fromkeys(record.message for record in feed.records)
        assert list(received) == ["0", "1", "2"]


async def test_a_log_record_that_closes_the_channel(fabric, apart, monkeypatch):
    """A record that closes the channel each time is dropped, and all others arrive."""
    channels = []
    make = fabric.member.connection.channel
    monkeypatch.setattr(
        fabric.member.connection,
        "channel",
        lambda *a, **k: channels.append(make(*a, **k)) or channels[-1],
    )
    handler = AmqpHandler()
    await fabric.init_logging_handler(handler)
    (channel,) = channels
    send, sent = channel.send, []

    def send_and_fail(exchange, key, message, **options):
        sent.append(message.body)
        send(exchange, key, message, **options)
        if message.body == b'"poison"':
            channel.renew()  # closed before the confirm

    monkeypatch.setattr(channel, "send", send_and_fail)
    async with await apart.logs() as feed:
        for text in ("before", "poison", *map(str, range(20))):
            handler.handle(logging.makeLogRecord({"msg": text, "levelname": "INFO"}))
        await until(lambda: "19" in [record.message for record in feed.records])
        await handler.flushed(5)
    assert (handler.sent, handler.dropped) == (21, 1)
    assert sent.count(b'"poison"') == 4
    received = [record.message for record in feed.records if record.message != "poison"]
    assert list(dict.fromkeys(received)) == ["before", *map(str, range(20))]


async def test_reply_while_the_connection_is_lost(fabric, apart, cut):
    """Calls that complete during an outage do not stop the serving of their method."""
    go, began = asyncio.Event(), []

    async def work(n):
        began.append(n)
        await go.wait()
        return n

    await apart.serve({"work": work}, prefetch=3)
    calls = [asyncio.create_task(fabric.call("app.apart.work", n=n, timeout=2)) for n in range(3)]
    await until(lambda: len(began) == 3)
    back = await cut(apart, user="apart")
    go.set()  # all three complete now, and cannot send their replies
    await back()
    await asyncio.gather(*calls, return_exceptions=True)
    for n in range(6):
        assert await fabric.call("app.apart.work", n=n, timeout=60) == n
    # All workers are left: three calls run at once, though none of them has ended.
    go.clear()
    began.clear()
    calls = [asyncio.create_task(fabric.call("app.apart.work", n=n, timeout=60)) for n in range(3)]
    await until(lambda: len(began) == 3)
    go.set()
    assert await asyncio.gather(*calls) == [0, 1, 2]


async def test_stream_continues(fabric, apart, cut):
    """A stream keeps its rows and continues, paused or not."""
    stream, paused = await fabric.stream(), await fabric.stream()
    await apart.publish_data({"n": 1})
    await stream.wait(1, timeout=60)
    await paused.wait(1, timeout=60)
    await paused.pause()
    back = await cut(fabric)
    await back()
    await until(lambda: all(part.consumer.channel.is_ready for part in (stream, paused)))
    await apart.publish_data({"n": 2})
    await stream.wait(2, timeout=60)
    assert list(stream.df["n"]) == [1, 2]
    assert paused.rows == 1
    await paused.resume()
    await paused.wait(2, timeout=60)


@pytest.mark.parametrize("name", ["", "shared"])
async def test_paused_stream_reconnects(fabric, apart, cut, name):
    """Unacknowledged rows of a paused stream are received once, here or by a sharing stream."""
    paused = await fabric.stream(name=name)
    await paused.pause()
    for n in range(4):
        await apart.publish_data({"n": n})
    await until(lambda: paused.waiting == 4)
    other = await apart.stream(name="shared") if name else None
    back = await cut(fabric)
    await back()
    await until(lambda: paused.consumer.channel.is_ready)
    if other is None:
        await paused.resume()
        await paused.wait(4, timeout=60)
        assert list(paused.df["n"]) == list(range(4))
    else:
        await other.wait(4, timeout=60)
        await paused.resume()
        assert paused.rows == 0


async def test_subscriber_continues(fabric, apart, cut):
    """A callback is called again after reconnection."""
    got = asyncio.Queue()

    async def callback(message):
        async with message.process():
            got.put_nowait(message.body)

    await fabric.subscribe_data("sub", {}, callback)
    await apart.publish_data(b"before")
    assert await got.get() == b"before"
    back = await cut(fabric)
    await back()

    async def publish_until_received():
        while got.empty():  # the queue is deleted with its consumer, and redeclared
            await apart.publish_data(b"after")
            await asyncio.sleep(0.05)

    async with asyncio.timeout(60):
        await publish_until_received()
    assert await got.get() == b"after"


async def test_publishing_waits_for_the_connection(fabric, apart, cut):
    """Messages published during an outage are sent after reconnection."""
    async with await apart.stream() as stream:
        await fabric.publish_data({"n": 0})
        back = await cut(fabric)
        waiting = [fabric.publish_data({"n": n}) for n in (1, 2, 3)]
        await asyncio.wait_for(asyncio.gather(*waiting), 60)
        await back()
        await stream.wait(4, timeout=60)
        assert list(stream.df["n"]) == [0, 1, 2, 3]


async def test_logging_continues(fabric, apart, cut):
    """Records logged during an outage are sent after reconnection."""
    handler = AmqpHandler()
    await fabric.init_logging_handler(handler)
    log = logging.getLogger("faults.logs")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        async with await apart.logs() as feed:
            for n in range(3):
                log.info("before %d", n)
                await feed.wait(feed.changes + 1, timeout=60)
                back = await cut(fabric)
                for m in range(20):
                    log.info("meanwhile %d %d", n, m)
                await back()
                log.info("after %d", n)
                await until(lambda n=n: feed.records[-1].message == f"after {n}")
            texts = {record.message for record in feed.records}
            assert len(texts) == 3 * 22
    finally:
        log.removeHandler(handler)


async def test_log_feeds_continue(fabric, apart, cut):
    """A log feed continues after reconnection."""
    handler = AmqpHandler()
    await apart.init_logging_handler(handler)
    feed = await fabric.logs()
    back = await cut(fabric)
    await back()
    await until(lambda: feed.channel.is_ready)
    handler.handle(logging.makeLogRecord({"msg": "after", "levelname": "INFO"}))
    await feed.wait(1, timeout=60)


async def test_discovery_continues(members, fabric, apart, cut):
    """Members discover each other again after reconnection, for each sender of keep-alives."""
    threaded = await members.join("threaded", presence="thread")
    await wait_for_service(apart, "one")
    back = await cut(fabric, threaded)
    await back()
    await members.join("newcomer")
    await wait_for_service(fabric, "newcomer")
    for name in ("one", "threaded"):
        seen = (await wait_for_service(apart, name)).last_seen
        await until(
            lambda name=name, seen=seen: (
                apart.registry.find(f"app.{name}", domain="")[0].last_seen > seen
            )
        )


async def test_parts_opened_during_an_outage(fabric, apart, cut):
    """Services, streams and log feeds opened during an outage work afterwards."""
    back = await cut(fabric)
    async with asyncio.timeout(60):
        await fabric.serve({"one": lambda: 1}, id="late")
        stream = await fabric.stream()
        await fabric.logs()
        await back()
    assert await apart.call("app.late.one", timeout=60) == 1
    await apart.publish_data({"n": 1})
    await stream.wait(1, timeout=60)


async def test_replacing_functions_during_an_outage(fabric, apart, cut):
    """Functions replaced during an outage are served afterwards."""
    serving = await apart.serve({"old": lambda: "old", "kept": lambda: 1})
    back = await cut(apart, user="apart")
    await serving.replace({"new": lambda: "new", "kept": lambda: 2})
    await back()
    await until(lambda: serving.channel.is_ready)
    assert await fabric.call("app.apart.new", timeout=60) == "new"
    assert await fabric.call("app.apart.kept", timeout=60) == 2


async def test_closing_during_an_outage(fabric, cut):
    """Closing a reconnecting connector takes less than two seconds."""
    await cut(fabric)
    with LoopTime() as took:
        await fabric.close()
    assert took.seconds < 2
    assert fabric.state is State.CLOSED


async def test_failing_state_listener_does_not_prevent_reconnection(fabric, apart, cut):
    """A failing state listener does not prevent reconnection."""

    def fail(state):
        raise InvalidName(str(state))

    fabric.on_state(fail)
    back = await cut(fabric)
    await back()
    with pytest.raises(UnknownService):
        await fabric.call("app.missing.x", timeout=5)
