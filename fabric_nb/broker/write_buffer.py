"""Output of a connection: coalesced writes, and back-pressure from a slow reader."""

import asyncio
from collections.abc import Callable

from fabric_nb.broker.memory import MemoryPool

_COALESCE_SIZE = 64 * 1024
"""Bytes collected within one iteration of the event loop before they are written."""

_HIGH_WATER = 256 * 1024
"""Unsent bytes at which deliveries to a connection stop."""

_MAX_UNSENT = 4 * 1024 * 1024
"""Unsent bytes at which a client that does not read its replies is no longer read."""


class WriteBuffer:
    """Collects output during one iteration of the event loop, and writes it at its end.

    Args:
        loop: The running event loop.
        transport: Transport of the client.
        pool: Memory pool, charged with the unsent bytes of a slow reader.
        on_full: Called when the unsent bytes exceed `_MAX_UNSENT`.
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
        """Write bytes at the end of the loop iteration, or immediately if many are collected."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _COALESCE_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write the collected bytes."""
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self._transport.write(data)
            if self._paused:
                self._charge_unsent()

    def on_pause(self) -> None:
        """Start accounting of unsent bytes, because the client reads slowly."""
        self._paused = True
        self._charge_unsent()

    def on_resume(self) -> None:
        """Stop accounting, because the client has caught up or is disconnected."""
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
