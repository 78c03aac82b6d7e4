"""Doing something now and then, however often it is asked for, and not too much of it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable


class Pacer:
    """Runs an action at most once in a period; the last request is never lost.

    pacer = Pacer(send, 0.1)
    for _ in range(1000):
        pacer.request()        # send() runs once soon, and never twice within 0.1 s

    The action runs on the event loop in which the pacer was made, and in an empty context: what it
    sends belongs to no cell, as a headless run records only what seems to come from the
    cell that runs.

    Args:
        action: what to do.
        period: seconds between two runs; it may be changed at any time.
    """

    def __init__(self, action: Callable[[], None], period: float) -> None:
        self.period = period
        self._action = action
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._last = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def request(self) -> None:
        """Ask for a run; from any thread."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self.request)
        elif self._timer is None and not self._ended:
            at = max(self._last + self.period, self._loop.time())
            self._timer = self._loop.call_at(at, self._run, context=contextvars.Context())

    def close(self) -> None:
        """Run no more."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _run(self) -> None:
        self._timer = None
        self._last = self._loop.time()
        self._action()


class Budget:
    """A rate that several senders share.

    budget = Budget(800_000)
    budget.spend(80_000)       # 0.1: seconds to wait before the next

    Args:
        rate: how much may be spent in a second.
        clock: tells the time in seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._free_at = 0.0

    def spend(self, amount: float) -> float:
        """Spend some; returns how many seconds to wait until all is paid for."""
        now = self._clock()
        self._free_at = max(self._free_at, now) + amount / self._rate
        return self._free_at - now


BYTES_PER_SECOND = 800_000
"""Bytes that all widgets and the panel send together at most; above it, updates come less often.
The Jupyter server drops messages when a kernel sends over 1 MB a second."""

budget = Budget(BYTES_PER_SECOND)
