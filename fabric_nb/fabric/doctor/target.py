"""Who is looked at, and what every check shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from fabric_nb.errors import BrokerRefused
from fabric_nb.fabric.amqp.capabilities import BrokerCapabilities
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.wire.names import ServiceName


@dataclass(frozen=True, slots=True)
class Target:
    """A member of the fabric as the doctor sees it, whether it is connected or not.

    Attributes:
        uri: where its broker is; of a cluster, `Connection` says how.
        name: its address.
        instance: what tells it apart from other members of that name.
        discovery_exchange: where keep-alives travel.
        heartbeat: seconds between AMQP heartbeats, where the URI says nothing else.
        interval: seconds between its keep-alives; None: it sends none.
        subscriptions: the names of the queues that it consumes and others may consume too.
        rejected: what it could not read.
        capabilities: what its connection has learnt of the broker's limits.
    """

    uri: str | Sequence[str] = field(repr=False)
    name: ServiceName
    instance: str
    discovery_exchange: str
    heartbeat: int
    interval: float | None
    subscriptions: Sequence[str]
    rejected: RejectedMessages
    capabilities: BrokerCapabilities


async def refusal(
    connection: Connection, work: Callable[[Channel], Awaitable[object]]
) -> BrokerRefused | None:
    """What the broker refused of `work`, on a channel of its own that confirms; None if nothing."""
    try:
        async with connection.channel(confirms=True) as channel:
            await work(channel)
    except BrokerRefused as refused:
        return refused
    return None
