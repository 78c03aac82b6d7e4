"""Handlers of the methods that declare, bind, purge and delete."""

from collections.abc import Callable
from typing import Any, Protocol

from pamqp import base
from pamqp.commands import Exchange, Queue

from fabric_nb.broker import queues
from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.field_table import Table
from fabric_nb.broker.names import REPLY_TO, refuse_default_exchange
from fabric_nb.broker.vhost import VirtualHost


class DeclaringChannel(Protocol):
    """The part of a channel that these handlers use."""

    vhost: VirtualHost
    last_queue: str

    @property
    def connection(self) -> object:
        """Connection that owns exclusive queues."""

    def queue(self, name: str) -> queues.Queue:
        """Return the queue of this name; an empty name means the queue declared last."""

    def send_reply(self, method: base.Frame, reply: base.Frame) -> None:
        """Send the reply to a method, unless the method has `nowait` set."""


def _table(arguments: Any) -> Table:
    return arguments or {}


def _exchange_declare(channel: DeclaringChannel, method: Exchange.Declare) -> base.Frame:
    if method.passive:
        refuse_default_exchange(method.exchange)
        channel.vhost.exchange(method.exchange)
    else:
        channel.vhost.declare_exchange(
            method.exchange,
            method.exchange_type,
            durable=method.durable,
            auto_delete=method.auto_delete,
            internal=method.internal,
            arguments=_table(method.arguments),
        )
    return Exchange.DeclareOk()


def _exchange_delete(channel: DeclaringChannel, method: Exchange.Delete) -> base.Frame:
    channel.vhost.delete_exchange(method.exchange, if_unused=method.if_unused)
    return Exchange.DeleteOk()


def _exchange_bind(channel: DeclaringChannel, method: Exchange.Bind) -> base.Frame:
    refuse_default_exchange(method.destination)
    channel.vhost.exchange(method.source)  # first, because RabbitMQ reports it if both are missing
    destination = channel.vhost.exchange(method.destination)
    channel.vhost.bind(method.source, destination, method.routing_key, _table(method.arguments))
    return Exchange.BindOk()


def _exchange_unbind(channel: DeclaringChannel, method: Exchange.Unbind) -> base.Frame:
    refuse_default_exchange(method.destination)
    destination = channel.vhost.exchanges.get(method.destination)
    if destination is not None:
        key = method.routing_key or ""
        channel.vhost.unbind(method.source, destination, key, _table(method.arguments))
    return Exchange.UnbindOk()


def _queue_declare(channel: DeclaringChannel, method: Queue.Declare) -> base.Frame:
    if method.queue == REPLY_TO:
        # It exists for every client, and has one consumer.
        return Queue.DeclareOk(REPLY_TO, 0, 1)
    if method.passive or method.queue.startswith(REPLY_TO):
        # Here an empty name does not mean the queue declared last.
        queue = channel.vhost.queue(method.queue, channel.connection)
    else:
        queue = channel.vhost.declare_queue(
            method.queue,
            channel.connection,
            durable=method.durable,
            exclusive=method.exclusive,
            auto_delete=method.auto_delete,
            arguments=_table(method.arguments),
        )
    channel.last_queue = queue.name
    # Set afterwards, because the constructor limits the name to a narrower character set.
    reply = Queue.DeclareOk("", queue.message_count, len(queue.consumers))
    reply.queue = queue.name
    return reply


def _queue_bind(channel: DeclaringChannel, method: Queue.Bind) -> base.Frame:
    channel.vhost.exchange(
        method.exchange
    )  # first, because RabbitMQ reports it if both are missing
    queue = channel.queue(method.queue)
    key = _binding_key(channel, method)
    channel.vhost.bind(method.exchange, queue, key, _table(method.arguments))
    return Queue.BindOk()


def _queue_unbind(channel: DeclaringChannel, method: Queue.Unbind) -> base.Frame:
    if not method.queue or method.queue in channel.vhost.queues:
        queue = channel.queue(method.queue)
        key = _binding_key(channel, method)
        channel.vhost.unbind(method.exchange, queue, key, _table(method.arguments))
    return Queue.UnbindOk()


def _binding_key(channel: DeclaringChannel, method: Queue.Bind | Queue.Unbind) -> str:
    # With neither a queue nor a key, the key is the name of the queue declared last (AMQP 0-9-1,
    # Queue.Bind, rule "if-queue-name-is-empty").
    if not method.queue and not method.routing_key:
        return channel.last_queue
    return method.routing_key or ""


def _queue_purge(channel: DeclaringChannel, method: Queue.Purge) -> base.Frame:
    return Queue.PurgeOk(channel.queue(method.queue).purge())


def _queue_delete(channel: DeclaringChannel, method: Queue.Delete) -> base.Frame | None:
    try:
        queue = channel.queue(method.queue)
    except AMQPError as error:
        if error.code is ReplyCode.NOT_FOUND and method.queue:
            return Queue.DeleteOk(0)
        raise
    subject = f"queue '{queue.name}' in vhost '{channel.vhost.name}'"
    if method.if_unused and queue.consumers:
        raise AMQPError(ReplyCode.PRECONDITION_FAILED, f"{subject} in use")
    if method.if_empty and queue.message_count:
        raise AMQPError(ReplyCode.PRECONDITION_FAILED, f"{subject} not empty")
    channel.send_reply(method, Queue.DeleteOk(queue.message_count))
    # The cancellation of consumers must follow the reply.
    channel.vhost.delete_queue(queue)
    return None


HANDLERS: dict[type[base.Frame], Callable[[Any, Any], base.Frame | None]] = {
    Exchange.Declare: _exchange_declare,
    Exchange.Delete: _exchange_delete,
    Exchange.Bind: _exchange_bind,
    Exchange.Unbind: _exchange_unbind,
    Queue.Declare: _queue_declare,
    Queue.Bind: _queue_bind,
    Queue.Unbind: _queue_unbind,
    Queue.Purge: _queue_purge,
    Queue.Delete: _queue_delete,
}
