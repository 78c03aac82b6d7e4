"""What travels over AMQP: a body with its properties and headers, in either direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Headers = Mapping[str, Any]


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


@dataclass(slots=True)
class Delivery:
    """A message as it arrived, with what is needed to acknowledge it.

    `generation` counts the openings of the channel it came by: after a recovery, a delivery
    of the time before can no longer be acknowledged, and the broker delivers it again.
    """

    body: bytes
    headers: Headers
    content_type: str | None
    content_encoding: str | None
    type: str | None
    correlation_id: str | None
    reply_to: str | None
    tag: int
    redelivered: bool
    generation: int
