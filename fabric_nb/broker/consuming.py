"""ChannelConsumers on one channel: subscriptions, deliveries on the way, and their settlement.

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
    """The connection, as consumers sees it."""

    writable: bool
    max_payload: int
    notifies_cancel: bool

    def send(self, data: bytes) -> None:
        """Send encoded frames."""

    def send_method(self, channel: int, method: base.Frame) -> None:
        """Send a method."""


class Outcome(enum.Enum):
    """What becomes of a delivery."""

    ACKED = enum.auto()
    REJECTED = enum.auto()
    REQUEUED = enum.auto()


class Delivery:
    """A message that a client has and has not settled.

    Attributes:
        subscription: Where it was delivered to; None when it was fetched with Basic.Get.
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
    """One consumer of a channel; the `Consumer` that a queue knows.

    Attributes:
        unacked: Deliveries that the client has not settled.
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
        # Limits nothing without acknowledgements (AMQP 0-9-1, Basic.Qos, "no-ack").
        self._prefetch = 0 if no_ack else consumers.consumer_prefetch
        self._method = _DELIVER + shortstr(tag)

    def is_ready(self) -> bool:
        """Whether the client can pop_unacked a message now."""
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
        """Tell the client that the queue is gone."""
        self._channel_consumers.on_queue_deleted(self)


class ChannelConsumers:
    """The consumers and unsettled deliveries of one channel.

    Args:
        channel: The channel's number.
        connection: The connection that deliveries go to.

    Attributes:
        active: False when the channel ends: nothing more is delivered.
        consumer_prefetch: Limit of unsettled deliveries for each consumer to come; 0 for none.
        channel_prefetch: The same for the consumers of the channel together.
        last_tag: The delivery tag given out last.
    """

    def __init__(self, channel: int, connection: ConsumingConnection) -> None:
        self.channel = channel
        self.connection = connection
        self.active = True
        self.consumer_prefetch = 0
        self.channel_prefetch = 0
        self.last_tag = 0
        self.subscriptions: dict[str, Subscription] = {}
        # Ordered, because a plain dict slows down when its oldest entries go first.
        self._unacked: OrderedDict[int, Delivery] = OrderedDict()
        self._prefetched = 0

    def has_prefetch_room(self) -> bool:
        """Whether the limit of the whole channel allows one more delivery."""
        return not self.channel_prefetch or self._prefetched < self.channel_prefetch

    def add_unacked(self, delivery: Delivery) -> None:
        """Keep a delivery until it is settled."""
        self._unacked[delivery.tag] = delivery
        self._prefetched += delivery.subscription is not None

    def subscribe(self, subscription: Subscription) -> None:
        """Register a consumer under its tag."""
        self.subscriptions[subscription.tag] = subscription

    def on_queue_deleted(self, subscription: Subscription) -> None:
        """Drop a consumer whose queue is gone, and tell a client that can hear it.

        See RabbitMQ's "Consumer Cancel Notification".
        """
        self.subscriptions.pop(subscription.tag, None)
        if self.connection.notifies_cancel:
            self.connection.send_method(
                self.channel, commands.Basic.Cancel(subscription.tag, nowait=True)
            )

    def get(self, queue: Queue, *, no_ack: bool) -> bool:
        """Answer Basic.Get with a message; False when the queue is empty."""
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
        """Take out the deliveries that a client settles.

        Args:
            tag: The delivery tag; 0 with `multiple` for all.
            multiple: Whether all deliveries up to the tag are meant.

        Raises:
            AMQPError: PRECONDITION_FAILED when the tag is not one of an unsettled delivery.
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
        """Take out all unsettled deliveries."""
        popped = list(self._unacked.values())
        self._unacked.clear()
        return popped

    def restore_unacked(self, deliveries: Iterable[Delivery]) -> None:
        """Undo `pop_unacked`, for a transaction that is rolled back."""
        for delivery in deliveries:
            self._unacked[delivery.tag] = delivery
        self._unacked = OrderedDict(sorted(self._unacked.items()))

    def settle(self, deliveries: Iterable[Delivery], outcome: Outcome) -> None:
        """Settle deliveries that were popped out, and hand out what there is room for then.

        As in RabbitMQ, each consumer's are settled together: what one gives back to a queue may be
        handed out before the next one's come.
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
        """Return deliveries to their queues at the end of the channel, all of a queue at once."""
        returning: dict[Queue, list[QueuedMessage]] = {}
        for delivery in deliveries:
            returning.setdefault(delivery.queue, []).append(delivery.queued)
        for queue, messages in returning.items():
            queue.requeue(messages)

    def dispatch(self) -> None:
        """Hand out messages from all queues that this channel consumes from."""
        for queue in self.queues():
            queue.dispatch()

    def queues(self) -> list[Queue]:
        """The queues that this channel consumes from."""
        return [subscription.queue for subscription in self.subscriptions.values()]


def _by_consumer(
    group: tuple[tuple[Queue, Subscription | None], list[QueuedMessage]],
) -> tuple[str, str]:
    (queue, subscription), _ = group
    return queue.name, subscription.tag if subscription is not None else ""
