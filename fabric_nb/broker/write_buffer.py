"""The way out of a connection: writes that are joined, and back-pressure from a slow reader."""

import asyncio
from collections.abc import Callable

from fabric_nb.broker.memory import MemoryPool

_COALESCE_SIZE = 64 * 1024
"""Output is collected up to this size, in bytes, before it is written within a turn."""

_HIGH_WATER = 256 * 1024
"""Unsent bytes from which a connection gets no more deliveries."""

_MAX_UNSENT = 4 * 1024 * 1024
"""Unsent bytes from which a client, who does not take the answers, is not read any more."""


class WriteBuffer:
    """Collects what is sent in one turn of the event loop, and writes it at its end.

    Args:
        loop: The running event loop.
        transport: The client's socket.
        pool: Charged with what a slow reader leaves unsent.
        on_full: Called when so much is unsent that the client should not be asked for more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        pool: MemoryPool,
        on_full: Callable[[], None],
    ) -> None:
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._loop = loop
        self._transport = transport
        self._pool = pool
        self._on_full = on_full
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._charged = 0

    def send(self, data: bytes) -> None:
        """Send bytes at the end of the turn, or at once when much has been collected."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _COALESCE_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected."""
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self._transport.write(data)
            if self._paused:
                self._charge_unsent()

    def on_pause(self) -> None:
        """Learn that the client is slow to read; what it leaves is accounted from now on."""
        self._paused = True
        self._charge_unsent()

    def on_resume(self) -> None:
        """Learn that the client has caught up, or that its connection has ended."""
        self._paused = False
        self._charge(0)

    def _charge_unsent(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        self._charge(unsent)
        if unsent > _MAX_UNSENT:
            self._on_full()

    def _charge(self, unsent: int) -> None:
        self._pool.charge(unsent - self._charged)
        self._charged = unsent
