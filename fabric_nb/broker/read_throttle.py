"""Back-pressure on a client: pauses reading, and still detects a lost connection."""

import asyncio
import enum
from collections.abc import Callable

_PROBE_INTERVAL = 1.0
"""Seconds between two probes of a client whose reading is paused."""


class PauseReason(enum.Flag):
    """Reasons for which reading is paused."""

    NONE = 0
    TURN = enum.auto()
    """Enough frames were handled in this iteration of the loop."""
    MEMORY = enum.auto()
    """The client publishes, and its messages use too much memory."""
    OUTPUT = enum.auto()
    """The client does not read, so that too much waits to be written to it."""
    REFUSAL = enum.auto()
    """Its login was refused; the answer is delayed, against guessing of passwords."""


class ReadThrottle:
    """Pauses and resumes reading, for any number of simultaneous reasons.

    Args:
        loop: The running event loop.
        transport: Transport of the client.
        on_change: Called with True when reading resumes, with False when it pauses.
        probe: Sends a heartbeat.

    Attributes:
        reasons: Current reasons; reading is paused while there is one.
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
        """Pause reading until `resume` is called with this reason."""
        if self.reasons is PauseReason.NONE:
            self._transport.pause_reading()
            self._on_change(False)
        self.reasons |= reason
        if reason is PauseReason.MEMORY and self._timer is None:
            self._timer = self._loop.call_later(_PROBE_INTERVAL, self._on_timer)

    def resume(self, reason: PauseReason) -> None:
        """Remove one or more reasons, and resume reading if none is left."""
        if not self.reasons & reason:
            return
        self.reasons &= ~reason
        if self.reasons is PauseReason.NONE:
            self.close()
            self._transport.resume_reading()
            self._on_change(True)

    def close(self) -> None:
        """Stop probing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        # The end of a stream comes after unread data, so that a client that dies while it is
        # blocked would be kept, with all its resources. A probe makes its system reset the
        # connection. A client without heartbeats must ignore them (AMQP 0-9-1, section 4.2.7).
        self._probe()
        self._timer = self._loop.call_later(_PROBE_INTERVAL, self._on_timer)
