"""Second connection of a member, for consumers that acknowledge.

A broker that is low on memory or disk stops reading from a connection that publishes, and so it
reads no acknowledgements either: a stream on it would stall after its prefetch. It continues to
read from a connection that never publishes (RabbitMQ's documentation, "Alarms").
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fabric_nb.errors import NotConnected
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.core.tasks import watched

LINGER = 1.0
"""Seconds that the connection is kept open without any channel."""


class ConsumerConnection(Connection):
    """Connection that is opened on first use and closed after the last, beside a primary one.

    Args:
        uri: as that of the primary connection.
        name: likewise.
        heartbeat: likewise.
        primary: the primary connection; this one is open only while that is.
    """

    def __init__(
        self, uri: str | Sequence[str], *, name: str, heartbeat: int, primary: Connection
    ) -> None:
        super().__init__(uri, name=name, heartbeat=heartbeat, capabilities=primary.capabilities)
        self._primary = primary
        self._lock = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    @property
    def in_other_loop(self) -> bool:
        """True if the primary was opened in another event loop than the one that runs now."""
        return self._primary.in_other_loop

    async def connected(self) -> None:
        """Wait until there is a connection, which is opened if there was none.

        Raises:
            BrokerUnavailable: it cannot be opened, although the primary is open.
            NotConnected: the primary was closed, or never opened.
        """
        async with self._lock:
            if not self._opened:
                await self._open_with_primary()
        await super().connected()

    async def _open_with_primary(self) -> None:
        match self._primary.state:
            case State.CLOSED:
                raise NotConnected(f"The connection to {self.masked_uri} is closed: open it first.")
            case State.RECONNECTING:
                await self.start()
            case _:
                await self.open()

    def unregister(self, channel: Channel) -> None:
        """Remove a channel that was closed; after the last one, close the connection."""
        super().unregister(channel)
        if self._opened and not self._channels and self._closing is None:
            self._closing = asyncio.ensure_future(self._close_unused())
            watched(self._closing, "closing an unused connection")
            self._closing.add_done_callback(lambda _: setattr(self, "_closing", None))

    async def _close_unused(self) -> None:
        await asyncio.sleep(LINGER)
        async with self._lock:
            if not self._channels:
                await super().close()

    async def close(self) -> None:
        """Close in order; the connection is opened again on its next use."""
        if self._closing is not None:
            if self._opened:  # otherwise it is being closed
                self._closing.cancel()
            await asyncio.wait([self._closing])
        await super().close()
