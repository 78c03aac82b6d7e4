"""Calls that wait for a worker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from fabric_nb.fabric.amqp.message import Delivery


class CallQueue:
    """Queue of the calls of one method; as `asyncio.Queue`, in fewer steps for each call."""

    def __init__(self) -> None:
        self._waiting: deque[Delivery] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        """Workers that wait in `get`."""
        self._unfinished = 0
        self._joining: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._waiting)

    def put(self, delivery: Delivery) -> None:
        """Add a call, and wake a worker."""
        self._waiting.append(delivery)
        self._unfinished += 1
        if self._idle:
            self._wake_worker()

    async def get(self) -> Delivery:
        """Wait for a call, and remove it; `task_done` is to be called after it."""
        while not self._waiting:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            try:
                await idle
            except BaseException:
                if idle in self._idle:
                    self._idle.remove(idle)
                self._wake_worker()  # another one, if this one was woken for a call
                raise
        return self._waiting.popleft()

    def get_nowait(self) -> Delivery:
        """Remove a call.

        Raises:
            IndexError: there is none.
        """
        return self._waiting.popleft()

    def _wake_worker(self) -> None:
        while self._idle and self._waiting:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return

    def task_done(self) -> None:
        """Count a removed call as finished."""
        self._unfinished -= 1
        if not self._unfinished:
            for joining in self._joining:
                if not joining.done():
                    joining.set_result(None)
            self._joining.clear()

    async def join(self) -> None:
        """Wait until all calls that were added are finished."""
        while self._unfinished:
            joining = asyncio.get_running_loop().create_future()
            self._joining.append(joining)
            await joining
