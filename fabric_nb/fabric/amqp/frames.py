"""Encoding and decoding of the frames that carry messages. Pure.

pamqp turns each frame into objects that a call or a row never uses. This module has only the
frames of the hot path, byte for byte as pamqp writes and reads them; all others are left to
aiormq. Covered of AMQP 0-9-1: the frame (section 4.2.3), content header and body (4.2.6), and of
the class basic its publish, return, deliver, ack and reject (1.8.3 of the XML reference), with
RabbitMQ's ``basic.nack`` for confirms.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

from fabric_nb.errors import UnusableHeader
from fabric_nb.fabric.amqp.fields import FieldTable, checked
from fabric_nb.fabric.amqp.message import Message

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
KINDS = frozenset((METHOD, HEADER, BODY, HEARTBEAT))
FRAME_END = 0xCE
OVERHEAD = 8
"""Bytes of a frame beside its payload."""
MIN_FRAME_MAX = 4096
"""Smallest maximum of a frame's bytes that may be negotiated (AMQP 0-9-1, 4.2.3)."""
HEAD = Struct(">BHI")
"""Kind, channel number and payload size."""

RETURN, DELIVER = b"\x00\x3c\x00\x32", b"\x00\x3c\x00\x3c"
QOS_OK = b"\x00\x3c\x00\x0b"
ACK, NACK = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"
CLOSE, CLOSE_OK = b"\x00\x14\x00\x28", b"\x00\x14\x00\x29"
BLOCKED, UNBLOCKED = b"\x00\x0a\x00\x3c", b"\x00\x0a\x00\x3d"
"""RabbitMQ's extension; sent on channel 0 for the whole connection."""
_QOS = b"\x00\x3c\x00\x0a"
_PUBLISH, _REJECT = b"\x00\x3c\x00\x28", b"\x00\x3c\x00\x5a"
_BIND = b"\x00\x32\x00\x14"

_END = bytes((FRAME_END,))
_CONTENT = Struct(">HHQ")
_BASIC = 60
_QOS_ARGUMENTS = Struct(">IHB")
_U16, _U64 = Struct(">H"), Struct(">Q")

# Property flags (4.2.6.1), highest first.
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE = 0x8000, 0x4000, 0x2000, 0x1000
_PRIORITY, _CORRELATION_ID, _REPLY_TO, _EXPIRATION = 0x0800, 0x0400, 0x0200, 0x0100
_MESSAGE_ID, _TIMESTAMP, _TYPE, _USER_ID = 0x0080, 0x0040, 0x0020, 0x0010


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Return a frame with this payload."""
    return HEAD.pack(kind, channel, len(payload)) + payload + _END


HEARTBEAT_FRAME = frame(HEARTBEAT, 0, b"")


# -- encoding


def publish(
    channel: int,
    exchange: str,
    routing_key: str,
    message: Message,
    *,
    mandatory: bool = False,
    message_id: str = "",
    frame_max: int = 0,
) -> bytes:
    """Return the frames of a message: ``basic.publish``, the content header and the body.

    Raises:
        ValueError: a name or property is longer than 255 bytes.
        UnusableHeader: a header cannot be sent, or all together do not fit into a frame.
    """
    body = message.body
    header = content_header(message, message_id, frame_max)
    start = _publish(channel, exchange, routing_key, mandatory)
    room = frame_max - OVERHEAD
    if len(body) <= room or frame_max == 0:
        content = frame(BODY, channel, body) if body else b""
    else:
        parts = (body[at : at + room] for at in range(0, len(body), room))
        content = b"".join(frame(BODY, channel, part) for part in parts)
    return b"".join((start, frame(HEADER, channel, header), content))


def content_header(message: Message, message_id: str = "", frame_max: int = 0) -> bytes:
    """Return the payload of the content header of a message, which is one frame (4.2.6.1).

    Raises:
        ValueError: a property is longer than 255 bytes.
        UnusableHeader: a header cannot be sent, or all together do not fit into a frame.
    """
    header = _CONTENT.pack(_BASIC, 0, len(message.body)) + _properties(message, message_id)
    if frame_max and len(header) > (most := max(frame_max, MIN_FRAME_MAX) - OVERHEAD):
        raise UnusableHeader(
            f"The headers take {len(header):,} bytes, and this broker takes {most:,}: put what is"
            " long into the body."
        )
    return header


@lru_cache(maxsize=1024)
def _publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    names = _short(exchange) + _short(routing_key)
    return frame(METHOD, channel, b"".join((_PUBLISH, b"\0\0", names, bytes((mandatory,)))))


def _properties(message: Message, message_id: str) -> bytes:
    expiration, timestamp = message.expiration, message.timestamp
    fields = (
        (_CONTENT_TYPE, _text(message.content_type)),
        (_CONTENT_ENCODING, _text(message.content_encoding)),
        (_HEADERS, checked(message.headers).raw if message.headers else None),
        (_DELIVERY_MODE, b"\2" if message.persistent else b"\1"),
        (_PRIORITY, None if message.priority is None else bytes((message.priority,))),
        (_CORRELATION_ID, _text(message.correlation_id)),
        (_REPLY_TO, _text(message.reply_to)),
        (_EXPIRATION, None if expiration is None else _short(str(expiration))),
        (_MESSAGE_ID, _short(message_id) if message_id else None),
        (_TIMESTAMP, None if timestamp is None else _U64.pack(_seconds(timestamp))),
        (_TYPE, _text(message.type)),
        (_USER_ID, _text(message.user_id)),
    )
    flags, present = 0, []
    for flag, value in fields:
        if value is not None:
            flags |= flag
            present.append(value)
    return b"".join((_U16.pack(flags), *present))


def _seconds(timestamp: float) -> int:
    """Return a time in AMQP's range, which begins in 1970; 0 if it is outside of that."""
    return int(timestamp) if 0 <= timestamp < 2**63 else 0


def _text(text: str | None) -> bytes | None:
    return None if text is None else _short(text)


def _short(text: str) -> bytes:
    # Text that is not UTF-8 was received from a peer, and is returned to it byte for byte.
    raw = text.encode(errors="surrogateescape")
    if len(raw) > 255:
        raise ValueError(f"{text[:40]!r}... is longer than 255 bytes")
    return bytes((len(raw),)) + raw


def bind(
    queue: str, exchange: str, routing_key: str, arguments: FieldTable, *, nowait: bool
) -> bytes:
    """Return the payload of ``queue.bind``."""
    names = _short(queue) + _short(exchange) + _short(routing_key)
    return b"".join((_BIND, b"\0\0", names, bytes((nowait,)), arguments.raw))


def ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """Return ``basic.ack`` of a delivery, or of all up to it."""
    return frame(METHOD, channel, ACK + _U64.pack(tag) + bytes((multiple,)))


def reject(channel: int, tag: int, *, requeue: bool) -> bytes:
    """Return ``basic.reject`` of a delivery."""
    return frame(METHOD, channel, _REJECT + _U64.pack(tag) + bytes((requeue,)))


def qos(channel: int, prefetch: int) -> bytes:
    """Return ``basic.qos``: prefetch of each further consumer; the broker answers at once."""
    return frame(METHOD, channel, _QOS + _QOS_ARGUMENTS.pack(0, prefetch, 0))


# -- decoding; truncated or invalid payloads raise ValueError, IndexError or struct.error


class Deliver(NamedTuple):
    """Arguments of ``basic.deliver``."""

    consumer_tag: bytes
    tag: int
    redelivered: bool
    origin: bytes
    """Exchange and routing key, encoded as short strings."""


NO_DELIVER = Deliver(b"", 0, redelivered=False, origin=b"")


def read_deliver(payload: bytes) -> Deliver:
    """Decode the payload of ``basic.deliver``."""
    at = 5 + payload[4]
    tag = _U64.unpack_from(payload, at)[0]
    return Deliver(payload[5:at], tag, payload[at + 8] != 0, payload[at + 9 :])


def origin(exchange: str, routing_key: str) -> bytes:
    """Return the `origin` of a delivery with this exchange and routing key."""
    return _short(exchange) + _short(routing_key)


def read_exchange(origin: bytes) -> str:
    """Return the exchange that a delivery was published to; empty for the default exchange."""
    return origin[1 : origin[0] + 1].decode(errors="replace") if origin else ""


def read_routing_key(origin: bytes) -> str:
    """Return the routing key of a delivery; empty if it cannot be decoded."""
    at = origin[0] + 1 if origin else 0
    return origin[at + 1 :].decode(errors="replace")


def read_confirm(payload: bytes) -> tuple[int, bool]:
    """Decode ``basic.ack`` or ``basic.nack``; return the delivery tag and the flag `multiple`."""
    return _U64.unpack_from(payload, 4)[0], payload[12] & 1 != 0


def read_close(payload: bytes) -> tuple[int, str]:
    """Decode ``channel.close``; return reply code and text."""
    text = payload[7 : 7 + payload[6]].decode(errors="replace")
    return _U16.unpack_from(payload, 4)[0], text


def read_reason(payload: bytes) -> str:
    """Decode ``connection.blocked``; return the reason."""
    return payload[5 : 5 + payload[4]].decode(errors="replace") if len(payload) > 4 else ""


def read_body_size(header: bytes) -> int:
    """Return the bytes of the body that follows a content header."""
    size: int = _U64.unpack_from(header, 4)[0]
    return size


class Properties(NamedTuple):
    """Properties of a received message, in the order of the arguments of `Delivery`.

    `headers` are the bytes of the table.
    """

    headers: bytes = b""
    content_type: str | None = None
    content_encoding: str | None = None
    type: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    message_id: str | None = None
    user_id: str | None = None
    timestamp: int | None = None


NO_PROPERTIES = Properties()

_TEXT, _TABLE = -1, -2
_LAYOUT = (
    (_CONTENT_TYPE, "content_type", _TEXT),
    (_CONTENT_ENCODING, "content_encoding", _TEXT),
    (_HEADERS, "headers", _TABLE),
    (_DELIVERY_MODE, None, 1),
    (_PRIORITY, None, 1),
    (_CORRELATION_ID, "correlation_id", _TEXT),
    (_REPLY_TO, "reply_to", _TEXT),
    (_EXPIRATION, None, _TEXT),
    (_MESSAGE_ID, "message_id", _TEXT),
    (_TIMESTAMP, "timestamp", 8),
    (_TYPE, "type", _TEXT),
    (_USER_ID, "user_id", _TEXT),
)
"""Flag, name in `Properties` if it is there, and size of each property up to the last one used."""


@lru_cache(maxsize=256)
def _layout(flags: int) -> tuple[tuple[int | None, int], ...]:
    """Return the index in `Properties` and the size of each property that is present."""
    return tuple(
        (None if name is None else Properties._fields.index(name), size)
        for flag, name, size in _LAYOUT
        if flags & flag
    )


def read_properties(header: bytes) -> Properties:
    """Decode the properties in a content header."""
    values: list[Any] = list(NO_PROPERTIES)
    at = 14
    for place, size in _layout(header[12] << 8 | header[13]):
        if size == _TEXT:
            end = at + 1 + header[at]
            if place is not None:
                values[place] = header[at + 1 : end].decode(errors="surrogateescape")
        elif size == _TABLE:
            end = at + 4 + int.from_bytes(header[at : at + 4])
            values[0] = header[at:end]
        else:
            end = at + size
            if place is not None:
                values[place] = int.from_bytes(header[at:end])
        at = end
    if at > len(header):
        raise ValueError("the properties are cut off")
    return Properties._make(values)
