"""How long a broker runs: until it is told to stop, or until nobody holds it any more."""

import asyncio

FIRST_LEASE_TIMEOUT = 10.0
"""Seconds that a broker waits for the first process that holds it."""


class Lifetime:
    """Decides when a broker ends.

    Args:
        loop: The running event loop.
        linger: Seconds to stay after the last lease has ended, so that a kernel that restarts
            finds its broker again; None to stay until told to stop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, linger: float | None = None) -> None:
        self._loop = loop
        self._linger = linger
        self._leases: set[object] = set()
        self._ended = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        if linger is not None:
            self._timer = loop.call_later(FIRST_LEASE_TIMEOUT, self.stop)

    async def wait_until_end(self) -> None:
        """Wait until the broker has to end."""
        await self._ended.wait()

    def add_lease(self, lease: object) -> bool:
        """Stay as long as this lease is held; False when the end has begun."""
        if self._ended.is_set():
            return False
        self._leases.add(lease)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return True

    def remove_lease(self, lease: object) -> None:
        """Learn that a lease has ended."""
        if lease not in self._leases:
            return
        self._leases.discard(lease)
        if not self._leases and self._linger is not None:
            self._timer = self._loop.call_later(self._linger, self.stop)

    def stop(self) -> None:
        """End now."""
        self._ended.set()
