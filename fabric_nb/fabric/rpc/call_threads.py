"""Threads that the functions of running calls start, and that belong to these calls."""

from __future__ import annotations

import threading
from typing import Any

from fabric_nb.fabric.core.context import ServedCall, served_call

POOLS = ("concurrent.futures.thread", "multiprocessing.pool")
"""Modules whose threads work for many callers, and so belong to no call."""


class CallThreads:
    """Lets threads belong to the calls that start them; see `call_threads`.

    Tasks and `asyncio.to_thread` inherit the context, and `threading.Thread` does not: from Python
    3.14 on it does so where ``sys.flags.thread_inherit_context`` is set, as in free-threaded builds
    only. So its method ``start`` is replaced while a service is open. Only the call is inherited,
    and no other variable of the context: a thread may depend on fresh ones, as on its own
    `decimal.Context`.
    """

    def __init__(self) -> None:
        self._users: set[object] = set()
        self._original: Any = None

    def start(self, user: object) -> None:
        """Let threads inherit, until `stop` is called with the same user."""
        self._users.add(user)
        if self._original is None:
            self._original = threading.Thread.start
            threading.Thread.start = _start  # type: ignore[method-assign]

    def stop(self, user: object) -> None:
        """Let threads inherit no more, once no other user is left."""
        self._users.discard(user)
        # Another library may have replaced the method since, and calls this one.
        if not self._users and self._original and threading.Thread.start is _start:
            threading.Thread.start = self._original  # type: ignore[method-assign]
            self._original = None

    def run_original(self, thread: threading.Thread) -> None:
        """Start a thread as the replaced method does."""
        start = self._original or threading.Thread.start
        start(thread)


def _start(self: threading.Thread) -> None:
    call = served_call.get()
    # A context that was given to the thread is another decision of the program.
    if call is not None and vars(self).get("_context") is None:
        # Where threads inherit by themselves, those of pools must not keep the call, either.
        _run_for(None if _is_of_pool(self) else call, self)
    call_threads.run_original(self)


_start.__name__, _start.__doc__ = "start", threading.Thread.start.__doc__


def _run_for(call: ServedCall | None, thread: threading.Thread) -> None:
    run = thread.run

    def run_for_call() -> None:
        del vars(thread)["run"]  # a cycle, which would keep the thread in memory
        served_call.set(call)
        run()

    vars(thread)["run"] = run_for_call


def _is_of_pool(thread: threading.Thread) -> bool:
    target = vars(thread).get("_target")
    return getattr(target, "__module__", "") in POOLS


call_threads = CallThreads()
