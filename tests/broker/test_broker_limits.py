"""Floods, slow clients and limits: memory stays bounded and other clients are served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import select
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
# Memory in addition to the messages: socket buffers and fragmentation.
HEADROOM = 3 * LIMIT_MB * MEGABYTE


@pytest.fixture(scope="module")
def small() -> Iterator[BrokerProcess]:
    """Start a broker with little memory for messages."""
    with BrokerProcess("--memory-limit", str(LIMIT_MB)) as process:
        yield process
        assert process.stop() == (0, "")


@contextlib.contextmanager
def bounded(process: BrokerProcess) -> Iterator[None]:
    """Check that the memory of the broker is bounded during the block."""
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
    """Repeat `data` until the broker stops reading, and return the number of sent bytes."""
    client.socket.settimeout(2)  # a busy machine delays the broker too
    chunk = data * max(1, 50_000 // len(data))
    sent = 0
    try:
        while sent < limit:
            sent += client.socket.send(chunk[sent % len(chunk) :])
    except TimeoutError:
        client.socket.settimeout(60)
        return sent
    raise AssertionError(f"the broker has read {sent} bytes, and did not stop")


def test_a_flooding_publisher_is_blocked_and_resumes(small: BrokerProcess, name: str) -> None:
    """The publisher receives Blocked, is not read, and resumes when memory is free."""
    data = message(name)
    with (
        RawClient(small.uri).open(capabilities={"connection.blocked": True}) as publisher,
        RawClient(small.uri).open() as consumer,
        bounded(small),
    ):
        publisher.call(1, Queue.Declare(queue=name, auto_delete=True))
        sent = flood(publisher, data)
        assert isinstance(publisher.receive()[1], Connection.Blocked)
        # Other clients are not affected.
        assert consumer.call(1, Queue.Declare(queue=name, passive=True)).message_count > 1000
        consumer.call(1, Basic.Consume(queue=name, consumer_tag="t", no_ack=True))
        for _ in range(sent // len(data)):
            assert len(consumer.receive_message().body) == 1000
        assert isinstance(publisher.receive()[1], Connection.Unblocked)
        publisher.send_bytes(data[sent % len(data) :] if sent % len(data) else b"")
        publisher.publish(1, name, b"last")
        while consumer.receive_message().body != b"last":
            pass


def test_a_flood_does_not_block_the_calls_of_other_clients(small: BrokerProcess, name: str) -> None:
    """While one client is blocked, small messages of another one are delivered."""
    with (
        RawClient(small.uri).open() as publisher,
        RawClient(small.uri).open() as second,
        bounded(small),
    ):
        publisher.call(1, Queue.Declare(queue=name, exclusive=True))
        flood(publisher, message(name))
        second.call(1, Queue.Declare(queue=f"{name}-calls", exclusive=True))
        second.call(1, Basic.Consume(queue=f"{name}-calls", consumer_tag="t", no_ack=True))
        for number in range(100):
            second.publish(1, f"{name}-calls", b"%d" % number)
            assert second.receive_message().body == b"%d" % number


def test_a_consumer_that_does_not_read_uses_bounded_memory(small: BrokerProcess, name: str) -> None:
    """Unread deliveries without acknowledgement block the publisher in the end."""
    with (
        RawClient(small.uri).open() as consumer,
        RawClient(small.uri).open() as publisher,
        bounded(small),
    ):
        consumer.call(1, Queue.Declare(queue=name))
        consumer.call(1, Basic.Consume(queue=name, consumer_tag="t", no_ack=True))
        flood(publisher, message(name))
        with RawClient(small.uri).open() as second:
            second.call(1, Queue.Delete(queue=name))


def test_a_publisher_that_disconnects_while_blocked_is_cleaned_up(
    small: BrokerProcess, name: str
) -> None:
    """Its disconnection is detected although it is not read, and its queue is deleted."""
    with RawClient(small.uri).open() as publisher:
        publisher.call(1, Queue.Declare(queue=name, exclusive=True))
        flood(publisher, message(name))
    with RawClient(small.uri).open() as second:
        while second.call(1, Queue.Declare(queue=name, passive=True)).reply_code == 405:
            second.send(1, Channel.CloseOk())
            second.open_channel(1)


def test_a_client_that_does_not_read_replies_is_not_read(small: BrokerProcess) -> None:
    """Replies to endless requests do not accumulate."""
    name = "q" * 250
    request = frame.marshal(Queue.Declare(queue=name, passive=True), 1)
    with RawClient(small.uri).open() as client, bounded(small):
        client.call(1, Queue.Declare(queue=name, exclusive=True))
        flood(client, request)


def test_incomplete_messages_use_bounded_memory(small: BrokerProcess) -> None:
    """Incomplete bodies on many channels are accounted."""
    starts = [
        frame.marshal(value, channel)
        for channel in range(1, 30)
        for value in (
            Basic.Publish(routing_key="q"),
            header.ContentHeader(0, 32 * MEGABYTE, Basic.Properties()),
        )
    ]
    body_frames = b"".join(
        frame.marshal(body.ContentBody(bytes(100_000)), channel) for channel in range(1, 30)
    )
    with RawClient(small.uri).open(channels=29) as client, bounded(small):
        client.send_bytes(b"".join(starts))
        flood(client, body_frames)


def test_other_clients_are_served_during_a_flood(broker: BrokerProcess, name: str) -> None:
    """The work per client and loop iteration is bounded, whatever the number of its frames."""
    stop = threading.Event()
    data = message(f"{name}-nowhere", 100) * 2000

    def publish(client: RawClient) -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                client.send_bytes(data)

    with RawClient(broker.uri).open() as publisher, RawClient(broker.uri).open() as second:
        thread = threading.Thread(target=publish, args=(publisher,))
        thread.start()
        try:
            for _ in range(100):
                second.call(1, Basic.Qos())
        finally:
            stop.set()
            publisher.socket.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_an_idle_broker_uses_no_processor_and_little_memory(name: str) -> None:
    """This includes connections, consumers and ready messages."""
    with BrokerProcess() as process, RawClient(process.uri).open(heartbeat=60) as client:
        client.call(1, Queue.Declare(queue=name, arguments={"x-message-ttl": 3_600_000}))
        client.publish(1, name, b"waits")
        client.call(1, Queue.Declare(queue=f"{name}-2", arguments={"x-expires": 3_600_000}))
        client.call(1, Basic.Consume(queue=f"{name}-2", consumer_tag="t"))
        before = process.cpu_ticks
        client.socket.settimeout(2)
        with pytest.raises(TimeoutError):
            client.receive()
        assert process.cpu_ticks - before < 20, "a tenth of a processor"
        assert process.resident_bytes < 40 * MEGABYTE


async def test_connections_are_limited_and_closed_at_shutdown() -> None:
    """A connection beyond the limit is refused with 530 until another one is closed."""
    loop = asyncio.get_running_loop()
    settings = Settings(Credentials("guest", "guest"), max_connections=2)
    server = Server(settings, loop, Lifetime(loop))
    await server.start()
    uri = f"amqp://guest:guest@127.0.0.1:{server.port}/"
    with RawClient(uri) as first, RawClient(uri) as second, RawClient(uri) as third:
        await asyncio.to_thread(first.open)
        await asyncio.to_thread(second.open)
        await asyncio.to_thread(third.start)
        await asyncio.to_thread(third.call, 0, third.start_ok())
        third.send(0, Connection.TuneOk(10, 131_072, 0), Connection.Open("/"))
        _, refusal = await asyncio.to_thread(third.receive)
        assert (refusal.reply_code, refusal.reply_text) == (
            530,
            "NOT_ALLOWED - connection limit (2) is reached",
        )
        closed = await asyncio.to_thread(first.call, 0, Connection.Close(200, "", 0, 0))
        assert isinstance(closed, Connection.CloseOk)
        await asyncio.to_thread(first.until_closed)
        with RawClient(uri) as fourth:
            await asyncio.to_thread(fourth.open)
            stopping = asyncio.create_task(server.stop())
            for client in (second, fourth):
                _, close = await asyncio.to_thread(client.receive)
                assert close.reply_code == 320
                client.send(0, Connection.CloseOk())
            await stopping


def test_a_blocked_client_is_closed_at_shutdown(name: str) -> None:
    """It receives 320 like all others, and does not delay the shutdown."""
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
    """The limits are common to all connections; the error is 506 and affects one of them."""
    loop = asyncio.get_running_loop()
    server = Server(Settings(Credentials("guest", "guest")), loop, Lifetime(loop))
    server.vhost = VirtualHost(loop, limits=Limits(channels=3, consumers=2))
    await server.start()
    uri = f"amqp://guest:guest@127.0.0.1:{server.port}/"
    with RawClient(uri) as first, RawClient(uri) as second:
        await asyncio.to_thread(first.open, channels=2)
        await asyncio.to_thread(second.open, channels=1)
        refused = await asyncio.to_thread(second.call, 2, Channel.Open())
        assert refused.reply_code == 506
        await asyncio.to_thread(first.open_channel, 3)
        await asyncio.to_thread(first.call, 1, Queue.Declare(queue="q", exclusive=True))
        for expected in (Basic.ConsumeOk, Basic.ConsumeOk, Connection.Close):
            answer = await asyncio.to_thread(first.call, 1, Basic.Consume(queue="q"))
            assert isinstance(answer, expected)
        first.send(0, Connection.CloseOk())
        second.send(0, Connection.CloseOk())
        await server.stop()


@pytest.mark.parametrize(
    "limits",
    [Limits(queues=2), Limits(exchanges=2), Limits(bindings=2), Limits(arguments_size=100)],
)
async def test_declarations_are_limited(limits: Limits) -> None:
    """The error is 506, and deletions free the quota."""
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


# Unauthenticated connections


@contextlib.contextmanager
def open_file_limit(number: int) -> Iterator[None]:
    """Set the maximum number of open files of this process and its children."""
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
def test_unauthenticated_connections_do_not_lock_out_the_user(opening: bytes) -> None:
    """With more unauthenticated connections than file descriptors, the user logs in immediately."""
    with ExitStack() as stack:
        with open_file_limit(1024):
            broker = stack.enter_context(BrokerProcess())
        stack.enter_context(open_file_limit(4096))
        for _ in range(1100):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", broker.port), 60))
            with contextlib.suppress(OSError):
                sock.sendall(opening)
        with RawClient(broker.uri) as client:
            client.open()
        connect(("127.0.0.1", broker.port), PASSWORD, Operation.LEASE, 60).close()
        code, errors = broker.stop()
        assert code == 0
        assert len(errors.splitlines()) < 10, errors


def test_wrong_passwords_are_rate_limited() -> None:
    """Refusals are spaced, over both protocols; the right password is accepted immediately."""
    with BrokerProcess() as broker, ExitStack() as stack:
        address = ("127.0.0.1", broker.port)

        def guess() -> RawClient:
            client = stack.enter_context(RawClient(broker.uri))
            client.start()
            client.send(0, client.start_ok({"authentication_failure_close": True}, "\0x\0guess"))
            return client

        began = time.monotonic()
        clients = [guess() for _ in range(8)]
        with ThreadPoolExecutor(1) as pool:
            control = pool.submit(connect, address, "guess", Operation.PING, 60)
            last = [guess() for _ in range(24)][-1]
            with RawClient(broker.uri) as client:
                client.open()
            connect(address, PASSWORD, Operation.PING, 60).close()
            refused, _, _ = select.select([last.socket], [], [], 0)
            assert not refused, "the right password waits for no refusal"
            assert {client.receive()[1].reply_code for client in clients} == {403}
            assert time.monotonic() - began >= 8 * REFUSAL_INTERVAL
            with pytest.raises((ControlError, ConnectionResetError)):
                control.result()


def test_repeated_log_lines_are_rate_limited() -> None:
    """The first line is written, and the next one ten seconds later with the suppressed count."""
    now = [100.0]
    limiter, lines = RepeatFilter(lambda: now[0]), []

    def log(text: str, *arguments: object) -> None:
        record = logging.LogRecord("x", logging.WARNING, "", 0, text, arguments, None)
        if limiter.filter(record):
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
