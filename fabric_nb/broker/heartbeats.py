"""Heartbeats: signs of life on an idle connection (AMQP 0-9-1, section 4.2.7)."""

import asyncio
from collections.abc import Callable

_TICKS_TO_DEATH = 4
"""Half intervals without a byte after which a peer counts as dead: two whole ones."""


class Heartbeats:
    """Sends signs of life when nothing else is sent, and notices when none come.

    Args:
        loop: The running event loop.
        interval: Seconds, as agreed with the client; greater than 0.
        send: Sends a heartbeat frame.
        on_dead: Called once when the peer counts as dead.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interval: float,
        send: Callable[[], None],
        on_dead: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._half = interval / 2
        self._send = send
        self._on_dead = on_dead
        self._silent_ticks = 0
        self._sent = False
        self._listening = True
        self._timer = loop.call_later(self._half, self._tick)

    def received(self) -> None:
        """Note that bytes came in."""
        self._silent_ticks = 0

    def sent(self) -> None:
        """Note that bytes went out."""
        self._sent = True

    def listen(self, listening: bool) -> None:
        """Say whether the connection is read; one that is not cannot show that it lives."""
        self._listening = listening
        self._silent_ticks = 0

    def stop(self) -> None:
        """Neither send nor watch any more."""
        self._timer.cancel()

    def _tick(self) -> None:
        self._silent_ticks += self._listening
        if self._silent_ticks > _TICKS_TO_DEATH:
            self._on_dead()
            return
        if not self._sent:
            self._send()
        self._sent = False
        self._timer = self._loop.call_later(self._half, self._tick)
