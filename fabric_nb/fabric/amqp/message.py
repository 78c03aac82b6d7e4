"""AMQP messages: body, properties and headers, sent or received."""

from __future__ import annotations

import contextlib
import logging
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pamqp import decode

log = logging.getLogger(__name__)

Headers = Mapping[str, Any]

NO_ACK = sys.maxsize
"""Generation of a delivery that needs no acknowledgement: later than any of a channel."""

MAX_HEADERS = 131_072
"""Bytes of headers that are read: a frame of the usual size, because headers are at most one frame.
If a broker allows longer frames, reading a million headers would take pamqp many minutes."""


@dataclass(slots=True)
class Message:
    """AMQP message to be sent.

    The fields are the properties of AMQP 0-9-1 (section 4.2.6.1) that the fabric uses.
    `timestamp` is in seconds since the epoch, `expiration` in milliseconds.
    """

    body: bytes
    headers: Headers = field(default_factory=dict)
    content_type: str | None = None
    content_encoding: str | None = None
    type: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    priority: int | None = None
    expiration: int | None = None
    timestamp: float | None = None
    persistent: bool = False
    user_id: str | None = None


class Delivery:
    """Received AMQP message, with the data that is needed to acknowledge it.

    `headers` may be given as the bytes of a field table (AMQP 0-9-1, section 4.2.5.5), which are
    decoded on first access, because most headers are never accessed.

    `generation` is the generation of its channel: after a recovery, a delivery of an earlier
    generation can no longer be acknowledged, and the broker redelivers it.

    `origin` has exchange and routing key, encoded; see `frames.read_routing_key`.
    """

    __slots__ = (
        "_headers",
        "body",
        "content_encoding",
        "content_type",
        "correlation_id",
        "expiration",
        "generation",
        "message_id",
        "origin",
        "redelivered",
        "reply_to",
        "tag",
        "timestamp",
        "type",
        "user_id",
    )

    def __init__(
        self,
        body: bytes,
        headers: Headers | bytes = b"",
        content_type: str | None = None,
        content_encoding: str | None = None,
        type: str | None = None,  # noqa: A002 - AMQP's name of the property
        correlation_id: str | None = None,
        reply_to: str | None = None,
        message_id: str | None = None,
        user_id: str | None = None,
        timestamp: int | None = None,
        expiration: str | None = None,
        tag: int = 0,
        redelivered: bool = False,
        generation: int = 0,
        origin: bytes = b"",
    ) -> None:
        self.body = body
        self._headers = headers
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.type = type
        self.correlation_id = correlation_id
        self.reply_to = reply_to
        self.message_id = message_id
        self.user_id = user_id
        self.timestamp = timestamp
        self.expiration = expiration
        self.tag = tag
        self.redelivered = redelivered
        self.generation = generation
        self.origin = origin

    @property
    def headers(self) -> Headers:
        """Headers of the message; empty if they cannot be read."""
        headers = self._headers
        if isinstance(headers, bytes):
            headers = self._headers = _read_table(headers) if headers else {}
        return headers


def _read_table(raw: bytes) -> Headers:
    if len(raw) > MAX_HEADERS:
        log.debug("A message has %d bytes of headers, which are too many to read", len(raw))
        return {}
    if len(raw) <= _CACHED_TABLE and (flat := _read_flat_table(raw)) is not None:
        return flat.copy()
    if len(raw) <= _SMALL_TABLE:
        with contextlib.suppress(Exception):  # pamqp raises many types, RecursionError too
            return decode.field_table(raw)[1]
    # pamqp needs quadratic time, and fails for a whole table because of one value in it.
    headers: dict[str, Any] = {}
    try:
        _read_fields(raw, 0, headers, depth=0)
    except (IndexError, struct.error, _Unreadable) as error:
        log.debug("A message has headers that cannot be read: %r", error)
    return headers


@lru_cache(maxsize=256)
def _read_flat_table(raw: bytes) -> dict[str, Any] | None:
    """Decode a table, as that which all calls of a caller carry; None if it has nested values."""
    try:
        fields = decode.field_table(raw)[1]
    except Exception:  # noqa: BLE001 - pamqp raises many types
        return None
    nested = any(isinstance(value, (dict, list, bytearray)) for value in fields.values())
    return None if nested else fields


_CACHED_TABLE = 512
"""Maximum bytes of a table that is cached."""
_SMALL_TABLE = 4096
_MAX_DEPTH = 50
_LENGTH = struct.Struct(">I")
_FIXED = {
    **dict.fromkeys(b"V\x00", 0),
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"lLdT", 8),
    ord("D"): 5,
}
"""Bytes of a value by its type; values of other types begin with their length."""
_WITH_LENGTH = frozenset(b"SxAF")
_TABLE, _ARRAY = b"FA"


class _Unreadable(Exception):
    """A table whose remaining values begin at an unknown offset."""


class _TooDeep(Exception):
    """A value is nested too deeply to be read."""


def _read_fields(raw: bytes, at: int, fields: dict[str, Any], *, depth: int) -> int:
    """Read a table at an offset into `fields`, except for unreadable values; return its end."""
    end = _end(raw, at)
    at += _LENGTH.size
    while at < end:
        value = at + 1 + raw[at]
        name = raw[at + 1 : value].decode(errors="backslashreplace")
        at, read = _read_value(raw, value, depth)
        if at > end:
            raise _Unreadable(name)
        if read is not _UNREADABLE:
            fields[name] = read
    return end


_UNREADABLE: Any = object()


def _read_value(raw: bytes, at: int, depth: int) -> tuple[int, Any]:
    """Read a value at an offset; return the offset of its end, and the value or `_UNREADABLE`."""
    kind = raw[at]
    if kind in _WITH_LENGTH:
        end = _end(raw, at + 1)
    elif kind in _FIXED:
        end = at + 1 + _FIXED[kind]
    else:
        raise _Unreadable(f"type {kind}")
    if end > len(raw):
        raise _Unreadable(f"type {kind}")
    if kind in (_TABLE, _ARRAY):
        return end, _read_nested(raw, at, end, depth + 1)
    try:
        return end, decode.embedded_value(raw[at:end])[1]
    except Exception as error:  # noqa: BLE001 - such as a time after the year 9999
        log.debug("A message has a header that cannot be read: %r", error)
        return end, _UNREADABLE


def _read_nested(raw: bytes, at: int, end: int, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise _TooDeep
    try:
        if raw[at] == _TABLE:
            fields: dict[str, Any] = {}
            _read_fields(raw, at + 1, fields, depth=depth)
            return fields
        values, at = [], at + 1 + _LENGTH.size
        while at < end:
            at, value = _read_value(raw, at, depth)
            values.append(None if value is _UNREADABLE else value)
    except (IndexError, struct.error, _Unreadable) as error:
        log.debug("A message has a header that cannot be read: %r", error)
        return _UNREADABLE
    except _TooDeep:
        if depth > 1:
            raise
        return _UNREADABLE
    return values


def _end(raw: bytes, at: int) -> int:
    """Return the end of a value whose length is at an offset."""
    end: int = at + _LENGTH.size + _LENGTH.unpack_from(raw, at)[0]
    return end
