"""Frames are encoded and decoded byte for byte as by pamqp."""

from __future__ import annotations

import contextlib
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import body, commands, decode, header
from pamqp import encode as pamqp_encode
from pamqp import frame as pamqp_frame

from fabric_nb.fabric.amqp import frames, message
from fabric_nb.fabric.amqp.message import Delivery, Message

short = st.text(max_size=60).filter(lambda text: len(text.encode(errors="replace")) <= 255)
encodable = st.characters(exclude_categories=["Cs"])
RESERVED = ("CC", "BCC")  # refused as headers
names = st.text(encodable, min_size=1, max_size=40).filter(lambda name: name not in RESERVED)
values = st.one_of(
    st.text(encodable, max_size=40),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.none(),
    st.lists(st.integers(0, 9), max_size=3),
)
texts = st.one_of(st.none(), st.text(encodable, min_size=1, max_size=60))
messages = st.builds(
    Message,
    body=st.binary(max_size=300),
    headers=st.dictionaries(names, values, max_size=4),
    content_type=texts,
    content_encoding=texts,
    type=texts,
    correlation_id=texts,
    reply_to=texts,
    priority=st.one_of(st.none(), st.integers(0, 255)),
    expiration=st.one_of(st.none(), st.integers(0, 2**32)),
    timestamp=st.one_of(st.none(), st.integers(1, 2**32)),
    persistent=st.booleans(),
)
channels = st.integers(1, 65535)


def properties_of(message: Message, message_id: str) -> commands.Basic.Properties:
    """Return the properties of a message as an object of pamqp."""
    return commands.Basic.Properties(
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=dict(message.headers) or None,
        delivery_mode=2 if message.persistent else 1,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=None if message.expiration is None else str(message.expiration),
        message_id=message_id or None,
        timestamp=(
            None if message.timestamp is None else datetime.fromtimestamp(message.timestamp, UTC)
        ),
        message_type=message.type,
    )


def payload(frame: bytes) -> bytes:
    """Return the payload of a frame."""
    return frame[7:-1]


def split(stream: bytes) -> list[bytes]:
    """Split a stream into frames."""
    found = []
    while stream:
        end = 8 + struct.unpack_from(">I", stream, 3)[0]
        found.append(stream[:end])
        stream = stream[end:]
    return found


@given(messages, channels, short, short, st.booleans(), st.sampled_from(["", "1", "77"]))
def test_publish_is_encoded_as_by_pamqp(
    message: Message, channel: int, exchange: str, key: str, mandatory: bool, message_id: str
) -> None:
    """A message is encoded as the same bytes as by pamqp."""
    try:
        start = commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)
        expected = pamqp_frame.marshal(start, channel)
    except (ValueError, UnicodeError):  # a name that pamqp refuses
        return
    expected += pamqp_frame.marshal(
        header.ContentHeader(
            body_size=len(message.body), properties=properties_of(message, message_id)
        ),
        channel,
    )
    if message.body:
        expected += pamqp_frame.marshal(body.ContentBody(message.body), channel)
    encoded = frames.publish(
        channel, exchange, key, message, mandatory=mandatory, message_id=message_id
    )
    assert encoded == expected


@given(st.binary(min_size=1, max_size=500), st.integers(9, 200))
def test_long_bodies_are_split(content: bytes, frame_max: int) -> None:
    """No frame of a body is longer than `frame_max`, and joined they are the body."""
    encoded = frames.publish(1, "", "q", Message(content), frame_max=frame_max)
    bodies = split(encoded)[2:]
    assert all(len(frame) <= frame_max for frame in bodies)
    assert b"".join(map(payload, bodies)) == content


@given(channels, st.integers(0, 2**63 - 1), st.booleans())
def test_acks_and_rejects_are_encoded_as_by_pamqp(channel: int, tag: int, flag: bool) -> None:
    """Acks and rejects are encoded as the same bytes as by pamqp."""
    ack = pamqp_frame.marshal(commands.Basic.Ack(tag, flag), channel)
    reject = pamqp_frame.marshal(commands.Basic.Reject(tag, flag), channel)
    assert frames.ack(channel, tag, multiple=flag) == ack
    assert frames.reject(channel, tag, requeue=flag) == reject
    assert frames.read_confirm(payload(ack)) == (tag, flag)
    nack = pamqp_frame.marshal(commands.Basic.Nack(tag, flag, False), channel)
    assert frames.read_confirm(payload(nack)) == (tag, flag)


@given(messages, st.sampled_from(["", "1", "77"]))
def test_properties_are_decoded_as_by_pamqp(message: Message, message_id: str) -> None:
    """The properties of a message are decoded as pamqp encoded them."""
    marshalled = header.ContentHeader(
        body_size=len(message.body), properties=properties_of(message, message_id)
    ).marshal()
    size, encoded = frames.read_header(marshalled)
    assert size == len(message.body)
    read = frames.read_properties(encoded)
    delivery = Delivery(b"", *read)
    assert delivery.content_type == message.content_type
    assert delivery.content_encoding == message.content_encoding
    assert delivery.type == message.type
    assert delivery.correlation_id == message.correlation_id
    assert delivery.reply_to == message.reply_to
    assert (delivery.message_id or "") == message_id
    assert read.headers == b"" or delivery.headers == decode.field_table(read.headers)[1]
    assert delivery.headers == dict(message.headers)


@given(st.text(encodable, max_size=60), st.integers(0, 2**63 - 1), st.booleans(), short)
def test_deliver_is_decoded_as_by_pamqp(
    consumer: str, tag: int, redelivered: bool, routing_key: str
) -> None:
    """Consumer tag, delivery tag and routing key are decoded as pamqp encoded them."""
    try:
        command = commands.Basic.Deliver(consumer, tag, redelivered, "", routing_key)
        marshalled = pamqp_frame.marshal(command, 1)
    except (ValueError, UnicodeError):
        return
    deliver = frames.read_deliver(payload(marshalled))
    assert deliver[:3] == (consumer.encode(), tag, redelivered)
    assert frames.read_routing_key(deliver.origin) == routing_key


def test_close_is_decoded() -> None:
    """Reply code and text are decoded from ``channel.close``."""
    command = commands.Channel.Close(404, "NOT_FOUND - no exchange 'x'", 60, 40)
    close = payload(pamqp_frame.marshal(command, 7))
    assert close[:4] == frames.CLOSE
    assert frames.read_close(close) == (404, "NOT_FOUND - no exchange 'x'")


@pytest.mark.parametrize("same", [(1, True), (True, 1), (1.0, 1), (0, False)])
def test_equal_headers_keep_their_types(same: tuple[Any, Any]) -> None:
    """Cached headers are not used for headers that are equal and of other types."""
    sent = [frames.publish(1, "", "q", Message(b"", headers={"x": value})) for value in same]
    read = [Delivery(b"", *frames.read_properties(payload(split(raw)[1])[12:])) for raw in sent]
    assert [type(each.headers["x"]) for each in read] == [type(value) for value in same]


def test_names_that_are_too_long_are_refused() -> None:
    """A name of more than 255 bytes is refused."""
    with pytest.raises(ValueError, match="longer than 255"):
        frames.publish(1, "", "q" * 256, Message(b""))


@given(st.binary(max_size=255))
def test_correlation_ids_that_are_not_utf8_are_returned_unchanged(raw: bytes) -> None:
    """A correlation id that is not UTF-8 is returned to its sender byte for byte."""
    received = struct.pack(">H", 0x0400) + bytes((len(raw),)) + raw
    read = frames.read_properties(received)
    answer = frames.publish(1, "", "q", Message(b"", correlation_id=read.correlation_id))
    assert bytes((len(raw),)) + raw in payload(split(answer)[1])


@given(st.binary(max_size=80))
@example(b"")
@example(struct.pack(">H", 0xFFFF))
@example(struct.pack(">H", 0x2000) + b"\xff\xff\xff\xff")
def test_arbitrary_bytes_raise_known_errors(raw: bytes) -> None:
    """Decoding arbitrary bytes returns values or raises one of the documented errors."""
    for read in (
        frames.read_properties,
        frames.read_deliver,
        frames.read_confirm,
        frames.read_close,
        frames.read_header,
    ):
        with contextlib.suppress(ValueError, IndexError, struct.error):
            read(raw)


@given(st.binary(max_size=80))
def test_unreadable_headers_are_empty(raw: bytes) -> None:
    """Headers that cannot be decoded are empty, and accessing them raises nothing."""
    assert isinstance(Delivery(b"", raw).headers, dict)


@pytest.mark.parametrize(
    "unreadable",
    [
        b"T" + struct.pack(">q", 2**62),
        b"T" + struct.pack(">q", -1),
        b"F" + struct.pack(">I", 9) + b"\x05name?" + b"?12",
        b"A" + struct.pack(">I", 2) + b"?1",
    ],
    ids=["time-late", "time-early", "table", "array"],
)
@pytest.mark.parametrize("more", [0, 5000], ids=["small", "large"])
def test_one_unreadable_header_leaves_the_others(unreadable: bytes, more: int) -> None:
    """If one header cannot be decoded, all others are."""
    fields = [
        b"\x01aS" + struct.pack(">I", 3) + b"one",
        b"\x03bad" + unreadable,
        b"\x01bI" + struct.pack(">i", 2),
        b"\x04moreS" + struct.pack(">I", more) + b"x" * more,
    ]
    raw = b"".join(fields)
    read = Delivery(b"", struct.pack(">I", len(raw)) + raw).headers
    assert {name: read.get(name) for name in "ab"} == {"a": "one", "b": 2}
    assert read["more"] == "x" * more


@given(st.dictionaries(names, values, max_size=4), st.integers(0, 3))
def test_large_headers_are_read_as_small_ones(headers: dict[str, Any], depth: int) -> None:
    """Headers are decoded alike, whatever the size and the nesting of the table."""
    for _ in range(depth):
        headers = {"nested": headers, "list": [headers, 1]}
    large = {**headers, "filler": "x" * 5000}
    raw = pamqp_encode.field_table(large)
    assert Delivery(b"", raw).headers == decode.field_table(raw)[1]


def test_headers_cost_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many headers as fit into a frame are decoded, each of them from its own bytes only."""
    decoded = []
    monkeypatch.setattr(
        message.decode, "embedded_value", lambda raw: (len(raw), decoded.append(len(raw)))
    )
    raw = b"".join(b"\x05%05dV" % number for number in range(18_000))
    assert len(Delivery(b"", struct.pack(">I", len(raw)) + raw).headers) == 18_000
    assert sum(decoded) == 18_000


def test_headers_nested_too_deeply_are_empty() -> None:
    """A table that is nested too deeply is not decoded."""
    raw = b""
    for _ in range(5000):
        raw = struct.pack(">I", len(raw) + 3) + b"\x01aF" + raw if raw else b"\0\0\0\0"
    assert Delivery(b"", raw).headers == {}
