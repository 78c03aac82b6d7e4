"""Clock of the time in which keep-alives can be received. Pure.

A service without keep-alives counts as gone. But while this process has no connection, or its loop
is blocked, no keep-alive is received, however often it is sent. So this clock stops meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from copy import copy

TICK_PERIOD = 0.5
"""Seconds between two ticks of a loop that is not blocked."""
STALL = 1.5
"""Seconds without a tick after which the clock stops."""
MAX_STOPS = 100
"""Stops of the clock that are kept to convert its times."""


class ReceptionClock:
    """Seconds in which this process could receive keep-alives.

    The time is monotonic, except that it goes back when the connection turns out to have been
    silent for a while.

    Args:
        clock: monotonic seconds; replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stopped_at: float | None = None
        self._ticked_at: float | None = None
        self._lost = 0.0
        self._stops: deque[tuple[float, float]] = deque(maxlen=MAX_STOPS)
        """Time at which the clock stopped, and `_lost` before it did."""

    def __call__(self) -> float:
        """Return the time."""
        return self._receiving_until() - self._lost

    @property
    def stopped(self) -> bool:
        """True while no keep-alive can be received."""
        return self._stopped_at is not None

    def copy(self) -> ReceptionClock:
        """Return another clock of the same time."""
        clock = copy(self)
        clock._stops = self._stops.copy()  # noqa: SLF001 - of the same class
        return clock

    def stop(self, since: float | None = None) -> None:
        """Stop the clock, now or as of a time of the underlying clock."""
        until = self._receiving_until()
        if self._stopped_at is None:
            self._stopped_at = until if since is None else min(since, until)

    def resume(self) -> None:
        """Resume after `stop`."""
        if self._stopped_at is not None:
            now = self._clock()
            self._lose(now - self._stopped_at)
            self._stopped_at = None
            self._ticked_at = None if self._ticked_at is None else now

    def tick(self) -> None:
        """Record that the loop is not blocked; to be called every `TICK_PERIOD` seconds."""
        now = self._clock()
        if self._stopped_at is None:
            self._lose(now - self._receiving_until())
        self._ticked_at = now

    def seconds_since(self, moment: float) -> float:
        """Return the real seconds since a time of this clock, also those in which it stood still.

        If the clock has stood still at that moment, they count from the end of the stop.
        """
        lost = next((lost for stop, lost in self._stops if moment < stop), self._lost)
        return self._clock() - (moment + lost)

    def _lose(self, seconds: float) -> None:
        if seconds > 0:
            self._stops.append((self._receiving_until() - self._lost, self._lost))
            self._lost += seconds

    def _receiving_until(self) -> float:
        """Return the last time of the underlying clock at which keep-alives could be received."""
        if self._stopped_at is not None:
            return self._stopped_at
        now = self._clock()
        return now if self._ticked_at is None else min(now, self._ticked_at + STALL)
