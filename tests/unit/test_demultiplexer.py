"""Demultiplexing of received frames, outcomes of published messages, and batched writing."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, header, heartbeat
from pamqp import frame as pamqp_frame

from fabric_nb.errors import BrokerRefused, ConnectionLost, FabricError
from fabric_nb.fabric.amqp import demultiplexer, frames
from fabric_nb.fabric.amqp.demultiplexer import BatchingWriter, FrameDemultiplexer
from fabric_nb.fabric.amqp.fast_channel import FastChannel
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.core.tasks import Failures
from tests.support.fabric import until

OURS, OTHER = 3, 4
HEARTBEAT = pamqp_frame.marshal(heartbeat.Heartbeat(), 0)


class Ends:
    """Demultiplexer with a fast channel of number 3, and the output of both."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sent = bytearray()
        self.deliveries: list[Delivery] = []
        self.demultiplexer = FrameDemultiplexer(loop)
        self.fast = FastChannel(OURS, self.sent.extend, frame_max=4096)
        self.fast.consumers[b"mine"] = self.deliveries.append
        self.demultiplexer.channels[OURS] = self.fast

    def forwarded(self) -> bytes:
        """Return and remove the bytes that were forwarded to aiormq."""
        reading = self.demultiplexer.read(1_000_000)
        try:
            reading.send(None)
        except StopIteration as read:
            return read.value
        reading.close()  # it waits, because there are none
        return b""


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Event loop that is not running."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def ends(loop: asyncio.AbstractEventLoop) -> Ends:
    """Demultiplexer and its output."""
    return Ends(loop)


def method(channel: int, command: Any) -> bytes:
    """Return the frame of a method."""
    return bytes(pamqp_frame.marshal(command, channel))


def content(channel: int, data: bytes, *, cut: int = 4000, **properties: Any) -> bytes:
    """Return the frames of a message's content."""
    head = header.ContentHeader(0, len(data), commands.Basic.Properties(**properties))
    parts = [data[at : at + cut] for at in range(0, len(data), cut)]
    return method(channel, head) + b"".join(method(channel, body.ContentBody(p)) for p in parts)


def delivery(
    data: bytes, consumer: str = "mine", tag: int = 1, channel: int = OURS, **more: Any
) -> bytes:
    """Return the frames of a delivery."""
    deliver = commands.Basic.Deliver(consumer, tag, False, "x", "k")
    return method(channel, deliver) + content(channel, data, **more)


def test_fast_consumers_get_their_deliveries_and_aiormq_all_other_frames(ends: Ends) -> None:
    """Deliveries to fast consumers are intercepted; all other frames are forwarded in order."""
    qos = method(OURS, commands.Basic.QosOk())
    foreign = delivery(b"foreign", "ctag")
    elsewhere = delivery(b"elsewhere", channel=OTHER)
    ends.demultiplexer.feed_data(
        HEARTBEAT + delivery(b"one") + qos + foreign + delivery(b"", tag=2) + elsewhere
    )
    assert [(one.body, one.tag) for one in ends.deliveries] == [(b"one", 1), (b"", 2)]
    assert ends.forwarded() == HEARTBEAT + qos + foreign + elsewhere


@given(st.data())
def test_frames_may_be_split_anywhere(data: st.DataObject) -> None:
    """Deliveries and forwarded bytes do not depend on how the socket splits the stream."""
    loop = asyncio.new_event_loop()
    ends = Ends(loop)
    loop.close()
    bodies = data.draw(st.lists(st.binary(max_size=50), max_size=5))
    stream, expected = b"", b""
    for tag, each in enumerate(bodies):
        foreign = data.draw(st.sampled_from([b"", HEARTBEAT, delivery(b"x", "ctag")]))
        stream += delivery(each, tag=tag, cut=7, correlation_id=str(tag)) + foreign
        expected += foreign
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        ends.demultiplexer.feed_data(stream[:size])
        stream = stream[size:]
    assert [one.body for one in ends.deliveries] == bodies
    assert [one.correlation_id for one in ends.deliveries] == [
        str(tag) for tag in range(len(bodies))
    ]
    assert ends.forwarded() == expected


Sent = tuple[str, bool, str, bytes, str]
"""Consumer, whether it is redelivered, routing key, body and correlation id of a message."""


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["mine", "second"]),
            st.booleans(),
            st.sampled_from(["k", "other"]),
            st.sampled_from([b"", b"1", b"22", bytes(9000)]),
            st.sampled_from(["a", "b", "longer"]),
        ),
        max_size=8,
    ),
    st.integers(1, 5000),
)
def test_messages_of_many_kinds_follow_each_other(sent: list[Sent], read: int) -> None:
    """Messages are read as they were sent, whether those before them are like them or not."""
    loop = asyncio.new_event_loop()
    ends = Ends(loop)
    loop.close()
    received: list[tuple[int, Sent]] = []

    def receive(consumer: str, one: Delivery) -> None:
        key, text = frames.read_routing_key(one.origin), one.correlation_id or ""
        received.append((one.tag, (consumer, one.redelivered, key, one.body, text)))

    for name in ("mine", "second"):
        ends.fast.consumers[name.encode()] = partial(receive, name)
    stream = b""
    for tag, (consumer, redelivered, key, data, text) in enumerate(sent):
        stream += method(OURS, commands.Basic.Deliver(consumer, tag, redelivered, "x", key))
        stream += content(OURS, data, correlation_id=text)
    for at in range(0, len(stream), read):
        ends.demultiplexer.feed_data(stream[at : at + read])
    assert received == list(enumerate(sent))
    assert ends.forwarded() == b""


def test_a_consumer_that_ends_receives_nothing_more(ends: Ends) -> None:
    """Messages that were read together with the last one of a consumer are left to aiormq."""

    def end(_: Delivery) -> None:
        del ends.fast.consumers[b"ending"]

    ends.fast.consumers[b"ending"] = end
    first, second = (delivery(b"x", "ending", tag) for tag in (1, 2))
    ends.demultiplexer.feed_data(first + second + delivery(b"next", tag=3))
    assert ends.forwarded() == second
    assert [one.tag for one in ends.deliveries] == [3]


def test_frames_of_channels_may_be_interleaved(ends: Ends) -> None:
    """Frames of other channels may arrive between the frames of one message."""
    cut = delivery(b"a" * 9000)
    start = len(method(OURS, commands.Basic.Deliver("mine", 1, False, "x", "k")))
    ends.demultiplexer.feed_data(cut[:start] + delivery(b"y", channel=OTHER) + cut[start:])
    assert [one.body for one in ends.deliveries] == [b"a" * 9000]
    assert ends.forwarded() == delivery(b"y", channel=OTHER)


def test_an_exception_in_a_consumer_is_contained(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in a consumer is logged, and the next message is delivered."""

    def fail(_: Delivery) -> None:
        raise ZeroDivisionError

    ends.fast.consumers[b"bad"] = fail
    ends.demultiplexer.feed_data(delivery(b"1", "bad") + delivery(b"2"))
    assert [one.body for one in ends.deliveries] == [b"2"]
    assert "a consumer failed" in caplog.text


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3, 8, 9]), st.binary(max_size=40)), max_size=8))
def test_arbitrary_frames_raise_nothing(hostile: list[tuple[int, bytes]]) -> None:
    """Frames with arbitrary payloads raise nothing into the loop."""
    logging.disable(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    ends = Ends(loop)
    ends.fast.confirming = True
    loop.close()
    for kind, raw in hostile:
        ends.demultiplexer.feed_data(frames.frame(kind, OURS, raw))
        ends.demultiplexer.feed_data(frames.frame(kind, OURS, frames.DELIVER + raw))
    logging.disable(logging.NOTSET)


@given(st.binary(min_size=1, max_size=200))
def test_arbitrary_streams_are_forwarded(raw: bytes) -> None:
    """Bytes that are not AMQP are forwarded unchanged, unless they may still become a frame."""
    loop = asyncio.new_event_loop()
    ends = Ends(loop)
    loop.close()
    ends.demultiplexer.feed_data(raw)
    forwarded = ends.forwarded()
    assert raw.startswith(forwarded)
    assert forwarded == raw or raw[len(forwarded)] in frames.KINDS


def test_another_protocol_is_detected_at_its_first_byte(ends: Ends) -> None:
    """Bytes of another protocol are forwarded at once."""
    ends.demultiplexer.feed_data(b"HT")
    ends.demultiplexer.feed_data(b"TP/1.1 400 Bad Request")
    assert ends.forwarded() == b"HTTP/1.1 400 Bad Request"


def test_frames_out_of_order_are_forwarded(ends: Ends) -> None:
    """A body without its header, or longer than announced, is forwarded for aiormq to report."""
    deliver = method(OURS, commands.Basic.Deliver("mine", 1, False, "x", "k"))
    stray = method(OURS, body.ContentBody(b"stray"))
    ends.demultiplexer.feed_data(deliver + stray)
    assert ends.forwarded() == stray
    head = method(OURS, header.ContentHeader(0, 2))
    ends.demultiplexer.feed_data(deliver + head + stray)
    assert ends.forwarded() == stray
    ends.demultiplexer.feed_data(delivery(b"next"))
    assert [one.body for one in ends.deliveries] == [b"next"]


def test_unreadable_properties_are_dropped(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    """A message with truncated properties is delivered without any."""
    caplog.set_level(logging.DEBUG, "fabric_nb.fabric.amqp")
    deliver = method(OURS, commands.Basic.Deliver("mine", 1, False, "x", "k"))
    ends.demultiplexer.feed_data(
        deliver
        + frames.frame(2, OURS, b"\0\x3c\0\0" + (2).to_bytes(8) + b"\xff\xf8\x20x")
        + method(OURS, body.ContentBody(b"{}"))
    )
    assert [(one.body, one.content_type) for one in ends.deliveries] == [(b"{}", None)]
    assert "cannot be read" in caplog.text


def test_aiormq_gets_heartbeats_for_intercepted_frames(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While all frames are intercepted, aiormq gets at most one heartbeat per `HEARTBEAT_AFTER`."""
    now = [100.0]
    monkeypatch.setattr(demultiplexer, "monotonic", lambda: now[0])
    ends.demultiplexer.feed_data(HEARTBEAT)
    assert ends.forwarded() == HEARTBEAT
    for _ in range(25):
        now[0] += 0.1
        ends.demultiplexer.feed_data(delivery(b"x"))
    assert ends.forwarded() == 2 * HEARTBEAT
    ends.demultiplexer.feed_data(HEARTBEAT[:3])
    now[0] += 10
    ends.demultiplexer.feed_data(HEARTBEAT[3:5])  # nothing was intercepted
    assert ends.forwarded() == b""


# -- confirms


class Outcomes:
    """Outcomes of `count` published messages, by their number."""

    def __init__(self, fast: FastChannel, count: int, *, mandatory: bool = False) -> None:
        fast.confirming = True
        self.known: dict[int, FabricError | None] = {}
        for n in range(1, count + 1):
            on_outcome = partial(self._record, n)
            fast.publish("", "q", Message(b""), mandatory=mandatory, on_outcome=on_outcome)

    def _record(self, n: int, error: FabricError | None) -> None:
        assert n not in self.known
        self.known[n] = error


def test_confirms(ends: Ends) -> None:
    """Each message gets its outcome once, by a single confirm or by one for several messages."""
    outcomes = Outcomes(ends.fast, 5)
    ends.demultiplexer.feed_data(method(OURS, commands.Basic.Ack(2)))
    assert outcomes.known == {2: None}
    ends.demultiplexer.feed_data(method(OURS, commands.Basic.Ack(4, True)))
    assert outcomes.known == dict.fromkeys([2, 1, 3, 4])
    ends.demultiplexer.feed_data(method(OURS, commands.Basic.Nack(5)))
    assert isinstance(outcomes.known[5], BrokerRefused)
    ends.demultiplexer.feed_data(method(OURS, commands.Basic.Ack(9, True)))
    assert len(outcomes.known) == 5
    assert ends.forwarded() == b""


def test_returned_messages(ends: Ends) -> None:
    """A returned message is `Unroutable`; the confirm that follows it changes nothing."""
    outcomes = Outcomes(ends.fast, 3, mandatory=True)
    returned = method(OURS, commands.Basic.Return(312, "NO_ROUTE", "", "q"))
    ends.demultiplexer.feed_data(returned + content(OURS, b"", message_id="2"))
    assert isinstance(outcomes.known[2], Unroutable)
    ends.demultiplexer.feed_data(method(OURS, commands.Basic.Ack(3, True)))
    assert outcomes.known[1] is None
    assert outcomes.known[3] is None
    ends.demultiplexer.feed_data(returned + content(OURS, b"", message_id="no number"))


def test_a_channel_closed_by_the_broker(ends: Ends) -> None:
    """Unconfirmed messages fail, nothing more is delivered, and the frame is forwarded."""
    outcomes = Outcomes(ends.fast, 2)
    shut: list[FabricError] = []
    ends.fast.on_shut = lambda reason: shut.append(reason())
    close = method(OURS, commands.Channel.Close(404, "no exchange", 60, 40))
    ends.demultiplexer.feed_data(method(OURS, commands.Basic.Ack(1)) + close + delivery(b"late"))
    assert outcomes.known[1] is None
    assert isinstance(outcomes.known[2], BrokerRefused)
    assert outcomes.known[2].code == 404
    assert outcomes.known[2] is not shut[0]
    assert ends.fast.closed
    assert ends.deliveries == []
    assert ends.forwarded() == close


# -- writing


class Pipe:
    """Writer and the reader at the other end of a loopback socket."""

    def __init__(
        self, writer: BatchingWriter, far: asyncio.StreamReader, far_writer: asyncio.StreamWriter
    ) -> None:
        self.writer = writer
        self.far = far
        self.far_writer = far_writer

    @property
    def received(self) -> int:
        """Number of times that the loop has read from the socket."""
        return self.writer.demultiplexer.received

    @property
    def unread(self) -> int:
        """Number of bytes that wait in the socket."""
        sock = self.writer.get_extra_info("socket")
        count = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(count, sys.byteorder)


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    """Connected writer and reader."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    accepted = loop.create_future()
    server = await asyncio.start_server(
        lambda reader, writer: accepted.set_result((reader, writer)), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    reader = FrameDemultiplexer(loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, "127.0.0.1", port)
    far, far_writer = await accepted
    writer = BatchingWriter(transport, protocol, reader, loop)
    yield Pipe(writer, far, far_writer)
    for each in (writer, far_writer):
        each.close()
        await each.wait_closed()
    server.close()
    await server.wait_closed()


CONFIRM = frames.ack(OTHER, 1)


@pytest.fixture
async def confirmed(pipe: Pipe) -> Pipe:
    """Pipe on which a request was sent; its confirm waits in the socket, where it was not read."""
    pipe.writer.send_request(b"request")
    pipe.far_writer.write(CONFIRM)
    await until(lambda: pipe.unread == len(CONFIRM) or pipe.received)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not pipe.received
    return pipe


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="SO_RCVLOWAT differs elsewhere")


@linux_only
async def test_a_confirm_is_read_with_its_reply(confirmed: Pipe) -> None:
    """The confirm of a request does not wake the loop, which reads it together with the reply."""
    confirmed.far_writer.write(HEARTBEAT)
    await until(lambda: confirmed.received)
    assert (confirmed.received, confirmed.unread) == (1, 0)
    assert await confirmed.writer.demultiplexer.readexactly(len(CONFIRM) + 8) == CONFIRM + HEARTBEAT


@linux_only
@pytest.mark.parametrize("send", ["send", "send_now", "write"])
async def test_sending_anything_else_reads_a_confirm(confirmed: Pipe, send: str) -> None:
    """When anything else is sent, a confirm that waits is read, and so is the shortest answer."""
    getattr(confirmed.writer, send)(b"question")
    await until(lambda: confirmed.received)
    confirmed.far_writer.write(HEARTBEAT)
    await until(lambda: confirmed.received == 2)


@linux_only
async def test_the_shortest_frame_is_read_after_a_reply(confirmed: Pipe) -> None:
    """After a reply the shortest frame is read at once, as no confirm is awaited any more."""
    confirmed.far_writer.write(HEARTBEAT)
    await until(lambda: confirmed.received)
    confirmed.far_writer.write(HEARTBEAT)
    await until(lambda: confirmed.received == 2)


@linux_only
async def test_an_end_is_noticed_while_a_confirm_waits(confirmed: Pipe) -> None:
    """The end of a connection is noticed while a confirm waits."""
    confirmed.far_writer.close()
    assert await confirmed.writer.demultiplexer.read() == CONFIRM


async def test_batches_and_writes_keep_their_order(pipe: Pipe) -> None:
    """A batch is written at the end of the loop's iteration, or before a direct write."""
    pipe.writer.send(b"1")
    pipe.writer.send(b"2")
    assert pipe.writer.buffered == 2
    pipe.writer.write(b"3")
    pipe.writer.send(b"4")
    assert await pipe.far.readexactly(4) == b"1234"
    assert pipe.writer.buffered == 0


@pytest.mark.parametrize("end", [commands.Channel.Close(200, "", 0, 0), commands.Channel.CloseOk()])
async def test_a_fast_channel_is_shut_when_aiormq_closes_it(pipe: Pipe, end: Any) -> None:
    """Closing a channel in aiormq shuts its fast channel at the same moment."""
    fast = pipe.writer.add_channel(OURS, frame_max=0)
    outcomes = Outcomes(fast, 1)
    pipe.writer.write(method(OTHER, end))
    assert not fast.closed
    pipe.writer.write(method(OURS, end))
    assert fast.closed
    assert isinstance(outcomes.known[1], ConnectionLost)


async def test_a_reused_channel_number(pipe: Pipe) -> None:
    """A channel number that is used again belongs to the later fast channel."""
    first = pipe.writer.add_channel(OURS, frame_max=0)
    second = pipe.writer.add_channel(OURS, frame_max=0)
    pipe.writer.remove_channel(first)
    assert pipe.writer.demultiplexer.channels == {OURS: second}
    pipe.writer.remove_channel(second)
    assert pipe.writer.demultiplexer.channels == {}


def test_paused(ends: Ends) -> None:
    """`paused` is true while aiormq has too much to read."""
    assert not ends.demultiplexer.paused
    ends.demultiplexer.feed_data(method(OTHER, commands.Basic.QosOk()) * 10_000)
    assert ends.demultiplexer.paused
    ends.forwarded()
    assert not ends.demultiplexer.paused


@pytest.mark.parametrize("ending", ["confirmed", "lost"])
def test_an_exception_in_an_outcome_callback_is_contained(
    ends: Ends, failures: Failures, ending: str
) -> None:
    """An exception in one outcome callback is counted, and the others are still called."""
    ends.fast.confirming = True
    known = []

    def fail(_: object) -> None:
        raise ZeroDivisionError

    for on_outcome in (known.append, fail, known.append):
        ends.fast.publish("", "q", Message(b""), on_outcome=on_outcome)
    if ending == "confirmed":
        ends.demultiplexer.feed_data(method(OURS, commands.Basic.Ack(3, True)))
    else:
        ends.fast.shut()
    assert len(known) == 2
    assert failures.counts == {"a callback of a published message": 1}
