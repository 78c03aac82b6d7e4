"""Background work with an owner."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)

CANCEL_EVERY = 2.0
"""Seconds after which what was cancelled and still runs is cancelled again: a client library may
turn a cancellation into an error of its own, and the work then goes on after it."""


class Background:
    """A task group that may be opened in one task and closed in another.

    A task that fails is logged and does not take the others with it; `aclose` cancels what
    is left and waits for it, so that nothing outlives its owner.

    Example::

        background = Background("reader")
        await background.open()
        background.spawn(read(), name="read")
        await background.aclose()
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._group: asyncio.TaskGroup | None = None
        self._runner: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Make ready for `spawn`."""
        opened = asyncio.Event()
        self._runner = asyncio.create_task(self._hold(opened), name=self._name)
        await opened.wait()

    async def _hold(self, opened: asyncio.Event) -> None:
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
        """Run `work` in the background; after `aclose` it is dropped unrun.

        Raises:
            RuntimeError: not open.
        """
        if self._group is None or self._runner is None or self._runner.done():
            work.close()
            raise RuntimeError(f"{self._name} is not open")
        task = self._group.create_task(
            self._guard(work, name), name=f"{self._name}: {name}", context=context
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Coroutine[Any, Any, object], name: str) -> None:
        try:
            await work
        except Exception:
            log.exception("%s: %s failed", self._name, name)

    async def aclose(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        runner.cancel()
        while not (await asyncio.wait([runner], timeout=CANCEL_EVERY))[0]:
            for task in self._tasks:
                task.cancel()
