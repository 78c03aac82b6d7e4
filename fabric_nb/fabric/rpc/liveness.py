"""Liveness of called services: fails in-flight calls that no instance can answer any more.

A caller gets no notice of a call that is lost: with the last instance of a service, the broker
deletes its queues and the calls in them, and a call that was acknowledged when it began is lost
with its instance. So the instances are pinged while there are old calls; see *Instances* in
`docs/wire.md`. A service on amqp-fabric does not answer, and is gone with its exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fabric_nb.errors import BrokerRefused, FabricError, MalformedMessage
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import REDECLARE_EVERY, Connection
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.amqp.reply_codes import NOT_FOUND
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.in_flight import OLD, InFlightCall, InFlightCalls
from fabric_nb.fabric.wire.calls import INSTANCE
from fabric_nb.fabric.wire.instances import CallStatus, InstanceStatus, ping_message, read_pong
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.running_calls import probe_message

LONGEST_INTERVAL = 1.0
"""Maximum seconds between two polls; the shortest is `OLD`."""
_INTERVALS_PER_AGE = 20.0
GRACE = 0.5
"""Seconds for which a call must be missing before it fails: its reply may be in flight, and a
service that lost its connection for a moment replies after all."""
DECLARED_AGAIN = REDECLARE_EVERY + 5.0
"""Seconds after which an exchange that an operator deleted is declared again."""
MAX_INSTANCES = 1000
"""Instances of one service whose answers to a ping are read."""


class NoInstanceLeft(Exception):
    """No instance has the call, and the queue that it was in is gone."""


@dataclass(slots=True)
class _Answers:
    """Answers of the instances of a service to one ping.

    Attributes:
        sent: time of the ping, in seconds of the loop's clock.
        exists: False if the service has no exchange.
        statuses: answers by instance.
    """

    sent: float
    exists: bool = True
    statuses: dict[str, InstanceStatus] = field(default_factory=dict)

    def status_of(self, correlation_id: str) -> tuple[str, CallStatus] | None:
        """Return the instance that has a call, and the call's status there."""
        for instance, status in self.statuses.items():
            if (call := status.calls.get(correlation_id)) is not None:
                return instance, call
        return None

    def created(self, call: InFlightCall) -> float | None:
        """Return the time at which the queue of a call was created, or any earlier one.

        None: no instance knows it.
        """
        ages = [
            age
            for status in self.statuses.values()
            for method, age in status.methods.items()
            if age is not None and call.service.method_queue(method) == call.queue
        ]
        return self.sent - min(ages) if ages else None

    def is_served(self, call: InFlightCall) -> bool:
        """Return whether an instance that has answered consumes the calls of this method."""
        return any(
            call.service.method_queue(method) == call.queue
            for status in self.statuses.values()
            for method in status.methods
        )


class LivenessMonitor:
    """Fails calls that are lost, about a second after that.

    Args:
        connection: connection that the calls are sent on.
        calls: the in-flight calls; those that are answered before they are old cost nothing.
        reply_queue: returns the queue to which instances answer.

    Attributes:
        polls: number of polls so far.
    """

    def __init__(
        self, connection: Connection, calls: InFlightCalls, reply_queue: Callable[[], str]
    ) -> None:
        self._connection = connection
        self._calls = calls
        self._reply_queue = reply_queue
        self._has_old = asyncio.Event()
        self._calls.on_old = self._has_old.set
        self._pings: dict[str, _Answers] = {}
        self._uncounted: set[str] = set()
        """Queues that do not exist, or that this user may not ask about."""
        self.polls = 0

    async def run(self) -> None:
        """Poll the broker while there are old calls, until cancelled."""
        while True:
            await self._has_old.wait()
            self._has_old.clear()
            self._uncounted.clear()
            with contextlib.suppress(FabricError):  # a lost connection has failed the calls already
                async with self._connection.channel(confirms=True) as channel:
                    await self._poll_while_waiting(channel)

    def receive(self, delivery: Delivery) -> None:
        """Accept a pong.

        Raises:
            MalformedMessage: it cannot be read, or answers no ping.
        """
        answers = self._pings.get(delivery.correlation_id or "")
        if answers is None:
            raise MalformedMessage("A pong that answers no ping of this member.")
        status = read_pong(delivery)
        known = answers.statuses.get(status.instance)
        if known is not None:  # a server that is replaced, and the one that replaces it
            methods, calls = known.methods | status.methods, known.calls | status.calls
            status = InstanceStatus(status.instance, methods, calls)
        if known is not None or len(answers.statuses) < MAX_INSTANCES:
            answers.statuses[status.instance] = status

    async def _poll_while_waiting(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        while waiting := {key: call for key, call in self._calls.items() if not call.answering}:
            now = loop.time()
            calls = {key: call for key, call in waiting.items() if now - call.since >= OLD}
            self.polls += 1
            pings = await self._ping({call.service for call in calls.values()}, channel)
            ages = [now - call.since for call in calls.values()]
            pause = min(max(OLD, min(ages, default=0.0) / _INTERVALS_PER_AGE), LONGEST_INTERVAL)
            if any(call.missing_since is not None for call in calls.values()):
                pause = OLD
            await asyncio.sleep(pause)
            self._pings.clear()
            for correlation_id, call in calls.items():
                if correlation_id in self._calls:
                    await self._check(correlation_id, call, pings[call.service], channel)

    async def _ping(
        self, services: set[ServiceName], channel: Channel
    ) -> Mapping[ServiceName, _Answers]:
        """Ping the instances of each service, which answer meanwhile."""
        pings: dict[ServiceName, _Answers] = {}
        for service in services:
            ping_id = os.urandom(8).hex()
            answers = _Answers(asyncio.get_running_loop().time())
            pings[service] = self._pings[ping_id] = answers
            message = ping_message(ping_id, self._reply_queue(), self._connection.user_id)
            answers.exists = await _has_exchange(channel, service, message)
        return pings

    async def _check(
        self, correlation_id: str, call: InFlightCall, answers: _Answers, channel: Channel
    ) -> None:
        """Fail a call that has been missing for `GRACE` seconds."""
        if (found := answers.status_of(correlation_id)) is not None:
            call.locate(*found)
        elif not await self._is_missing(call, answers, channel):
            call.missing_since = None
            if call.report is not None and call.report.level != INSTANCE:
                await self._count_ahead(call, call.report, channel)
        else:
            # From this check, not from the ping: a loop that was blocked has not read all answers.
            now = asyncio.get_running_loop().time()
            call.missing_since = call.missing_since or now
            if now - call.missing_since >= GRACE:
                call.fail(NoInstanceLeft())

    async def _is_missing(self, call: InFlightCall, answers: _Answers, channel: Channel) -> bool:
        """Return whether a call is neither with an instance that answers nor in its queue."""
        if call.acknowledged:  # the broker does not deliver it to another instance
            return call.instance in answers.statuses or not await _has_instance(channel, call)
        if not answers.exists:
            # The members declare an exchange again that an operator has deleted. A queue exists as
            # long as its consumers, but not every user may test for it.
            call.no_exchange_since = call.no_exchange_since or answers.sent
            if answers.sent - call.no_exchange_since > DECLARED_AGAIN:
                return True
            return not await channel.topology.has_queue(call.queue)
        call.no_exchange_since = None
        created = answers.created(call)
        if created is not None and call.since < created:
            return True
        if answers.statuses and not answers.is_served(call):  # all that have answered are leaving
            return not await channel.topology.has_queue(call.queue)
        return False

    async def _count_ahead(self, call: InFlightCall, report: CallReport, channel: Channel) -> None:
        """Count the calls that are queued before a call, if this user may ask for it."""
        if report.began is not None:
            return
        for queue in (call.queue, call.service.leader_queue):
            if queue not in self._uncounted:
                if (queued := await channel.topology.count_messages(queue)) is None:
                    self._uncounted.add(queue)  # asking costs the channel
                else:
                    # Later calls are counted too, so that the first numbers are the best.
                    report.count_ahead(queued - 1 if queued else None)
                    return


async def _has_instance(channel: Channel, call: InFlightCall) -> bool:
    """Return whether the instance that has a call is connected."""
    service = call.service
    try:
        await channel.publish(
            service.api_exchange,
            service.instance_key(call.instance),
            probe_message(None),
            mandatory=True,
        )
    except Unroutable:
        return False
    except BrokerRefused as refused:
        return refused.code != NOT_FOUND
    return True


async def _has_exchange(channel: Channel, service: ServiceName, ping: Message) -> bool:
    """Ping the instances of a service, and return whether its exchange exists.

    Every caller may publish to it; on RabbitMQ 4.3 only few users may declare it passively.
    """
    try:
        await channel.publish(service.api_exchange, service.instances_key, ping, mandatory=True)
    except Unroutable:  # no instance is on fabric_nb
        return True
    except BrokerRefused as refused:
        return refused.code != NOT_FOUND
    return True
