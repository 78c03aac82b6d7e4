"""Liveness of called services: fails in-flight calls that no instance can answer any more.

When the last instance of a service dies, the broker deletes its queues and its exchange (they are
auto-delete), and with them its calls. Callers get no notice of it; so the broker is polled.
"""

from __future__ import annotations

import asyncio
import contextlib

from fabric_nb.errors import BrokerRefused, FabricError
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import REDECLARE_EVERY, Connection
from fabric_nb.fabric.amqp.reply_codes import NOT_FOUND
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.rpc.in_flight import OLD, InFlightCall, InFlightCalls
from fabric_nb.fabric.wire.probes import empty_message

LONGEST_INTERVAL = 1.0
"""Maximum seconds between two polls; the shortest is `OLD`. A restart of a service that takes less
is not noticed."""
_INTERVALS_PER_AGE = 20.0
GRACE = 0.5
"""Seconds from a missing service to the failure of its calls: a reply may be in flight, and a
service that lost its connection for a moment replies after all."""
DECLARED_AGAIN = REDECLARE_EVERY + 5.0
"""Seconds after which an exchange that an operator deleted is declared again."""
_NO_METHOD = "fabric_nb.no_queue"


class NoInstanceLeft(Exception):
    """There was a moment without any instance of the called service."""


class LivenessMonitor:
    """Fails calls whose service is gone, about a second after its last instance.

    Args:
        connection: connection that the calls are sent on.
        calls: the in-flight calls; those that are answered before they are old cost nothing.
    """

    def __init__(self, connection: Connection, calls: InFlightCalls) -> None:
        self._connection = connection
        self._calls = calls
        self._has_old = asyncio.Event()
        self._calls.on_old = self._has_old.set
        self.polls = 0

    async def run(self) -> None:
        """Poll the broker while there are old calls, until cancelled."""
        while True:
            await self._has_old.wait()
            self._has_old.clear()
            with contextlib.suppress(FabricError):  # a lost connection has failed the calls already
                async with self._connection.channel(confirms=True) as channel:
                    await self._poll_while_waiting(channel)

    async def _poll_while_waiting(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        while waiting := [call for call in self._calls.values() if not call.answering]:
            now = loop.time()
            calls = [call for call in waiting if now - call.since >= OLD]
            self.polls += 1
            await self._poll(channel, calls)
            youngest = min((now - call.since for call in calls), default=0.0)
            await asyncio.sleep(min(max(OLD, youngest / _INTERVALS_PER_AGE), LONGEST_INTERVAL))

    async def _poll(self, channel: Channel, calls: list[InFlightCall]) -> None:
        loop = asyncio.get_running_loop()
        exists = {
            service: await _has_exchange(channel, service.api_exchange)
            for service in {call.service for call in calls}
        }
        for call in calls:
            if exists[call.service]:
                call.missing_since = None
        missing = [call for call in calls if not exists[call.service] and not call.failing]
        # The members declare an exchange again that an operator has deleted. A queue exists as long
        # as its consumers, but not every user may test for it.
        queues = {
            queue: await channel.topology.has_queue(queue)
            for queue in {call.queue for call in missing}
        }
        for call in missing:
            call.missing_since = call.missing_since or loop.time()
            if not queues[call.queue] or loop.time() - call.missing_since > DECLARED_AGAIN:
                call.failing = True
                loop.call_later(GRACE, call.fail, NoInstanceLeft())


async def _has_exchange(channel: Channel, exchange: str) -> bool:
    """Return whether an exchange exists, by a message that is routed to no queue.

    Every caller may publish to it; on RabbitMQ 4.3 only few users may declare it passively.
    """
    try:
        await channel.publish(exchange, _NO_METHOD, empty_message(), mandatory=True)
    except Unroutable:
        return True
    except BrokerRefused as refused:
        return refused.code != NOT_FOUND
    return True
