"""The companion thread: an event loop beside that of a notebook or program.

It runs what must go on while a cell computes: announcements, and the panel. One thread serves all
that joins it, and one detector tells them that the loop beside it is busy.
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
"""Seconds without an answer from the loop after which it counts as busy."""
_CLEANUP_TIMEOUT = 0.7
"""Seconds that tasks which are left may take when the thread ends."""

_guard = threading.Lock()
_companions: dict[asyncio.AbstractEventLoop, Companion] = {}


class Companion:
    """The companion thread of one loop; `join` starts it or finds it, the last `leave` ends it.

    companion = Companion.join(asyncio.get_running_loop())
    companion.start(work())            # in the thread
    companion.busy_since()             # in the thread: since when the loop has not run
    companion.leave(ended)

    Attributes:
        loop: the thread's event loop.
    """

    def __init__(self, watched: asyncio.AbstractEventLoop) -> None:
        self.loop = asyncio.new_event_loop()
        self._watched = watched
        self._users = 0
        self._asked: float | None = None
        self._on_end: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._main, name=NAME, daemon=True)
        self._thread.start()

    @classmethod
    def join(cls, loop: asyncio.AbstractEventLoop) -> Companion:
        """Return the companion of a loop, started if there is none; from any thread."""
        with _guard:
            companion = _companions.get(loop)
            if companion is None:
                companion = _companions[loop] = cls(loop)
            companion._users += 1
            return companion

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the thread, in an empty context; from any thread."""
        # Not in the running cell's context, to which what it sends would be attributed.
        contextvars.Context().run(asyncio.run_coroutine_threadsafe, work, self.loop)

    def leave(self, ended: Callable[[], object] = lambda: None) -> None:
        """Leave the companion; from any thread.

        Args:
            ended: called in the thread once that has ended, or now if others still use it.
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
        """Wait until the thread has ended, if nothing uses it any more."""
        if not self._users:
            self._thread.join(timeout)

    def busy_since(self) -> float | None:
        """Return since when (epoch seconds) the loop has not answered; None while it does.

        To be called in the thread, at least every `BUSY_AFTER` seconds.
        """
        if self._asked is not None:
            standing = time.monotonic() - self._asked
            return time.time() - standing if standing >= BUSY_AFTER else None
        if self._watched.is_closed():
            return None
        self._asked = time.monotonic()
        self._watched.call_soon_threadsafe(self._answer)
        return None

    def _answer(self) -> None:
        self._asked = None

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            if left := asyncio.all_tasks(self.loop):  # the client closes in the background
                self.loop.run_until_complete(asyncio.wait(left, timeout=_CLEANUP_TIMEOUT))
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()
            self._on_end()
