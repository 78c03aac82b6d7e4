"""Connections that have not proved that they know the password: how many, and how often they guess.

Any local user can connect to the loopback interface, so that strangers must not keep the broker's
own user out, nor fill its log, nor try passwords as fast as they can.
"""

import asyncio
import logging

LOGGER = logging.getLogger(__name__)

MAX_STRANGERS = 128
"""Connections without a login at a time."""

REFUSAL_GAP = 0.25
"""Seconds before a wrong password is refused, and between two refusals of all connections."""


class Entrance:
    """Keeps the connections that have not logged in.

    One too many takes the place of the oldest, since who knows the password has proved it within
    milliseconds. A wrong password is answered late, and one after the other. An abandoned try keeps
    its place until then.

    Args:
        loop: The running event loop.
        longest: Seconds that a refusal may take at most.
        limit: The most connections.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, longest: float, limit: int = MAX_STRANGERS
    ) -> None:
        self._loop = loop
        self._longest = longest
        self._limit = limit
        self._strangers: dict[asyncio.Transport, None] = {}
        self._last_refusal = 0.0

    def enter(self, transport: asyncio.Transport) -> None:
        """Take in a new connection."""
        if len(self._strangers) >= self._limit:
            LOGGER.warning("a connection without a login is closed: there are %d", self._limit)
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()
        self._strangers[transport] = None

    def leave(self, transport: asyncio.Transport) -> None:
        """Forget a connection that has logged in or is gone."""
        self._strangers.pop(transport, None)

    def refusal_delay(self) -> float:
        """Return the seconds after which a wrong password is to be refused."""
        now = self._loop.time()
        due = max(self._last_refusal, now) + REFUSAL_GAP
        self._last_refusal = min(due, now + self._longest)
        return self._last_refusal - now
