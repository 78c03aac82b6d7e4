"""One channel: dispatch of its methods to handlers, and its shutdown."""

import secrets
import struct
from collections.abc import Callable
from typing import Any, Protocol

from pamqp import base
from pamqp.commands import Basic, Confirm, Tx
from pamqp.commands import Channel as ChannelClass

from fabric_nb.broker import topology
from fabric_nb.broker.arguments import not_an_integer
from fabric_nb.broker.consuming import ChannelConsumers, Delivery, Outcome, Subscription
from fabric_nb.broker.errors import NO_METHOD, AMQPError, ReplyCode
from fabric_nb.broker.field_table import Table
from fabric_nb.broker.framing import BODY, HEADER, HEARTBEAT, METHOD
from fabric_nb.broker.methods import decode_method
from fabric_nb.broker.names import REPLY_TO
from fabric_nb.broker.publishing import ChannelPublisher, PublishingConnection, Transaction
from fabric_nb.broker.queues import Queue

_PUBLISH = b"\x00\x3c\x00\x28"
_ACK = b"\x00\x3c\x00\x50"
_ACK_ARGUMENTS = struct.Struct(">4xQB")


class Connection(PublishingConnection, Protocol):
    """The part of a connection that a channel uses."""

    def close_channel(self, number: int) -> None:
        """Remove a channel that its client has closed."""


class Channel:
    """A channel of a connection.

    Args:
        number: Number of the channel on its connection.
        connection: The connection.

    Attributes:
        last_queue: Name of the queue declared last, used for an empty queue name.
    """

    def __init__(self, number: int, connection: Connection) -> None:
        self.number = number
        self.connection = connection
        self.vhost = connection.vhost
        self.consumers = ChannelConsumers(number, connection)
        self.publisher = ChannelPublisher(number, connection)
        self.last_queue = ""
        self.vhost.quota.charge("channels")

    def on_frame(self, kind: int, payload: bytes) -> None:
        """Handle a frame.

        Raises:
            AMQPError: The channel or, for a hard error, the connection must be closed.
        """
        if kind == METHOD:
            if self.publisher.expects_content:
                raise self.publisher.unexpected_frame()
            index = payload[:4]
            if index == _PUBLISH:
                self.publisher.on_publish(payload)
            elif index == _ACK and len(payload) == _ACK_ARGUMENTS.size:
                tag, multiple = _ACK_ARGUMENTS.unpack(payload)
                self.settle(tag, multiple=bool(multiple & 1), outcome=Outcome.ACKED)
            else:
                self._on_method(decode_method(payload))
        elif kind == BODY:
            self.publisher.on_body(payload)
        elif kind == HEADER:
            self.publisher.on_header(payload)
        elif kind == HEARTBEAT:
            raise AMQPError(ReplyCode.UNEXPECTED_FRAME, "heartbeat on a channel", NO_METHOD)
        else:
            raise AMQPError(ReplyCode.FRAME_ERROR, f"frame of unknown type {kind}", NO_METHOD)

    def _on_method(self, method: base.Frame) -> None:
        handler = _HANDLERS.get(type(method))
        if handler is None:
            raise AMQPError(ReplyCode.COMMAND_INVALID, "unimplemented method")
        reply = handler(self, method)
        if reply is not None:
            self.send_reply(method, reply)

    def send_reply(self, method: base.Frame, reply: base.Frame) -> None:
        """Send the reply to a method, unless the method has `nowait` set."""
        if not getattr(method, "nowait", False):
            self.connection.send_method(self.number, reply)

    def close(self) -> None:
        """Close the channel: remove its consumers and requeue unacknowledged deliveries."""
        consumers, publisher = self.consumers, self.publisher
        self.vhost.quota.refund("channels")
        # Messages of a removed consumer must not go to the next consumer of this channel.
        consumers.active = False
        for subscription in list(consumers.subscriptions.values()):
            self.cancel(subscription)
        unacked = consumers.pop_all_unacked()
        if publisher.transaction is not None:
            for deliveries, _ in publisher.transaction.settlements:
                unacked += deliveries
            publisher.transaction.settlements.clear()
        publisher.close()
        consumers.requeue(unacked)

    def queue(self, name: str) -> Queue:
        """Return the queue of this name; an empty name means the queue declared last.

        Raises:
            AMQPError: NOT_FOUND or RESOURCE_LOCKED.
        """
        if not name and not self.last_queue:
            raise AMQPError(ReplyCode.NOT_FOUND, "no previously declared queue")
        return self.vhost.queue(name or self.last_queue, self.connection)

    def settle(self, tag: int, *, multiple: bool, outcome: Outcome) -> None:
        """Settle deliveries, immediately or at the commit of the open transaction."""
        deliveries = self.consumers.pop_unacked(tag, multiple=multiple)
        transaction = self.publisher.transaction
        if transaction is None:
            self.consumers.settle(deliveries, outcome)
        else:
            transaction.settlements.append((deliveries, outcome))

    def cancel(self, subscription: Subscription) -> None:
        """Cancel a consumer at its client's request."""
        del self.consumers.subscriptions[subscription.tag]
        if subscription.queue.name == self.publisher.reply_queue:
            self.publisher.reply_queue = None
        self.vhost.remove_consumer(subscription.queue, subscription)


def _close(channel: Channel, method: ChannelClass.Close) -> None:
    channel.connection.close_channel(channel.number)
    channel.connection.send_method(channel.number, ChannelClass.CloseOk())


def _open_again(channel: Channel, method: ChannelClass.Open) -> None:
    raise AMQPError(ReplyCode.CHANNEL_ERROR, "second 'channel.open' seen")


def _flow(channel: Channel, method: ChannelClass.Flow) -> base.Frame:
    # As in RabbitMQ since 2.0, which offers Basic.Qos instead.
    if not method.active:
        raise AMQPError(ReplyCode.NOT_IMPLEMENTED, "active=false")
    return ChannelClass.FlowOk(True)


def _qos(channel: Channel, method: Basic.Qos) -> base.Frame:
    if method.prefetch_size:
        raise AMQPError(ReplyCode.NOT_IMPLEMENTED, f"prefetch_size!=0 ({method.prefetch_size})")
    if method.global_:
        channel.consumers.channel_prefetch = method.prefetch_count
        channel.consumers.dispatch()
    else:
        channel.consumers.consumer_prefetch = method.prefetch_count
    return Basic.QosOk()


def _consume(channel: Channel, method: Basic.Consume) -> None:
    tag = method.consumer_tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
    if tag in channel.consumers.subscriptions:
        raise AMQPError(ReplyCode.NOT_ALLOWED, f"attempt to reuse consumer tag '{tag}'")
    queue = _queue_to_consume(channel, method)
    priority = _consumer_priority(method, f"queue '{queue.name}' in vhost '{channel.vhost.name}'")
    subscription = Subscription(
        channel.consumers,
        queue,
        tag,
        no_ack=method.no_ack,
        exclusive=method.exclusive,
        priority=priority,
    )
    # As in RabbitMQ, `no_local` is accepted and ignored.
    channel.vhost.add_consumer(queue, subscription)
    channel.consumers.subscribe(subscription)
    channel.send_reply(method, Basic.ConsumeOk(tag))
    # Deliveries must follow the reply.
    queue.dispatch()


def _queue_to_consume(channel: Channel, method: Basic.Consume) -> Queue:
    if method.queue == REPLY_TO:
        return _reply_queue(channel, method)
    queue = channel.queue(method.queue)
    in_exclusive_use = any(consumer.exclusive for consumer in queue.consumers)
    shared = queue.consumers or queue.policy.single_active_consumer
    if in_exclusive_use or (method.exclusive and shared):
        raise AMQPError(
            ReplyCode.ACCESS_REFUSED,
            f"queue '{queue.name}' in vhost '{channel.vhost.name}' in exclusive use",
        )
    return queue


def _reply_queue(channel: Channel, method: Basic.Consume) -> Queue:
    if not method.no_ack:
        raise AMQPError(ReplyCode.PRECONDITION_FAILED, "reply consumer cannot acknowledge")
    if channel.publisher.reply_queue is not None:
        raise AMQPError(ReplyCode.PRECONDITION_FAILED, "reply consumer already set")
    queue = channel.vhost.declare_reply_queue()
    channel.publisher.reply_queue = queue.name
    return queue


def _consumer_priority(method: Basic.Consume, subject: str) -> int:
    arguments: Table = method.arguments or {}  # type: ignore[assignment]
    priority = arguments.get("x-priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise AMQPError(
            ReplyCode.PRECONDITION_FAILED,
            f"invalid arg 'x-priority' for {subject}: {not_an_integer(priority)}",
        )
    return priority


def _cancel(channel: Channel, method: Basic.Cancel) -> base.Frame:
    subscription = channel.consumers.subscriptions.get(method.consumer_tag or "")
    if subscription is not None:
        channel.cancel(subscription)
    return Basic.CancelOk(method.consumer_tag)


def _get(channel: Channel, method: Basic.Get) -> base.Frame | None:
    queue = channel.queue(method.queue)
    return None if channel.consumers.get(queue, no_ack=method.no_ack) else Basic.GetEmpty()


def _ack(channel: Channel, method: Basic.Ack) -> None:
    channel.settle(method.delivery_tag or 0, multiple=method.multiple, outcome=Outcome.ACKED)


def _reject(channel: Channel, method: Basic.Reject) -> None:
    outcome = Outcome.REQUEUED if method.requeue else Outcome.REJECTED
    channel.settle(method.delivery_tag or 0, multiple=False, outcome=outcome)


def _nack(channel: Channel, method: Basic.Nack) -> None:
    outcome = Outcome.REQUEUED if method.requeue else Outcome.REJECTED
    channel.settle(method.delivery_tag or 0, multiple=method.multiple, outcome=outcome)


def _recover_async(channel: Channel, method: Basic.Recover | Basic.RecoverAsync) -> None:
    if not method.requeue:
        raise AMQPError(ReplyCode.NOT_IMPLEMENTED, "requeue=false")
    channel.consumers.settle(channel.consumers.pop_all_unacked(), Outcome.REQUEUED)


def _recover(channel: Channel, method: Basic.Recover) -> None:
    if method.requeue:
        # Deliveries must follow the reply.
        channel.connection.send_method(channel.number, Basic.RecoverOk())
    _recover_async(channel, method)


def _confirm_select(channel: Channel, method: Confirm.Select) -> base.Frame:
    if channel.publisher.transaction is not None:
        raise AMQPError(ReplyCode.PRECONDITION_FAILED, "cannot switch from tx to confirm mode")
    channel.publisher.start_confirms()
    return Confirm.SelectOk()


def _tx_select(channel: Channel, method: Tx.Select) -> base.Frame:
    if channel.publisher.confirms:
        raise AMQPError(ReplyCode.PRECONDITION_FAILED, "cannot switch from confirm to tx mode")
    channel.publisher.transaction = channel.publisher.transaction or Transaction()
    return Tx.SelectOk()


def _open_transaction(channel: Channel) -> Transaction:
    transaction = channel.publisher.transaction
    if transaction is None:
        raise AMQPError(ReplyCode.PRECONDITION_FAILED, "channel is not transactional")
    return transaction


def _tx_commit(channel: Channel, method: Tx.Commit) -> base.Frame:
    transaction = _open_transaction(channel)
    channel.publisher.commit()
    for deliveries, outcome in transaction.settlements:
        channel.consumers.settle(deliveries, outcome)
    transaction.settlements.clear()
    return Tx.CommitOk()


def _tx_rollback(channel: Channel, method: Tx.Rollback) -> base.Frame:
    transaction = _open_transaction(channel)
    channel.publisher.rollback()
    returned: list[Delivery] = []
    for deliveries, _ in transaction.settlements:
        returned += deliveries
    channel.consumers.restore_unacked(returned)
    transaction.settlements.clear()
    return Tx.RollbackOk()


_HANDLERS: dict[type[base.Frame], Callable[[Channel, Any], base.Frame | None]] = {
    **topology.HANDLERS,
    ChannelClass.Open: _open_again,
    ChannelClass.Close: _close,
    ChannelClass.Flow: _flow,
    Basic.Qos: _qos,
    Basic.Consume: _consume,
    Basic.Cancel: _cancel,
    Basic.Get: _get,
    Basic.Ack: _ack,
    Basic.Reject: _reject,
    Basic.Nack: _nack,
    Basic.Recover: _recover,
    Basic.RecoverAsync: _recover_async,
    Confirm.Select: _confirm_select,
    Tx.Select: _tx_select,
    Tx.Commit: _tx_commit,
    Tx.Rollback: _tx_rollback,
}
