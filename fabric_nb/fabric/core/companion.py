"""Companion thread: a second event loop beside that of a notebook or program.

It runs work that must continue while a cell computes: announcements, and the panel. One thread
serves all its users, and detects for them that the watched loop is blocked.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

NAME: Final = "fabric companion"
BUSY_AFTER = 1.0
"""Seconds without an answer of the watched loop after which it counts as busy."""
_CLEANUP_TIMEOUT = 0.7
"""Seconds that remaining tasks may take when the thread ends."""

_guard = threading.Lock()
_companions: dict[asyncio.AbstractEventLoop, Companion] = {}


class Companion:
    """Companion thread of one loop; the first `join` starts it, the last `leave` ends it.

    Example::

        companion = Companion.join(asyncio.get_running_loop())
        companion.start(work())            # runs in the thread
        companion.busy_since()             # to be called in the thread
        companion.leave(ended)

    Attributes:
        loop: event loop of the thread.
    """

    def __init__(self, watched: asyncio.AbstractEventLoop) -> None:
        self.loop = asyncio.new_event_loop()
        self._watched = watched
        self._users = 0
        self._pinged_at: float | None = None
        self._on_end: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._main, name=NAME, daemon=True)
        self._thread.start()

    @classmethod
    def join(cls, loop: asyncio.AbstractEventLoop) -> Companion:
        """Return the companion of a loop, and start it if there is none; from any thread."""
        with _guard:
            companion = _companions.get(loop)
            if companion is None:
                companion = _companions[loop] = cls(loop)
            companion._users += 1
            return companion

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the thread, in an empty context; from any thread."""
        # Not in the context of the running cell, to which its output would be attributed.
        contextvars.Context().run(asyncio.run_coroutine_threadsafe, work, self.loop)

    def leave(self, ended: Callable[[], object] = lambda: None) -> None:
        """Leave the companion; from any thread.

        Args:
            ended: called in the thread when it has ended, or now if it has other users.
        """
        with _guard:
            self._users -= 1
            last = not self._users
            if last:
                del _companions[self._watched]
        if not last:
            ended()
            return
        self._on_end = ended
        self.loop.call_soon_threadsafe(self.loop.stop)

    def wait_for_end(self, timeout: float) -> None:
        """Wait until the thread has ended, unless it has other users."""
        if not self._users:
            self._thread.join(timeout)

    def busy_since(self) -> float | None:
        """Return the time (epoch seconds) since when the loop is blocked; None while it is not.

        To be called in the thread, at least every `BUSY_AFTER` seconds.
        """
        if self._pinged_at is not None:
            blocked = time.monotonic() - self._pinged_at
            return time.time() - blocked if blocked >= BUSY_AFTER else None
        if self._watched.is_closed():
            return None
        self._pinged_at = time.monotonic()
        self._watched.call_soon_threadsafe(self._on_answer)
        return None

    def _on_answer(self) -> None:
        self._pinged_at = None

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            if remaining := asyncio.all_tasks(self.loop):  # aiormq closes in the background
                self.loop.run_until_complete(asyncio.wait(remaining, timeout=_CLEANUP_TIMEOUT))
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()
            self._on_end()
