"""Threads that the functions of running calls start, and that belong to these calls."""

from __future__ import annotations

import threading
from contextvars import Context, copy_context
from typing import Any

from fabric_nb.fabric.rpc.current_call import current_call

POOLS = ("concurrent.futures.thread", "multiprocessing.pool")
"""Modules whose threads work for many callers, and so belong to no call."""


class CallThreads:
    """Lets threads inherit the context of the calls that start them; see `call_threads`.

    Tasks and `asyncio.to_thread` inherit it by themselves, and `threading.Thread` does not on most
    versions of Python. Its method ``start`` is replaced from the first call that reports to its
    caller until the service of that call is closed.
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
    call = current_call.get()
    if call is not None and call.reporter is not None:
        # Where threads inherit by themselves, those of pools must not keep the context, either.
        _run_in(Context() if _is_of_pool(self) else copy_context(), self)
    call_threads.run_original(self)


_start.__name__, _start.__doc__ = "start", threading.Thread.start.__doc__


def _run_in(context: Context, thread: threading.Thread) -> None:
    run = thread.run

    def run_in_context() -> None:
        del vars(thread)["run"]  # a cycle, which would keep the thread in memory
        context.run(run)

    vars(thread)["run"] = run_in_context


def _is_of_pool(thread: threading.Thread) -> bool:
    target = vars(thread).get("_target")
    return getattr(target, "__module__", "") in POOLS


call_threads = CallThreads()
