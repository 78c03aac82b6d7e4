"""Heartbeats on an idle connection (AMQP 0-9-1, section 4.2.7)."""

import asyncio
from collections.abc import Callable

_MAX_SILENT_TICKS = 4
"""Half intervals without a received byte before a timeout: two whole intervals."""


class Heartbeats:
    """Sends heartbeats on an idle connection, and detects a peer that sends none.

    Args:
        loop: The running event loop.
        interval: Negotiated interval in seconds; greater than 0.
        send: Sends a heartbeat frame.
        on_timeout: Called once if no byte was received for two intervals.
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
        """Record that bytes were received."""
        self._silent_ticks = 0

    def sent(self) -> None:
        """Record that bytes were sent."""
        self._sent = True

    def set_reading(self, reading: bool) -> None:
        """Set whether the connection is read; while it is not, there is no timeout."""
        self._reading = reading
        self._silent_ticks = 0

    def stop(self) -> None:
        """Stop sending and monitoring."""
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
