"""Lifetime of a broker: until it is stopped, or until its last lease has ended."""

import asyncio

FIRST_LEASE_TIMEOUT = 10.0
"""Seconds that a broker waits for its first lease."""


class Lifetime:
    """Leases on a broker, and the event of its end.

    Args:
        loop: The running event loop.
        linger: Seconds to keep running after the last lease has ended, so that a restarted kernel
            finds its broker again; None to run until `stop` is called.
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
        """Wait until the broker has to stop."""
        await self._ended.wait()

    def add_lease(self, lease: object) -> bool:
        """Keep the broker running until the lease is removed; return False if it is stopping."""
        if self._ended.is_set():
            return False
        self._leases.add(lease)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return True

    def remove_lease(self, lease: object) -> None:
        """End a lease."""
        if lease not in self._leases:
            return
        self._leases.discard(lease)
        if not self._leases and self._linger is not None:
            self._timer = self._loop.call_later(self._linger, self.stop)

    def stop(self) -> None:
        """Stop the broker."""
        self._ended.set()
