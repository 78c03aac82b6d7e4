"""Publisher of data: confirmed messages to the data exchange of a domain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from functools import partial
from itertools import takewhile
from typing import NamedTuple, Self

from fabric_nb.errors import (
    BrokerRefused,
    BrokerUnavailable,
    ConnectionLost,
    FabricError,
    NoSubscriber,
    NotConnected,
)
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.wire.names import data_exchange

log = logging.getLogger(__name__)

MAX_WAITING, MAX_WAITING_BYTES = 10_000, 64 * 1024 * 1024
"""Messages, and bytes of their bodies, that may wait for the broker."""
PATIENCE = 60.0
"""Seconds after which a message that the broker has not confirmed fails."""
CHECK_EVERY = 1.0
"""Seconds between two checks for messages that have waited too long."""
STUCK_AFTER = 0.5
"""Seconds of refusals only, after which another channel is tried."""
_FLUSH_TIMEOUT = 0.5
"""Seconds that `close` waits for confirms."""

Confirmation = asyncio.Future[None]


class _Waiting(NamedTuple):
    """A message that waits for the channel."""

    message: Message
    confirmation: Confirmation
    mandatory: bool


class Publisher:
    """Publishes to the data exchange of a domain; the broker confirms each message.

    While the broker cannot be reached, or accepts no messages because it is low on memory or disk,
    up to `MAX_WAITING` messages wait, for `PATIENCE` seconds each. Further ones fail.

    Attributes:
        published: number of messages that the broker has confirmed.
        failed: number of messages that have failed, awaited or not.
        channel: channel that is published on.
    """

    def __init__(self, connection: Connection, domain: str, background: Background) -> None:
        self.exchange = data_exchange(domain)
        self.published = 0
        self.failed = 0
        self._connection = connection
        self.channel = connection.channel(self._set_up, confirms=True)
        self._opened = False
        self._background = background
        self._unsettled: dict[Confirmation, float] = {}  # with their deadlines, in order
        self._waiting: deque[_Waiting] = deque()  # for the channel, in order
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._failed_in_a_row = 0
        self._refused_since: float | None = None

    async def open(self) -> Self:
        """Declare the exchange; without permission, that fails with the first message."""
        try:
            await self._open()
        except BrokerRefused as refused:
            log.debug("Refused, and tried again with the first message: %s", refused)
        return self

    async def _open(self) -> None:
        await self.channel.open()
        self._opened = True

    async def _ready(self) -> None:
        while not self._opened:
            with contextlib.suppress(ConnectionLost):
                await self._open()
        await self.channel.ready()

    async def close(self) -> None:
        """Wait up to half a second for outstanding confirms, and close the channel."""
        if self._unsettled and self._connection.state is State.CONNECTED:
            await asyncio.wait(self._unsettled, timeout=_FLUSH_TIMEOUT)
        await self.channel.close()
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
        """Number of messages that are not confirmed yet."""
        return len(self._unsettled)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the messages that wait for the broker or the channel."""
        return self._waiting_bytes

    def publish(self, message: Message, *, mandatory: bool = False) -> Confirmation:
        """Publish a message; the future is done when the broker has confirmed it.

        It may be ignored: failures are counted and logged. A `mandatory` message that no queue
        receives fails, with `NoSubscriber`.
        """
        self._connection.check_loop()
        loop = asyncio.get_running_loop()
        confirmation: Confirmation = loop.create_future()
        # Retrieved here, because asyncio would log an exception that is not awaited a second time.
        confirmation.add_done_callback(_retrieve)
        self._unsettled[confirmation] = loop.time() + PATIENCE
        if self._timer is None:
            self._timer = loop.call_later(CHECK_EVERY, self._fail_overdue)
        ready = self.channel.is_ready and self.channel.accepts(message)
        if self._waiting or not (ready and self._send(message, confirmation, mandatory)):
            self._enqueue(_Waiting(message, confirmation, mandatory))
        return confirmation

    def _enqueue(self, waiting: _Waiting) -> None:
        size = len(waiting.message.body)
        if self._waiting and (
            len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES
        ):
            reason = f"{len(self._waiting):,} messages wait for it already"
            self._settle(waiting.confirmation, self._not_confirmed(reason))
            return
        self._waiting.append(waiting)
        self._waiting_bytes += size
        if len(self._waiting) == 1:
            self._background.keep(self._send_waiting, name="publish")

    def _next_waiting(self) -> Confirmation:
        message, confirmation, _ = self._waiting.popleft()
        self._waiting_bytes -= len(message.body)
        return confirmation

    def _send(self, message: Message, confirmation: Confirmation, mandatory: bool) -> bool:
        """Send a message; return False if there is no channel to send it on."""
        on_outcome = partial(self._settle, confirmation)
        try:
            self.channel.send(
                self.exchange, "", message, mandatory=mandatory, on_outcome=on_outcome
            )
        except ConnectionLost:
            return False
        except Exception as error:  # noqa: BLE001 - raised where the future is awaited
            self._settle(confirmation, error)
        return True

    async def _send_waiting(self) -> None:
        """Send the waiting messages when the channel is ready."""
        while self._waiting:
            try:
                await self._ready()
            except FabricError as error:
                while self._waiting:
                    self._settle(self._next_waiting(), error)
                return
            while self._waiting and self.channel.is_ready:
                message, confirmation, mandatory = self._waiting[0]
                if confirmation in self._unsettled and not self.channel.accepts(message):
                    if not await self._check_size(message, confirmation):
                        break
                    continue  # it may have failed meanwhile
                unsettled = confirmation in self._unsettled
                if unsettled and not self._send(message, confirmation, mandatory):
                    break
                self._next_waiting()

    async def _check_size(self, message: Message, confirmation: Confirmation) -> bool:
        """Settle a message that is too large; return False if the connection was lost."""
        try:
            await self.channel.check_size(message, "The message")
        except ConnectionLost:
            return False
        except FabricError as refused:
            self._settle(confirmation, refused)
        return True

    # -- outcomes

    def _fail_overdue(self) -> None:
        """Fail messages that have waited too long, and schedule the next check."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for confirmation, _ in [*takewhile(lambda one: one[1] <= now, self._unsettled.items())]:
            self._settle(confirmation, self._not_confirmed(f"it was awaited for {PATIENCE:g} s"))
        self._timer = loop.call_later(CHECK_EVERY, self._fail_overdue) if self._unsettled else None
        while self._waiting and self._waiting[0].confirmation not in self._unsettled:
            self._next_waiting()

    def _not_confirmed(self, reason: str) -> FabricError:
        where = self._connection.masked_uri
        match self._connection.state:
            case State.BLOCKED:
                why = self._connection.blocked
                return BrokerRefused(f"{where} takes no messages ({why}), and {reason}.")
            case State.CONNECTED:
                return ConnectionLost(
                    f"{where} has not confirmed the message, and {reason}; whether it was accepted"
                    " is not known."
                )
        return BrokerUnavailable(f"{where} cannot be reached, and {reason}.")

    def _settle(self, confirmation: Confirmation, error: Exception | None) -> None:
        if self._unsettled.pop(confirmation, None) is None:
            return  # it has failed before
        if error is None:
            self.published += 1
            self._refused_since = None
            self._log_failures()
            if not confirmation.done():
                confirmation.set_result(None)
            return
        self.failed += 1
        if isinstance(error, Unroutable):
            log.debug("A mandatory message for %s was routed to no queue", self.exchange)
            error = NoSubscriber(f"No queue of {self.exchange} is bound to these headers.")
        else:
            self._log_failure(error)
        if not confirmation.done():
            confirmation.set_exception(error)
        if isinstance(error, BrokerRefused) and not error.code:
            self._renew_if_stuck()

    def _log_failure(self, error: Exception) -> None:
        self._failed_in_a_row += 1
        # A long outage fails each message for the same reason: log it once, then only the count.
        level = logging.WARNING if self._failed_in_a_row == 1 else logging.DEBUG
        log.log(level, "A message for %s was not published: %s", self.exchange, error)

    def _renew_if_stuck(self) -> None:
        """Open another channel when the broker has refused all messages for a while.

        RabbitMQ (seen with 3.10) refuses all messages of a channel that first published to a
        quorum queue during its leader election, also after the election.
        """
        now = asyncio.get_running_loop().time()
        if self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > STUCK_AFTER:
            self._refused_since = None
            self.channel.renew()

    def _log_failures(self) -> None:
        failed, self._failed_in_a_row = self._failed_in_a_row, 0
        if failed > 1:
            log.warning("%d messages for %s were not published", failed, self.exchange)

    def __repr__(self) -> str:
        counts = f"{self.published:,} published, {self.waiting:,} waiting, {self.failed:,} failed"
        return f"<Publisher to {self.exchange}: {counts}>"


def _retrieve(confirmation: Confirmation) -> None:
    if not confirmation.cancelled():
        confirmation.exception()
