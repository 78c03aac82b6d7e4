"""A message that a callback acknowledges, or that is acknowledged for it in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage

from fabric_nb.fabric.core.tasks import failures


class HeldMessage(IncomingMessage):
    """aio-pika's message, which is acknowledged before the broker takes it back.

    A broker that has waited for its `consumer_timeout` closes the channel and delivers again
    all that came by it: a callback that takes longer would run again and again.
    """

    def __init__(self, delivered: DeliveredMessage) -> None:
        super().__init__(delivered, no_ack=False)
        self._came_by = delivered.channel
        self._in_time = False
        self._timer: asyncio.TimerHandle | None = None

    async def handled_by(
        self, callback: Callable[[IncomingMessage], Awaitable[object]], within: float
    ) -> None:
        """Await `callback`, and acknowledge after `within` seconds what it has not."""
        self._timer = asyncio.get_running_loop().call_later(within, self._acknowledge)
        try:
            await callback(self)
        except Exception as error:  # noqa: BLE001 - the next message is heard
            failures.add("a callback of subscribe_data", error)

    def _acknowledge(self) -> None:
        if not (self.processed or self._came_by.is_closed):
            self._in_time = True
            self._came_by.create_task(super().ack())

    async def ack(self, multiple: bool = False) -> None:
        """Acknowledge, unless that was done in time or the broker has taken it back."""
        if not self._is_over():
            await super().ack(multiple)

    async def reject(self, requeue: bool = False) -> None:
        """Give it back or drop it; likewise."""
        if not self._is_over():
            await super().reject(requeue)

    async def nack(self, multiple: bool = False, requeue: bool = True) -> None:
        """Give it back or drop it; likewise."""
        if not self._is_over():
            await super().nack(multiple, requeue)

    def _is_over(self) -> bool:
        if self._timer is not None:
            self._timer.cancel()
        return self._in_time or self._came_by.is_closed
