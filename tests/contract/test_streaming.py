"""Item streams of served generators."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from contextlib import aclosing

import aio_pika
import orjson
import pandas as pd
import pytest

from fabric_nb.errors import (
    CallTimeout,
    ConnectionLost,
    InvalidName,
    MalformedMessage,
    MethodNotFound,
    RemoteError,
    ServiceLost,
    UnknownService,
)
from fabric_nb.fabric.rpc import invocation, item_streams
from tests.support.fabric import until, wait_for_service
from tests.support.internals import lose_connection
from tests.support.peers import DOMAIN

pytestmark = pytest.mark.any_broker  # these are of fabric_nb itself, unless marked otherwise


class Counter:
    """Generators of each kind, which record their progress."""

    def __init__(self):
        self.given = 0
        self.closed = 0
        self.pause = 0.0

    def plain(self, n=None):
        try:
            for i in itertools.count() if n is None else range(n):
                self.given += 1
                time.sleep(self.pause)
                yield i
        finally:
            self.closed += 1

    async def later(self, n=None):
        try:
            for i in itertools.count() if n is None else range(n):
                self.given += 1
                await asyncio.sleep(self.pause)
                yield i
        finally:
            self.closed += 1

    async def stuck(self):
        try:
            yield "started"
            await asyncio.Event().wait()
        finally:
            self.closed += 1


KINDS = ["plain", "later"]


@pytest.fixture
def counter():
    return Counter()


@pytest.fixture
async def server(members, counter):
    """Return a member that serves the counter, as ``app.server``."""
    member = await members.join("server")
    await member.rpc_register(counter)
    return member


@pytest.fixture
async def caller(members, server):
    """Return a member that calls it."""
    return await members.join("caller", type="client")


async def collected(items):
    return [item async for item in items]


async def collected_until(error, items, pause=0.0):
    """Return the items before the error, and the error."""
    had = []
    try:
        async for item in items:
            had.append(item)
            await asyncio.sleep(pause)
    except error as raised:
        return had, raised
    raise AssertionError(f"no {error} after {had}")


# -- items


@pytest.mark.every_broker
@pytest.mark.parametrize("kind", KINDS)
async def test_items_arrive_in_order(server, caller, counter, kind):
    """`call_stream` yields the items of a generator in order, also many."""
    assert await collected(caller.call_stream(f"app.server.{kind}", n=1000)) == list(range(1000))
    assert await collected(caller.call_stream(f"app.server.{kind}", n=0)) == []
    assert (counter.given, counter.closed) == (1000, 2)


async def test_items_arrive_when_they_are_yielded(server, caller, counter):
    """An item arrives before the next one is yielded."""
    items = caller.call_stream("app.server.stuck")
    async with asyncio.timeout(60), aclosing(items):
        assert await anext(items) == "started"
    await until(lambda: counter.closed == 1)


async def test_stream_of_a_proxy(server, caller):
    """A method of a proxy streams too, by short names, once the service is known."""
    await wait_for_service(caller, "server")
    proxy = caller.service("server")
    assert await collected(proxy.later.stream(n=3)) == [0, 1, 2]
    assert await proxy.later(n=3) == [0, 1, 2]


async def test_items_are_any_values(members, caller):
    """Items are encoded like results: a table arrives as a table."""
    frame = pd.DataFrame({"t": pd.to_datetime(["2026-01-01"]), "x": [1.5]})

    def values():
        yield {"a": [1, None, "ü"]}
        yield frame
        yield None

    member = await members.join("values")
    await member.serve({"values": values})
    first, second, third = await collected(caller.call_stream("app.values.values"))
    assert (first, third) == ({"a": [1, None, "ü"]}, None)
    pd.testing.assert_frame_equal(second, frame)


async def test_stream_of_a_plain_method(members, caller):
    """A method that is not a generator yields the items of its list, or its one value."""
    member = await members.join("plain")
    await member.serve({"rows": lambda: [1, 2], "one": lambda: {"x": 1}, "no": lambda: 1 / 0})
    assert await collected(caller.call_stream("app.plain.rows")) == [1, 2]
    assert await collected(caller.call_stream("app.plain.one")) == [{"x": 1}]
    with pytest.raises(ZeroDivisionError):
        await collected(caller.call_stream("app.plain.no"))


@pytest.mark.every_broker
@pytest.mark.parametrize("kind", KINDS)
async def test_caller_without_streams_receives_a_list(server, caller, raw, counter, kind):
    """Without the opt-in header the reply of a generator is the list of its items."""
    assert await caller.call(f"app.server.{kind}", n=3) == [0, 1, 2]
    replies = await raw.declare_queue(exclusive=True)
    exchange = await raw.get_exchange(f"{DOMAIN}.api.app.server", ensure=False)
    request = aio_pika.Message(b'{"n": 3}', type="call", correlation_id="c1", reply_to=replies.name)
    await exchange.publish(request, f"{DOMAIN}.api.app.server::{kind}")
    async with asyncio.timeout(60), replies.iterator(no_ack=True) as messages:
        answer = await anext(aiter(messages))
    assert (answer.type, answer.correlation_id, answer.body) == ("result", "c1", b"[0,1,2]")
    assert dict(answer.headers) == {}


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_endless_list_is_refused(members, caller, counter, monkeypatch, kind, threads):
    """An endless generator that is called for a list is closed, with an error."""
    monkeypatch.setattr(invocation, "MAX_ITEMS", 5000)
    member = await members.join("endless")
    await member.serve({"endless": getattr(counter, kind)}, threads=threads)
    with pytest.raises(RemoteError, match="items, and one reply carries fewer"):
        await caller.call("app.endless.endless", timeout=60)
    assert counter.closed == 1
    assert 5000 < counter.given < 7000


# -- errors


async def test_error_after_the_items(members, caller):
    """An error of a generator is raised after its items, with its traceback, and logged."""

    def rows():
        yield 1
        yield 2
        raise KeyError("third")

    member = await members.join("rows")
    serving = await member.serve({"rows": rows})
    had, raised = await collected_until(KeyError, caller.call_stream("app.rows.rows"))
    assert had == [1, 2]
    assert "raise KeyError" in raised.remote_traceback
    assert "fabric_nb" not in raised.remote_traceback.replace("fabric_nb/../", "")
    assert (serving.stats["rows"].errors, serving.stats["rows"].running) == (1, 0)
    (failure,) = member.calls.failures
    assert (failure.record.method, failure.kwargs()) == ("rows", {})
    assert caller.calls.records[-1].outcome == "failed"


async def test_errors_of_a_stream_are_those_of_a_call(server, caller):
    """Unknown services, methods and arguments have the same errors as for calls."""
    await wait_for_service(caller, "server", methods=4)
    with pytest.raises(InvalidName):
        caller.call_stream("nonsense")
    with pytest.raises(MethodNotFound, match="did you mean plain"):
        await collected(caller.call_stream("app.server.plane"))
    with pytest.raises(UnknownService):
        await collected(caller.call_stream("app.missing.plain", timeout=2))
    with pytest.raises(TypeError):
        await collected(caller.call_stream("app.server.plain", wrong=1))
    with pytest.raises(CallTimeout):
        await collected(caller.call_stream("app.server.stuck", timeout=0.2))


async def test_item_that_cannot_be_encoded(members, caller):
    """An item that cannot be encoded ends the stream with an error."""

    def rows():
        yield 1
        yield object()

    member = await members.join("rows")
    await member.serve({"rows": rows})
    items = caller.call_stream("app.rows.rows")
    assert await anext(items) == 1
    with pytest.raises(RemoteError, match="the item is a object, which JSON cannot carry"):
        await anext(items)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_no_error_of_a_generator_stops_the_service(members, caller, kind):
    """After any error of a generator the service continues."""

    def plain():
        yield 1
        raise kind

    async def later():
        yield 1
        raise kind

    async def cancels():
        yield 1
        asyncio.current_task().cancel()
        await asyncio.sleep(10)

    member = await members.join("rows")
    await member.serve({"plain": plain, "later": later, "cancels": cancels})
    for method in ("plain", "later", "cancels"):
        for _ in range(2):
            with pytest.raises(RemoteError):
                await collected(caller.call_stream(f"app.rows.{method}", timeout=60))


# -- back-pressure and fairness


@pytest.mark.parametrize("kind", KINDS)
async def test_generator_waits_for_a_slow_caller(server, caller, counter, kind):
    """The generator is ahead of its caller by at most the window."""
    items = caller.call_stream(f"app.server.{kind}")
    async with aclosing(items):
        for received in range(1, 200):
            await anext(items)
            assert counter.given <= received + item_streams.WINDOW
        await asyncio.sleep(0.2)  # nothing must happen
        assert counter.given <= 199 + item_streams.WINDOW
    await until(lambda: counter.closed == 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_stream_does_not_block_the_loop(server, caller, counter, kind):
    """While a generator without an await streams, other calls of the service get replies."""
    counter.pause = 0.001 if kind == "plain" else 0.0
    items = caller.call_stream(f"app.server.{kind}")
    async with aclosing(items):
        streaming_on = asyncio.create_task(collected(items))
        await until(lambda: counter.given > 100)
        assert await caller.call("app.server.health_check", timeout=60) is True
        assert await caller.call(f"app.server.{kind}", n=5, timeout=60) == [0, 1, 2, 3, 4]
        streaming_on.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await streaming_on


async def test_concurrent_streams(server, caller):
    """A long stream delays neither a second one nor a plain call of its method."""
    first, second = (caller.call_stream("app.server.later") for _ in range(2))
    async with aclosing(first), aclosing(second):
        assert [await anext(first), await anext(second), await anext(first)] == [0, 0, 1]
        assert await caller.call("app.server.later", n=2, timeout=60) == [0, 1]


async def test_generator_in_a_thread(members, caller):
    """With `threads` a plain generator runs and is closed in a thread."""
    names, go = [], threading.Event()

    def rows():
        try:
            yield threading.current_thread().name
            go.wait(10)
            yield "went"
            time.sleep(0.3)
            yield "slept"
        finally:
            names.append(threading.current_thread().name)

    member = await members.join("rows")
    await member.serve({"rows": rows}, threads=True)
    items = caller.call_stream("app.rows.rows")
    async with aclosing(items):
        assert await anext(items) != threading.current_thread().name
        assert await caller.call("app.rows.health_check", timeout=60) is True
        go.set()
        assert await anext(items) == "went"
    await until(lambda: names)
    assert names != [threading.current_thread().name]


async def test_service_can_stop_while_a_generator_blocks_its_thread(members, caller):
    """A generator that blocks its thread does not delay the end of the service."""
    go, closed = threading.Event(), threading.Event()

    def rows():
        try:
            yield "started"
            go.wait(30)
            yield "went"
        finally:
            closed.set()

    member = await members.join("rows")
    serving = await member.serve({"rows": rows}, threads=True)
    items = caller.call_stream("app.rows.rows")
    assert await anext(items) == "started"
    async with asyncio.timeout(60):
        await serving.close()
    with pytest.raises(RemoteError, match="has stopped"):
        await anext(items)
    assert not closed.is_set()
    go.set()
    await until(closed.is_set)


async def test_too_many_streams(server, caller, monkeypatch):
    """A server limits its concurrent streams, and further ones are an error."""
    monkeypatch.setattr(item_streams, "MAX_STREAMS", 2)
    open_streams = [caller.call_stream("app.server.later") for _ in range(3)]
    for items in open_streams[:2]:
        assert await anext(items) == 0
    with pytest.raises(RuntimeError, match="2 are being sent, and 2 may be"):
        await anext(open_streams[2])
    for items in open_streams:
        await items.aclose()


@pytest.mark.every_broker
async def test_too_many_streams_to_one_caller(members, server, caller, monkeypatch):
    """The streams of one caller are limited, without affecting other callers."""
    monkeypatch.setattr(item_streams, "MAX_STREAMS_OF_ONE", 2)
    open_streams = [caller.call_stream("app.server.later") for _ in range(3)]
    for items in open_streams[:2]:
        assert await anext(items) == 0
    with pytest.raises(RuntimeError, match="2 are being sent to this caller, and 2 may be"):
        await anext(open_streams[2])
    other = await members.join("other")
    items = other.call_stream("app.server.later")
    assert await anext(items) == 0
    for each in (*open_streams, items):
        await each.aclose()


async def start_streams(raw, reply_to, method, count, first=0):
    """Start streams without granting credit, and return their ids."""
    exchange = await raw.get_exchange(f"{DOMAIN}.api.app.server")
    ids = [f"{reply_to}-{number}" for number in range(first, first + count)]
    for correlation_id in ids:
        request = aio_pika.Message(
            b"{}",
            type="call",
            correlation_id=correlation_id,
            reply_to=reply_to,
            headers={"x-fabric-stream": 1},
        )
        await exchange.publish(request, f"{DOMAIN}.api.app.server::{method}")
    return ids


async def test_idle_streams_give_way(members, server, caller, raw, monkeypatch):
    """Streams without credit are ended with an error in favour of new ones."""
    monkeypatch.setattr(item_streams, "STARVED_AFTER", 0.2)
    queues = [await raw.declare_queue(exclusive=True) for _ in range(5)]
    for queue in queues:
        await start_streams(raw, queue.name, "later", 25)
    serving = server.servers[0]
    await until(lambda: serving.item_streams == item_streams.MAX_STREAMS)

    async def first_item():
        while True:
            items = caller.call_stream("app.server.later", timeout=60)
            with contextlib.suppress(RuntimeError):  # until a stream has been idle for long enough
                return await anext(items), items

    async with asyncio.timeout(60):
        streams = [await first_item() for _ in range(20)]
    assert [item for item, _ in streams] == [0] * 20
    assert serving.item_streams <= item_streams.MAX_STREAMS + 1
    for _, items in streams:
        await items.aclose()
    errors = []
    async with asyncio.timeout(60):
        for queue in queues:
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                if message.type == "error":
                    errors.append(orjson.loads(message.body)["error"]["message"])
    assert any("for another one" in text for text in errors)


async def test_idle_stream_is_cancelled(server, caller, raw, monkeypatch):
    """A stream without credit for long is cancelled, and its caller receives an error."""
    monkeypatch.setattr(item_streams, "IDLE_TIMEOUT", 0.3)
    queue = await raw.declare_queue(exclusive=True)
    await start_streams(raw, queue.name, "later", 1)
    async with asyncio.timeout(60), queue.iterator(no_ack=True) as messages:
        async for message in messages:
            if message.type == "error":
                break
    assert "no item of it was requested" in orjson.loads(message.body)["error"]["message"]
    await until(lambda: not server.servers[0].item_streams)


async def test_slow_caller_grants_credit(server, caller, monkeypatch):
    """A slow caller grants credit in time, and receives all items."""
    monkeypatch.setattr(item_streams, "GRANT_EVERY", 0.1)
    monkeypatch.setattr(item_streams, "IDLE_TIMEOUT", 1.0)
    had = []
    items = caller.call_stream("app.server.later", timeout=60)
    async for item in items:
        had.append(item)
        if len(had) == 70:
            break
        await asyncio.sleep(0.05)  # half of the window takes longer than it may want nothing
    await items.aclose()
    assert had == list(range(70))


# -- cancellation


@pytest.mark.parametrize("kind", [*KINDS, "stuck"])
async def test_leaving_the_loop_closes_the_generator(server, caller, counter, kind):
    """Leaving the loop closes the remote generator, whatever it waits for."""
    async for _ in caller.call_stream(f"app.server.{kind}"):
        break
    await until(lambda: counter.closed == 1)
    await until(lambda: server.calls.records)
    assert server.calls.records[0].outcome == "cancelled"
    assert caller.calls.records[0].outcome == "cancelled"
    assert server.servers[0].stats[kind].errors == 0


async def waiting_in(raw, queue):
    """Return the number of messages in a queue that were not delivered."""
    return (await raw.declare_queue(queue, passive=True)).declaration_result.message_count


@pytest.mark.every_broker
async def test_cancelled_before_it_starts(members, caller, counter, raw):
    """A stream that is cancelled while its request is queued is closed once it starts."""
    busy, go = asyncio.Event(), asyncio.Event()

    async def rows(n=None):
        if n is None:
            busy.set()
            await go.wait()
        async for item in counter.later():
            yield item

    async def call_first():
        busy.set()
        await go.wait()

    member = await members.join("rows")
    serving = await member.serve({"rows": call_first})
    first = asyncio.create_task(caller.call("app.rows.rows"))
    await busy.wait()
    waiting = asyncio.create_task(collected(caller.call_stream("app.rows.rows", n=1)))
    async with asyncio.timeout(60):
        while not await waiting_in(raw, f"{DOMAIN}.api.app.rows::rows"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    await serving.replace({"rows": rows})
    go.set()
    await first
    await until(lambda: counter.closed == 1)
    await until(lambda: member.calls.records[-1].outcome == "cancelled")


@pytest.mark.every_broker
async def test_lost_caller_is_detected(members, server, counter):
    """When the connection of the caller is lost, its generators are closed."""
    leaving = await members.join("leaving", type="client")
    flowing, stuck = (
        leaving.call_stream("app.server.later"),
        leaving.call_stream("app.server.stuck"),
    )
    assert await anext(flowing) == 0
    assert await anext(stuck) == "started"
    lose_connection(leaving.member.connection)  # its queue is deleted without a message
    await until(lambda: counter.closed == 2)
    for items in (flowing, stuck):
        with pytest.raises(ConnectionLost):
            await collected(items)


@pytest.mark.every_broker
async def test_server_that_goes_is_noticed(members, caller, counter):
    """When the server crashes its streams end with an error, also in a clique."""
    for _ in range(2):
        member = await members.join("pair")
        await member.serve({"stuck": counter.stuck})
    items = caller.call_stream("app.pair.stuck", timeout=None)
    assert await anext(items) == "started"
    streams_at = next(
        each for each in members.opened if each.servers and each.servers[0].item_streams
    )
    lose_connection(streams_at.member.connection)
    with pytest.raises(ServiceLost):
        await anext(items)


@pytest.mark.every_broker
async def test_stopping_server_ends_its_streams(members, caller, counter):
    """A service that stops ends its streams after its grace, with an error."""
    member = await members.join("stopping")
    serving = await member.serve({"later": counter.later, "stuck": counter.stuck})
    ending = caller.call_stream("app.stopping.later", n=100)
    lasting = caller.call_stream("app.stopping.stuck")
    assert [await anext(ending), await anext(lasting)] == [0, "started"]
    closing = asyncio.create_task(serving.close(grace=0.5))
    assert await collected(ending) == list(range(1, 100))
    with pytest.raises(RemoteError, match="has stopped while it sent items"):
        await anext(lasting)
    await closing
    assert counter.closed == 2


# -- invalid messages


async def test_invalid_messages_about_a_stream(server, caller, raw, counter):
    """Invalid messages about a stream, or from other senders, have no effect."""
    items = caller.call_stream("app.server.later")
    async with aclosing(items):
        assert await anext(items) == 0
        serving = server.servers[0]
        (key,) = (call.delivery.correlation_id for call in serving.running)
        for kind, body, correlation_id in [
            ("cancel", b"null", "stranger"),
            ("credit", b"1000000", key),
            ("credit", b"-5", key),
            ("credit", b"{", key),
            ("nonsense", b"null", key),
        ]:
            message = aio_pika.Message(body, type=kind, correlation_id=correlation_id)
            await raw.default_exchange.publish(message, serving.control.queue)
        await until(lambda: server.rejected.counts["stream"] == 4)
        assert [await anext(items) for _ in range(200)] == list(range(1, 201))
        assert counter.given <= 201 + item_streams.WINDOW


async def test_invalid_opt_in_is_ignored(server, raw):
    """An opt-in header with an invalid credit is ignored."""
    replies = await raw.declare_queue(exclusive=True)
    exchange = await raw.get_exchange(f"{DOMAIN}.api.app.server", ensure=False)
    bad = [-1, 0, "64", True, 10**9, None]
    for number, credit in enumerate(bad):
        request = aio_pika.Message(
            b'{"n": 2}',
            type="call",
            correlation_id=f"c{number}",
            reply_to=replies.name,
            headers={"x-fabric-stream": credit},
        )
        await exchange.publish(request, f"{DOMAIN}.api.app.server::plain")
    async with asyncio.timeout(60), replies.iterator(no_ack=True) as messages:
        for number in range(len(bad)):
            answer = await anext(aiter(messages))
            assert (answer.type, answer.correlation_id) == ("result", f"c{number}")
            assert orjson.loads(answer.body) == [0, 1]


async def test_server_that_exceeds_the_credit(caller, raw):
    """If a server exceeds the credit the stream ends, so that memory stays bounded."""
    name = f"{DOMAIN}.api.app.flood"
    exchange = await raw.declare_exchange(name, "direct", auto_delete=True)
    queue = await raw.declare_queue(f"{name}::rows", durable=True, auto_delete=True)
    await queue.bind(exchange, queue.name)

    async def flood(request):
        for kind in ["begin", *["item"] * 1000]:
            message = aio_pika.Message(
                b"1", type=kind, correlation_id=request.correlation_id, reply_to="amq.nowhere"
            )
            await raw.default_exchange.publish(message, request.reply_to)

    await queue.consume(flood, no_ack=True)
    items = caller.call_stream("app.flood.rows", timeout=60)
    had, raised = await collected_until(MalformedMessage, items, pause=0.01)
    assert "more items than were requested" in str(raised)
    assert item_streams.WINDOW <= len(had) < 1000
