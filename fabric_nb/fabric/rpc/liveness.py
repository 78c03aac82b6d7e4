"""Liveness of called services: fails in-flight calls that no instance can answer any more.

A caller gets no notice of a call that is lost: with the last instance of a service, the broker
deletes its queues and the calls in them, and a call that was acknowledged when it began is lost
with its instance. So the instances are pinged while there are old calls; see *Instances* in
`docs/wire.md`. A service on amqp-fabric does not answer, and is gone with its exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from time import monotonic

from fabric_nb.errors import BrokerRefused, FabricError
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import REDECLARE_EVERY, Connection
from fabric_nb.fabric.amqp.reply_codes import NOT_FOUND
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.rpc.call_report import Silence
from fabric_nb.fabric.rpc.in_flight import OLD, InFlightCall, InFlightCalls
from fabric_nb.fabric.rpc.pings import Answers, Pings
from fabric_nb.fabric.wire.calls import INSTANCE
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


class NoInstanceLeft(Exception):
    """No instance has the call, and the queue that it was in is gone."""


class LivenessMonitor:
    """Fails calls that are lost, about a second after that.

    Args:
        connection: connection that the calls are sent on.
        calls: the in-flight calls; those that are answered before they are old cost nothing.
        pings: pings of the member.
        instances: returns the ids of all instances of a service, if all of them answer pings.

    Attributes:
        polls: number of polls so far.
    """

    def __init__(
        self,
        connection: Connection,
        calls: InFlightCalls,
        pings: Pings,
        instances: Callable[[ServiceName], Collection[str]],
    ) -> None:
        self._connection = connection
        self._calls = calls
        self._pings = pings
        self._instances = instances
        self._has_old = asyncio.Event()
        self._calls.on_old = self._has_old.set
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

    async def _poll_while_waiting(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        while waiting := {key: call for key, call in self._calls.items() if not call.answering}:
            now = loop.time()
            calls = {key: call for key, call in waiting.items() if now - call.since >= OLD}
            self._calls.count_behind()
            self.polls += 1
            services = {call.service for call in calls.values()}
            answers = {service: await self._pings.send(service, channel) for service in services}
            ages = [now - call.since for call in calls.values()]
            pause = min(max(OLD, min(ages, default=0.0) / _INTERVALS_PER_AGE), LONGEST_INTERVAL)
            if any(call.missing_since is not None for call in calls.values()):
                pause = OLD
            await asyncio.sleep(pause)
            for correlation_id, call in calls.items():
                if correlation_id in self._calls:
                    await self._check(correlation_id, call, answers[call.service], channel)

    async def _check(
        self, correlation_id: str, call: InFlightCall, answers: Answers, channel: Channel
    ) -> None:
        """Fail a call that has been missing for `GRACE` seconds."""
        if (found := answers.find_call(correlation_id)) is not None:
            call.locate(*found)
        elif not await self._is_missing(call, answers, channel):
            call.missing_since = None
            call.silence = self._silence(call, answers)
            if call.silence or (call.report is not None and call.report.level != INSTANCE):
                await self._count_ahead(call, channel)
        else:
            # From this check, not from the ping: a loop that was blocked has not read all answers.
            now = asyncio.get_running_loop().time()
            call.missing_since = call.missing_since or now
            if now - call.missing_since >= GRACE:
                call.fail(NoInstanceLeft())

    async def _is_missing(self, call: InFlightCall, answers: Answers, channel: Channel) -> bool:
        """Return whether a call is neither with an instance that answers nor in its queue."""
        if call.acknowledged:  # the broker does not deliver it to another instance
            return call.instance in answers.by_instance or not await _has_instance(channel, call)
        if not answers.exists:
            # The members declare an exchange again that an operator has deleted. A queue exists as
            # long as its consumers, but not every user may test for it.
            call.no_exchange_since = call.no_exchange_since or answers.sent
            if answers.sent - call.no_exchange_since > DECLARED_AGAIN:
                return True
            return not await channel.topology.has_queue(call.key)
        call.no_exchange_since = None
        created = answers.created(call.key)
        if created is not None and call.since < created:
            return True
        if answers.by_instance and not answers.consume(
            call.key
        ):  # all that have answered are leaving
            return not await channel.topology.has_queue(call.key)
        return False

    def _silence(self, call: InFlightCall, answers: Answers) -> Silence | None:
        """Return the silence of the instances that may have a call, which no answer lists.

        An instance whose loop was blocked before may not have begun the call, and says nothing.
        """
        before = call.silence
        instances = self._instances(call.service) if before is None else before.instances
        silent = frozenset(instances) - answers.by_instance.keys()
        ago = asyncio.get_running_loop().time() - answers.sent
        since = monotonic() - ago if before is None else before.since
        return Silence(silent, since) if silent else None

    async def _count_ahead(self, call: InFlightCall, channel: Channel) -> None:
        """Count the calls that are queued before a call, if this user may ask for it."""
        if call.report is not None and call.report.began is not None:
            return
        for queue in (call.key, call.service.leader_queue):
            if queue not in self._uncounted:
                if (queued := await channel.topology.count_messages(queue)) is None:
                    self._uncounted.add(queue)  # asking costs the channel
                else:
                    call.count_ahead(queued)
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
