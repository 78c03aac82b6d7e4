"""Limits on connections that have not logged in: their number, and the rate of wrong passwords.

Any local user can connect to the loopback interface. Unauthenticated connections must not lock
out the broker's user, fill its log, or guess passwords at full speed.
"""

import asyncio
import logging

LOGGER = logging.getLogger(__name__)

MAX_UNAUTHENTICATED = 128
"""Maximum number of connections that have not logged in."""

REFUSAL_INTERVAL = 0.25
"""Seconds before a wrong password is refused, and between two refusals on any connections."""


class UnauthenticatedConnections:
    """Registry of connections that have not logged in.

    At the limit the oldest connection is closed, because a legitimate client logs in within
    milliseconds. Refusals of wrong passwords are delayed and spaced. An abandoned attempt still
    delays the refusals after it.

    Args:
        loop: The running event loop.
        max_delay: Maximum delay of a refusal in seconds.
        limit: Maximum number of connections.
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
        """Add a new connection, closing the oldest one at the limit."""
        if len(self._transports) >= self._limit:
            LOGGER.warning("a connection without a login is closed: there are %d", self._limit)
            oldest = next(iter(self._transports))
            del self._transports[oldest]
            oldest.abort()
        self._transports[transport] = None

    def remove(self, transport: asyncio.Transport) -> None:
        """Remove a connection that has logged in or was closed."""
        self._transports.pop(transport, None)

    def refusal_delay(self) -> float:
        """Return the seconds by which the refusal of a wrong password is to be delayed."""
        now = self._loop.time()
        due = max(self._last_refusal, now) + REFUSAL_INTERVAL
        self._last_refusal = min(due, now + self._max_delay)
        return self._last_refusal - now
