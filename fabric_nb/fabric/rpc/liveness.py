"""A watch over calls that wait: is there still anybody who could answer?

The last member of a service that dies takes its queues and its exchange with it (they are
auto-delete), and with the queues the calls that it had taken. The broker tells nobody; so it is
asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from fabric_nb.errors import BrokerRefused, FabricError
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import REDECLARE_EVERY, Connection
from fabric_nb.fabric.amqp.reply_codes import NOT_FOUND
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.probes import empty_message

FIRST_LOOK, LAST_LOOK = 0.25, 1.0
"""Seconds between two looks, for calls just made and for calls that wait for long. What is
answered sooner costs nothing. A service that is started again meanwhile is seen to have been away
only if that took longer."""
_AGES = 20.0
GRACE = 0.5
"""Seconds after which a call whose service was seen to be away has failed: an answer may be on its
way, and a service that lost its connection for a moment answers after all."""
DECLARED_AGAIN = REDECLARE_EVERY + 5.0
"""Seconds after which an exchange that was deleted under its service is there again."""
_NO_METHOD = "fabric_nb.no_queue"


class NoInstanceLeft(Exception):
    """There was a moment when nobody served the service of a call."""


@dataclass(eq=False, slots=True)
class _Call:
    reply: asyncio.Future[Any]
    service: ServiceName
    queue: str
    since: float
    missing_since: float | None = None  # the exchange of its service
    failing: bool = False

    def fail(self) -> None:
        if not self.reply.done():
            self.reply.set_exception(NoInstanceLeft())


class LivenessMonitor:
    """Fails calls whose service has gone, about a second after it went."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._calls: dict[asyncio.Future[Any], _Call] = {}
        self._begun = asyncio.Event()
        self.looks = 0

    def watch(self, reply: asyncio.Future[Any], service: ServiceName, queue: str) -> None:
        """Let `reply` raise `NoInstanceLeft` when the service goes, until `leave`."""
        now = reply.get_loop().time()
        self._calls[reply] = _Call(reply, service, queue, now)
        self._begun.set()

    def leave(self, reply: asyncio.Future[Any]) -> None:
        """The call has ended."""
        self._calls.pop(reply, None)

    async def keep(self) -> None:
        """Look after the calls, until cancelled."""
        self._calls.clear()  # of the time before, when it was open already once
        while True:
            await self._begun.wait()
            await asyncio.sleep(FIRST_LOOK)
            if not self._calls:
                self._begun.clear()
                continue
            with contextlib.suppress(FabricError):  # a lost connection ends the calls by itself
                async with self._connection.channel(confirms=True) as channel:
                    await self._look_while_waiting(channel)

    async def _look_while_waiting(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        while self._calls:
            now = loop.time()
            calls = [call for call in self._calls.values() if now - call.since >= FIRST_LOOK]
            self.looks += 1
            await self._look(channel, calls)
            youngest = min((now - call.since for call in calls), default=0.0)
            await asyncio.sleep(min(max(FIRST_LOOK, youngest / _AGES), LAST_LOOK))

    async def _look(self, channel: Channel, calls: list[_Call]) -> None:
        loop = asyncio.get_running_loop()
        here = {
            service: await _has_exchange(channel, service.api_exchange)
            for service in {call.service for call in calls}
        }
        for call in calls:
            if here[call.service]:
                call.missing_since = None
        away = [call for call in calls if not here[call.service] and not call.failing]
        # An exchange that an operator deleted is declared again by the members; a queue lives as
        # long as its consumers, but not every user may look for it.
        queues = {
            queue: await channel.topology.has_queue(queue)
            for queue in {call.queue for call in away}
        }
        for call in away:
            call.missing_since = call.missing_since or loop.time()
            if not queues[call.queue] or loop.time() - call.missing_since > DECLARED_AGAIN:
                call.failing = True
                loop.call_later(GRACE, call.fail)


async def _has_exchange(channel: Channel, exchange: str) -> bool:
    """Return whether an exchange is there, by a message that no queue takes.

    Whoever may call may publish to it; RabbitMQ 4.3 lets only few users look for it.
    """
    try:
        await channel.publish(exchange, _NO_METHOD, empty_message(), mandatory=True)
    except Unroutable:
        return True
    except BrokerRefused as refused:
        return refused.code != NOT_FOUND
    return True
