"""Heartbeats: signs of life on an idle connection (AMQP 0-9-1, section 4.2.7)."""

import asyncio
from collections.abc import Callable

_MAX_SILENT_TICKS = 4
"""Half intervals without a byte after which a peer counts as dead: two whole ones."""


class Heartbeats:
    """Sends signs of life when nothing else is sent, and notices when none come.

    Args:
        loop: The running event loop.
        interval: Seconds, as agreed with the client; greater than 0.
        send: Sends a heartbeat frame.
        on_timeout: Called once when the peer counts as dead.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interval: float,
        send: Callable[[], None],
        on_timeout: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._half = interval / 2
        self._send = send
        self._on_timeout = on_timeout
        self._silent_ticks = 0
        self._sent = False
        self._reading = True
        self._timer = loop.call_later(self._half, self._tick)

    def received(self) -> None:
        """Note that bytes came in."""
        self._silent_ticks = 0

    def sent(self) -> None:
        """Note that bytes went out."""
        self._sent = True

    def set_reading(self, reading: bool) -> None:
        """Say whether the connection is read; one that is not cannot show that it lives."""
        self._reading = reading
        self._silent_ticks = 0

    def stop(self) -> None:
        """Neither send nor watch any more."""
        self._timer.cancel()

    def _tick(self) -> None:
        self._silent_ticks += self._reading
        if self._silent_ticks > _MAX_SILENT_TICKS:
            self._on_timeout()
            return
        if not self._sent:
            self._send()
        self._sent = False
        self._timer = self._loop.call_later(self._half, self._tick)
