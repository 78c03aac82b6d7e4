"""Consumers of one channel: subscriptions, unacknowledged deliveries and their settlement.

AMQP 0-9-1, sections 1.8.3.2 to 1.8.3.16 of the reference; Basic.Nack and the two meanings of a
prefetch limit are those of RabbitMQ ("Consumer Prefetch").
"""

import enum
from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

from pamqp import base, commands

from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.field_table import shortstr
from fabric_nb.broker.framing import content_frames, deliver_method
from fabric_nb.broker.queues import Queue, QueuedMessage

_DELIVER = b"\x00\x3c\x00\x3c"
_GET_OK = b"\x00\x3c\x00\x47"
_MESSAGE_COUNT_SIZE = 4


class ConsumingConnection(Protocol):
    """The part of a connection that consumers use."""

    writable: bool
    max_payload: int
    notifies_cancel: bool

    def send(self, data: bytes) -> None:
        """Send encoded frames."""

    def send_method(self, channel: int, method: base.Frame) -> None:
        """Send a method."""


class Outcome(enum.Enum):
    """Outcome of a delivery."""

    ACKED = enum.auto()
    REJECTED = enum.auto()
    REQUEUED = enum.auto()


class Delivery:
    """An unacknowledged delivery.

    Attributes:
        subscription: Subscription of the delivery; None for Basic.Get.
    """

    __slots__ = ("queue", "queued", "subscription", "tag")

    def __init__(
        self,
        tag: int,
        queue: Queue,
        queued: QueuedMessage,
        subscription: "Subscription | None",
    ) -> None:
        self.tag = tag
        self.queue = queue
        self.queued = queued
        self.subscription = subscription


class Subscription:
    """One consumer of a channel; implements `queues.Consumer`.

    Attributes:
        unacked: Number of unacknowledged deliveries.
    """

    def __init__(
        self,
        consumers: "ChannelConsumers",
        queue: Queue,
        tag: str,
        *,
        no_ack: bool,
        exclusive: bool,
        priority: int,
    ) -> None:
        self.queue = queue
        self.tag = tag
        self.exclusive = exclusive
        self.priority = priority
        self.unacked = 0
        self._no_ack = no_ack
        self._channel_consumers = consumers
        self._connection = consumers.connection
        # No limit without acknowledgements (AMQP 0-9-1, Basic.Qos, "no-ack").
        self._prefetch = 0 if no_ack else consumers.consumer_prefetch
        self._method = _DELIVER + shortstr(tag)

    def is_ready(self) -> bool:
        """Return whether the client can receive a message now."""
        consumers = self._channel_consumers
        return (
            self._connection.writable
            and consumers.active
            and (not self._prefetch or self.unacked < self._prefetch)
            and consumers.has_prefetch_room()
        )

    def deliver(self, queued: QueuedMessage) -> None:
        """Send a message to the client."""
        consumers, message = self._channel_consumers, queued.message
        consumers.last_tag = tag = consumers.last_tag + 1
        method = deliver_method(self._method, tag, queued.redelivered, message.route)
        connection = self._connection
        connection.send(content_frames(consumers.channel, method, message, connection.max_payload))
        if self._no_ack:
            self.queue.settle([queued])
        else:
            self.unacked += 1
            consumers.add_unacked(Delivery(tag, self.queue, queued, self))

    def cancelled_by_server(self) -> None:
        """Cancel the subscription because its queue was deleted."""
        self._channel_consumers.on_queue_deleted(self)


class ChannelConsumers:
    """Consumers and unacknowledged deliveries of one channel.

    Args:
        channel: Number of the channel.
        connection: Connection to which deliveries are sent.

    Attributes:
        active: False once the channel is closing, when deliveries stop.
        consumer_prefetch: Prefetch limit of each new consumer; 0 for none.
        channel_prefetch: Prefetch limit of all consumers of the channel together; 0 for none.
        last_tag: Last delivery tag in use.
    """

    def __init__(self, channel: int, connection: ConsumingConnection) -> None:
        self.channel = channel
        self.connection = connection
        self.active = True
        self.consumer_prefetch = 0
        self.channel_prefetch = 0
        self.last_tag = 0
        self.subscriptions: dict[str, Subscription] = {}
        # An OrderedDict, because a dict slows down if its oldest entries are removed first.
        self._unacked: OrderedDict[int, Delivery] = OrderedDict()
        self._prefetched = 0

    def has_prefetch_room(self) -> bool:
        """Return whether the prefetch limit of the channel allows one more delivery."""
        return not self.channel_prefetch or self._prefetched < self.channel_prefetch

    def add_unacked(self, delivery: Delivery) -> None:
        """Record an unacknowledged delivery."""
        self._unacked[delivery.tag] = delivery
        self._prefetched += delivery.subscription is not None

    def subscribe(self, subscription: Subscription) -> None:
        """Register a consumer under its tag."""
        self.subscriptions[subscription.tag] = subscription

    def on_queue_deleted(self, subscription: Subscription) -> None:
        """Remove a consumer whose queue was deleted, and notify a client with that capability.

        See RabbitMQ's "Consumer Cancel Notification".
        """
        self.subscriptions.pop(subscription.tag, None)
        if self.connection.notifies_cancel:
            self.connection.send_method(
                self.channel, commands.Basic.Cancel(subscription.tag, nowait=True)
            )

    def get(self, queue: Queue, *, no_ack: bool) -> bool:
        """Answer Basic.Get with a message; return False if the queue is empty."""
        queued = queue.get()
        if queued is None:
            return False
        self.last_tag += 1
        method = deliver_method(
            _GET_OK, self.last_tag, queued.redelivered, queued.message.route
        ) + queue.message_count.to_bytes(_MESSAGE_COUNT_SIZE)
        connection = self.connection
        connection.send(
            content_frames(self.channel, method, queued.message, connection.max_payload)
        )
        if no_ack:
            queue.settle([queued])
        else:
            self.add_unacked(Delivery(self.last_tag, queue, queued, None))
        return True

    def pop_unacked(self, tag: int, *, multiple: bool) -> list[Delivery]:
        """Remove and return the deliveries that a client settles.

        Args:
            tag: The delivery tag; 0 with `multiple` for all.
            multiple: True for all deliveries up to the tag.

        Raises:
            AMQPError: PRECONDITION_FAILED if the tag is not that of an unacknowledged delivery.
        """
        unacked = self._unacked
        if multiple and not tag:
            return self.pop_all_unacked()
        if tag not in unacked:
            raise AMQPError(ReplyCode.PRECONDITION_FAILED, f"unknown delivery tag {tag}")
        if not multiple:
            return [unacked.pop(tag)]
        popped = []
        while unacked and (first := next(iter(unacked))) <= tag:
            popped.append(unacked.pop(first))
        return popped

    def pop_all_unacked(self) -> list[Delivery]:
        """Remove and return all unacknowledged deliveries."""
        popped = list(self._unacked.values())
        self._unacked.clear()
        return popped

    def restore_unacked(self, deliveries: Iterable[Delivery]) -> None:
        """Undo `pop_unacked`, for a transaction that is rolled back."""
        for delivery in deliveries:
            self._unacked[delivery.tag] = delivery
        self._unacked = OrderedDict(sorted(self._unacked.items()))

    def settle(self, deliveries: Iterable[Delivery], outcome: Outcome) -> None:
        """Settle removed deliveries, and dispatch messages for which there is room afterwards.

        As in RabbitMQ, the deliveries of each consumer are settled together: messages requeued for
        one consumer may be dispatched before the next consumer's are settled.
        """
        groups: dict[tuple[Queue, Subscription | None], list[QueuedMessage]] = {}
        for delivery in deliveries:
            key = (delivery.queue, delivery.subscription)
            groups.setdefault(key, []).append(delivery.queued)
        for (queue, subscription), messages in sorted(groups.items(), key=_by_consumer):
            if subscription is not None:
                subscription.unacked -= len(messages)
                self._prefetched -= len(messages)
            if outcome is Outcome.ACKED:
                queue.settle(messages)
            elif outcome is Outcome.REJECTED:
                queue.reject(messages)
            else:
                queue.requeue(messages)
            queue.dispatch()
        if self.channel_prefetch:
            self.dispatch()

    def requeue(self, deliveries: Iterable[Delivery]) -> None:
        """Requeue deliveries when the channel closes, together for each queue."""
        returning: dict[Queue, list[QueuedMessage]] = {}
        for delivery in deliveries:
            returning.setdefault(delivery.queue, []).append(delivery.queued)
        for queue, messages in returning.items():
            queue.requeue(messages)

    def dispatch(self) -> None:
        """Dispatch messages from all queues that this channel consumes."""
        for queue in self.queues():
            queue.dispatch()

    def queues(self) -> list[Queue]:
        """Return the queues that this channel consumes."""
        return [subscription.queue for subscription in self.subscriptions.values()]


def _by_consumer(
    group: tuple[tuple[Queue, Subscription | None], list[QueuedMessage]],
) -> tuple[str, str]:
    (queue, subscription), _ = group
    return queue.name, subscription.tag if subscription is not None else ""
