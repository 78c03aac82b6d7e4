"""The queues at the broker that a service takes its calls from."""

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
"""The method by which fabric_nb ends ask each other for signatures and docs; amqp-fabric peers
neither have nor see it."""

_ARGUMENTS = {"x-dead-letter-exchange": DEAD_LETTER_EXCHANGE}

Take = Callable[[Delivery], object]


class MethodQueues:
    """The queues of the wire contract: one for each method, shared by the members of a clique."""

    def __init__(self, name: ServiceName) -> None:
        self._name = name

    def origin(self, method: str) -> bytes:
        """The `Delivery.origin` of a method's calls: where all callers publish them."""
        return frames.origin(self._name.api_exchange, self._name.method_queue(method))

    async def check(self, connection: Connection, methods: list[str]) -> None:
        """See that nobody takes the calls in another way; here everybody may."""

    async def consume(self, channel: Channel, method: str, take: Take) -> tuple[str, bool]:
        """Begin to take the calls of a method.

        Returns:
            The consumer's tag, and whether the queue had consumers already.
        """
        queue = self._name.method_queue(method)
        others = await channel.topology.declare_shared_queue(queue, _ARGUMENTS)
        await channel.topology.bind(queue, self._name.api_exchange, queue)
        return await channel.consume(queue, take), others > 0

    async def release(self, channel: Channel, method: str, consumer_tag: str) -> None:
        """Take no more calls of a method."""
        del method
        await channel.cancel(consumer_tag)


class LeaderQueue(MethodQueues):
    """One queue of our own for all methods, whose calls the broker gives to one member alone.

    The others stand by, and one of them takes over when it goes (RabbitMQ: single active
    consumer). All methods have one queue, so that they have one leader. Callers see no difference.

    Args:
        name: the service.
        stray: receives what reached the queue by a binding that is not the service's.
    """

    def __init__(self, name: ServiceName, stray: Take) -> None:
        super().__init__(name)
        self._queue = name.leader_queue
        self._stray = stray
        self._takes: dict[str, Take] = {}
        self._generation = 0
        self._tag = ""
        self._others = False

    async def check(self, connection: Connection, methods: list[str]) -> None:
        """See that no member takes the calls from the contract's queues: both would answer.

        Raises:
            BrokerRefused: one does.
        """
        async with connection.channel() as channel:
            for method in methods:
                if await channel.topology.has_queue(self._name.method_queue(method)):
                    raise BrokerRefused(
                        f"{self._name} is served already by members that share its calls: end them"
                        " first, or serve under an id of its own."
                    )

    async def consume(self, channel: Channel, method: str, take: Take) -> tuple[str, bool]:
        """As `MethodQueues.consume`; `DESCRIBE` is answered by everybody."""
        if method == DESCRIBE:
            return await super().consume(channel, method, take)
        key = self._name.method_queue(method)
        self._takes[key] = take
        if self._generation != channel.generation:
            self._generation = channel.generation
            arguments = {**_ARGUMENTS, "x-single-active-consumer": True}
            self._others = await channel.topology.declare_shared_queue(self._queue, arguments) > 0
            self._tag = await channel.consume(self._queue, partial(self._dispatch, channel))
        await channel.topology.bind(self._queue, self._name.api_exchange, key)
        return self._tag, self._others

    async def release(self, channel: Channel, method: str, consumer_tag: str) -> None:
        """As `MethodQueues.release`; the queue stays for the other methods."""
        if method == DESCRIBE:
            await super().release(channel, method, consumer_tag)
            return
        key = self._name.method_queue(method)
        await channel.topology.unbind(self._queue, self._name.api_exchange, key)
        self._takes.pop(key, None)

    def _dispatch(self, channel: Channel, delivery: Delivery) -> None:
        take = self._takes.get(frames.read_routing_key(delivery.origin))
        if take is not None:
            take(delivery)
        elif frames.read_exchange(delivery.origin) != self._name.api_exchange:
            self._stray(delivery)
        else:  # of a method that was just taken away: its caller is told
            channel.reject(delivery, requeue=False)
