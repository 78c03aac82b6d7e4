"""The way into a connection: when it is not read, and how its end is noticed then."""

import asyncio
import enum
from collections.abc import Callable

_PROBE_INTERVAL = 1.0
"""Seconds between signs of life to a client that is not read; others get none from here."""


class PauseReason(enum.Flag):
    """Why a connection is not read at the moment."""

    NONE = 0
    TURN = enum.auto()
    MEMORY = enum.auto()
    OUTPUT = enum.auto()
    REFUSAL = enum.auto()


class ReadThrottle:
    """Stops and resumes the reading of a connection, for any number of reasons at a time.

    Args:
        loop: The running event loop.
        transport: The client's socket.
        on_change: Called with whether the connection is read, when that changes.
        probe: Sends a sign of life.

    Attributes:
        reasons: The reasons for which it is not read.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        on_change: Callable[[bool], None],
        probe: Callable[[], None],
    ) -> None:
        self.reasons = PauseReason.NONE
        self._loop = loop
        self._transport = transport
        self._on_change = on_change
        self._probe = probe
        self._timer: asyncio.TimerHandle | None = None

    def pause(self, reason: PauseReason) -> None:
        """Do not read while this reason holds."""
        if self.reasons is PauseReason.NONE:
            self._transport.pause_reading()
            self._on_change(False)
        self.reasons |= reason
        if reason is PauseReason.MEMORY and self._timer is None:
            self._timer = self._loop.call_later(_PROBE_INTERVAL, self._on_timer)

    def resume(self, reason: PauseReason) -> None:
        """Read again, if this was the only reason not to; several may be given at once."""
        if not self.reasons & reason:
            return
        self.reasons &= ~reason
        if self.reasons is PauseReason.NONE:
            self.close()
            self._transport.resume_reading()
            self._on_change(True)

    def close(self) -> None:
        """Look after the connection no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        # The end of a stream is behind the data that is not read: a client that dies while it is
        # blocked would stay, with all that it holds. Its system refuses what is sent to it then.
        # A client without heartbeats has to ignore them (AMQP 0-9-1, section 4.2.7).
        self._probe()
        self._timer = self._loop.call_later(_PROBE_INTERVAL, self._on_timer)
