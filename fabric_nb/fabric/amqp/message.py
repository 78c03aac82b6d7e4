"""What travels over AMQP: a body with its properties and headers, in either direction."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pamqp import decode

log = logging.getLogger(__name__)

Headers = Mapping[str, Any]

MAX_HEADERS = 131_072
"""Bytes of headers that are read: a frame of the usual size, and headers are never more than one.
Where a broker allows longer frames, reading a million headers would take pamqp many minutes."""


@dataclass(slots=True)
class Message:
    """An AMQP message.

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
    """A message as it arrived, with what is needed to acknowledge it.

    `headers` may be given as the bytes of a field table (AMQP 0-9-1, section 4.2.5.5), which are
    read when somebody first asks for them: most deliveries are never asked.

    `generation` counts the openings of the channel it came by: after a recovery, a delivery
    of the time before can no longer be acknowledged, and the broker delivers it again.

    `origin` is what the broker says of exchange and routing key, read by `frames.read_routing_key`
    where somebody needs it.
    """

    __slots__ = (
        "_headers",
        "body",
        "content_encoding",
        "content_type",
        "correlation_id",
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
        type: str | None = None,  # noqa: A002 - the wire's word for it
        correlation_id: str | None = None,
        reply_to: str | None = None,
        message_id: str | None = None,
        user_id: str | None = None,
        timestamp: int | None = None,
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
        self.tag = tag
        self.redelivered = redelivered
        self.generation = generation
        self.origin = origin

    @property
    def headers(self) -> Headers:
        """The message's headers; empty when they cannot be read."""
        headers = self._headers
        if isinstance(headers, bytes):
            headers = self._headers = _read_table(headers) if headers else {}
        return headers


def _read_table(raw: bytes) -> Headers:
    if len(raw) > MAX_HEADERS:
        log.debug("A message has %d bytes of headers, which are too many to be read", len(raw))
        return {}
    try:
        return decode.field_table(raw)[1]
    except Exception as error:  # noqa: BLE001 - pamqp raises many kinds, RecursionError too
        log.debug("A message has headers that cannot be read: %r", error)
        return {}
