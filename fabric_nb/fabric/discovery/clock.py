"""A clock of the time for which others can be heard. Pure.

Services are judged by their silence. While this process has no connection, or its loop stands
still, no keep-alive is received, however often it is sent, so this clock stands still then.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PULSE = 0.5
"""Seconds between two pulses of a loop that runs."""
STALL = 1.5
"""Seconds without a pulse after which the clock stands still."""


class HearingClock:
    """Seconds for which this process could hear others.

    They only grow, but for those of a silence that turns out to be the connection's.

    Args:
        clock: monotonic seconds; replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deaf_since: float | None = None
        self._pulsed: float | None = None
        self._lost = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self._until() - self._lost

    @property
    def deaf(self) -> bool:
        """True while nothing can be heard."""
        return self._deaf_since is not None

    def stop(self, since: float | None = None) -> None:
        """Nothing can be heard from now on, or `since` that moment of the underlying clock."""
        until = self._until()
        if self._deaf_since is None:
            self._deaf_since = until if since is None else min(since, until)

    def go(self) -> None:
        """Others can be heard again."""
        if self._deaf_since is not None:
            now = self._clock()
            self._lost += now - self._deaf_since
            self._deaf_since = None
            self._pulsed = None if self._pulsed is None else now

    def pulse(self) -> None:
        """The loop runs; called every `PULSE` seconds, or the clock stands still."""
        now = self._clock()
        if self._deaf_since is None:
            self._lost += now - self._until()
        self._pulsed = now

    def _until(self) -> float:
        if self._deaf_since is not None:
            return self._deaf_since
        now = self._clock()
        return now if self._pulsed is None else min(now, self._pulsed + STALL)
