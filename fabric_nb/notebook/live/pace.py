"""Rate limits for updates: in calls per second, and in bytes per second."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable


class Pacer:
    """Throttle that runs an action at most once per period; the last request is never lost.

    pacer = Pacer(send, 0.1)
    for _ in range(1000):
        pacer.request()        # send() runs once soon, and never twice within 0.1 s

    The action runs on the event loop on which the pacer was created, and in an empty context, so
    that its output is attributed to no cell. A headless run records only output attributed to the
    running cell.

    Args:
        action: callback.
        period: seconds between two runs; may be changed at any time.
    """

    def __init__(self, action: Callable[[], None], period: float) -> None:
        self.period = period
        self._action = action
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._last = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def request(self) -> None:
        """Request a run; thread-safe."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self.request)
        elif self._timer is None and not self._closed:
            at = max(self._last + self.period, self._loop.time())
            self._timer = self._loop.call_at(at, self._run, context=contextvars.Context())

    def close(self) -> None:
        """Cancel the pending run and ignore further requests."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _run(self) -> None:
        self._timer = None
        self._last = self._loop.time()
        self._action()


class Budget:
    """Rate limit shared by several senders.

    budget = Budget(800_000)
    budget.spend(80_000)       # 0.1: seconds to wait before the next

    Args:
        rate: amount per second.
        clock: returns the time in seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._free_at = 0.0

    def spend(self, amount: float) -> float:
        """Account for an amount; return the seconds to wait before sending again."""
        now = self._clock()
        self._free_at = max(self._free_at, now) + amount / self._rate
        return self._free_at - now


BYTES_PER_SECOND = 800_000
"""Bytes per second that all widgets and the panel send together; above, updates become rarer.
The Jupyter server drops messages if a kernel sends more than 1 MB a second."""

budget = Budget(BYTES_PER_SECOND)
