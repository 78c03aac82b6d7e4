"""Data out: messages for the streams of others."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import Self

from fabric_nb.errors import ConnectionLost, FabricError, NotConnected
from fabric_nb.fabric import naming
from fabric_nb.fabric.amqp import Channel, Connection, Message, State
from fabric_nb.fabric.tasks import Background

log = logging.getLogger(__name__)

_FLUSH_TIMEOUT = 0.5

Taken = asyncio.Future[None]


class Publisher:
    """Publishes to the data exchange of a domain, each message confirmed by the broker.

    `failed` counts messages that were not taken; nobody may have awaited them.
    """

    def __init__(self, connection: Connection, domain: str, background: Background) -> None:
        self.exchange = naming.data_exchange(domain)
        self.published = 0
        self.failed = 0
        self._connection = connection
        self._channel = connection.channel(self._set_up, confirms=True)
        self._background = background
        self._unsettled: set[Taken] = set()
        self._waiting: deque[tuple[Message, Taken]] = deque()  # for the channel, in order

    async def open(self) -> Self:
        """Declare the exchange."""
        await self._channel.open()
        return self

    async def close(self) -> None:
        """Let what is on its way arrive, for at most half a second, and close the channel."""
        if self._unsettled and self._connection.state is State.CONNECTED:
            await asyncio.wait(self._unsettled, timeout=_FLUSH_TIMEOUT)
        await self._channel.close()
        closed = NotConnected("The connector was closed before the message was published.")
        while self._waiting:
            self._settle(self._waiting.popleft()[1], closed)

    async def _set_up(self, channel: Channel) -> None:
        await channel.declare_exchange(self.exchange, "headers", durable=True)

    def publish(self, message: Message) -> Taken:
        """Send now; the future is done when the broker has the message.

        It may be ignored: a failure that nobody looks at is counted and logged.
        """
        taken: Taken = asyncio.get_running_loop().create_future()
        # An exception that nobody retrieves is told by our own log line, once.
        taken.add_done_callback(_retrieve)
        self._unsettled.add(taken)
        if self._waiting or not (self._channel.is_ready and self._send(message, taken)):
            self._waiting.append((message, taken))
            if len(self._waiting) == 1:
                self._background.spawn(self._send_waiting(), name="publish")
        return taken

    def _send(self, message: Message, taken: Taken) -> bool:
        """Hand over a message; False if there is just no channel to send it on."""
        try:
            self._channel.send(self.exchange, "", message, fate=partial(self._settle, taken))
        except ConnectionLost:
            return False
        except Exception as error:  # noqa: BLE001 - it is for whoever awaits the future
            self._settle(taken, error)
        return True

    async def _send_waiting(self) -> None:
        """Send what waits for the channel, once that is there and takes it."""
        while self._waiting:
            try:
                await self._channel.ready()
            except FabricError as error:
                while self._waiting:
                    self._settle(self._waiting.popleft()[1], error)
                return
            while self._waiting and self._channel.is_ready and self._send(*self._waiting[0]):
                self._waiting.popleft()

    def _settle(self, taken: Taken, error: Exception | None) -> None:
        self._unsettled.discard(taken)
        if error is None:
            self.published += 1
            if not taken.done():
                taken.set_result(None)
            return
        self.failed += 1
        log.warning("A message for %s was not published: %s", self.exchange, error)
        if not taken.done():
            taken.set_exception(error)


def _retrieve(taken: Taken) -> None:
    if not taken.cancelled():
        taken.exception()
