"""Exchanges, queues and bindings that a channel declares."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, cast

from aiormq.channel import Channel as AmqpChannel
from pamqp import commands as spec

from fabric_nb.errors import BrokerRefused, TransientQueuesRefused
from fabric_nb.fabric.amqp import frames
from fabric_nb.fabric.amqp.capabilities import BrokerCapabilities
from fabric_nb.fabric.amqp.fields import FieldTable, filter_tables
from fabric_nb.fabric.amqp.reply_codes import ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED
from fabric_nb.fabric.amqp.translation import translated

log = logging.getLogger(__name__)

_DURABILITY_MISMATCH = "inequivalent arg 'durable'"
ExchangeType = Literal["direct", "fanout", "topic", "headers"]


class Broker(Protocol):
    """Properties of the connected broker on which declarations depend."""

    capabilities: BrokerCapabilities

    @property
    def masked_uri(self) -> str:
        """URI of the broker, without the password."""

    @property
    def keeps_queues(self) -> bool:
        """True if the broker can keep queues on disk."""


class ExchangeNotDeclarable(BrokerRefused):
    """This user may not declare an exchange; on a new channel it is declared passively."""


class DurabilityMismatch(BrokerRefused):
    """A shared queue exists with the other durability; a new channel declares it with that."""


class _Bind(spec.Queue.Bind):
    """``queue.bind`` with arguments that are encoded already, because pamqp changes floats."""

    def __init__(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        arguments: FieldTable,
        *,
        nowait: bool = False,
    ) -> None:
        super().__init__(
            queue=queue,
            exchange=exchange,
            routing_key=routing_key,
            nowait=nowait,
            arguments=arguments,
        )
        self._payload = frames.bind(queue, exchange, routing_key, arguments, nowait=nowait)

    def marshal(self) -> bytes:
        return self._payload[4:]


class Topology:
    """Exchanges, queues and bindings of one `Channel`, declared through aiormq.

    Args:
        broker: the broker of the channel.
        current: returns the open AMQP channel, also while its setup runs; raises `ConnectionLost`.
        ready: waits until the channel and its setup are complete.

    Attributes:
        consumers: queue of each consumer, by consumer tag.
    """

    def __init__(
        self,
        broker: Broker,
        current: Callable[[], AmqpChannel],
        ready: Callable[[], Awaitable[None]],
    ) -> None:
        self.consumers: dict[str, str] = {}
        self._broker = broker
        self._current = current
        self._ready = ready
        self._exchanges: dict[str, dict[str, Any]] = {}
        self._bindings: list[tuple[str, str, str, FieldTable]] = []
        self._declared: set[str] = set()
        self._exclusive_queue: tuple[str, object] | None = None  # and its connection

    def clear(self) -> None:
        """Discard all records of a lost channel, except for its exclusive queue."""
        self._declared.clear()
        self._exchanges.clear()
        self._bindings.clear()
        self.consumers.clear()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._broker.masked_uri)

    async def declare_exchange(
        self, name: str, kind: ExchangeType, *, durable: bool = False, auto_delete: bool = False
    ) -> None:
        """Declare an exchange; fails when it exists with other properties.

        If this user may not declare it, it only has to exist.
        """
        options: dict[str, Any] = {
            "exchange_type": kind,
            "durable": durable,
            "auto_delete": auto_delete,
        }
        passive = self._broker.capabilities.passive_exchanges
        unverified = self._broker.capabilities.unverified_exchanges
        if name in unverified:
            return
        if name in passive:
            options = {"passive": True}
        try:
            with self._translated():
                await self._current().exchange_declare(name, **options)
        except BrokerRefused as refused:
            if refused.code == ACCESS_REFUSED:
                (unverified if name in passive else passive).add(name)
                raise ExchangeNotDeclarable(str(refused), code=refused.code) from None
            if refused.code == NOT_FOUND and name in passive:
                passive.discard(name)  # the permission may be granted later
                raise BrokerRefused(
                    f"The broker refused: the exchange {name!r} is not there, and this user may"
                    " not make it; have its operator make it, or allow this user to configure it.",
                    code=ACCESS_REFUSED,
                ) from None
            raise
        self._exchanges[name] = options
        self._declared.add(name)

    async def declare_queue(
        self,
        name: str = "",
        *,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """Declare a queue and return its name; the broker chooses one if none is given."""
        declared = await self._declare_queue(
            name,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=dict(arguments or {}),
        )
        return str(declared.queue)

    async def _declare_queue(self, name: str, **options: Any) -> spec.Queue.DeclareOk:
        self._declared.add(name)
        with self._translated():
            return cast(spec.Queue.DeclareOk, await self._current().queue_declare(name, **options))

    async def declare_exclusive_queue(self) -> str:
        """Declare a queue that only this connection may use; return its name.

        A channel has one. The queue outlives the channel: a channel that is opened again on the
        same connection gets the same queue, with the messages that wait in it. It is deleted with
        the connection, and by `Channel.close`.
        """
        connection = self._current().connection
        name, owner = self._exclusive_queue or ("", None)
        if owner is connection:
            self._exclusive_queue = None  # until it is known to exist still
            await self._declare_queue(name, passive=True)
        else:
            name = await self.declare_queue(exclusive=True)
        self._exclusive_queue = name, connection
        return name

    def drop_exclusive_queue(self) -> None:
        """Declare another exclusive queue next time, because this one may not exist any more."""
        self._exclusive_queue = None

    async def declare_shared_queue(
        self, name: str, arguments: Mapping[str, Any] | None = None
    ) -> int:
        """Declare a queue for several consumers; it is deleted with the last of them.

        It is transient, as the wire contract requires, or durable if the broker refuses transient
        queues or already has a durable one of this name.

        Returns:
            Number of its consumers; 0: it was just created.
        """
        capabilities = self._broker.capabilities
        durable = capabilities.durable_queues.get(name, capabilities.transient_queues_refused)
        try:
            declared = await self._declare_queue(
                name, durable=durable, auto_delete=True, arguments=dict(arguments or {})
            )
        except BrokerRefused as refused:
            if refused.code != PRECONDITION_FAILED or _DURABILITY_MISMATCH not in str(refused):
                raise
            capabilities.durable_queues[name] = not durable
            raise DurabilityMismatch(str(refused), code=refused.code) from None
        except TransientQueuesRefused:
            if not capabilities.transient_queues_refused:
                capabilities.transient_queues_refused = True
                log.warning(
                    "%s refuses queues that are neither durable nor exclusive"
                    " (transient_nonexcl_queues): services on amqp-fabric cannot run on it",
                    self._broker.masked_uri,
                )
            raise
        return int(declared.consumer_count or 0)

    async def declare_durable_queue(self, name: str, kind: Literal["quorum", "stream"]) -> None:
        """Declare a queue that is kept until it is deleted, replicated if there are several nodes.

        Raises:
            BrokerRefused: the broker does not have queues of this kind.
        """
        if not self._broker.keeps_queues:
            raise BrokerRefused(
                f"The queue {name!r} is to be kept, and the embedded broker keeps nothing: connect"
                " to a RabbitMQ."
            )
        await self.declare_queue(name, durable=True, arguments={"x-queue-type": kind})

    async def has_queue(self, name: str) -> bool:
        """Return whether a queue exists; if not, the channel is lost and opened again."""
        return await self._exists(lambda: self._current().queue_declare(name, passive=True))

    async def count_messages(self, queue: str) -> int | None:
        """Return the number of messages that wait in a queue; None if that cannot be known.

        The channel is lost and opened again if the queue does not exist, or may not be asked for.
        """
        try:
            messages, _ = await self.count(queue)
        except BrokerRefused as refused:
            log.debug("The broker does not tell how many messages wait: %s", refused)
            return None
        return messages

    async def count(self, queue: str) -> tuple[int, int]:
        """Return the number of messages that wait in a queue, and the number of its consumers.

        Raises:
            BrokerRefused: the queue does not exist, or may not be asked for. The channel is lost
                and opened again.
        """
        await self._ready()
        declared = await self._declare_queue(queue, passive=True)
        return declared.message_count or 0, declared.consumer_count or 0

    async def has_exchange(self, name: str, *, default: bool = True) -> bool:
        """Return whether an exchange exists; if not, the channel is lost and opened again.

        Args:
            name: name of the exchange.
            default: result if this user lacks permission to ask.
        """
        return await self._exists(
            lambda: self._current().exchange_declare(name, passive=True), default=default
        )

    async def _exists(
        self, declare_passively: Callable[[], Awaitable[object]], *, default: bool = True
    ) -> bool:
        await self._ready()
        try:
            with self._translated():
                await declare_passively()
        except BrokerRefused as refused:
            if refused.code == NOT_FOUND:
                return False
            log.debug("The broker does not tell whether it exists: %s", refused)
            return default
        return True

    async def delete_queue(self, name: str) -> None:
        """Delete a queue and its messages; do nothing if it does not exist."""
        with self._translated():
            await self._current().queue_delete(name)

    async def delete_exchange(self, name: str) -> None:
        """Delete an exchange that has no bindings; do nothing if it does not exist."""
        with self._translated():
            await self._current().exchange_delete(name, if_unused=True)

    async def consumer_count(self, queue: str) -> int:
        """Return the number of consumers of a queue; fails if the queue does not exist."""
        return int((await self._declare_queue(queue, passive=True)).consumer_count or 0)

    async def bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Bind a queue to an exchange, several times if `arguments` contain floats or times.

        Raises:
            UnusableHeader: an argument cannot be sent.
        """
        for table in filter_tables(arguments or {}):
            with self._translated():
                await self._current().rpc(_Bind(queue, exchange, routing_key, table))
            self._bindings.append((queue, exchange, routing_key, table))

    async def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Remove a binding that was made without arguments."""
        removed = (queue, exchange, routing_key)
        self._bindings = [binding for binding in self._bindings if binding[:3] != removed]
        with self._translated():
            await self._current().queue_unbind(queue, exchange, routing_key)

    async def redeclare(self) -> None:
        """Declare the exchanges again, and the bindings of the queues that are consumed.

        Existing ones are unchanged, and deleted ones are restored: a broker notifies a consumer
        when its queue is deleted, but not when an exchange or a binding is. A refusal closes the
        channel, and then its setup is run again.
        """
        consumed = set(self.consumers.values())
        self._bindings = [binding for binding in self._bindings if binding[0] in consumed]
        with self._translated():
            for name, options in tuple(self._exchanges.items()):
                await self._current().exchange_declare(name, nowait=True, **options)
            for queue, exchange, routing_key, table in tuple(self._bindings):
                bind = _Bind(queue, exchange, routing_key, table, nowait=True)
                await self._current().rpc(bind)

    async def delete_exclusive_queue(self, amqp: AmqpChannel) -> None:
        """Delete the exclusive queue, if it belongs to the connection of `amqp`."""
        name, owner = self._exclusive_queue or ("", None)
        self._exclusive_queue = None
        if owner is not amqp.connection or amqp.is_closed:
            return
        with contextlib.suppress(Exception):  # it is deleted with the connection
            # Otherwise the broker reports the queue as deleted by another client.
            for tag in [tag for tag, queue in self.consumers.items() if queue == name]:
                await amqp.basic_cancel(tag, nowait=True)
            await amqp.queue_delete(name, nowait=True)

    def is_missing(self, refused: BrokerRefused) -> bool:
        """Return whether the broker misses an exchange or queue that this channel has declared."""
        return refused.code == NOT_FOUND and any(
            f"'{name}'" in str(refused) for name in self._declared
        )
