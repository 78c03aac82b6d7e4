"""The member to check, the duration of the checks, and a helper that they share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from fabric_nb.errors import BrokerRefused
from fabric_nb.fabric.amqp.capabilities import BrokerCapabilities
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.wire.names import ServiceName

LISTEN = 6.0
"""Seconds to wait for keep-alives of other members; slightly more than the interval that
amqp-fabric's documentation proposes."""


@dataclass(frozen=True, slots=True)
class Target:
    """Settings and state of the member to check, whether it is connected or not.

    Attributes:
        uri: URI of its broker or cluster, as for `Connection`.
        name: its service address.
        instance: id of the instance, which distinguishes it from others of that address.
        discovery_exchange: exchange of keep-alives.
        heartbeat: seconds between AMQP heartbeats, unless the URI has others.
        interval: seconds between its keep-alives; None: it sends none.
        subscriptions: names of the shared queues that it consumes.
        rejected: messages that it has rejected.
        capabilities: limits of the broker that are known to its connection.
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
    """Run `work` on a new channel with confirms; return the broker's refusal, or None."""
    try:
        async with connection.channel(confirms=True) as channel:
            await work(channel)
    except BrokerRefused as refused:
        return refused
    return None
