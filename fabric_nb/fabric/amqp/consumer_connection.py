"""A second connection of a member, for consumers that acknowledge.

A broker that is low on memory or disk reads no more from a connection that publishes, and so it
reads no acknowledgements either: a stream on it would stand still after its prefetch. It goes on
to read from a connection that never publishes (RabbitMQ's documentation, "Alarms").
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fabric_nb.errors import NotConnected
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.core.tasks import watched

LINGER = 1.0
"""Seconds that it stays when nothing uses it any more."""


class ConsumerConnection(Connection):
    """A connection beside another one: there while it is used, and some seconds longer.

    Args:
        uri: as the other's.
        name: as the other's.
        heartbeat: as the other's.
        beside: the other one: this is open only while that is.
    """

    def __init__(
        self, uri: str | Sequence[str], *, name: str, heartbeat: int, beside: Connection
    ) -> None:
        super().__init__(uri, name=name, heartbeat=heartbeat, capabilities=beside.capabilities)
        self._beside = beside
        self._changing = asyncio.Lock()
        self._leaving: asyncio.Task[None] | None = None

    @property
    def is_elsewhere(self) -> bool:
        """True if the other one was opened in another event loop than the one that runs here."""
        return self._beside.is_elsewhere

    async def connected(self) -> None:
        """Wait until there is a connection, which is made if there was none.

        Raises:
            BrokerUnavailable: it cannot be made, though the other one is there.
            NotConnected: the other one was closed, or never opened.
        """
        async with self._changing:
            if not self._opened:
                await self._open_beside()
        await super().connected()

    async def _open_beside(self) -> None:
        match self._beside.state:
            case State.CLOSED:
                raise NotConnected(f"The connection to {self.masked_uri} is closed: open it first.")
            case State.RECONNECTING:
                await self.start()
            case _:
                await self.open()

    def unregister(self, channel: Channel) -> None:
        """The channel was closed; when it was the last one, the connection goes too."""
        super().unregister(channel)
        if self._opened and not self._channels and self._leaving is None:
            self._leaving = asyncio.ensure_future(self._close_unused())
            watched(self._leaving, "closing an unused connection")
            self._leaving.add_done_callback(lambda _: setattr(self, "_leaving", None))

    async def _close_unused(self) -> None:
        await asyncio.sleep(LINGER)
        async with self._changing:
            if not self._channels:
                await super().close()

    async def close(self) -> None:
        """Close in order; it is made again when it is used again."""
        if self._leaving is not None:
            if self._opened:  # else it is closing already
                self._leaving.cancel()
            await asyncio.wait([self._leaving])
        await super().close()
