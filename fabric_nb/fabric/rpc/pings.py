"""Pings to the instances of a service, and their answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from fabric_nb.errors import BrokerRefused, MalformedMessage
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.amqp.reply_codes import NOT_FOUND
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.wire.instances import CallStatus, InstanceStatus, ping_message, read_pong
from fabric_nb.fabric.wire.names import ServiceName

MAX_INSTANCES = 1000
"""Instances of one service whose answers to a ping are read."""
PING_TIME = 1.0
"""Seconds in which instances answer a ping."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of an instance to a ping.

    Attributes:
        status: status of the instance.
        after: seconds between the ping and the answer.
    """

    status: InstanceStatus
    after: float


@dataclass(slots=True, weakref_slot=True, eq=False)
class Answers:
    """Answers of the instances of a service to one ping.

    Attributes:
        id: id of the ping.
        service: the service.
        sent: time of the ping, in seconds of the loop's clock.
        sent_at: time of the ping, in epoch seconds.
        exists: False if the service has no exchange.
        routed: False if no instance is on fabric_nb.
        by_instance: answers by instance.
        arrived: set when an answer arrives.
    """

    id: str
    service: ServiceName
    sent: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    sent_at: float = field(default_factory=time.time)
    exists: bool = True
    routed: bool = True
    by_instance: dict[str, Answer] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, status: InstanceStatus) -> None:
        """Add the answer of an instance, or of one more server of an instance.

        A server that is replaced answers beside the one that replaces it.
        """
        known = self.by_instance.get(status.instance)
        if known is not None:
            status = status.merged_with(known.status)
        elif len(self.by_instance) >= MAX_INSTANCES:
            return
        after = asyncio.get_running_loop().time() - self.sent
        self.by_instance[status.instance] = Answer(status, after)
        self.arrived.set()

    @property
    def statuses(self) -> list[InstanceStatus]:
        """Statuses of the instances that have answered."""
        return [answer.status for answer in self.by_instance.values()]

    def find_call(self, correlation_id: str) -> tuple[str, CallStatus] | None:
        """Return the instance that has a call, and the call's status there."""
        for status in self.statuses:
            if (call := status.calls.get(correlation_id)) is not None:
                return status.instance, call
        return None

    def created(self, queue: str) -> float | None:
        """Return the time at which the queue of a method was created, or any earlier one.

        None: no instance knows it.
        """
        ages = [
            age
            for status in self.statuses
            for method, age in status.methods.items()
            if age is not None and self.service.method_queue(method) == queue
        ]
        return self.sent - min(ages) if ages else None

    def consume(self, queue: str) -> bool:
        """Return whether an instance that has answered consumes the queue of a method."""
        return any(
            self.service.method_queue(method) == queue
            for status in self.statuses
            for method in status.methods
        )


class Pings:
    """Pings of a member, and the answers that have arrived so far.

    Args:
        connection: connection whose user the pings name.
        reply_queue: returns the queue to which instances answer.
    """

    def __init__(self, connection: Connection, reply_queue: Callable[[], str]) -> None:
        self._connection = connection
        self._reply_queue = reply_queue
        self._answers: WeakValueDictionary[str, Answers] = WeakValueDictionary()
        """By id of the ping, as long as they are awaited."""

    async def send(self, service: ServiceName, channel: Channel) -> Answers:
        """Ping the instances of a service, and return the answers, which arrive later.

        Every caller may publish to the service's exchange; on RabbitMQ 4.3 only few users may
        declare it passively. So this also tells whether the exchange exists.

        Args:
            service: the service.
            channel: channel with confirms.
        """
        answers = Answers(os.urandom(8).hex(), service)
        self._answers[answers.id] = answers
        message = ping_message(answers.id, self._reply_queue(), self._connection.user_id)
        try:
            await channel.publish(
                service.api_exchange, service.instances_key, message, mandatory=True
            )
        except Unroutable:
            answers.routed = False
        except BrokerRefused as refused:
            answers.exists = answers.routed = refused.code != NOT_FOUND
        return answers

    async def collect(
        self, service: ServiceName, expected: Collection[str], seconds: float = PING_TIME
    ) -> Answers:
        """Ping the instances of a service, and return their answers when they have arrived.

        Args:
            service: the service.
            expected: instances that are known. When all of them have answered, no others are
                awaited; if none is known, `seconds` are waited in any case.
            seconds: maximum seconds to wait.
        """
        async with self._connection.channel(confirms=True) as channel:
            answers = await self.send(service, channel)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds if answers.routed else 0):
                    while not expected or set(expected) - answers.by_instance.keys():
                        answers.arrived.clear()
                        await answers.arrived.wait()
        return answers

    def receive(self, delivery: Delivery) -> None:
        """Accept a pong.

        Raises:
            MalformedMessage: it cannot be read, or answers no ping.
        """
        answers = self._answers.get(delivery.correlation_id or "")
        if answers is None:
            raise MalformedMessage("A pong that answers no ping of this member.")
        answers.add(read_pong(delivery))
