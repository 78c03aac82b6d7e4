"""Floods, slow clients and excess: the broker's memory stays bounded and others are served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from pamqp import body, frame, header
from pamqp.commands import Basic, Channel, Connection, Queue

from fabric_nb.broker.control import CONTROL_HEADER, ControlError, Operation, connect
from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.framing import PROTOCOL_HEADER
from fabric_nb.broker.handshake import Credentials
from fabric_nb.broker.lifetime import Lifetime
from fabric_nb.broker.log_rate_limit import RepeatFilter
from fabric_nb.broker.quota import Limits
from fabric_nb.broker.server import Server, Settings
from fabric_nb.broker.unauthenticated import REFUSAL_INTERVAL
from fabric_nb.broker.vhost import VirtualHost
from tests.broker.process import PASSWORD, BrokerProcess
from tests.broker.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTE = 1024 * 1024
LIMIT_MB = 16
# What the interpreter may need beside the messages: buffers of sockets, fragmentation.
HEADROOM = 3 * LIMIT_MB * MEGABYTE


@pytest.fixture(scope="module")
def small() -> Iterator[BrokerProcess]:
    """A broker with little memory for messages."""
    with BrokerProcess("--memory-limit", str(LIMIT_MB)) as process:
        yield process
        assert process.stop() == (0, "")


@contextlib.contextmanager
def bounded(process: BrokerProcess) -> Iterator[None]:
    """What happens here must not make the broker grow."""
    before = process.resident_bytes
    yield
    assert process.resident_bytes < before + HEADROOM


def message(queue: str, size: int = 1000) -> bytes:
    return b"".join(
        frame.marshal(value, 1)
        for value in (
            Basic.Publish(routing_key=queue),
            header.ContentHeader(0, size, Basic.Properties()),
            body.ContentBody(bytes(size)),
        )
    )


def flood(client: RawClient, data: bytes, limit: int = 400 * MEGABYTE) -> int:
    """Send the same again and again until the broker takes no more; the number sent whole."""
    client.socket.settimeout(0.5)
    chunk = data * max(1, 50_000 // len(data))
    sent = 0
    try:
        while sent < limit:
            sent += client.socket.send(chunk[sent % len(chunk) :])
    except TimeoutError:
        client.socket.settimeout(5)
        return sent
    raise AssertionError(f"the broker took {sent} bytes, and would have taken more")


def test_a_flood_is_stopped_told_and_let_go_on(small: BrokerProcess, name: str) -> None:
    """The publisher is not read, hears that it is blocked, and goes on once there is room."""
    data = message(name)
    with (
        RawClient(small.uri).open(capabilities={"connection.blocked": True}) as publisher,
        RawClient(small.uri).open() as consumer,
        bounded(small),
    ):
        publisher.call(1, Queue.Declare(queue=name, auto_delete=True))
        sent = flood(publisher, data)
        assert isinstance(publisher.receive()[1], Connection.Blocked)
        # The other is served as if nothing was.
        assert consumer.call(1, Queue.Declare(queue=name, passive=True)).message_count > 1000
        consumer.call(1, Basic.Consume(queue=name, consumer_tag="t", no_ack=True))
        for _ in range(sent // len(data)):
            assert len(consumer.receive_message().body) == 1000
        assert isinstance(publisher.receive()[1], Connection.Unblocked)
        publisher.send_bytes(data[sent % len(data) :] if sent % len(data) else b"")
        publisher.publish(1, name, b"last")
        while consumer.receive_message().body != b"last":
            pass


def test_a_flood_does_not_stop_the_calls_of_others(small: BrokerProcess, name: str) -> None:
    """While one client has filled its share, another one's small messages go through."""
    with (
        RawClient(small.uri).open() as publisher,
        RawClient(small.uri).open() as other,
        bounded(small),
    ):
        publisher.call(1, Queue.Declare(queue=name, exclusive=True))
        flood(publisher, message(name))
        other.call(1, Queue.Declare(queue=f"{name}-calls", exclusive=True))
        other.call(1, Basic.Consume(queue=f"{name}-calls", consumer_tag="t", no_ack=True))
        for number in range(100):
            other.publish(1, f"{name}-calls", b"%d" % number)
            assert other.receive_message().body == b"%d" % number


def test_a_consumer_that_does_not_read_costs_bounded_memory(
    small: BrokerProcess, name: str
) -> None:
    """Without acknowledgements too: what it does not take stops the publisher at last."""
    with (
        RawClient(small.uri).open() as sleeper,
        RawClient(small.uri).open() as publisher,
        bounded(small),
    ):
        sleeper.call(1, Queue.Declare(queue=name))
        sleeper.call(1, Basic.Consume(queue=name, consumer_tag="t", no_ack=True))
        flood(publisher, message(name))
        with RawClient(small.uri).open() as other:
            other.call(1, Queue.Delete(queue=name))


def test_a_flooder_that_dies_while_it_is_blocked_leaves_nothing(
    small: BrokerProcess, name: str
) -> None:
    """Its end is noticed although it is not read, and its queue goes with it."""
    with RawClient(small.uri).open() as publisher:
        publisher.call(1, Queue.Declare(queue=name, exclusive=True))
        flood(publisher, message(name))
    with RawClient(small.uri).open() as other:
        while other.call(1, Queue.Declare(queue=name, passive=True)).reply_code == 405:
            other.send(1, Channel.CloseOk())
            other.open_channel(1)


def test_a_client_that_does_not_read_its_answers_is_not_read(small: BrokerProcess) -> None:
    """Questions without end do not pile up answers without end."""
    name = "q" * 250
    question = frame.marshal(Queue.Declare(queue=name, passive=True), 1)
    with RawClient(small.uri).open() as client, bounded(small):
        client.call(1, Queue.Declare(queue=name, exclusive=True))
        flood(client, question)


def test_messages_that_are_never_finished_cost_bounded_memory(small: BrokerProcess) -> None:
    """Bodies begun on many channels count as well."""
    begun = [
        frame.marshal(value, channel)
        for channel in range(1, 30)
        for value in (
            Basic.Publish(routing_key="q"),
            header.ContentHeader(0, 32 * MEGABYTE, Basic.Properties()),
        )
    ]
    pieces = b"".join(
        frame.marshal(body.ContentBody(bytes(100_000)), channel) for channel in range(1, 30)
    )
    with RawClient(small.uri).open(channels=29) as client, bounded(small):
        client.send_bytes(b"".join(begun))
        flood(client, pieces)


def test_others_are_answered_while_one_publishes_at_full_speed(
    broker: BrokerProcess, name: str
) -> None:
    """A client's turn is bounded, however much it has sent."""
    stop = threading.Event()
    data = message(f"{name}-nowhere", 100) * 2000

    def publish(client: RawClient) -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                client.send_bytes(data)

    with RawClient(broker.uri).open() as flooder, RawClient(broker.uri).open() as other:
        thread = threading.Thread(target=publish, args=(flooder,))
        thread.start()
        try:
            waits = []
            for _ in range(100):
                started = time.monotonic()
                other.call(1, Basic.Qos())
                waits.append(time.monotonic() - started)
        finally:
            stop.set()
            flooder.socket.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert sorted(waits)[50] < 0.1


def test_an_idle_broker_uses_no_processor_and_little_memory(name: str) -> None:
    """With connections, consumers and a queue that holds messages."""
    with BrokerProcess() as process, RawClient(process.uri).open(heartbeat=60) as client:
        client.call(1, Queue.Declare(queue=name, arguments={"x-message-ttl": 3_600_000}))
        client.publish(1, name, b"waits")
        client.call(1, Queue.Declare(queue=f"{name}-2", arguments={"x-expires": 3_600_000}))
        client.call(1, Basic.Consume(queue=f"{name}-2", consumer_tag="t"))
        before = process.cpu_ticks
        client.socket.settimeout(2)
        with pytest.raises(TimeoutError):
            client.receive()
        assert process.cpu_ticks - before <= 1
        assert process.resident_bytes < 40 * MEGABYTE


async def test_connections_are_limited_and_are_told_when_the_broker_stops() -> None:
    """One too many is refused with 530, and there is room again when one goes."""
    loop = asyncio.get_running_loop()
    settings = Settings(Credentials("guest", "guest"), max_connections=2)
    server = Server(settings, loop, Lifetime(loop))
    await server.start()
    uri = f"amqp://guest:guest@127.0.0.1:{server.port}/"
    with RawClient(uri) as one, RawClient(uri) as two, RawClient(uri) as three:
        await asyncio.to_thread(one.open)
        await asyncio.to_thread(two.open)
        await asyncio.to_thread(three.start)
        await asyncio.to_thread(three.call, 0, three.start_ok())
        three.send(0, Connection.TuneOk(10, 131_072, 0), Connection.Open("/"))
        _, refusal = await asyncio.to_thread(three.receive)
        assert (refusal.reply_code, refusal.reply_text) == (
            530,
            "NOT_ALLOWED - connection limit (2) is reached",
        )
        closed = await asyncio.to_thread(one.call, 0, Connection.Close(200, "", 0, 0))
        assert isinstance(closed, Connection.CloseOk)
        await asyncio.to_thread(one.until_closed)
        with RawClient(uri) as four:
            await asyncio.to_thread(four.open)
            stopping = asyncio.create_task(server.stop())
            for client in (two, four):
                _, told = await asyncio.to_thread(client.receive)
                assert told.reply_code == 320
                client.send(0, Connection.CloseOk())
            await stopping


def test_a_blocked_client_is_told_when_the_broker_stops(name: str) -> None:
    """With 320 like all others, and the broker does not wait for it in vain."""
    with (
        BrokerProcess("--memory-limit", str(LIMIT_MB)) as process,
        RawClient(process.uri).open(capabilities={"connection.blocked": True}) as client,
    ):
        client.call(1, Queue.Declare(queue=name, exclusive=True))
        flood(client, message(name))
        assert isinstance(client.receive()[1], Connection.Blocked)
        process.terminate()
        assert client.receive()[1].reply_code == 320
        client.socket.close()
        assert process.stop() == (0, "")


async def test_channels_and_consumers_are_limited() -> None:
    """Over all connections, with 506; others that are there go on."""
    loop = asyncio.get_running_loop()
    server = Server(Settings(Credentials("guest", "guest")), loop, Lifetime(loop))
    server.vhost = VirtualHost(loop, limits=Limits(channels=3, consumers=2))
    await server.start()
    uri = f"amqp://guest:guest@127.0.0.1:{server.port}/"
    with RawClient(uri) as one, RawClient(uri) as two:
        await asyncio.to_thread(one.open, channels=2)
        await asyncio.to_thread(two.open, channels=1)
        refused = await asyncio.to_thread(two.call, 2, Channel.Open())
        assert refused.reply_code == 506
        await asyncio.to_thread(one.open_channel, 3)
        await asyncio.to_thread(one.call, 1, Queue.Declare(queue="q", exclusive=True))
        for expected in (Basic.ConsumeOk, Basic.ConsumeOk, Connection.Close):
            answer = await asyncio.to_thread(one.call, 1, Basic.Consume(queue="q"))
            assert isinstance(answer, expected)
        one.send(0, Connection.CloseOk())
        two.send(0, Connection.CloseOk())
        await server.stop()


@pytest.mark.parametrize(
    "limits",
    [Limits(queues=2), Limits(exchanges=2), Limits(bindings=2), Limits(arguments_size=100)],
)
async def test_declarations_are_limited(limits: Limits) -> None:
    """With 506 for one too many, and room again for each that goes."""
    vhost = VirtualHost(asyncio.get_running_loop(), limits=limits)

    def declare(number: int) -> None:
        queue = vhost.declare_queue(
            f"q{number}",
            None,
            durable=False,
            exclusive=False,
            auto_delete=False,
            arguments={"x-note": "n" * 20},
        )
        vhost.declare_exchange(
            f"e{number}",
            "fanout",
            durable=False,
            auto_delete=False,
            internal=False,
            arguments={},
        )
        vhost.bind(f"e{number}", queue, "", {})

    def delete(number: int) -> None:
        vhost.delete_exchange(f"e{number}", if_unused=False)
        if f"q{number}" in vhost.queues:
            vhost.delete_queue(vhost.queues[f"q{number}"])

    declare(0)
    declare(1)
    with pytest.raises(AMQPError) as caught:
        list(map(declare, range(2, 5)))
    assert caught.value.code is ReplyCode.RESOURCE_ERROR
    for number in range(5):
        delete(number)
    declare(0)
    declare(1)


# Strangers


@contextlib.contextmanager
def files(number: int) -> Iterator[None]:
    """Let this process, and what it starts meanwhile, have so many files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    "opening",
    [b"", CONTROL_HEADER, CONTROL_HEADER + bytes(32), PROTOCOL_HEADER, b"AMQP"],
    ids=["silent", "control", "control without proof", "AMQP without login", "half a header"],
)
def test_strangers_do_not_keep_the_user_out(opening: bytes) -> None:
    """More connections without a password than there are files: the user comes in, and at once."""
    with ExitStack() as stack:
        with files(1024):
            broker = stack.enter_context(BrokerProcess())
        stack.enter_context(files(4096))
        for _ in range(1100):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", broker.port), 5))
            with contextlib.suppress(OSError):
                sock.sendall(opening)
        began = time.monotonic()
        with RawClient(broker.uri) as client:
            client.open()
        lease = connect(("127.0.0.1", broker.port), PASSWORD, Operation.LEASE, 5)
        with lease:
            assert time.monotonic() - began < 2
        code, errors = broker.stop()
        assert code == 0
        assert len(errors.splitlines()) < 10, errors


def test_passwords_cannot_be_tried_fast() -> None:
    """Wrong ones are refused one by one, over both protocols; the right one is taken at once."""
    with BrokerProcess() as broker, ExitStack() as stack:
        address = ("127.0.0.1", broker.port)
        guessing = []
        began = time.monotonic()
        for number in range(8):
            client = stack.enter_context(RawClient(broker.uri))
            client.start()
            client.send(
                0, client.start_ok({"authentication_failure_close": True}, f"\0x\0{number}")
            )
            guessing.append(client)
        with ThreadPoolExecutor(1) as pool:
            control = pool.submit(connect, address, "guess", Operation.PING, 10)
            right = time.monotonic()
            with RawClient(broker.uri) as client:
                client.open()
            connect(address, PASSWORD, Operation.PING, 5).close()
            assert time.monotonic() - right < 1
            assert {client.receive()[1].reply_code for client in guessing} == {403}
            assert time.monotonic() - began >= 8 * REFUSAL_INTERVAL
            with pytest.raises((ControlError, ConnectionResetError)):
                control.result()


def test_a_flood_of_one_complaint_is_one_line() -> None:
    """The first of a kind is written, and the next one ten seconds later, with their number."""
    now = [100.0]
    repeats, lines = RepeatFilter(lambda: now[0]), []

    def log(text: str, *arguments: object) -> None:
        record = logging.LogRecord("x", logging.WARNING, "", 0, text, arguments, None)
        if repeats.filter(record):
            lines.append(record.getMessage())

    for number in range(1000):
        log("no room for %d", number)
    log("something else")
    now[0] += 10
    log("no room for %d", 1000)
    log("no room for %d", 1001)
    assert lines == [
        "no room for 0",
        "something else",
        "no room for 1000 (999 more since the last line like this)",
    ]
