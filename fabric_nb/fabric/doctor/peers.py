"""Checks of the other members: their keep-alives, clocks, versions, and names in common."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from fabric_nb.errors import BrokerRefused, FabricError, MalformedMessage, printable
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.doctor.findings import Finding, Severity
from fabric_nb.fabric.doctor.target import Target
from fabric_nb.fabric.wire.calls import Request
from fabric_nb.fabric.wire.keep_alives import Announcement, keep_alive_request, read_keep_alive
from fabric_nb.fabric.wire.names import KEEP_ALIVE, MSG_TYPE, ServiceName

EXPIRY = 5.0
"""Seconds without a keep-alive after which amqp-fabric drops a service, by default."""
CLOCK_TOLERANCE = 2.0
"""Seconds; timestamps of AMQP are whole seconds."""
MAX_MEMBERS = 10_000
"""Maximum number of members that are recorded."""
MAX_QUERIED = 20
"""Maximum number of services whose clock is queried."""
ANSWER_WITHIN = 2.0
"""Seconds to wait for the replies."""
NAMED = 5
"""Maximum number of names in a finding."""
HEALTH_CHECK = "health_check"
"""Method of every service of both libraries."""


@dataclass(slots=True)
class Member:
    """Member from which a keep-alive was received.

    Attributes:
        announcement: its latest announcement; None for amqp-fabric.
        ahead: seconds that its clock is ahead of the local one; None: not known.
    """

    announcement: Announcement | None = None
    ahead: float | None = None


@dataclass(slots=True)
class ReceivedKeepAlives:
    """Messages received from the discovery exchange.

    Attributes:
        members: members by name and instance.
        unreadable: number of messages that could not be read, and the reason for the last one.
        interrupted: True if the connection was lost meanwhile, so that keep-alives were missed.
    """

    members: dict[tuple[ServiceName, str], Member] = field(default_factory=dict)
    unreadable: tuple[int, str] = (0, "")
    interrupted: bool = False

    def interrupt(self) -> None:
        """Record that the connection was lost."""
        self.interrupted = True

    def receive(self, delivery: Delivery) -> None:
        """Record one message."""
        try:
            keep_alive = read_keep_alive(delivery)
        except MalformedMessage as error:
            self.unreadable = self.unreadable[0] + 1, str(error)
            return
        announcement = keep_alive.announcement
        key = keep_alive.name, announcement.instance if announcement is not None else ""
        if key in self.members or len(self.members) < MAX_MEMBERS:
            member = self.members.setdefault(key, Member())
            member.announcement = announcement
            if (ahead := _ahead(delivery)) is not None:
                # The maximum belongs to the message with the shortest latency.
                member.ahead = ahead if member.ahead is None else max(ahead, member.ahead)

    def of(self, domain: str) -> dict[tuple[ServiceName, str], Member]:
        """Return the members of one domain."""
        return {key: member for key, member in self.members.items() if key[0].domain == domain}


def _ahead(delivery: Delivery) -> float | None:
    """Return the seconds that a sender's clock is ahead of the local one, within half a second."""
    return None if delivery.timestamp is None else delivery.timestamp + 0.5 - time.time()


# -- listening


@asynccontextmanager
async def listening(target: Target, connection: Connection) -> AsyncIterator[ReceivedKeepAlives]:
    """Receive keep-alives within the context; members on fabric_nb are requested to send theirs."""
    received = ReceivedKeepAlives()
    exchange = target.discovery_exchange

    async def set_up(channel: Channel) -> None:
        queue = await channel.topology.declare_queue(exclusive=True, auto_delete=True)
        keep_alives = {"x-match": "all", MSG_TYPE: KEEP_ALIVE}
        await channel.topology.bind(queue, exchange, arguments=keep_alives)
        await channel.consumers.start(queue, received.receive, no_ack=True)

    async with AsyncExitStack() as stack:
        with contextlib.suppress(BrokerRefused):  # reported by the checks of permissions
            await stack.enter_async_context(connection.channel(set_up, on_lost=received.interrupt))
            async with connection.channel(confirms=True) as channel:
                await channel.publish(exchange, "", keep_alive_request(target.name))
        yield received


async def query_clocks(connection: Connection, received: ReceivedKeepAlives, domain: str) -> None:
    """Call `health_check` of services without a time in their keep-alives; the reply has one."""
    unknown = [
        (name, member) for (name, _), member in received.of(domain).items() if member.ahead is None
    ]
    if unknown:
        with contextlib.suppress(BrokerRefused):  # reported by the checks of permissions
            await _query_clocks(connection, unknown[:MAX_QUERIED])


async def _query_clocks(
    connection: Connection, unknown: Sequence[tuple[ServiceName, Member]]
) -> None:
    pending: dict[str, Member] = {}
    answered = asyncio.Event()

    def on_reply(delivery: Delivery) -> None:
        member = pending.pop(delivery.correlation_id or "", None)
        if member is not None:
            member.ahead = _ahead(delivery)
        if not pending:
            answered.set()

    async with connection.channel() as channel:
        queue = await channel.topology.declare_queue(exclusive=True, auto_delete=True)
        await channel.consumers.start(queue, on_reply, no_ack=True)
        for name, member in unknown:
            key = secrets.token_hex(16)
            pending[key] = member
            request = Request.of({}).message(
                correlation_id=key, reply_to=queue, seconds=ANSWER_WITHIN
            )
            method = name.method_queue(HEALTH_CHECK)
            try:
                async with connection.channel(confirms=True) as requests:
                    await requests.publish(name.api_exchange, method, request, mandatory=True)
            except FabricError:  # it serves nothing, or this user may not call it
                pending.pop(key, None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_WITHIN if pending else 0):
                await answered.wait()


# -- findings


def peers(target: Target, received: ReceivedKeepAlives, seconds: float) -> Iterator[Finding]:
    """Yield the findings about the members whose keep-alives were received within `seconds`."""
    domain = target.name.domain
    members = {
        key: member
        for key, member in received.of(domain).items()
        if key != (target.name, target.instance)
    }
    if members or not received.interrupted:
        yield _members(domain, received, members, seconds)
    else:
        yield INTERRUPTED
    yield _clocks(members)
    yield _keep_alives(target, members)
    yield _versions(received.of(domain))
    yield _name(target, members)
    yield _unreadable(target, received)


Members = dict[tuple[ServiceName, str], Member]

INTERRUPTED = Finding(
    "peers",
    Severity.UNKNOWN,
    "The connection was lost while keep-alives were received, so the other members are not known.",
    "Run this again when the connection is stable.",
)


def _members(
    domain: str, received: ReceivedKeepAlives, members: Members, seconds: float
) -> Finding:
    if members:
        on_fabric_nb = sum(member.announcement is not None for member in members.values())
        found = (
            f"{len(members)} members in {domain!r}: {on_fabric_nb} on fabric_nb,"
            f" {len(members) - on_fabric_nb} on amqp-fabric, whose instances of one service count"
            " as one."
        )
        return Finding("peers", Severity.OK, found)
    found = f"No keep-alive of another member in {domain!r} was received within {seconds:g} s"
    others = sorted({name.domain for name, _ in received.members} - {domain})
    if not others:
        return Finding("peers", Severity.OK, f"{found}.")
    return Finding(
        "peers",
        Severity.WARNING,
        f"{found}, but in {_some(others)}.",
        "If you meant one of these, connect with --domain.",
    )


def _clocks(members: Members) -> Finding:
    known = {key: member.ahead for key, member in members.items() if member.ahead is not None}
    off = {key: ahead for key, ahead in known.items() if abs(ahead) > CLOCK_TOLERANCE}
    if off:
        listed = _some(
            f"{name.local} is {abs(ahead):,.0f} s {'ahead' if ahead > 0 else 'behind'}"
            for (name, _), ahead in sorted(off.items(), key=lambda item: -abs(item[1]))
        )
        return Finding(
            "clocks",
            Severity.WARNING,
            f"Clocks differ: {listed}.",
            "Synchronize the clocks of these machines, or of this one if all differ by the same"
            " amount, by NTP (timedatectl): times of logs and rows cannot be compared until then.",
        )
    if known:
        most = max(0.5, *map(abs, known.values()))
        found = (
            f"The clocks of {len(known)} of {len(members)} members are known, and differ from this"
            f" one by at most {most:.1f} s."
        )
        return Finding("clocks", Severity.OK, found)
    return Finding("clocks", Severity.UNKNOWN, "No clock of another member is known.")


def _keep_alives(target: Target, members: Members) -> Finding:
    """Check that no keep-alive interval is longer than amqp-fabric's expiry."""
    intervals = [
        (name, member.announcement.interval or 0.0)
        for (name, _), member in sorted(members.items())
        if member.announcement is not None
    ]
    seldom = [
        f"{name.local} (every {interval:g} s)" for name, interval in intervals if interval >= EXPIRY
    ]
    if target.interval is not None and target.interval >= EXPIRY:
        seldom.insert(0, f"this member (every {target.interval:g} s)")
    if not seldom:
        own = "none" if target.interval is None else f"one every {target.interval:g} s"
        return Finding("keep-alives", Severity.OK, f"This member sends {own}.")
    on_amqp_fabric = any(member.announcement is None for member in members.values())
    return Finding(
        "keep-alives",
        Severity.WARNING if on_amqp_fabric else Severity.OK,
        f"amqp-fabric drops a service without a keep-alive for {EXPIRY:g} s, and so repeatedly"
        f" loses {_some(seldom)}.",
        "Set keep_alive_seconds to 4 (%config FabricMagics.keep_alive_seconds), or raise"
        " discovery_cache_ttl of the members on amqp-fabric.",
    )


def _versions(members: Members) -> Finding:
    known: dict[ServiceName, set[str]] = defaultdict(set)
    for (name, _), member in members.items():
        if member.announcement is not None and member.announcement.version:
            known[name].add(member.announcement.version)
    mixed = [
        f"{name.local} ({', '.join(sorted(versions))})"
        for name, versions in sorted(known.items())
        if len(versions) > 1
    ]
    if not mixed:
        found = "All instances of each service have one version."
        return Finding("versions", Severity.OK, found)
    return Finding(
        "versions",
        Severity.WARNING,
        f"Instances of one service have several versions: {_some(mixed)}.",
        "Calls go to any of them: update the older ones. A required version (--version) does not"
        " choose between instances of one service.",
    )


def _name(target: Target, members: Members) -> Finding:
    namesakes = sum(name == target.name for name, _ in members)
    if not namesakes:
        found = f"No other member has the address {target.name.fqn}."
        return Finding("name", Severity.OK, found)
    return Finding(
        "name",
        Severity.WARNING,
        f"{namesakes} other member{'s have' if namesakes > 1 else ' has'} the address"
        f" {target.name.fqn} too: calls to it are distributed among all of them.",
        "That is intended for a clique; otherwise connect with another --id.",
    )


def _unreadable(target: Target, received: ReceivedKeepAlives) -> Finding:
    rejected = target.rejected
    count, reason = received.unreadable
    if rejected.total:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(rejected.counts.items()))
        found = f"Messages could not be read: {kinds}; the last: {rejected.last[-1].reason}"
    elif count:
        found = f"{count} keep-alives could not be read; the last: {reason}"
    else:
        return Finding("unreadable messages", Severity.OK, "None.")
    return Finding(
        "unreadable messages",
        Severity.WARNING,
        printable(found),
        "fabric.rejected.last has them with their headers, which name the sender.",
    )


async def subscriptions(target: Target, connection: Connection) -> AsyncIterator[Finding]:
    """Check the number of consumers of each shared queue of this member."""
    for queue in target.subscriptions:
        try:
            async with connection.channel() as channel:
                consumers = await channel.topology.consumer_count(queue)
        except BrokerRefused:
            consumers = 0
        if consumers > 1:
            yield Finding(
                "subscriber",
                Severity.WARNING,
                f"{consumers} subscribers share the name {queue!r}: each gets a part of the"
                " messages.",
                "That is intended for workers that share the work; otherwise give each a name of"
                " its own, or none.",
            )
        else:
            found = f"{queue!r} has {'one subscriber' if consumers else 'no subscriber'}."
            yield Finding("subscriber", Severity.OK, found)


def _some(names: Iterable[str]) -> str:
    """Return the first few names, and the number of further ones."""
    every = list(names)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more
