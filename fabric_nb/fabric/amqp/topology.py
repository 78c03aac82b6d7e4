"""What can be declared on a channel, and what a channel needs of its connection."""

from __future__ import annotations

import abc
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aiormq.channel import Channel as AmqpChannel

from fabric_nb.fabric.amqp.lane import Lane
from fabric_nb.fabric.amqp.translation import TransientQueuesRefused, translated

if TYPE_CHECKING:
    from fabric_nb.fabric.amqp.channel import Channel

log = logging.getLogger(__name__)

ExchangeType = Literal["direct", "fanout", "topic", "headers"]


class Link(Protocol):
    """What a channel needs of its connection."""

    masked_uri: str

    async def open_channel(self, *, confirms: bool) -> tuple[AmqpChannel, Lane]:
        """Wait for the connection and open an AMQP channel on it, with its lane."""

    def recover(self, channel: Channel) -> None:
        """See to it that `Channel.reopen` is run."""

    def remember(self, channel: Channel) -> None:
        """The channel is in use."""

    def forget(self, channel: Channel) -> None:
        """The channel was closed."""

    transient_queues_refused: bool
    """Whether the broker was seen to refuse queues that are neither durable nor exclusive."""

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that a publisher should wait."""

    async def drained(self) -> None:
        """Wait until what is sent flows again, or until the connection is lost."""


class Topology(abc.ABC):
    """The part of a `Channel` that declares exchanges and queues; aiormq does the work."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    @abc.abstractmethod
    def _current(self) -> AmqpChannel:
        """The AMQP channel of now, also while the setup is still running."""

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._link.masked_uri)

    async def declare_exchange(
        self, name: str, kind: ExchangeType, *, durable: bool = False, auto_delete: bool = False
    ) -> None:
        """Declare an exchange; fails when it exists with other properties."""
        with self._translated():
            await self._current.exchange_declare(
                name, exchange_type=kind, durable=durable, auto_delete=auto_delete
            )

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
        with self._translated():
            declared = await self._current.queue_declare(
                name,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=dict(arguments or {}),
            )
        return str(declared.queue)

    async def declare_shared_queue(
        self, name: str, arguments: Mapping[str, Any] | None = None
    ) -> None:
        """Declare a queue that others may consume too and that goes with its last consumer.

        It is transient, as the wire contract has it; durable where the broker refuses that.
        """
        durable = self._link.transient_queues_refused
        try:
            await self.declare_queue(name, durable=durable, auto_delete=True, arguments=arguments)
        except TransientQueuesRefused:
            if not self._link.transient_queues_refused:
                self._link.transient_queues_refused = True
                log.warning(
                    "%s refuses queues that are neither durable nor exclusive"
                    " (transient_nonexcl_queues): services on amqp-fabric cannot run on it",
                    self._link.masked_uri,
                )
            raise

    async def delete_queue(self, name: str) -> None:
        """Delete a queue with what is in it; does nothing when it is not there."""
        with self._translated():
            await self._current.queue_delete(name)

    async def bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Bind a queue to an exchange."""
        with self._translated():
            await self._current.queue_bind(
                queue, exchange, routing_key, arguments=dict(arguments or {})
            )
