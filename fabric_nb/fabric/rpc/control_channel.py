"""Channel of a server for messages about its calls, other than requests and replies."""

from __future__ import annotations

from collections.abc import Callable

from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.fast_channel import OnOutcome
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.wire.names import ServiceName


class ControlChannel:
    """A queue that callers reach an instance by, and the channel on which it writes to them.

    The queue is bound to the service's exchange, with a key of all instances and one of its own.
    As it lives as long as the instance, so does the exchange: an instance that finishes its last
    calls is not taken for gone.

    Args:
        connection: connection that the service is served on.
        name: address of the service.
        instance: id of the instance.
        on_message: called with each message.
        on_lost: called when the channel is lost.

    Attributes:
        queue: name of the queue; empty until `ready`.
    """

    def __init__(
        self,
        connection: Connection,
        name: ServiceName,
        instance: str,
        on_message: Callable[[Delivery], object],
        on_lost: Callable[[], object],
    ) -> None:
        self._name = name
        self._instance = instance
        self._on_message = on_message
        self.queue = ""
        # With confirms, because only then a returned message is reported.
        self._channel = connection.channel(self._set_up, confirms=True, on_lost=on_lost)

    async def open(self) -> None:
        """Declare the queue and consume it.

        Raises:
            BrokerRefused: the queue may not be made.
        """
        await self._channel.open()

    async def close(self) -> None:
        """Delete the queue and close the channel."""
        await self._channel.close()

    async def ready(self) -> None:
        """Wait until the channel is open."""
        if not self._channel.is_ready:
            await self._channel.ready()

    async def check_size(self, message: Message, label: str) -> None:
        """Raise `MessageTooLarge` if the broker does not accept a message."""
        await self._channel.check_size(message, label)

    def send(self, reply_to: str, message: Message, on_outcome: OnOutcome | None = None) -> None:
        """Send a message to a caller's queue; `on_outcome` learns whether the queue exists.

        Raises:
            ConnectionLost: the channel is not open.
        """
        self._channel.send(
            "", reply_to, message, mandatory=on_outcome is not None, on_outcome=on_outcome
        )

    async def _set_up(self, channel: Channel) -> None:
        exchange = self._name.api_exchange
        await channel.topology.declare_exchange(exchange, "direct", auto_delete=True)
        queue = await channel.topology.declare_exclusive_queue()
        for key in (self._name.instances_key, self._name.instance_key(self._instance)):
            await channel.topology.bind(queue, exchange, key)
        await channel.consumers.start(queue, self._on_message, no_ack=True)
        self.queue = queue
