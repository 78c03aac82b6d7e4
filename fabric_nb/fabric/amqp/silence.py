"""Duration of a connection's silence, and the decision that a silent broker is dead.

The heartbeat is long, because the broker closes the connection of a loop that computes for longer
(see `connection`), so that it finds a dead broker late. TCP finds a peer that is gone (see
`transport`), but not a process that was stopped, nor what is behind a load balancer. So a silent
broker is asked for something small, and one that does not answer is dead. Only time in which the
loop ran counts, because a loop that stands still reads nothing of what has come.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

LOOK_EVERY = 0.5
"""Seconds between two looks."""
ASK_AFTER = 2.0
"""Seconds of silence after which the broker is asked for a sign of life, and asked again."""
DOUBT_AFTER = 3.0
"""Seconds of silence after which nothing that others do can be expected to be heard."""
DEAD_AFTER = 11.0
"""Seconds of silence after which the connection is given up."""


class Silence:
    """Seconds for which nothing has come over a connection, and nothing was taken by its socket.

    Args:
        clock: monotonic seconds; replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._looked_at = clock()
        self._received = -1
        self._unsent = 0
        self._asked_at = 0.0
        self.seconds = 0.0

    def look(self, received: int, unsent: int) -> float:
        """Return the seconds of silence; called every `LOOK_EVERY` seconds.

        Args:
            received: bytes that have come so far.
            unsent: bytes that wait for the socket to take them; fewer than before is a sign of
                life too, because the broker reads them before it answers what comes after.
        """
        now = self._clock()
        ran = min(now - self._looked_at, 4 * LOOK_EVERY)
        self._looked_at = now
        if received != self._received or unsent < self._unsent:
            self.seconds = self._asked_at = 0.0
        else:
            self.seconds += ran
        self._received, self._unsent = received, unsent
        return self.seconds

    def end(self) -> None:
        """It does not count: the broker has said that it takes nothing, or there is none."""
        self.seconds = self._asked_at = 0.0
        self._looked_at = self._clock()

    @property
    def asks(self) -> bool:
        """True when it is time to ask for a sign of life."""
        if self.seconds - self._asked_at < ASK_AFTER:
            return False
        self._asked_at = self.seconds
        return True
