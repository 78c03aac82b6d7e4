"""Background tasks with an owner, and a record of their failures."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import time
import traceback
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

from fabric_nb.errors import NotConnected, WrongLoop, printable
from fabric_nb.fabric.core.values import error_text

log = logging.getLogger(__name__)

T = TypeVar("T")

CANCEL_EVERY = 2.0
"""Seconds after which a cancelled task that is still running is cancelled again: a client library
may turn a cancellation into an error of its own, and the task then continues."""
RESTART_AFTER = 1.0
"""Seconds until work that must keep running is restarted after a failure."""
KEPT = 100
"""Failures that are kept for inspection."""
LOG_INTERVAL = 60.0
"""Seconds between two log records about failures of one place."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Error in background work.

    Attributes:
        time: epoch seconds.
        where: name of the work, as in ``connection demo.app.a: redeclare``.
        error: type and text of the error.
    """

    time: float
    where: str
    error: str


class Failures:
    """Errors in the background work of this process, counted by the name of the work.

    No caller receives an error of a background task, a callback or a companion thread. It is
    counted here, logged at most once a minute for each name, and shown by the views and the doctor.

    Example::

        fabric.failures.total
        fabric.failures.last[-1].error
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.last: deque[Failure] = deque(maxlen=KEPT)
        self._logged: dict[str, float] = {}

    @property
    def total(self) -> int:
        """Number of failures so far."""
        return self.counts.total()

    def add(self, where: str, error: BaseException) -> None:
        """Count an error; from any thread."""
        if where not in self.counts and len(self.counts) >= KEPT:
            where = "other work"  # names of tasks may contain names sent by peers
        self.counts[where] += 1
        self.last.append(Failure(time.time(), where, error_text(error)))
        now = time.monotonic()
        if now - self._logged.get(where, float("-inf")) >= LOG_INTERVAL:
            self._logged[where] = now
            # An error may contain text sent by peers, and logging prints tracebacks unchanged.
            text = printable("".join(traceback.format_exception(error)).rstrip())
            log.error("%s failed (failure %d)\n%s", where, self.counts[where], text)

    def clear(self) -> None:
        """Discard all failures counted so far."""
        self.counts.clear()
        self.last.clear()
        self._logged.clear()

    def __repr__(self) -> str:
        return f"<Failures: {self.total} in {len(self.counts)} places>"


failures: Final = Failures()
"""Failures of this process; global, because threads, connections and views have no common owner."""


class Background:
    """Task group that may be opened in one task and closed in another.

    An error in a task is counted in `failures` and does not end the others; `aclose` cancels the
    remaining tasks and waits for them, so that no task outlives its owner.

    Example::

        background = Background("reader")
        await background.open()
        background.spawn(read(), name="read")
        background.keep(watch, name="watch")
        await background.aclose()
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._group: asyncio.TaskGroup | None = None
        self._runner: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Open the group for `spawn`."""
        opened = asyncio.Event()
        self._runner = asyncio.create_task(self._run(opened), name=self._name)
        await opened.wait()

    async def _run(self, opened: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            opened.set()
            await asyncio.get_running_loop().create_future()  # until `aclose` cancels it

    def spawn(
        self,
        work: Coroutine[Any, Any, object],
        *,
        name: str,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[None]:
        """Run `work` in the background.

        Raises:
            NotConnected: the group is not open; `work` is closed without being run.
        """
        if self._group is None or self._runner is None or self._runner.done():
            work.close()
            raise NotConnected(f"{self._name} is not open.")
        task = self._group.create_task(
            self._guard(work, name), name=f"{self._name}: {name}", context=context
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def keep(self, work: Callable[[], Awaitable[object]], *, name: str) -> asyncio.Task[None]:
        """Run `work` until it returns; restart it after `RESTART_AFTER` whenever it fails.

        Raises:
            NotConnected: the group is not open.
        """
        return self.spawn(self._restarting(work, name), name=name)

    async def _restarting(self, work: Callable[[], Awaitable[object]], name: str) -> None:
        while True:
            if await self._succeeds(work(), name):
                return
            await asyncio.sleep(RESTART_AFTER)

    async def _guard(self, work: Coroutine[Any, Any, object], name: str) -> None:
        await self._succeeds(work, name)

    async def _succeeds(self, work: Awaitable[object], name: str) -> bool:
        try:
            await work
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # It awaited a cancelled task or future, which ends the work as an error does.
            failures.add(f"{self._name}: {name}", error)
            return False
        except Exception as error:  # noqa: BLE001 - no caller could handle it; it is counted
            failures.add(f"{self._name}: {name}", error)
            return False
        return True

    async def aclose(self) -> None:
        """Cancel the running tasks and wait until they have ended."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        runner.cancel()
        while not (await asyncio.wait([runner], timeout=CANCEL_EVERY))[0]:
            for task in self._tasks:
                task.cancel()


def check_loop_runs(what: str) -> None:
    """Check that tasks can be started here.

    Raises:
        WrongLoop: no event loop is running in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise WrongLoop(
            f"{what} at once, and no event loop is running: call it in a coroutine or in a cell."
        ) from None


def watched(task: asyncio.Task[Any], where: str) -> None:
    """Count the error with which a task ends that has no owner."""

    def on_done(ended: asyncio.Task[Any]) -> None:
        if not ended.cancelled() and (error := ended.exception()) is not None:
            failures.add(where, error)

    task.add_done_callback(on_done)


@cache
def _threads() -> ThreadPoolExecutor:
    # A separate pool: served functions that block may occupy all threads of the loop's own pool.
    return ThreadPoolExecutor(4, thread_name_prefix="fabric")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of the threads


async def in_thread(work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run blocking `work` in a thread, in the caller's context."""
    context = contextvars.copy_context()
    try:
        running = asyncio.get_running_loop().run_in_executor(
            _threads(), lambda: context.run(work, *args, **kwargs)
        )
    except RuntimeError as error:
        # When the interpreter shuts down no threads can be started, but a file must be completed.
        if "shutdown" not in str(error):
            raise
        return work(*args, **kwargs)
    return await running
