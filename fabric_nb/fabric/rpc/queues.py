"""Queues at the broker from which a service consumes its calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fabric_nb.errors import BrokerRefused
from fabric_nb.fabric.amqp import frames
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.wire.names import DEAD_LETTER_EXCHANGE, ServiceName

DESCRIBE = "_describe"
"""Method that returns signatures and docs; amqp-fabric peers neither have nor call it."""

STATS = "_stats"
"""Method that returns the statistics of an instance; it has no queue and is called by instance."""
DRAIN = "_drain"
"""Method that lets an instance finish its calls and leave; likewise, where that is allowed."""

_ARGUMENTS = {"x-dead-letter-exchange": DEAD_LETTER_EXCHANGE}

OnDelivery = Callable[[Delivery], object]


class MethodQueues:
    """The queues of the wire contract: one per method, shared by the instances of a clique."""

    def __init__(self, name: ServiceName) -> None:
        self._name = name

    def origin(self, method: str) -> bytes:
        """Return the `Delivery.origin` of a method's calls: the address that callers publish to."""
        return frames.origin(self._name.api_exchange, self._name.method_queue(method))

    async def check(self, connection: Connection, methods: list[str]) -> None:
        """Check that no other instance consumes the calls in another way; here any may."""

    async def consume(
        self, channel: Channel, method: str, on_delivery: OnDelivery
    ) -> tuple[str, bool]:
        """Consume the calls of a method.

        Returns:
            The consumer's tag, and whether the queue had consumers already.
        """
        queue = self._name.method_queue(method)
        others = await channel.topology.declare_shared_queue(queue, _ARGUMENTS)
        await channel.topology.bind(queue, self._name.api_exchange, queue)
        return await channel.consumers.start(queue, on_delivery), others > 0

    async def release(self, channel: Channel, method: str, consumer_tag: str) -> None:
        """Stop consuming the calls of a method."""
        del method
        await channel.consumers.cancel(consumer_tag)


class LeaderQueue(MethodQueues):
    """One queue for all methods, whose calls the broker delivers to one instance only.

    The other instances stand by, and one of them succeeds it (RabbitMQ: single active consumer).
    All methods have one queue, so that they have one leader. Callers see no difference.

    Args:
        name: the service.
        stray: called with messages that reached the queue by a binding of another origin.
    """

    def __init__(self, name: ServiceName, stray: OnDelivery) -> None:
        super().__init__(name)
        self._queue = name.leader_queue
        self._stray = stray
        self._callbacks: dict[str, OnDelivery] = {}
        self._generation = 0
        self._tag = ""
        self._others = False

    async def check(self, connection: Connection, methods: list[str]) -> None:
        """Check that no instance consumes the contract's queues: both would answer.

        Raises:
            BrokerRefused: there is one.
        """
        async with connection.channel() as channel:
            for method in methods:
                if await channel.topology.has_queue(self._name.method_queue(method)):
                    raise BrokerRefused(
                        f"{self._name} is served already by instances that share its calls: end"
                        " them first, or serve under an id of its own."
                    )

    async def consume(
        self, channel: Channel, method: str, on_delivery: OnDelivery
    ) -> tuple[str, bool]:
        """Consume as `MethodQueues.consume`; every instance answers `DESCRIBE`."""
        if method == DESCRIBE:
            return await super().consume(channel, method, on_delivery)
        key = self._name.method_queue(method)
        self._callbacks[key] = on_delivery
        if self._generation != channel.generation:
            self._generation = channel.generation
            arguments = {**_ARGUMENTS, "x-single-active-consumer": True}
            self._others = await channel.topology.declare_shared_queue(self._queue, arguments) > 0
            self._tag = await channel.consumers.start(self._queue, partial(self._dispatch, channel))
        await channel.topology.bind(self._queue, self._name.api_exchange, key)
        return self._tag, self._others

    async def release(self, channel: Channel, method: str, consumer_tag: str) -> None:
        """Release as `MethodQueues.release`; the queue stays for the other methods."""
        if method == DESCRIBE:
            await super().release(channel, method, consumer_tag)
            return
        key = self._name.method_queue(method)
        await channel.topology.unbind(self._queue, self._name.api_exchange, key)
        self._callbacks.pop(key, None)

    def _dispatch(self, channel: Channel, delivery: Delivery) -> None:
        on_delivery = self._callbacks.get(frames.read_routing_key(delivery.origin))
        if on_delivery is not None:
            on_delivery(delivery)
        elif frames.read_exchange(delivery.origin) != self._name.api_exchange:
            self._stray(delivery)
        else:  # of a method that was just removed: dead-lettered to its caller
            channel.reject(delivery, requeue=False)
