"""Queue of a data stream: its own, a shared one, a durable one, or a RabbitMQ stream."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, cast

from fabric_nb.errors import BrokerRefused, UnusableQueue
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.core.values import unboxed
from fabric_nb.fabric.wire.names import check_queue

Start = Literal["first", "last", "next"] | int | datetime
"""Start in a RabbitMQ stream: the first message, the last chunk, the next message, an offset or a
time."""
_PLACES = ("first", "last", "next")
_OFFSET = "x-stream-offset"
_LAST_CHUNK = 5000
"""Maximum messages in a chunk of a RabbitMQ stream."""
_CHUNK_TIMEOUT = 3.0
"""Seconds within which the last chunk of a stream arrives."""
_CHECKS, _BETWEEN_CHECKS = 3, 0.1
"""Checks that must find another filter before the queue is refused, and seconds between them."""
_SHORT = 100
"""Bytes of a queue's name that fit into an exchange's, for which pamqp allows 127."""
_FINGERPRINTED = 4096
"""Bytes at either end of a message that identify it."""


log = logging.getLogger(__name__)


class StreamQueue:
    """Declares the queue of a stream, and finds the place to resume after a loss.

    Args:
        name: name of the queue; empty: a queue of the stream's own, which is deleted with its
            connection. It outlives its channel, which the broker closes when messages stay
            unacknowledged for long; then messages are delivered again, as `is_repeat` finds out.
        durable: a quorum queue, which keeps confirmed messages on most nodes of a cluster, also
            while nothing consumes it.
        replay_from: a RabbitMQ stream, read from there; it keeps messages that were read, and each
            reader receives all of them.
        prefetch: unacknowledged messages; 0: no limit.
        on_remade: called when a RabbitMQ stream turns out to be another one, to be read again.

    Attributes:
        remade: number of times that the queue was gone with its messages, and was declared again.

    Raises:
        UnusableQueue: no queue can have this name, a kept queue has none, both kinds are requested,
            or `replay_from` has none of its forms.
    """

    def __init__(
        self,
        name: str = "",
        *,
        durable: bool = False,
        replay_from: Start | None = None,
        prefetch: int = 0,
        on_remade: Callable[[], object] = lambda: None,
    ) -> None:
        if durable and replay_from is not None:
            raise UnusableQueue(
                "A stream is durable, or replayed: not both; replay_from keeps messages too."
            )
        if (durable or replay_from is not None) and not name:
            what = "durable=True" if durable else "replay_from"
            raise UnusableQueue(
                f"{what} keeps messages in a queue, which needs a name: give name=."
            )
        self.name = check_queue(name)
        self.durable = durable
        self._start = None if replay_from is None else _checked(replay_from)
        self.remade = 0
        self._on_remade = on_remade
        self._last: tuple[int, int] | None = None  # offset and fingerprint of the last message
        self._resuming = False
        self._own_name = ""
        self._declared = False
        # Of the last messages, acknowledged or not, because it is not known whether an
        # acknowledgement that is in flight at a loss has arrived.
        self._received: deque[int] = deque(maxlen=prefetch or None)
        self._repeats: Counter[int] = Counter()

    @property
    def shared(self) -> bool:
        """True if the broker deletes it with its last consumer."""
        return bool(self.name) and not self.durable and self._start is None

    async def check_deleted(self, connection: Connection) -> None:
        """Check whether a durable queue that was declared before has been deleted."""
        if not self.durable:
            return
        if self._declared:
            async with connection.channel() as channel:
                if not await channel.topology.has_queue(self.name):
                    self.remade += 1
                    log.warning(
                        "The queue %r was deleted with its messages, and is declared again",
                        self.name,
                    )
        self._declared = True

    async def declare(self, channel: Channel) -> str:
        """Declare it, and return its name.

        Raises:
            BrokerRefused: the broker has no such queues, or has it with other properties.
        """
        if self.durable:
            await channel.topology.declare_durable_queue(self.name, "quorum")
        elif self._start is not None:
            await channel.topology.declare_durable_queue(self.name, "stream")
        elif self.name:
            await self._declare_shared(channel)
        else:
            return await self._declare_own(channel)
        return self.name

    async def _declare_shared(self, channel: Channel) -> None:
        others = await channel.topology.declare_shared_queue(self.name)
        if self._declared and not others:
            self.remade += 1
            log.warning(
                "The queue %r was deleted with its last consumer, and its messages are lost",
                self.name,
            )
        self._declared = True

    async def _declare_own(self, channel: Channel) -> str:
        name = await channel.topology.declare_exclusive_queue()
        same = name == self._own_name
        self.remade += bool(self._own_name) and not same
        self._repeats = Counter(self._received) if same else Counter()
        self._own_name = name
        self._received.clear()
        return name

    # -- the filter of a shared or kept queue

    async def check(
        self, connection: Connection, exchange: str, headers: Mapping[str, Any]
    ) -> None:
        """Check that no stream with another filter has declared the queue.

        The broker would add the new filter to the old one, and offers no way to read it. So each
        stream marks a queue with its filter, by exchanges that are deleted with the queue. A queue
        without marks, of amqp-fabric or an operator, is accepted.

        Raises:
            UnusableQueue: a stream with another filter has declared it.
        """
        if not self.name:
            return
        marks = self._marks(exchange, headers)
        async with connection.channel() as channel:
            for _ in range(_CHECKS):  # marks are deleted a moment after their queue
                if not await self._has_other_mark(channel, *marks):
                    return
                await asyncio.sleep(_BETWEEN_CHECKS)
        raise UnusableQueue(
            f"The queue {self.name!r} gathers messages of another filter or domain than"
            f" {dict(headers)!r} of {exchange!r}: open it with the same one, give another name=, or"
            " delete it first (`await stream.delete()`)."
        )

    async def _has_other_mark(self, channel: Channel, marked: str, mark: str) -> bool:
        return (
            await channel.topology.has_exchange(marked)
            and not await channel.topology.has_exchange(mark)
            and await channel.topology.has_queue(self.name)
        )

    async def mark(self, connection: Connection, exchange: str, headers: Mapping[str, Any]) -> None:
        """Mark a shared or kept queue with its filter, if this user has permission."""
        if not self.name:
            return
        kept = self.durable or self._start is not None
        with contextlib.suppress(BrokerRefused):
            async with connection.channel() as channel:
                for mark in self._marks(exchange, headers):
                    await channel.topology.declare_exchange(
                        mark, "fanout", durable=kept, auto_delete=True
                    )
                    await channel.topology.bind(self.name, mark)

    def _marks(self, exchange: str, headers: Mapping[str, Any]) -> tuple[str, str]:
        """Return the names of the exchange of all filters and of this filter's."""
        queue = (
            self.name
            if len(self.name.encode()) <= _SHORT
            else f"{self.name[:40]}.{_digest(self.name)}"
        )
        filtering = repr((exchange, sorted(headers.items())))
        return f"{queue}.filter", f"{queue}.filter.{_digest(filtering)}"

    # -- resuming a RabbitMQ stream

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Arguments of the consumer."""
        if self._start is None:
            return {}
        return {_OFFSET: self._start if self._last is None else self._last[0]}

    async def resume(self, connection: Connection) -> None:
        """Prepare to resume behind the last message, or at the first one of a new queue.

        The consumer begins at the last message, which shows whether it is still the same queue.
        """
        if self._last is None:
            return
        self._resuming = True
        if not await self._reaches(connection, self._last[0]):
            self._begin_anew()

    async def _reaches(self, connection: Connection, offset: int) -> bool:
        """Return whether the queue has a message of this offset or a later one."""
        reached = asyncio.Event()

        def look(delivery: Delivery) -> None:
            found = delivery.headers.get(_OFFSET)
            if isinstance(found, int) and found >= offset:
                reached.set()

        async with connection.channel(prefetch=_LAST_CHUNK) as channel:
            await channel.consumers.start(self.name, look, arguments={_OFFSET: "last"})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHUNK_TIMEOUT):
                    await reached.wait()
        return reached.is_set()

    def _begin_anew(self) -> None:
        log.warning(
            "The queue %r was deleted and declared again: its messages are lost, and the stream"
            " resumes with the first new one",
            self.name,
        )
        self._start, self._last, self._resuming = "first", None, False
        self.remade += 1

    def _is_last_again(self, delivery: Delivery) -> bool:
        """Return whether the first message after a loss is the last one before it."""
        self._resuming = False
        last, offset = self._last, delivery.headers.get(_OFFSET)
        if last is None or offset != last[0]:
            return False  # behind it: the broker has dropped older ones
        if _fingerprint(delivery.body) != last[1]:
            self._begin_anew()
            self._on_remade()
        return True

    def is_repeat(self, delivery: Delivery) -> bool:
        """Return whether a lost channel had delivered this message; called once for each.

        Only for a queue of the stream's own: messages of a shared one may have been another
        consumer's.
        """
        if self._resuming:
            return self._is_last_again(delivery)
        if self.name:
            return False
        fingerprint = _fingerprint(delivery.body)
        self._received.append(fingerprint)
        if not self._repeats:
            return False
        if not delivery.redelivered:
            self._repeats.clear()  # in order: no repeat follows a new one
        elif self._repeats[fingerprint]:
            self._repeats[fingerprint] -= 1
            return True
        return False

    def needs_order(self) -> bool:
        """Return whether `is_repeat` and `handled` are to be called with each message in turn."""
        return self._resuming or self._start is not None or bool(self._repeats)

    def handled_together(self, bodies: Iterable[bytes]) -> None:
        """Remember handled messages, where not `needs_order`."""
        if not self.name:
            self._received.extend(map(_fingerprint, bodies))

    def handled(self, delivery: Delivery) -> None:
        """Remember a handled message, behind which the stream resumes after a loss."""
        if self._start is not None:
            offset = delivery.headers.get(_OFFSET)
            if isinstance(offset, int):
                self._last = offset, _fingerprint(delivery.body)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


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
