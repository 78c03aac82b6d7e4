"""Data streams, subscriptions and playbacks of one member."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.consumer_connection import ConsumerConnection
from fabric_nb.fabric.amqp.fields import checked
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.data.publisher import Publisher
from fabric_nb.fabric.data.queues import StreamQueue
from fabric_nb.fabric.data.stream_options import StreamOptions
from fabric_nb.fabric.wire.names import data_exchange, match_all
from fabric_nb.libraries import importing, is_imported

if TYPE_CHECKING:
    from fabric_nb.fabric.data.recording import Replay
    from fabric_nb.fabric.data.stream import Stream


def is_stream(value: object) -> TypeGuard[Stream]:
    """Return whether a value is a stream, without importing its class."""
    if not is_imported("fabric_nb.fabric.data.stream"):
        return False
    from fabric_nb.fabric.data.stream import Stream

    return isinstance(value, Stream)


class Streams:
    """Opens data streams, subscriptions and playbacks, and closes them with the member.

    Args:
        connection: connection that deliveries are acknowledged on.
        domain: domain of a stream that names none.
        publisher: publisher of playbacks.
        rejected: record of messages that cannot be read.
    """

    def __init__(
        self,
        connection: ConsumerConnection,
        domain: str,
        publisher: Publisher,
        rejected: RejectedMessages,
    ) -> None:
        self._connection = connection
        self._domain = domain
        self._publisher = publisher
        self._rejected = rejected
        self._open: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._playing: weakref.WeakSet[Replay] = weakref.WeakSet()
        self._subscribed: set[str] = set()

    async def open(
        self, headers: Mapping[str, Any], options: StreamOptions, *, domain: str | None = None
    ) -> Stream:
        """Open a stream of this domain, or of another one; see `Stream`."""
        with importing("pandas"):
            from fabric_nb.fabric.data.stream import Stream
        where = domain or self._domain
        stream = Stream(self._connection, where, headers, options, rejected=self._rejected)
        self._open.add(stream)
        return await stream.open()

    async def subscribe(
        self, name: str, headers: Mapping[str, Any], callback: Callable[[Any], Awaitable[object]]
    ) -> None:
        """Await `callback` with each matching message; see `AmqBrokerConnector.subscribe_data`."""
        shared = StreamQueue(name)
        wanted = checked(match_all(headers), "filter")
        exchange = data_exchange(self._domain)

        async def set_up(channel: Channel) -> None:
            await channel.topology.declare_exchange(exchange, "headers", durable=True)
            queue = await shared.declare(channel)
            await channel.topology.bind(queue, exchange, arguments=wanted)
            await channel.consumers.start_messages(queue, callback)

        await self._connection.channel(set_up).open()
        self._subscribed.add(name)

    async def play(
        self, path: str | Path, *, speed: float, headers: Mapping[str, Any] | None
    ) -> Replay:
        """Publish a recording again; see `Replay`."""
        with importing("pandas"):
            from fabric_nb.fabric.data.recording import Replay
        replay = Replay(path, self._publisher.publish, speed=speed, headers=headers)
        self._playing.add(replay)
        return await replay.open()

    @property
    def opened(self) -> list[Stream]:
        """The streams that are open."""
        return [stream for stream in tuple(self._open) if not stream.closed]

    @property
    def names(self) -> set[str]:
        """Names of subscriptions, and of the shared and durable streams that are open."""
        open_names = {stream.name for stream in self.opened}
        return (open_names | self._subscribed) - {""}

    async def close(self) -> None:
        """Close all streams and playbacks. Rows received so far are kept."""
        await asyncio.gather(
            *(stream.close() for stream in tuple(self._open)),
            *(replay.close() for replay in tuple(self._playing)),
        )
