"""What can be declared on a channel, and what a channel needs of its connection."""

from __future__ import annotations

import abc
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from aiormq.channel import Channel as AmqpChannel
from pamqp import commands as spec

from fabric_nb.errors import BrokerRefused, TransientQueuesRefused
from fabric_nb.fabric.amqp import frames
from fabric_nb.fabric.amqp.fast_channel import FastChannel
from fabric_nb.fabric.amqp.fields import Fields, filters
from fabric_nb.fabric.amqp.translation import translated

if TYPE_CHECKING:
    from fabric_nb.fabric.amqp.channel import Channel

log = logging.getLogger(__name__)

NOT_FOUND = 404
ACCESS_REFUSED = 403
PRECONDITION_FAILED = 406
_OTHER_DURABILITY = "inequivalent arg 'durable'"
ExchangeType = Literal["direct", "fanout", "topic", "headers"]


DEFAULT_CONSUMER_TIMEOUT = 1800.0
"""Seconds; RabbitMQ's default of `consumer_timeout` since 3.8.17."""


@dataclass
class BrokerCapabilities:
    """Limits and refusals of a broker, learnt from its answers.

    Attributes:
        consumer_timeout: seconds after which the broker closes a channel that has not acknowledged
            a delivery; None: not known.
        accepted_size: bytes of the largest body that the broker is known to take.
        max_message_size: bytes of the largest that it takes; None: not known.
        transient_queues_refused: True if it refuses queues that are neither durable nor exclusive.
        durable_queues: durability of shared queues that were found with another one than expected.
        exchanges_of_others: exchanges that this user may not declare (RabbitMQ's permission to
            configure), only use.
        unverified_exchanges: those of them that this user may not even declare passively, as
            RabbitMQ 4.3 has it; they are taken to be there.
    """

    consumer_timeout: float | None = None
    accepted_size: int = 4 * 1024
    max_message_size: int | None = None
    transient_queues_refused: bool = False
    durable_queues: dict[str, bool] = field(default_factory=dict)
    exchanges_of_others: set[str] = field(default_factory=set)
    unverified_exchanges: set[str] = field(default_factory=set)

    @property
    def acknowledge_within(self) -> float:
        """Seconds within which each delivery is to be acknowledged; the broker looks at times."""
        return 0.8 * (self.consumer_timeout or DEFAULT_CONSUMER_TIMEOUT)


class Link(Protocol):
    """What a channel needs of its connection."""

    terms: BrokerCapabilities

    @property
    def masked_uri(self) -> str:
        """Where the broker is, as it may be shown."""

    async def open_channel(self, *, confirms: bool) -> tuple[AmqpChannel, FastChannel]:
        """Wait for the connection and open an AMQP channel on it, with its lane."""

    def recover(self, channel: Channel) -> None:
        """See to it that `Channel.reopen` is run."""

    def remember(self, channel: Channel) -> None:
        """The channel is in use."""

    def forget(self, channel: Channel) -> None:
        """The channel was closed."""

    @property
    def keeps_queues(self) -> bool:
        """Whether the broker can keep queues on a disk."""

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that a publisher should wait."""

    async def drained(self) -> None:
        """Wait until what is sent flows again, or until the connection is lost."""

    def check_loop(self) -> None:
        """Raise `WrongLoop` in another event loop than the connection's."""

    async def check_size(self, size: int) -> None:
        """Find out whether the broker takes a body of `size` bytes."""


class ExchangeOfOthers(BrokerRefused):
    """This user may not make an exchange; on a new channel it is only looked for."""


class _Bind(spec.Queue.Bind):
    """``queue.bind`` with arguments that are encoded already, because pamqp changes floats."""

    def __init__(
        self, queue: str, exchange: str, routing_key: str, given: Fields, *, nowait: bool = False
    ) -> None:
        super().__init__(
            queue=queue, exchange=exchange, routing_key=routing_key, nowait=nowait, arguments=given
        )
        self._payload = frames.bind(queue, exchange, routing_key, given, nowait=nowait)

    def marshal(self) -> bytes:
        return self._payload[4:]


class OtherDurability(BrokerRefused):
    """A shared queue exists with the other durability; on a new channel it is declared so."""


class Topology(abc.ABC):
    """The part of a `Channel` that declares exchanges and queues; aiormq does the work."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._exchanges: dict[str, dict[str, Any]] = {}
        self._bindings: list[tuple[str, str, str, Fields]] = []
        self._consumed: dict[str, str] = {}  # consumer tag -> queue
        self._declared: set[str] = set()  # since it was last opened
        self._own_queue: tuple[str, object] | None = None  # and the connection that it goes with

    @property
    @abc.abstractmethod
    def _current(self) -> AmqpChannel:
        """The AMQP channel of now, also while the setup is still running."""

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._link.masked_uri)

    async def declare_exchange(
        self, name: str, kind: ExchangeType, *, durable: bool = False, auto_delete: bool = False
    ) -> None:
        """Declare an exchange; fails when it exists with other properties.

        Where this user may not make it, it need only be there.
        """
        what: dict[str, Any] = {
            "exchange_type": kind,
            "durable": durable,
            "auto_delete": auto_delete,
        }
        others = self._link.terms.exchanges_of_others
        unverified = self._link.terms.unverified_exchanges
        if name in unverified:
            return
        if name in others:
            what = {"passive": True}
        try:
            with self._translated():
                await self._current.exchange_declare(name, **what)
        except BrokerRefused as refused:
            if refused.code == ACCESS_REFUSED:
                (unverified if name in others else others).add(name)
                raise ExchangeOfOthers(str(refused), code=refused.code) from None
            if refused.code == NOT_FOUND and name in others:
                others.discard(name)  # the right may be given
                raise BrokerRefused(
                    f"The broker refused: the exchange {name!r} is not there, and this user may"
                    " not make it; have its operator make it, or allow this user to configure it.",
                    code=ACCESS_REFUSED,
                ) from None
            raise
        self._exchanges[name] = what
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
        """Declare a queue and return its name, which the broker chooses when none is given."""
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
            return cast(spec.Queue.DeclareOk, await self._current.queue_declare(name, **options))

    async def declare_own_queue(self) -> str:
        """Declare the queue of this channel that no other connection may use; return its name.

        It outlives the channel: opened again on the same connection, the channel has the same
        queue, with what waits in it. It goes with the connection, and with `Channel.close`.
        """
        connection = self._current.connection
        name, of = self._own_queue or ("", None)
        if of is connection:
            self._own_queue = None  # until it is known to be there still
            await self._declare_queue(name, passive=True)
        else:
            name = await self.declare_queue(exclusive=True)
        self._own_queue = name, connection
        return name

    async def declare_shared_queue(
        self, name: str, arguments: Mapping[str, Any] | None = None
    ) -> int:
        """Declare a queue that others may consume too and that goes with its last consumer.

        It is transient, as the wire contract has it; durable where the broker refuses that, or
        has such a queue already. Return how many consumers it has; none: it was just made.
        """
        terms = self._link.terms
        durable = terms.durable_queues.get(name, terms.transient_queues_refused)
        try:
            declared = await self._declare_queue(
                name, durable=durable, auto_delete=True, arguments=dict(arguments or {})
            )
        except BrokerRefused as refused:
            if refused.code != PRECONDITION_FAILED or _OTHER_DURABILITY not in str(refused):
                raise
            terms.durable_queues[name] = not durable
            raise OtherDurability(str(refused), code=refused.code) from None
        except TransientQueuesRefused:
            if not terms.transient_queues_refused:
                terms.transient_queues_refused = True
                log.warning(
                    "%s refuses queues that are neither durable nor exclusive"
                    " (transient_nonexcl_queues): services on amqp-fabric cannot run on it",
                    self._link.masked_uri,
                )
            raise
        return int(declared.consumer_count or 0)

    async def declare_kept_queue(self, name: str, kind: Literal["quorum", "stream"]) -> None:
        """Declare a queue that stays, on several nodes where there are, until it is deleted.

        Raises:
            BrokerRefused: the broker has none of this kind.
        """
        if not self._link.keeps_queues:
            raise BrokerRefused(
                f"The queue {name!r} is to be kept, and the embedded broker keeps nothing: connect"
                " to a RabbitMQ."
            )
        await self.declare_queue(name, durable=True, arguments={"x-queue-type": kind})

    async def has_queue(self, name: str) -> bool:
        """Whether there is such a queue; a no costs the channel, which is opened again."""
        return await self._exists(lambda: self._current.queue_declare(name, passive=True))

    async def has_exchange(self, name: str, *, untold: bool = True) -> bool:
        """Return whether the exchange exists; if not, the channel is lost and opened again.

        `untold` is the answer where this user may not ask.
        """
        return await self._exists(
            lambda: self._current.exchange_declare(name, passive=True), untold=untold
        )

    async def _exists(self, ask: Callable[[], Awaitable[object]], *, untold: bool = True) -> bool:
        await self.ready()
        try:
            with self._translated():
                await ask()
        except BrokerRefused as refused:
            if refused.code == NOT_FOUND:
                return False
            log.debug("Whether something is there was not told: %s", refused)
            return untold
        return True

    @abc.abstractmethod
    async def ready(self) -> None:
        """Wait until the channel stands."""

    async def delete_queue(self, name: str) -> None:
        """Delete a queue with what is in it; does nothing when it is not there."""
        with self._translated():
            await self._current.queue_delete(name)

    async def delete_exchange(self, name: str) -> None:
        """Delete an exchange to which nothing is bound; does nothing when it is not there."""
        with self._translated():
            await self._current.exchange_delete(name, if_unused=True)

    async def consumers_of(self, queue: str) -> int:
        """How many consumers a queue has; fails when it is not there."""
        return int((await self._declare_queue(queue, passive=True)).consumer_count or 0)

    async def bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Bind a queue to an exchange; several times where `arguments` have floats in them.

        Raises:
            UnusableHeader: an argument cannot be sent.
        """
        for given in filters(arguments or {}):
            with self._translated():
                await self._current.rpc(_Bind(queue, exchange, routing_key, given))
            self._bindings.append((queue, exchange, routing_key, given))

    async def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Take back a binding that was made without arguments."""
        self._bindings = [
            one for one in self._bindings if one[:3] != (queue, exchange, routing_key)
        ]
        with self._translated():
            await self._current.queue_unbind(queue, exchange, routing_key)

    async def assert_again(self) -> None:
        """Declare the exchanges again, and the bindings of the queues that are consumed.

        It costs nothing where they are, and brings back what somebody deleted: the broker tells
        a consumer that its queue is gone, and not that nothing can come to it any more. A refusal
        closes the channel, and then its setup is run again.
        """
        consumed = set(self._consumed.values())
        self._bindings = [binding for binding in self._bindings if binding[0] in consumed]
        with self._translated():
            for name, what in tuple(self._exchanges.items()):
                await self._current.exchange_declare(name, nowait=True, **what)
            for queue, exchange, routing_key, given in tuple(self._bindings):
                await self._current.rpc(_Bind(queue, exchange, routing_key, given, nowait=True))

    async def _delete_own_queue(self, amqp: AmqpChannel) -> None:
        own, self._own_queue = self._own_queue, None
        if own is not None and own[1] is amqp.connection and not amqp.is_closed:
            with contextlib.suppress(Exception):  # it goes with the connection
                # Else the broker tells the consumer that its queue is gone, as if others did it.
                for tag in [tag for tag, queue in self._consumed.items() if queue == own[0]]:
                    await amqp.basic_cancel(tag, nowait=True)
                await amqp.queue_delete(own[0], nowait=True)

    def _has_gone(self, refused: BrokerRefused) -> bool:
        """Return whether the broker misses something that this channel has declared."""
        return refused.code == NOT_FOUND and any(
            f"'{name}'" in str(refused) for name in self._declared
        )

    def _forget_topology(self) -> None:
        """The channel is opened anew, and declares everything anew."""
        self._declared.clear()
        self._exchanges.clear()
        self._bindings.clear()
        self._consumed.clear()
