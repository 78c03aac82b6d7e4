"""Message that is acknowledged within the broker's time limit if its callback does not do it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage

from fabric_nb.fabric.core.tasks import failures


class TimedMessage(IncomingMessage):
    """aio-pika's message, which is acknowledged before the broker requeues it.

    After its `consumer_timeout`, a broker closes the channel and redelivers all messages of it: a
    callback that takes longer would run again and again.
    """

    def __init__(self, delivered: DeliveredMessage) -> None:
        super().__init__(delivered, no_ack=False)
        self._amqp = delivered.channel
        self._timed_out = False
        self._timer: asyncio.TimerHandle | None = None

    async def handle(
        self, callback: Callable[[IncomingMessage], Awaitable[object]], within: float
    ) -> None:
        """Await `callback`; acknowledge after `within` seconds if it has not."""
        self._timer = asyncio.get_running_loop().call_later(within, self._acknowledge)
        try:
            await callback(self)
        except Exception as error:  # noqa: BLE001 - must not affect further messages
            failures.add("a callback of subscribe_data", error)

    def _acknowledge(self) -> None:
        if not (self.processed or self._amqp.is_closed):
            self._timed_out = True
            self._amqp.create_task(super().ack())

    async def ack(self, multiple: bool = False) -> None:
        """Acknowledge, unless the time limit has passed or the channel is closed."""
        if not self._is_settled():
            await super().ack(multiple)

    async def reject(self, requeue: bool = False) -> None:
        """Requeue or drop it; as `ack`."""
        if not self._is_settled():
            await super().reject(requeue)

    async def nack(self, multiple: bool = False, requeue: bool = True) -> None:
        """Requeue or drop it; as `ack`."""
        if not self._is_settled():
            await super().nack(multiple, requeue)

    def _is_settled(self) -> bool:
        if self._timer is not None:
            self._timer.cancel()
        return self._timed_out or self._amqp.is_closed
