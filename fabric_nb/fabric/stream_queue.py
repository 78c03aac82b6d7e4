"""The queue that a stream reads from: its own, a shared one, a durable one, or one to replay."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from fabric_nb.errors import UnusableQueue
from fabric_nb.fabric.amqp import Channel, Delivery

Start = Literal["first", "last", "next"] | int | datetime
"""Where in a RabbitMQ stream to begin: its first message, the last chunk, the next one to come, an
offset, or a time."""
_OFFSET = "x-stream-offset"


class StreamQueue:
    """Declares the queue of a stream, and knows where to go on after a loss.

    Args:
        name: of the queue; empty: one of this stream's own, which goes with its connection.
        durable: a quorum queue: it keeps what it was confirmed to have, on most nodes of a
            cluster, also while nobody reads it.
        replay_from: a RabbitMQ stream queue, read from there: it keeps what was read, and each
            reader gets all of it.

    Raises:
        UnusableQueue: a kept queue has no name, both kinds are asked for, or `replay_from` is
            none of its forms.
    """

    def __init__(
        self, name: str = "", *, durable: bool = False, replay_from: Start | None = None
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
        self.name = name
        self.durable = durable
        self._start = None if replay_from is None else _checked(replay_from)

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
            return await channel.declare_queue(exclusive=True, auto_delete=True)
        return self.name

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What the consumer asks for."""
        return {} if self._start is None else {_OFFSET: self._start}

    def took(self, delivery: Delivery) -> None:
        """The message has become rows: after a loss it goes on behind it."""
        if self._start is not None:
            offset = delivery.headers.get(_OFFSET)
            if isinstance(offset, int):
                self._start = offset + 1


def _checked(start: object) -> Start:
    if isinstance(start, datetime) and start.tzinfo is None:
        raise UnusableQueue(f"replay_from={start} has no time zone: add one, as in tzinfo=UTC.")
    if start in ("first", "last", "next") or isinstance(start, datetime):
        return start
    if isinstance(start, int) and not isinstance(start, bool) and start >= 0:
        return start
    raise UnusableQueue(
        f"replay_from is 'first', 'last', 'next', an offset or a datetime, so it cannot be"
        f" {start!r}."
    )
