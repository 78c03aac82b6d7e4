"""Data out: messages for the streams of others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from functools import partial
from itertools import takewhile
from typing import Self

from fabric_nb.errors import (
    BrokerRefused,
    BrokerUnavailable,
    ConnectionLost,
    FabricError,
    NotConnected,
)
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.wire.names import data_exchange

log = logging.getLogger(__name__)

MAX_WAITING, MAX_WAITING_BYTES = 10_000, 64 * 1024 * 1024
"""Messages, and bytes of their bodies, that may wait for the broker."""
PATIENCE = 60.0
"""Seconds until a message that the broker has not confirmed has failed."""
LOOK_EVERY = 1.0
STUCK_AFTER = 0.5
"""Seconds for which the broker has refused every message."""
_FLUSH_TIMEOUT = 0.5

Taken = asyncio.Future[None]


class Publisher:
    """Publishes to the data exchange of a domain, each message confirmed by the broker.

    While the broker is away, or takes no messages because it is low on memory or disk, messages
    wait: `MAX_WAITING` of them, for `PATIENCE` seconds. The others fail.

    Attributes:
        published: how many messages the broker has confirmed.
        failed: how many were given up; nobody may have awaited them.
    """

    def __init__(self, connection: Connection, domain: str, background: Background) -> None:
        self.exchange = data_exchange(domain)
        self.published = 0
        self.failed = 0
        self._connection = connection
        self._channel = connection.channel(self._set_up, confirms=True)
        self._opened = False
        self._background = background
        self._unsettled: dict[Taken, float] = {}  # and until when; in order
        self._waiting: deque[tuple[Message, Taken]] = deque()  # for the channel, in order
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._failed_in_a_row = 0
        self._refused_since: float | None = None

    async def open(self) -> Self:
        """Declare the exchange; a member that never publishes needs no permission for that."""
        try:
            await self._open()
        except BrokerRefused as refused:
            log.debug("Not needed before the first message: %s", refused)
        return self

    async def _open(self) -> None:
        await self._channel.open()
        self._opened = True

    async def _ready(self) -> None:
        while not self._opened:
            with contextlib.suppress(ConnectionLost):
                await self._open()
        await self._channel.ready()

    async def close(self) -> None:
        """Let what is on its way arrive, for at most half a second, and close the channel."""
        if self._unsettled and self._connection.state is State.CONNECTED:
            await asyncio.wait(self._unsettled, timeout=_FLUSH_TIMEOUT)
        await self._channel.close()
        self._opened = False
        while self._waiting:
            self._settle(
                self._next_waiting(),
                NotConnected("The connector was closed before the message was published."),
            )
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _set_up(self, channel: Channel) -> None:
        await channel.topology.declare_exchange(self.exchange, "headers", durable=True)

    @property
    def waiting(self) -> int:
        """How many messages wait for the broker, or for its confirm."""
        return len(self._unsettled)

    def publish(self, message: Message) -> Taken:
        """Send now; the future is done when the broker has the message.

        It may be ignored: a failure that nobody looks at is counted and logged.
        """
        self._connection.check_loop()
        loop = asyncio.get_running_loop()
        taken: Taken = loop.create_future()
        # An exception that nobody retrieves is told by our own log line, once.
        taken.add_done_callback(_retrieve)
        self._unsettled[taken] = loop.time() + PATIENCE
        if self._timer is None:
            self._timer = loop.call_later(LOOK_EVERY, self._give_up)
        ready = self._channel.is_ready and self._channel.accepts(message)
        if self._waiting or not (ready and self._send(message, taken)):
            self._wait(message, taken)
        return taken

    def _wait(self, message: Message, taken: Taken) -> None:
        size = len(message.body)
        if self._waiting and (
            len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES
        ):
            waiting = f"{len(self._waiting):,} messages wait for it already"
            self._settle(taken, self._held_up(waiting))
            return
        self._waiting.append((message, taken))
        self._waiting_bytes += size
        if len(self._waiting) == 1:
            self._background.keep(self._send_waiting, name="publish")

    def _next_waiting(self) -> Taken:
        message, taken = self._waiting.popleft()
        self._waiting_bytes -= len(message.body)
        return taken

    def _send(self, message: Message, taken: Taken) -> bool:
        """Hand over a message; False if there is just no channel to send it on."""
        try:
            self._channel.send(self.exchange, "", message, on_outcome=partial(self._settle, taken))
        except ConnectionLost:
            return False
        except Exception as error:  # noqa: BLE001 - it is for whoever awaits the future
            self._settle(taken, error)
        return True

    async def _send_waiting(self) -> None:
        """Send what waits for the channel, once that is there and takes it."""
        while self._waiting:
            try:
                await self._ready()
            except FabricError as error:
                while self._waiting:
                    self._settle(self._next_waiting(), error)
                return
            while self._waiting and self._channel.is_ready:
                message, taken = self._waiting[0]
                if taken in self._unsettled and not self._channel.accepts(message):
                    if not await self._fits(message, taken):
                        break
                    continue  # this one may have been given up meanwhile
                if taken in self._unsettled and not self._send(message, taken):
                    break
                self._next_waiting()

    async def _fits(self, message: Message, taken: Taken) -> bool:
        """Settle a message that is too large; return False if the connection was lost."""
        try:
            await self._channel.check_size(message, "The message")
        except ConnectionLost:
            return False
        except FabricError as refused:
            self._settle(taken, refused)
        return True

    # -- what became of them

    def _give_up(self) -> None:
        """Fail what has waited for too long, and look again when the next one will have."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for taken, _ in [*takewhile(lambda one: one[1] <= now, self._unsettled.items())]:
            self._settle(taken, self._held_up(f"it was waited for {PATIENCE:g} s"))
        self._timer = loop.call_later(LOOK_EVERY, self._give_up) if self._unsettled else None
        while self._waiting and self._waiting[0][1] not in self._unsettled:
            self._next_waiting()

    def _held_up(self, how: str) -> FabricError:
        where = self._connection.masked_uri
        match self._connection.state:
            case State.BLOCKED:
                why = self._connection.blocked
                return BrokerRefused(f"{where} takes no messages ({why}), and {how}.")
            case State.CONNECTED:
                return ConnectionLost(
                    f"{where} has not confirmed the message, and {how}; whether it has it is not"
                    " known."
                )
        return BrokerUnavailable(f"{where} is away, and {how}.")

    def _settle(self, taken: Taken, error: Exception | None) -> None:
        if self._unsettled.pop(taken, None) is None:
            return  # it was given up before
        if error is None:
            self.published += 1
            self._refused_since = None
            self._tell_failed()
            if not taken.done():
                taken.set_result(None)
            return
        self.failed += 1
        self._failed_in_a_row += 1
        # A long outage fails each message for the same reason: log it once, then only the count.
        level = logging.WARNING if self._failed_in_a_row == 1 else logging.DEBUG
        log.log(level, "A message for %s was not published: %s", self.exchange, error)
        if not taken.done():
            taken.set_exception(error)
        if isinstance(error, BrokerRefused) and not error.code:
            self._renew_if_stuck()

    def _renew_if_stuck(self) -> None:
        """Publish over a new channel when the broker has taken nothing for a while.

        RabbitMQ (seen with 3.10) refuses all that comes over a channel that first published to a
        quorum queue while this was between two leaders, also when it has one again.
        """
        now = asyncio.get_running_loop().time()
        if self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > STUCK_AFTER:
            self._refused_since = None
            self._channel.renew()

    def _tell_failed(self) -> None:
        failed, self._failed_in_a_row = self._failed_in_a_row, 0
        if failed > 1:
            log.warning("%d messages for %s were not published", failed, self.exchange)

    def __repr__(self) -> str:
        counts = f"{self.published:,} published, {self.waiting:,} waiting, {self.failed:,} failed"
        return f"<Publisher to {self.exchange}: {counts}>"


def _retrieve(taken: Taken) -> None:
    if not taken.cancelled():
        taken.exception()
