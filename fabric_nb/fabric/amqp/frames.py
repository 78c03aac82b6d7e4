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
from typing import NamedTuple

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
_SIZES = tuple(bytes((size,)) for size in range(256))
_CONTENT = Struct(">HHQ")
_CONTENT_FRAME = Struct(">BHIHHQ")
"""Beginning of the frame of a content header: `HEAD` and `_CONTENT`."""
_BODY_SIZE_AT = 11
"""Offset of the body's size in this frame."""
_BASIC = 60
_QOS_ARGUMENTS = Struct(">IHB")
_ACK_FRAME = Struct(">BHI4sQ?B")
_ACK_SIZE = _ACK_FRAME.size - OVERHEAD
_U16, _U64 = Struct(">H"), Struct(">Q")

# Property flags (4.2.6.1), highest first.
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE = 0x8000, 0x4000, 0x2000, 0x1000
_PRIORITY, _CORRELATION_ID, _REPLY_TO, _EXPIRATION = 0x0800, 0x0400, 0x0200, 0x0100
_MESSAGE_ID, _TIMESTAMP, _TYPE, _USER_ID = 0x0080, 0x0040, 0x0020, 0x0010

# The messages of a peer mostly differ only in the properties from the correlation id to the
# timestamp. Those before and after them are encoded and decoded once, and cached.
_BEFORE = _CONTENT_TYPE | _CONTENT_ENCODING | _HEADERS
_FIXED_SIZES = {0: 0, _DELIVERY_MODE: 1, _PRIORITY: 1, _DELIVERY_MODE | _PRIORITY: 2}
_AFTER = _TYPE | _USER_ID
_CACHED_SIZE = 1024
"""Maximum bytes of properties that are cached."""


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
    size = len(body)
    header = content_header(message, message_id, frame_max)
    parts = [
        _publish(channel, exchange, routing_key, mandatory),
        HEAD.pack(HEADER, channel, len(header)),
        header,
        _END,
    ]
    room = frame_max - OVERHEAD
    if 0 < size <= room or (size and not frame_max):
        parts += (HEAD.pack(BODY, channel, size), body, _END)
    else:
        for at in range(0, size, room):
            part = body[at : at + room]
            parts += (HEAD.pack(BODY, channel, len(part)), part, _END)
    return b"".join(parts)


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
    headers, expiration, timestamp = message.headers, message.expiration, message.timestamp
    table = checked(headers).raw if headers else None
    small = table is None or len(table) <= _CACHED_SIZE
    encode = _encode_before if small else _encode_before.__wrapped__
    flags, before = encode(
        message.content_type, message.content_encoding, table, message.persistent, message.priority
    )
    after_flags, after = _encode_after(message.type, message.user_id)
    flags |= after_flags
    parts = [b"", before]
    if message.correlation_id is not None:
        flags |= _CORRELATION_ID
        parts.append(_short(message.correlation_id))
    if message.reply_to is not None:
        flags |= _REPLY_TO
        parts.append(_cached_short(message.reply_to))
    if expiration is not None:
        flags |= _EXPIRATION
        parts.append(_cached_short(str(expiration)))
    if message_id:
        flags |= _MESSAGE_ID
        parts.append(_short(message_id))
    if timestamp is not None:  # AMQP's times begin in 1970
        flags |= _TIMESTAMP
        parts.append(_U64.pack(int(timestamp) if 0 <= timestamp < 2**63 else 0))
    parts[0] = _U16.pack(flags)
    parts.append(after)
    return b"".join(parts)


@lru_cache(maxsize=256)
def _encode_before(
    content_type: str | None,
    content_encoding: str | None,
    headers: bytes | None,
    persistent: bool,
    priority: int | None,
) -> tuple[int, bytes]:
    return _present(
        (_CONTENT_TYPE, _text(content_type)),
        (_CONTENT_ENCODING, _text(content_encoding)),
        (_HEADERS, headers),
        (_DELIVERY_MODE, b"\2" if persistent else b"\1"),
        (_PRIORITY, None if priority is None else bytes((priority,))),
    )


@lru_cache(maxsize=256)
def _encode_after(type_: str | None, user_id: str | None) -> tuple[int, bytes]:
    return _present((_TYPE, _text(type_)), (_USER_ID, _text(user_id)))


def _present(*fields: tuple[int, bytes | None]) -> tuple[int, bytes]:
    """Return the flags of the properties that are not None, and their bytes."""
    flags, present = 0, []
    for flag, value in fields:
        if value is not None:
            flags |= flag
            present.append(value)
    return flags, b"".join(present)


def _text(text: str | None) -> bytes | None:
    return None if text is None else _short(text)


def _short(text: str) -> bytes:
    # Text that is not UTF-8 was received from a peer, and is returned to it byte for byte.
    raw = text.encode(errors="surrogateescape")
    size = len(raw)
    if size > 255:
        raise ValueError(f"{text[:40]!r}... is longer than 255 bytes")
    return _SIZES[size] + raw


_cached_short = lru_cache(maxsize=256)(_short)
"""`_short` for texts that many messages have, as the reply queue and expiration of a caller."""


def bind(
    queue: str, exchange: str, routing_key: str, arguments: FieldTable, *, nowait: bool
) -> bytes:
    """Return the payload of ``queue.bind``."""
    names = _short(queue) + _short(exchange) + _short(routing_key)
    return b"".join((_BIND, b"\0\0", names, bytes((nowait,)), arguments.raw))


def ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """Return ``basic.ack`` of a delivery, or of all up to it."""
    return _ACK_FRAME.pack(METHOD, channel, _ACK_SIZE, ACK, tag, multiple, FRAME_END)


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


class Layout:
    """Layout of a delivered message, with which further messages like it are read in few steps.

    The messages of a consumer mostly have an equal ``basic.deliver`` except for the delivery tag,
    a content header of equal size, and a body of one frame. All their bytes are compared at once,
    except for the delivery tag, the size of the body, the properties and the body.

    Attributes:
        consumer_tag: tag of the consumer.
        redelivered: True if it was delivered before.
        origin: exchange and routing key, encoded as short strings.
    """

    __slots__ = (
        "_beginning",
        "_body",
        "_middle",
        "_parts",
        "consumer_tag",
        "origin",
        "redelivered",
    )

    def __init__(self, received: bytes, channel: int, start: int, stop: int) -> None:
        consumer_tag = start + 12
        tag = consumer_tag + received[start + 11]
        self.consumer_tag = received[consumer_tag:tag]
        self.redelivered = received[tag + 8] != 0
        self.origin = received[tag + 9 : stop - 1]
        body_size = stop + _BODY_SIZE_AT
        properties = HEAD.unpack_from(received, stop)[2] - _CONTENT.size
        self._parts = _message_parts(tag - start, body_size - tag - 8, properties)
        self._beginning = received[start:tag]
        self._middle = received[tag + 8 : body_size]
        self._body = _END + HEAD.pack(BODY, channel, 0)[:3]

    @classmethod
    def of(cls, received: bytes, channel: int, start: int, stop: int) -> Layout | None:
        """Return the layout of a message, or None if it has not begun with valid frames.

        Args:
            received: bytes from the socket.
            channel: number of the channel.
            start: offset of the frame of ``basic.deliver``.
            stop: offset of its end.
        """
        if stop + _CONTENT_FRAME.size > len(received):
            return None
        tag = start + 12 + received[start + 11]
        kind, number, size, *_ = _CONTENT_FRAME.unpack_from(received, stop)
        valid = kind == HEADER and number == channel and size >= _CONTENT.size + 2
        return cls(received, channel, start, stop) if valid and tag + 10 < stop else None

    def read(self, received: bytes, start: int) -> tuple[int, bytes, bytes, int] | None:
        """Read a message of this layout.

        Args:
            received: bytes from the socket.
            start: offset of a frame.

        Returns:
            Delivery tag, properties, body, and offset of the message's end. None if the message has
            another layout or is incomplete.
        """
        parts = self._parts
        at = start + parts.size
        if at > len(received):
            return None
        beginning, tag, middle, size, properties, body, body_size = parts.unpack_from(
            received, start
        )
        end = at + size + 1
        if (
            beginning != self._beginning
            or middle != self._middle
            or body != self._body
            or body_size != size
            or end > len(received)
            or received[end - 1] != FRAME_END
        ):
            return None
        return tag, properties, received[at : end - 1], end


@lru_cache(maxsize=256)
def _message_parts(beginning: int, middle: int, properties: int) -> Struct:
    """Return the format of all before a body, for `Layout`.

    These are bytes, the delivery tag, bytes, the size of the body, the properties, the end of their
    frame with the beginning of the next one, and the size of that.
    """
    return Struct(f">{beginning}sQ{middle}sQ{properties}s4sI")


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


def read_header(header: bytes) -> tuple[int, bytes]:
    """Return the size of the body that follows a content header, and the properties, encoded."""
    return _U64.unpack_from(header, 4)[0], header[_CONTENT.size :]


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
    expiration: str | None = None


NO_PROPERTIES = Properties()


def read_properties(raw: bytes) -> Properties:
    """Decode the properties in a content header; their first bytes are the flags."""
    flags = raw[0] << 8 | raw[1]
    at = start = 2
    for flag in (_CONTENT_TYPE, _CONTENT_ENCODING):
        if flags & flag:
            at += 1 + raw[at]
    if flags & _HEADERS:
        at += 4 + int.from_bytes(raw[at : at + 4])
    at += _FIXED_SIZES[flags & (_DELIVERY_MODE | _PRIORITY)]
    before = _read_before if at <= _CACHED_SIZE else _read_before.__wrapped__
    headers, content_type, content_encoding = before(flags & _BEFORE, raw[start:at])
    correlation_id = reply_to = message_id = timestamp = expiration = None
    if flags & _CORRELATION_ID:
        end = at + 1 + raw[at]
        correlation_id = raw[at + 1 : end].decode("utf-8", "surrogateescape")
        at = end
    if flags & _REPLY_TO:
        end = at + 1 + raw[at]
        reply_to = raw[at + 1 : end].decode("utf-8", "surrogateescape")
        at = end
    if flags & _EXPIRATION:
        end = at + 1 + raw[at]
        expiration = raw[at + 1 : end].decode("utf-8", "surrogateescape")
        at = end
    if flags & _MESSAGE_ID:
        end = at + 1 + raw[at]
        message_id = raw[at + 1 : end].decode("utf-8", "surrogateescape")
        at = end
    if flags & _TIMESTAMP:
        timestamp = int.from_bytes(raw[at : at + 8])
        at += 8
    if at > len(raw):
        raise ValueError("the properties are cut off")
    type_, user_id = _read_after(flags & _AFTER, raw[at:])
    return tuple.__new__(  # in half the time of the constructor
        Properties,
        (
            headers,
            content_type,
            content_encoding,
            type_,
            correlation_id,
            reply_to,
            message_id,
            user_id,
            timestamp,
            expiration,
        ),
    )


@lru_cache(maxsize=256)
def _read_before(flags: int, raw: bytes) -> tuple[bytes, str | None, str | None]:
    """Return headers, content type and content encoding."""
    content_type, at = _read_short(raw, 0) if flags & _CONTENT_TYPE else (None, 0)
    content_encoding, at = _read_short(raw, at) if flags & _CONTENT_ENCODING else (None, at)
    headers = b""
    if flags & _HEADERS:
        headers = raw[at : at + 4 + int.from_bytes(raw[at : at + 4])]
    return headers, content_type, content_encoding


@lru_cache(maxsize=256)
def _read_after(flags: int, raw: bytes) -> tuple[str | None, str | None]:
    """Return type and user id; properties after them are ignored."""
    type_, at = _read_short(raw, 0) if flags & _TYPE else (None, 0)
    user_id, _ = _read_short(raw, at) if flags & _USER_ID else (None, at)
    return type_, user_id


def _read_short(raw: bytes, at: int) -> tuple[str, int]:
    """Return the text at an offset, and the offset of its end."""
    end = at + 1 + raw[at]
    if end > len(raw):
        raise ValueError("the properties are cut off")
    return raw[at + 1 : end].decode("utf-8", "surrogateescape"), end
