"""The virtual host: exchanges, queues and bindings, and routing of messages.

The rules and error texts are RabbitMQ's. Its documentation of "Queues" and "Exchanges" is the
source for extensions of AMQP 0-9-1 (idempotent deletion, alternate exchanges).
"""

import secrets
from collections.abc import Iterable, Sequence

from fabric_nb.broker.arguments import (
    QueuePolicy,
    assert_equivalent,
    exchange_alternate,
    queue_policy,
)
from fabric_nb.broker.dead_letters import DeadLettering
from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.field_table import Table
from fabric_nb.broker.messages import ContentHeader, Message
from fabric_nb.broker.names import (
    PREDECLARED_EXCHANGES,
    REPLY_TO,
    TRANSIENT_NONEXCL_QUEUES,
    refuse_default_exchange,
    refuse_reserved,
)
from fabric_nb.broker.queue_expiry import QueueExpiry
from fabric_nb.broker.queues import Clock, Consumer, Queue
from fabric_nb.broker.quota import Limits, Quota
from fabric_nb.broker.routing import MATCHERS, Binding, Destination, Exchange, RoutedMessage
from fabric_nb.broker.sender_selected import sender_selected


class VirtualHost:
    """State shared by all clients.

    Args:
        clock: Source of time.
        denied: Deprecated features of RabbitMQ that are refused, of `DENIABLE_FEATURES`.
        limits: Limits on declarations.
    """

    name = "/"

    def __init__(
        self,
        clock: Clock,
        denied: frozenset[str] = frozenset(),
        limits: Limits | None = None,
    ) -> None:
        self.clock = clock
        self.exchanges = {
            name: Exchange(name, kind, durable=True) for name, kind in PREDECLARED_EXCHANGES.items()
        }
        self.queues: dict[str, Queue] = {}
        self._denied = denied
        self.quota = Quota(limits or Limits())
        self._dead_letters = DeadLettering(self._route_dead_letter)
        self._bindings_to: dict[Destination, set[Binding]] = {}
        self._exclusive_queues: dict[object, set[Queue]] = {}
        self._expiry = QueueExpiry(clock, self.delete_queue)

    # Exchanges

    def exchange(self, name: str) -> Exchange:
        """Return the exchange of this name.

        Raises:
            AMQPError: NOT_FOUND if there is none.
        """
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise AMQPError(ReplyCode.NOT_FOUND, f"no {self._describe('exchange', name)}")
        return exchange

    def declare_exchange(
        self,
        name: str,
        kind: str,
        *,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Table,
    ) -> None:
        """Create an exchange, or check that the existing one is equivalent.

        Raises:
            AMQPError: COMMAND_INVALID for an unknown type, ACCESS_REFUSED for a reserved name,
                PRECONDITION_FAILED for invalid arguments or ones that differ from the existing
                exchange, RESOURCE_ERROR if there are too many exchanges.
        """
        if kind not in MATCHERS:
            raise AMQPError(ReplyCode.COMMAND_INVALID, f"unknown exchange type '{kind}'")
        refuse_default_exchange(name)
        subject = self._describe("exchange", name)
        declared = Exchange(
            name,
            kind,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments,
            alternate=exchange_alternate(arguments, subject),
        )
        existing = self.exchanges.get(name)
        if existing is not None:
            assert_equivalent(subject, declared.attributes, existing.attributes)
            return
        refuse_reserved("exchange", name)
        self.quota.charge("exchanges", arguments)
        self.exchanges[name] = declared

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        """Delete an exchange; no effect if it does not exist.

        Raises:
            AMQPError: ACCESS_REFUSED for a predeclared exchange, PRECONDITION_FAILED if it has
                bindings and `if_unused` is set.
        """
        refuse_default_exchange(name)
        if name in PREDECLARED_EXCHANGES:
            raise AMQPError(
                ReplyCode.ACCESS_REFUSED,
                f"deletion of system {self._describe('exchange', name)} not allowed",
            )
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise AMQPError(
                ReplyCode.PRECONDITION_FAILED, f"{self._describe('exchange', name)} in use"
            )
        self._remove_exchanges([exchange])

    def _remove_exchanges(self, removed: list[Exchange]) -> None:
        """Remove exchanges, and auto-delete exchanges that lose their last binding."""
        while removed:
            exchange = removed.pop()
            if self.exchanges.pop(exchange.name, None) is None:
                continue
            self.quota.refund("exchanges", exchange.arguments)
            for binding in list(exchange.bindings.values()):
                self._remove_binding(binding)
            removed += self._remove_incoming(exchange)

    # Queues

    def queue(self, name: str, owner: object) -> Queue:
        """Return the queue of this name, for use by the connection `owner`.

        Raises:
            AMQPError: NOT_FOUND if there is none, RESOURCE_LOCKED if it is exclusive to another
                connection.
        """
        queue = self.queues.get(name)
        if queue is None:
            raise AMQPError(ReplyCode.NOT_FOUND, f"no {self._describe('queue', name)}")
        if queue.owner is not None and queue.owner is not owner:
            raise self._locked_error(name)
        queue.touch()
        return queue

    def _locked_error(self, name: str) -> AMQPError:
        return AMQPError(
            ReplyCode.RESOURCE_LOCKED,
            f"cannot obtain exclusive access to locked {self._describe('queue', name)}. "
            "It could be originally declared on another connection or the exclusive property "
            "value does not match that of the original declaration.",
        )

    def declare_queue(
        self,
        name: str,
        owner: object,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Table,
    ) -> Queue:
        """Create a queue, or check that the existing one is equivalent.

        Args:
            name: Name, or empty for a generated name.
            owner: Connection that declares the queue.
            durable: Compared with redeclarations only; nothing survives the broker.
            exclusive: Whether only `owner` may use the queue, which is deleted with it.
            auto_delete: Whether the queue is deleted with its last consumer.
            arguments: See `arguments.queue_policy`.

        Raises:
            AMQPError: ACCESS_REFUSED for a reserved name, RESOURCE_LOCKED if it is exclusive to
                another connection or differs in exclusivity, PRECONDITION_FAILED for invalid
                arguments or ones that differ from the existing queue, INTERNAL_ERROR for a denied
                kind of queue, RESOURCE_ERROR if there are too many queues.
        """
        # An exclusive queue cannot outlive its connection: as in RabbitMQ, it is not durable.
        durable = durable and not exclusive
        if name:
            refuse_reserved("queue", name)
        else:
            name = f"amq.gen-{secrets.token_urlsafe(16)}"
        subject = self._describe("queue", name)
        declared = Queue(
            name,
            queue_policy(arguments, subject),
            self.clock,
            self._dead_letters.send,
            durable=durable,
            auto_delete=auto_delete,
            owner=owner if exclusive else None,
            arguments=arguments,
        )
        existing = self.queues.get(name)
        if existing is None:
            self._refuse_denied(declared)
            return self._add_queue(declared)
        if existing.owner is not declared.owner:
            raise self._locked_error(name)
        assert_equivalent(subject, declared.attributes, existing.attributes)
        existing.touch()
        return existing

    def _refuse_denied(self, queue: Queue) -> None:
        transient = not queue.durable and queue.owner is None
        if transient and TRANSIENT_NONEXCL_QUEUES in self._denied:
            raise AMQPError(
                ReplyCode.INTERNAL_ERROR,
                f"Feature `{TRANSIENT_NONEXCL_QUEUES}` is deprecated and not permitted here: "
                "declare the queue durable or exclusive",
            )

    def declare_reply_queue(self) -> Queue:
        """Create the queue behind a consumer of the direct reply-to pseudo-queue.

        It can be published to by name, like any queue, and is deleted with its consumer.
        """
        name = f"{REPLY_TO}.{secrets.token_urlsafe(24)}"
        return self._add_queue(
            Queue(name, QueuePolicy(), self.clock, self._dead_letters.send, auto_delete=True)
        )

    def _add_queue(self, queue: Queue) -> Queue:
        self.quota.charge("queues", queue.arguments)
        self.queues[queue.name] = queue
        if queue.owner is not None:
            self._exclusive_queues.setdefault(queue.owner, set()).add(queue)
        self._expiry.watch(queue)
        return queue

    def delete_queue(self, queue: Queue) -> int:
        """Delete a queue and its bindings, and return the number of its ready messages."""
        if self.queues.pop(queue.name, None) is None:
            return 0
        self.quota.refund("queues", queue.arguments)
        for _ in queue.consumers:
            self.quota.refund("consumers")
        if queue.owner is not None:
            self._exclusive_queues[queue.owner].discard(queue)
        self._expiry.unwatch(queue)
        self._remove_exchanges(self._remove_incoming(queue))
        return queue.delete()

    def delete_exclusive_queues(self, owner: object) -> None:
        """Delete the exclusive queues of a closed connection."""
        for queue in list(self._exclusive_queues.get(owner, ())):
            self.delete_queue(queue)
        self._exclusive_queues.pop(owner, None)

    def add_consumer(self, queue: Queue, consumer: Consumer) -> None:
        """Add a consumer to a queue.

        Raises:
            AMQPError: RESOURCE_ERROR if there are too many consumers.
        """
        self.quota.charge("consumers")
        queue.add_consumer(consumer)

    def remove_consumer(self, queue: Queue, consumer: Consumer) -> None:
        """Remove a consumer from its queue, and delete an auto-delete queue without consumers."""
        if queue.deleted:
            return
        self.quota.refund("consumers")
        queue.remove_consumer(consumer)
        if queue.consumers:
            return
        if queue.auto_delete:
            self.delete_queue(queue)
        else:
            self._expiry.watch(queue)

    # Bindings

    def bind(self, source: str, destination: Destination, key: str, arguments: Table) -> None:
        """Bind a queue or an exchange to an exchange.

        Raises:
            AMQPError: ACCESS_REFUSED for the default exchange, NOT_FOUND without the source,
                PRECONDITION_FAILED for arguments that are not valid for its type, RESOURCE_ERROR
                if there are too many bindings.
        """
        refuse_default_exchange(source)
        exchange = self.exchange(source)
        binding = Binding(exchange, destination, key, arguments)
        if binding.key not in exchange.bindings:
            self.quota.charge("bindings", arguments)
            try:
                exchange.bind(binding)
            except AMQPError:
                self.quota.refund("bindings", arguments)
                raise
            self._bindings_to.setdefault(destination, set()).add(binding)

    def unbind(self, source: str, destination: Destination, key: str, arguments: Table) -> None:
        """Remove a binding; no effect if it does not exist.

        Raises:
            AMQPError: ACCESS_REFUSED for the default exchange.
        """
        refuse_default_exchange(source)
        exchange = self.exchanges.get(source)
        if exchange is None:
            return
        binding = exchange.bindings.get(Binding(exchange, destination, key, arguments).key)
        if binding is not None:
            self._remove_binding(binding)
            if exchange.auto_delete and not exchange.bindings:
                self._remove_exchanges([exchange])

    def _remove_binding(self, binding: Binding) -> None:
        binding.source.unbind(binding)
        self.quota.refund("bindings", binding.arguments)
        incoming = self._bindings_to[binding.destination]
        incoming.discard(binding)
        if not incoming:
            del self._bindings_to[binding.destination]

    def _remove_incoming(self, destination: Destination) -> list[Exchange]:
        """Remove the bindings to a destination; return auto-delete exchanges left without any."""
        bindings = list(self._bindings_to.get(destination, ()))
        for binding in bindings:
            self._remove_binding(binding)
        sources = dict.fromkeys(binding.source for binding in bindings)
        return [source for source in sources if source.auto_delete and not source.bindings]

    # Messages

    def route(
        self, exchange: Exchange, routing_keys: Sequence[str], header: RoutedMessage
    ) -> list[Queue]:
        """Return the queues to which a message is routed, without duplicates."""
        if not exchange.name:
            return [self.queues[key] for key in dict.fromkeys(routing_keys) if key in self.queues]
        queues: dict[Queue, None] = {}
        visited = {exchange}
        pending = [exchange]
        while pending:
            current = pending.pop()
            for destination in self._matches(current, routing_keys, header):
                if isinstance(destination, Queue):
                    queues[destination] = None
                elif isinstance(destination, Exchange) and destination not in visited:
                    visited.add(destination)
                    pending.append(destination)
        return list(queues)

    def _matches(
        self, exchange: Exchange, routing_keys: Sequence[str], header: RoutedMessage
    ) -> Iterable[Destination]:
        matches: Iterable[Destination]
        if not exchange.name:
            matches = [self.queues[key] for key in routing_keys if key in self.queues]
        elif len(routing_keys) == 1:
            matches = exchange.match(routing_keys[0], header)
        else:
            matches = [match for key in routing_keys for match in exchange.match(key, header)]
        if not matches and exchange.alternate in self.exchanges:
            return (self.exchanges[exchange.alternate],)
        return matches

    def publish(self, message: Message, queues: list[Queue]) -> bool:
        """Publish a message to its queues; return False if one of them rejects it."""
        if len(queues) == 1:
            return queues[0].publish(message)
        accepted = True
        # A dead letter from one of the queues must follow the message itself in the others.
        with self._dead_letters.deferred():
            for queue in queues:
                accepted &= queue.publish(message)
        return accepted

    def _route_dead_letter(self, message: Message, header: ContentHeader) -> list[Queue]:
        exchange = self.exchanges.get(message.exchange)
        if exchange is None:
            return []
        keys, _ = sender_selected(message.routing_key, header)
        return self.route(exchange, keys, header)

    # Error texts

    def _describe(self, kind: str, name: str) -> str:
        return f"{kind} '{name}' in vhost '{self.name}'"
