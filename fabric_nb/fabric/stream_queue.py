"""The queue that a stream reads from: its own, a shared one, a durable one, or one to replay."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, cast

from fabric_nb.errors import UnusableQueue
from fabric_nb.fabric.amqp import Channel, Delivery
from fabric_nb.fabric.naming import check_queue
from fabric_nb.fabric.plain import unboxed

Start = Literal["first", "last", "next"] | int | datetime
"""Where in a RabbitMQ stream to begin: its first message, the last chunk, the next one to come, an
offset, or a time."""
_PLACES = ("first", "last", "next")
_OFFSET = "x-stream-offset"
_FINGERPRINTED = 4096
"""Bytes at either end of a message that tell it from others."""


class StreamQueue:
    """Declares the queue of a stream, and knows where to go on after a loss.

    Args:
        name: of the queue; empty: one of this stream's own, which goes with its connection.
            It outlives its channel, which the broker closes when messages stay unacknowledged for
            long, and then delivers again what it had delivered: `is_repeat` recognises that.
        durable: a quorum queue: it keeps what it was confirmed to have, on most nodes of a
            cluster, also while nobody reads it.
        replay_from: a RabbitMQ stream queue, read from there: it keeps what was read, and each
            reader gets all of it.

    Raises:
        UnusableQueue: no queue can have this name, a kept queue has none, both kinds are asked for,
            or `replay_from` is none of its forms.
    """

    def __init__(
        self,
        name: str = "",
        *,
        durable: bool = False,
        replay_from: Start | None = None,
        prefetch: int = 0,
    ) -> None:
        if durable and replay_from is not None:
            raise UnusableQueue(
                "A stream is durable, or replayed: not both; replay_from keeps too."
            )
        if (durable or replay_from is not None) and not name:
            what = "durable=True" if durable else "replay_from"
            raise UnusableQueue(
                f"{what} keeps messages in a queue, which needs a name: give name=."
            )
        self.name = check_queue(name)
        self.durable = durable
        self._start = None if replay_from is None else _checked(replay_from)
        self._own_name = ""
        # Of the last messages, whether acknowledged or not: an acknowledgement that is under way
        # when the channel is lost may or may not count.
        self._received: deque[int] = deque(maxlen=prefetch or None)
        self._repeats: Counter[int] = Counter()

    async def declare(self, channel: Channel) -> str:
        """Declare it, and return its name.

        Raises:
            BrokerRefused: the broker has no such queues, or has it with other properties.
        """
        if self.durable:
            await channel.declare_kept_queue(self.name, "quorum")
        elif self._start is not None:
            await channel.declare_kept_queue(self.name, "stream")
        elif self.name:
            await channel.declare_shared_queue(self.name)
        else:
            return await self._declare_own(channel)
        return self.name

    async def _declare_own(self, channel: Channel) -> str:
        name = await channel.declare_own_queue()
        self._repeats = Counter(self._received) if name == self._own_name else Counter()
        self._own_name = name
        self._received.clear()
        return name

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What the consumer asks for."""
        return {} if self._start is None else {_OFFSET: self._start}

    def is_repeat(self, delivery: Delivery) -> bool:
        """Return whether this message came before, by a channel that was lost; asked once each.

        Only of a queue of this stream's own: messages of a shared one may be another member's.
        """
        if self.name:
            return False
        fingerprint = _fingerprint(delivery.body)
        self._received.append(fingerprint)
        if not self._repeats:
            return False
        if not delivery.redelivered:
            self._repeats.clear()  # the queue delivers in order: no repeat comes after a new one
        elif self._repeats[fingerprint]:
            self._repeats[fingerprint] -= 1
            return True
        return False

    def took(self, delivery: Delivery) -> None:
        """The message has become rows: after a loss it goes on behind it."""
        if self._start is not None:
            offset = delivery.headers.get(_OFFSET)
            if isinstance(offset, int):
                self._start = offset + 1


def _fingerprint(body: bytes) -> int:
    if len(body) <= 2 * _FINGERPRINTED:
        return hash(body)
    return hash((len(body), body[:_FINGERPRINTED], body[-_FINGERPRINTED:]))


def _checked(given: object) -> Start:
    start = unboxed(given)
    if isinstance(start, datetime) and start.tzinfo is None:
        raise UnusableQueue(f"replay_from={start} has no time zone: add one, as in tzinfo=UTC.")
    if isinstance(start, datetime) and start.timestamp() < 0:
        raise UnusableQueue(f"replay_from={start} is before 1970, and no message is so old.")
    if isinstance(start, datetime) or (isinstance(start, str) and start in _PLACES):
        return cast(Start, start)
    if isinstance(start, int) and not isinstance(start, bool) and 0 <= start < 2**63:
        return start
    raise UnusableQueue(
        f"replay_from is 'first', 'last', 'next', an offset or a datetime, so it cannot be"
        f" {given!r}."
    )
