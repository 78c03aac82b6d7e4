"""Frames from the socket find their way: ours to our consumers, all others to aiormq."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
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

OURS, OTHER = 3, 4
HEARTBEAT = pamqp_frame.marshal(heartbeat.Heartbeat(), 0)


class Ends:
    """A tap with a lane on channel 3, and what came out of it on each side."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sent = bytearray()
        self.got: list[Delivery] = []
        self.tap = FrameDemultiplexer(loop)
        self.lane = FastChannel(OURS, self.sent.extend, frame_max=4096)
        self.lane.consumers[b"mine"] = self.got.append
        self.tap.lanes[OURS] = self.lane

    def left(self) -> bytes:
        """What was left to aiormq."""
        found = bytearray()
        while self.tap._buffer:
            found += self.tap._buffer
            self.tap._buffer.clear()
        return bytes(found)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that does not run."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def ends(loop: asyncio.AbstractEventLoop) -> Ends:
    """A tap and what comes out of it."""
    return Ends(loop)


def method(channel: int, one: Any) -> bytes:
    """A method's frame."""
    return bytes(pamqp_frame.marshal(one, channel))


def content(channel: int, data: bytes, *, cut: int = 4000, **properties: Any) -> bytes:
    """The frames of a message's content."""
    made = header.ContentHeader(0, len(data), commands.Basic.Properties(**properties))
    parts = [data[at : at + cut] for at in range(0, len(data), cut)]
    return method(channel, made) + b"".join(method(channel, body.ContentBody(p)) for p in parts)


def delivery(
    data: bytes, consumer: str = "mine", tag: int = 1, channel: int = OURS, **more: Any
) -> bytes:
    """The frames of a delivery."""
    deliver = commands.Basic.Deliver(consumer, tag, False, "x", "k")
    return method(channel, deliver) + content(channel, data, **more)


def test_ours_and_others_are_told_apart(ends: Ends) -> None:
    """A consumer of ours gets its messages; aiormq gets every other frame, in order."""
    qos = method(OURS, commands.Basic.QosOk())
    foreign = delivery(b"theirs", "ctag")
    elsewhere = delivery(b"elsewhere", channel=OTHER)
    ends.tap.feed_data(
        HEARTBEAT + delivery(b"one") + qos + foreign + delivery(b"", tag=2) + elsewhere
    )
    assert [(one.body, one.tag) for one in ends.got] == [(b"one", 1), (b"", 2)]
    assert ends.left() == HEARTBEAT + qos + foreign + elsewhere


@given(st.data())
def test_the_cuts_of_the_socket_do_not_matter(data: st.DataObject) -> None:
    """However the bytes are cut by the network, the messages and aiormq's share are the same."""
    loop = asyncio.new_event_loop()
    ends = Ends(loop)
    loop.close()
    bodies = data.draw(st.lists(st.binary(max_size=50), max_size=5))
    stream, theirs = b"", b""
    for tag, each in enumerate(bodies):
        foreign = data.draw(st.sampled_from([b"", HEARTBEAT, delivery(b"x", "ctag")]))
        stream += delivery(each, tag=tag, cut=7, correlation_id=str(tag)) + foreign
        theirs += foreign
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        ends.tap.feed_data(stream[:size])
        stream = stream[size:]
    assert [one.body for one in ends.got] == bodies
    assert [one.correlation_id for one in ends.got] == [str(tag) for tag in range(len(bodies))]
    assert ends.left() == theirs


def test_channels_may_take_turns(ends: Ends) -> None:
    """Frames of other channels may come between the frames of one message."""
    cut = delivery(b"a" * 9000)
    start = len(method(OURS, commands.Basic.Deliver("mine", 1, False, "x", "k")))
    ends.tap.feed_data(cut[:start] + delivery(b"y", channel=OTHER) + cut[start:])
    assert [one.body for one in ends.got] == [b"a" * 9000]
    assert ends.left() == delivery(b"y", channel=OTHER)


def test_a_consumer_that_fails_does_no_harm(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a consumer is logged, and the next message comes."""

    def fail(_: Delivery) -> None:
        raise ZeroDivisionError

    ends.lane.consumers[b"bad"] = fail
    ends.tap.feed_data(delivery(b"1", "bad") + delivery(b"2"))
    assert [one.body for one in ends.got] == [b"2"]
    assert "a consumer failed" in caplog.text


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3, 8, 9]), st.binary(max_size=40)), max_size=8))
def test_hostile_frames_do_no_harm(hostile: list[tuple[int, bytes]]) -> None:
    """Whatever comes in frames, nothing is raised into the loop."""
    logging.disable(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    ends = Ends(loop)
    ends.lane.confirming = True
    loop.close()
    for kind, raw in hostile:
        ends.tap.feed_data(frames.frame(kind, OURS, raw))
        ends.tap.feed_data(frames.frame(kind, OURS, frames.DELIVER + raw))
    logging.disable(logging.NOTSET)


@given(st.binary(min_size=1, max_size=200))
def test_hostile_streams_are_left_to_aiormq(raw: bytes) -> None:
    """What is not AMQP goes on to aiormq byte for byte, unless it may still become a frame."""
    loop = asyncio.new_event_loop()
    ends = Ends(loop)
    loop.close()
    ends.tap.feed_data(raw)
    left = ends.left()
    assert raw.startswith(left)
    assert left == raw or raw[len(left)] in frames.KINDS


def test_another_protocol_is_seen_at_its_first_byte(ends: Ends) -> None:
    """A peer that speaks something else is not waited for."""
    ends.tap.feed_data(b"HT")
    ends.tap.feed_data(b"TP/1.1 400 Bad Request")
    assert ends.left() == b"HTTP/1.1 400 Bad Request"


def test_frames_out_of_order_are_left_to_aiormq(ends: Ends) -> None:
    """A body without its header, or longer than was said, is aiormq's to complain about."""
    deliver = method(OURS, commands.Basic.Deliver("mine", 1, False, "x", "k"))
    stray = method(OURS, body.ContentBody(b"stray"))
    ends.tap.feed_data(deliver + stray)
    assert ends.left() == stray
    head = method(OURS, header.ContentHeader(0, 2))
    ends.tap.feed_data(deliver + head + stray)
    assert ends.left() == stray
    ends.tap.feed_data(delivery(b"next"))
    assert [one.body for one in ends.got] == [b"next"]


def test_unreadable_properties_are_none(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    """A message whose properties are cut off comes without any."""
    caplog.set_level(logging.DEBUG, "fabric_nb.fabric.amqp")
    deliver = method(OURS, commands.Basic.Deliver("mine", 1, False, "x", "k"))
    ends.tap.feed_data(
        deliver
        + frames.frame(2, OURS, b"\0\x3c\0\0" + (2).to_bytes(8) + b"\xff\xf8\x20x")
        + method(OURS, body.ContentBody(b"{}"))
    )
    assert [(one.body, one.content_type) for one in ends.got] == [(b"{}", None)]
    assert "cannot be read" in caplog.text


def test_aiormq_sees_signs_of_life(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """While only our messages come, aiormq gets a heartbeat now and then, and not for each."""
    now = [100.0]
    monkeypatch.setattr(demultiplexer, "monotonic", lambda: now[0])
    ends.tap.feed_data(HEARTBEAT)
    assert ends.left() == HEARTBEAT
    for _ in range(25):
        now[0] += 0.1
        ends.tap.feed_data(delivery(b"x"))
    assert ends.left() == 2 * HEARTBEAT
    ends.tap.feed_data(HEARTBEAT[:3])
    now[0] += 10
    ends.tap.feed_data(HEARTBEAT[3:5])  # nothing of ours: nothing is made up
    assert ends.left() == b""


# -- confirms


class Fates:
    """Remembers what became of messages."""

    def __init__(self, lane: FastChannel, count: int, *, mandatory: bool = False) -> None:
        lane.confirming = True
        self.known: dict[int, FabricError | None] = {}
        for n in range(1, count + 1):
            lane.publish("", "q", Message(b""), mandatory=mandatory, on_outcome=self._teller(n))

    def _teller(self, n: int) -> Any:
        def tell(error: FabricError | None) -> None:
            assert n not in self.known
            self.known[n] = error

        return tell


def test_confirms(ends: Ends) -> None:
    """Each message is told when the broker takes it, alone or with all before it."""
    fates = Fates(ends.lane, 5)
    ends.tap.feed_data(method(OURS, commands.Basic.Ack(2)))
    assert fates.known == {2: None}
    ends.tap.feed_data(method(OURS, commands.Basic.Ack(4, True)))
    assert fates.known == dict.fromkeys([2, 1, 3, 4])
    ends.tap.feed_data(method(OURS, commands.Basic.Nack(5)))
    assert isinstance(fates.known[5], BrokerRefused)
    ends.tap.feed_data(method(OURS, commands.Basic.Ack(9, True)))
    assert len(fates.known) == 5
    assert ends.left() == b""


def test_returned_messages(ends: Ends) -> None:
    """A message that no queue took is `Unroutable`; the confirm that follows changes nothing."""
    fates = Fates(ends.lane, 3, mandatory=True)
    back = method(OURS, commands.Basic.Return(312, "NO_ROUTE", "", "q"))
    ends.tap.feed_data(back + content(OURS, b"", message_id="2"))
    assert isinstance(fates.known[2], Unroutable)
    ends.tap.feed_data(method(OURS, commands.Basic.Ack(3, True)))
    assert fates.known[1] is None
    assert fates.known[3] is None
    ends.tap.feed_data(back + content(OURS, b"", message_id="no number"))


def test_a_channel_that_the_broker_closes(ends: Ends) -> None:
    """What is not confirmed has failed, nothing more is delivered, and aiormq is told as well."""
    fates = Fates(ends.lane, 2)
    shut: list[FabricError] = []
    ends.lane.on_shut = lambda reason: shut.append(reason())
    close = method(OURS, commands.Channel.Close(404, "no exchange", 60, 40))
    ends.tap.feed_data(method(OURS, commands.Basic.Ack(1)) + close + delivery(b"late"))
    assert fates.known[1] is None
    assert isinstance(fates.known[2], BrokerRefused)
    assert fates.known[2].code == 404
    assert fates.known[2] is not shut[0]
    assert ends.lane.closed
    assert ends.got == []
    assert ends.left() == close


# -- out


class Pipe:
    """Both ends of a line over a loopback socket."""

    def __init__(self, line: BatchingWriter, far: asyncio.StreamReader) -> None:
        self.line = line
        self.far = far


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    """A line, and what arrives at its other end."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    arrived = loop.create_future()
    server = await asyncio.start_server(
        lambda reader, writer: arrived.set_result((reader, writer)), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    reader = FrameDemultiplexer(loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, "127.0.0.1", port)
    far, far_writer = await arrived
    line = BatchingWriter(transport, protocol, reader, loop)
    yield Pipe(line, far)
    for writer in (line, far_writer):
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_what_is_sent_goes_out_in_order(pipe: Pipe) -> None:
    """Frames that are gathered go out at the end of the pass, and before what is written."""
    pipe.line.send(b"1")
    pipe.line.send(b"2")
    assert pipe.line.buffered == 2
    pipe.line.write(b"3")
    pipe.line.send(b"4")
    assert await pipe.far.readexactly(4) == b"1234"
    assert pipe.line.buffered == 0


@pytest.mark.parametrize("end", [commands.Channel.Close(200, "", 0, 0), commands.Channel.CloseOk()])
async def test_nothing_follows_the_end_of_a_channel(pipe: Pipe, end: Any) -> None:
    """In the moment in which aiormq closes a channel, its lane is shut."""
    lane = pipe.line.lane(OURS, frame_max=0)
    fates = Fates(lane, 1)
    pipe.line.write(method(OTHER, end))
    assert not lane.closed
    pipe.line.write(method(OURS, end))
    assert lane.closed
    assert isinstance(fates.known[1], ConnectionLost)


async def test_a_lane_gives_way_to_its_successor(pipe: Pipe) -> None:
    """A channel number that is used again belongs to the later lane."""
    first = pipe.line.lane(OURS, frame_max=0)
    second = pipe.line.lane(OURS, frame_max=0)
    pipe.line.leave(first)
    assert pipe.line.tap.lanes == {OURS: second}
    pipe.line.leave(second)
    assert pipe.line.tap.lanes == {}


def test_a_reader_that_is_behind_is_known(ends: Ends) -> None:
    """While aiormq is far behind, what has not come yet proves nothing of the other end."""
    assert not ends.tap.paused
    ends.tap.feed_data(method(OTHER, commands.Basic.QosOk()) * 10_000)
    assert ends.tap.paused
    ends.left()
    assert not ends.tap.paused


@pytest.mark.parametrize("ending", ["confirmed", "lost"])
def test_a_callback_that_fails_does_no_harm(ends: Ends, failures: Failures, ending: str) -> None:
    """An error in what is called with the outcome of one message leaves the others theirs."""
    ends.lane.confirming = True
    known = []

    def fail(_: object) -> None:
        raise ZeroDivisionError

    for on_outcome in (known.append, fail, known.append):
        ends.lane.publish("", "q", Message(b""), on_outcome=on_outcome)
    if ending == "confirmed":
        ends.tap.feed_data(method(OURS, commands.Basic.Ack(3, True)))
    else:
        ends.lane.shut()
    assert len(known) == 2
    assert failures.counts == {"a callback of a published message": 1}
