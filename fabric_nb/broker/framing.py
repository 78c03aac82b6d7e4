"""Parsing of a byte stream into frames, and encoding of messages (AMQP 0-9-1, 4.2.3)."""

import struct
from collections.abc import Iterator

from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.messages import Message

METHOD = 1
HEADER = 2
BODY = 3
HEARTBEAT = 8
FRAME_OVERHEAD = 8
"""Bytes of a frame in addition to its payload: type, channel, size and the end octet."""

FRAME_END = 0xCE
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

_START = struct.Struct(">BHI")
_END_AND_START = struct.Struct(">BBHI")
_DELIVERY = struct.Struct(">Q?")
_END = bytes((FRAME_END,))

Frame = tuple[int, int, bytes]


class FrameReader:
    """Incremental parser of a byte stream.

    Iterating yields the complete frames as `(type, channel, payload)`; it may be interrupted and
    resumed.

    Args:
        max_payload: Maximum payload in bytes.

    Example:
        ```python
        reader.feed(data)
        for kind, channel, payload in reader: ...
        ```
    """

    def __init__(self, max_payload: int) -> None:
        self.max_payload = max_payload
        self._buffer = b""
        self._position = 0

    def feed(self, data: bytes) -> None:
        """Add bytes from the stream."""
        rest = self._buffer[self._position :]
        self._buffer = rest + data if rest else data
        self._position = 0

    def __iter__(self) -> Iterator[Frame]:
        """Yield the complete frames.

        Raises:
            AMQPError: FRAME_ERROR for a frame that is too large or lacks its end octet.
        """
        buffer, end = self._buffer, len(self._buffer)
        while end - (position := self._position) >= _START.size:
            kind, channel, size = _START.unpack_from(buffer, position)
            if size > self.max_payload:
                raise AMQPError(
                    ReplyCode.FRAME_ERROR, f"frame of {size} bytes, {self.max_payload} allowed"
                )
            start = position + _START.size
            stop = start + size
            if stop >= end:
                return
            if buffer[stop] != FRAME_END:
                raise AMQPError(ReplyCode.FRAME_ERROR, "frame without its end octet")
            self._position = stop + 1
            yield kind, channel, buffer[start:stop]


def method_frame(channel: int, payload: bytes) -> bytes:
    """Return the frame of a method with an encoded payload."""
    return b"".join((_START.pack(METHOD, channel, len(payload)), payload, _END))


def content_frames(channel: int, method: bytes, message: Message, max_payload: int) -> bytes:
    """Return the frames of a method that carries a message: method, header and body.

    The header is forwarded as received. Every delivery takes this path, so a body that fits one
    frame is built with a single `join`.
    """
    header, body = message.header, message.body
    size = len(body)
    if 0 < size <= max_payload:
        return b"".join(
            (
                _START.pack(METHOD, channel, len(method)),
                method,
                _END_AND_START.pack(FRAME_END, HEADER, channel, len(header)),
                header,
                _END_AND_START.pack(FRAME_END, BODY, channel, size),
                body,
                _END,
            )
        )
    parts = [
        _START.pack(METHOD, channel, len(method)),
        method,
        _END_AND_START.pack(FRAME_END, HEADER, channel, len(header)),
        header,
        _END,
    ]
    for start in range(0, size, max_payload):
        piece = body[start : start + max_payload]
        parts += (_START.pack(BODY, channel, len(piece)), piece, _END)
    return b"".join(parts)


def deliver_method(prefix: bytes, delivery_tag: int, redelivered: bool, route: bytes) -> bytes:
    """Return the payload of Basic.Deliver or Basic.GetOk up to the routing key.

    Args:
        prefix: Class and method number; for Basic.Deliver followed by the consumer tag.
        delivery_tag: Delivery tag on the channel.
        redelivered: Whether the message was delivered before.
        route: Exchange and routing key, encoded as two short strings.
    """
    return b"".join((prefix, _DELIVERY.pack(delivery_tag, redelivered), route))
