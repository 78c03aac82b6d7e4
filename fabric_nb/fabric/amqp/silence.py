"""Detection of a dead broker by its silence.

The heartbeat is long, because the broker closes the connection of a loop that is blocked for
longer (see `connection`), so that it detects a dead broker late. TCP detects a vanished peer (see
`transport`), but not a stopped process, nor one behind a load balancer. So a silent broker is
probed, and one that does not answer is considered dead. Only time in which the loop ran counts,
because a blocked loop reads nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

CHECK_EVERY = 0.5
"""Seconds between two checks."""
PROBE_AFTER = 2.0
"""Seconds of silence after which the broker is probed, and between two probes."""
SUSPECT_AFTER = 3.0
"""Seconds of silence after which received data, such as keep-alives, can no longer be relied on."""
DEAD_AFTER = 11.0
"""Seconds of silence after which the connection is given up."""


class Silence:
    """Time in which a connection received nothing and its socket accepted nothing.

    Args:
        clock: monotonic seconds; replaced in tests.

    Attributes:
        seconds: duration of the silence.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._checked_at = clock()
        self._received = -1
        self._unsent = 0
        self._probed_at = 0.0
        self.seconds = 0.0

    def update(self, received: int, unsent: int) -> float:
        """Return the seconds of silence; to be called every `CHECK_EVERY` seconds.

        Args:
            received: a number that changes whenever something is received.
            unsent: bytes in the write buffer; a decrease ends the silence too, because the broker
                reads these bytes before it answers a probe.
        """
        now = self._clock()
        ran = min(now - self._checked_at, 4 * CHECK_EVERY)
        self._checked_at = now
        if received != self._received or unsent < self._unsent:
            self.seconds = self._probed_at = 0.0
        else:
            self.seconds += ran
        self._received, self._unsent = received, unsent
        return self.seconds

    def reset(self) -> None:
        """Start again, because silence is expected or there is no connection."""
        self.seconds = self._probed_at = 0.0
        self._checked_at = self._clock()

    def probe_due(self) -> bool:
        """Return True, once for each `PROBE_AFTER` seconds of silence, if a probe is to be sent."""
        if self.seconds - self._probed_at < PROBE_AFTER:
            return False
        self._probed_at = self.seconds
        return True
