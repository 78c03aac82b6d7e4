"""Messages and their content headers.

A header is stored and forwarded as the bytes that the publisher sent. It is only scanned for the
offsets of its properties; a property is decoded on demand.
"""

import functools
import re
import struct
from collections.abc import Mapping

from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.field_table import decode_table
from fabric_nb.broker.memory import MemoryAccount

_FIXED = struct.Struct(">HHQH")
_BASIC = 60
_CONTINUATION = 1

# Name, and width in bytes or type of the encoding (AMQP 0-9-1, section 1.8 of the reference).
_PROPERTIES: tuple[tuple[str, int | str], ...] = (
    ("content_type", "shortstr"),
    ("content_encoding", "shortstr"),
    ("headers", "table"),
    ("delivery_mode", 1),
    ("priority", 1),
    ("correlation_id", "shortstr"),
    ("reply_to", "shortstr"),
    ("expiration", "shortstr"),
    ("message_id", "shortstr"),
    ("timestamp", 8),
    ("type", "shortstr"),
    ("user_id", "shortstr"),
    ("app_id", "shortstr"),
    ("cluster_id", "shortstr"),
)
_LENGTH = struct.Struct(">I")
HEADER_EXPECTED = "expected content header for class 60, got non content header frame instead"
MAX_MILLISECONDS = 315_360_000_000
"""Maximum time to live or idle time that RabbitMQ accepts: ten years."""

_NUMBER = re.compile(rb"[+-]?[0-9]+")
MESSAGE_OVERHEAD = 512
"""Accounted bytes of a message in addition to its header and body."""


@functools.lru_cache(maxsize=256)
def _layout(flags: int) -> tuple[tuple[str, int | str], ...]:
    """Return the properties in a flag word, in wire order."""
    return tuple(entry for index, entry in enumerate(_PROPERTIES) if flags & (1 << (15 - index)))


def _expiration_error(text: bytes) -> str | None:
    """Return RabbitMQ's error text for an expiration, or None."""
    number = _NUMBER.match(text)
    if number is None:
        return "no_integer"
    rest = text[number.end() :].decode(errors="replace")
    if rest:
        return f'{{leftover_string,"{rest}"}}'
    value = int(text)
    if value < 0:
        return f"{{value_negative,{value}}}"
    return f"{{value_too_large,{value}}}" if value > MAX_MILLISECONDS else None


class ContentHeader:
    """A content header: the size of the body and the offsets of the properties.

    Attributes:
        headers: Application headers; always decoded, because a malformed table must not reach
            consumers.

    Raises:
        AMQPError: FRAME_ERROR if the bytes do not match the property flags.
    """

    __slots__ = ("_spans", "body_size", "headers", "payload")

    def __init__(self, payload: bytes) -> None:
        if len(payload) < _FIXED.size:
            raise AMQPError(ReplyCode.FRAME_ERROR, "truncated content header")
        class_id, weight, self.body_size, flags = _FIXED.unpack_from(payload)
        if class_id != _BASIC:
            raise AMQPError(
                ReplyCode.UNEXPECTED_FRAME,
                f"expected content header for class 60, got one for class {class_id} instead",
            )
        if weight:
            raise AMQPError(ReplyCode.UNEXPECTED_FRAME, HEADER_EXPECTED)
        if flags & _CONTINUATION:
            raise AMQPError(ReplyCode.FRAME_ERROR, "unknown content properties")
        self.payload = payload
        self._spans = self._scan(flags) if flags else {}
        span = self._spans.get("headers")
        self.headers = decode_table(payload, *span) if span else {}

    def _scan(self, flags: int) -> dict[str, tuple[int, int]]:
        payload, position = self.payload, _FIXED.size
        spans = {}
        try:
            for name, width in _layout(flags):
                start = position
                if width == "shortstr":
                    position += 1 + payload[position]
                elif width == "table":
                    position += 4 + _LENGTH.unpack_from(payload, position)[0]
                else:
                    position += int(width)
                spans[name] = (start, position)
        except (IndexError, struct.error) as error:
            raise AMQPError(ReplyCode.FRAME_ERROR, "truncated content properties") from error
        if position != len(payload):
            raise AMQPError(ReplyCode.FRAME_ERROR, "malformed content properties")
        return spans

    def raw(self, name: str) -> bytes | None:
        """Return the encoded value of a property, or None if it is absent."""
        span = self._spans.get(name)
        return self.payload[span[0] : span[1]] if span else None

    def shortstr(self, name: str) -> bytes | None:
        """Return the content of a short string property, or None if it is absent."""
        span = self._spans.get(name)
        return self.payload[span[0] + 1 : span[1]] if span else None

    @property
    def priority(self) -> int:
        """Priority, 0 if absent."""
        span = self._spans.get("priority")
        return self.payload[span[0]] if span else 0

    @property
    def expiration(self) -> int | None:
        """Time to live in a queue, in milliseconds; None for no limit.

        Raises:
            AMQPError: PRECONDITION_FAILED if it is not a number that RabbitMQ would accept.
        """
        text = self.shortstr("expiration")
        if text is None:
            return None
        error = _expiration_error(text)
        if error:
            raise AMQPError(
                ReplyCode.PRECONDITION_FAILED,
                f"invalid expiration '{text.decode(errors='replace')}': {error}",
            )
        return int(text)

    def replace(self, values: Mapping[str, bytes | None]) -> bytes:
        """Return the payload with some encoded properties replaced, or removed if None."""
        flags = 0
        parts = []
        for index, (name, _) in enumerate(_PROPERTIES):
            value = values[name] if name in values else self.raw(name)
            if value is not None:
                flags |= 1 << (15 - index)
                parts.append(value)
        return _FIXED.pack(_BASIC, 0, self.body_size, flags) + b"".join(parts)


class Message:
    """A published message, shared by its queues and never modified."""

    __slots__ = (
        "account",
        "body",
        "exchange",
        "expiration",
        "header",
        "priority",
        "references",
        "route",
        "routing_key",
    )

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        route: bytes,
        header: ContentHeader,
        body: bytes,
        account: MemoryAccount,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.route = route
        self.header = header.payload
        self.body = body
        self.account = account
        self.priority = header.priority
        self.expiration = header.expiration
        self.references = 0

    def add_reference(self) -> None:
        """Add a reference; the first one charges the message to the publisher's account."""
        self.references += 1
        if self.references == 1:
            self.account.charge(len(self.header) + len(self.body) + MESSAGE_OVERHEAD)

    def remove_reference(self) -> None:
        """Remove a reference; the last one refunds the message."""
        self.references -= 1
        if self.references == 0:
            self.account.refund(len(self.header) + len(self.body) + MESSAGE_OVERHEAD)
