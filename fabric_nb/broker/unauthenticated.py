"""Connections that have not proved that they know the password: how many, and how often they guess.

Any local user can connect to the loopback interface, so that strangers must not keep the broker's
own user out, nor fill its log, nor try passwords as fast as they can.
"""

import asyncio
import logging

LOGGER = logging.getLogger(__name__)

MAX_UNAUTHENTICATED = 128
"""Connections without a login at a time."""

REFUSAL_INTERVAL = 0.25
"""Seconds before a wrong password is refused, and between two refusals of all connections."""


class UnauthenticatedConnections:
    """Keeps the connections that have not logged in.

    One too many takes the place of the oldest, since who knows the password has proved it within
    milliseconds. A wrong password is answered late, and one after the other. An abandoned try keeps
    its place until then.

    Args:
        loop: The running event loop.
        max_delay: Seconds that a refusal may take at most.
        limit: The most connections.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, max_delay: float, limit: int = MAX_UNAUTHENTICATED
    ) -> None:
        self._loop = loop
        self._max_delay = max_delay
        self._limit = limit
        self._transports: dict[asyncio.Transport, None] = {}
        self._last_refusal = 0.0

    def add(self, transport: asyncio.Transport) -> None:
        """Take in a new connection."""
        if len(self._transports) >= self._limit:
            LOGGER.warning("a connection without a login is closed: there are %d", self._limit)
            oldest = next(iter(self._transports))
            del self._transports[oldest]
            oldest.abort()
        self._transports[transport] = None

    def remove(self, transport: asyncio.Transport) -> None:
        """Forget a connection that has logged in or is gone."""
        self._transports.pop(transport, None)

    def refusal_delay(self) -> float:
        """Return the seconds after which a wrong password is to be refused."""
        now = self._loop.time()
        due = max(self._last_refusal, now) + REFUSAL_INTERVAL
        self._last_refusal = min(due, now + self._max_delay)
        return self._last_refusal - now
