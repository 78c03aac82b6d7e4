"""The others: who is heard, what their clocks say, and who shares what with us by accident."""

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
from fabric_nb.fabric.wire.calls import call_message
from fabric_nb.fabric.wire.keep_alives import Announcement, keep_alive_request, read_keep_alive
from fabric_nb.fabric.wire.names import KEEP_ALIVE, MSG_TYPE, ServiceName

EXPIRY = 5.0
"""Seconds after which amqp-fabric forgets who was not heard, by default."""
CLOCK_TOLERANCE = 2.0
"""Seconds; what members tell of their clocks is in whole ones."""
MAX_HEARD = 10_000
MAX_ASKED = 20
"""Services of which the time is asked."""
ANSWER_WITHIN = 2.0
NAMED = 5
"""Names that a finding tells."""
HEALTH_CHECK = "health_check"
"""The method that every service of both libraries has."""


@dataclass(slots=True)
class Member:
    """A member that was heard.

    Attributes:
        said: what it tells of itself; None on amqp-fabric.
        ahead: seconds that its clock is ahead of ours; None: it tells no time.
    """

    said: Announcement | None = None
    ahead: float | None = None


@dataclass(slots=True)
class Heard:
    """What has come to the discovery exchange.

    Attributes:
        members: by name and instance.
        unreadable: how many messages could not be read, and why the last one could not.
        cut_off: whether the connection was lost meanwhile, so that others went unheard.
    """

    members: dict[tuple[ServiceName, str], Member] = field(default_factory=dict)
    unreadable: tuple[int, str] = (0, "")
    cut_off: bool = False

    def cut(self) -> None:
        """The connection is lost."""
        self.cut_off = True

    def take(self, delivery: Delivery) -> None:
        """Take in one message."""
        try:
            sign = read_keep_alive(delivery)
        except MalformedMessage as error:
            self.unreadable = self.unreadable[0] + 1, str(error)
            return
        key = sign.name, sign.announcement.instance if sign.announcement is not None else ""
        if key in self.members or len(self.members) < MAX_HEARD:
            member = self.members.setdefault(key, Member())
            member.said = sign.announcement
            if (ahead := _ahead(delivery)) is not None:
                # Of several, the one that was on its way for the shortest time.
                member.ahead = ahead if member.ahead is None else max(ahead, member.ahead)

    def of(self, domain: str) -> dict[tuple[ServiceName, str], Member]:
        """The members of one domain."""
        return {key: one for key, one in self.members.items() if key[0].domain == domain}


def _ahead(delivery: Delivery) -> float | None:
    """Seconds that a sender's clock is ahead of ours, to within half a second."""
    return None if delivery.timestamp is None else delivery.timestamp + 0.5 - time.time()


# -- listening


@asynccontextmanager
async def listening(target: Target, connection: Connection) -> AsyncIterator[Heard]:
    """Hear keep-alives meanwhile; those on fabric_nb are asked for theirs."""
    heard = Heard()
    exchange = target.discovery_exchange

    async def set_up(channel: Channel) -> None:
        queue = await channel.topology.declare_queue(exclusive=True, auto_delete=True)
        what = {"x-match": "all", MSG_TYPE: KEEP_ALIVE}
        await channel.topology.bind(queue, exchange, arguments=what)
        await channel.consume(queue, heard.take, no_ack=True)

    async with AsyncExitStack() as ending:
        with contextlib.suppress(BrokerRefused):  # it is told with the rights
            await ending.enter_async_context(connection.channel(set_up, on_lost=heard.cut))
            async with connection.channel(confirms=True) as channel:
                await channel.publish(exchange, "", keep_alive_request(target.name))
        yield heard


async def ask_time(connection: Connection, heard: Heard, domain: str) -> None:
    """Ask services whose keep-alives tell no time for their `health_check`, whose reply does."""
    silent = [(name, one) for (name, _), one in heard.of(domain).items() if one.ahead is None]
    if silent:
        with contextlib.suppress(BrokerRefused):  # it is told with the rights
            await _ask_time(connection, silent[:MAX_ASKED])


async def _ask_time(connection: Connection, silent: Sequence[tuple[ServiceName, Member]]) -> None:
    waiting: dict[str, Member] = {}
    answered = asyncio.Event()

    def take(delivery: Delivery) -> None:
        member = waiting.pop(delivery.correlation_id or "", None)
        if member is not None:
            member.ahead = _ahead(delivery)
        if not waiting:
            answered.set()

    async with connection.channel() as channel:
        queue = await channel.topology.declare_queue(exclusive=True, auto_delete=True)
        await channel.consume(queue, take, no_ack=True)
        for name, member in silent:
            key = secrets.token_hex(16)
            waiting[key] = member
            request = call_message({}, correlation_id=key, reply_to=queue, timeout=ANSWER_WITHIN)
            method = name.method_queue(HEALTH_CHECK)
            try:
                async with connection.channel(confirms=True) as asking:
                    await asking.publish(name.api_exchange, method, request, mandatory=True)
            except FabricError:  # it serves nothing, or may not be called
                waiting.pop(key, None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_WITHIN if waiting else 0):
                await answered.wait()


# -- what it means


def peers(target: Target, heard: Heard, seconds: float) -> Iterator[Finding]:
    """Everything that can be said of those who were heard for so many seconds."""
    domain = target.name.domain
    members = {
        key: one for key, one in heard.of(domain).items() if key != (target.name, target.instance)
    }
    yield _presence(domain, heard, members, seconds) if members or not heard.cut_off else CUT_OFF
    yield _clocks(members)
    yield _keep_alives(target, members)
    yield _versions(heard.of(domain))
    yield _name(target, members)
    yield _unreadable(target, heard)


Members = dict[tuple[ServiceName, str], Member]

CUT_OFF = Finding(
    "peers",
    Severity.UNKNOWN,
    "The connection was lost while others were listened to, so who is there is not known.",
    "Run this again when the connection holds.",
)


def _presence(domain: str, heard: Heard, members: Members, seconds: float) -> Finding:
    if members:
        ours = sum(one.said is not None for one in members.values())
        found = (
            f"{len(members)} heard in {domain!r}: {ours} on fabric_nb, {len(members) - ours} on"
            " amqp-fabric, whose members of one name cannot be told apart."
        )
        return Finding("peers", Severity.OK, found)
    found = f"Nobody else was heard in {domain!r} within {seconds:g} s"
    others = sorted({name.domain for name, _ in heard.members} - {domain})
    if not others:
        return Finding("peers", Severity.OK, f"{found}.")
    return Finding(
        "peers",
        Severity.WARNING,
        f"{found}, but in {_some(others)}.",
        "If you meant one of these, connect with --domain.",
    )


def _clocks(members: Members) -> Finding:
    told = {key: one.ahead for key, one in members.items() if one.ahead is not None}
    off = {key: ahead for key, ahead in told.items() if abs(ahead) > CLOCK_TOLERANCE}
    if off:
        shown = _some(
            f"{name.type}.{name.id} is {abs(ahead):,.0f} s {'ahead' if ahead > 0 else 'behind'}"
            for (name, _), ahead in sorted(off.items(), key=lambda item: -abs(item[1]))
        )
        return Finding(
            "clocks",
            Severity.WARNING,
            f"Clocks differ: {shown}.",
            "Set the clocks of these machines, or of this one if all differ alike, by NTP"
            " (timedatectl): times of logs and rows cannot be compared until then.",
        )
    if told:
        most = max(0.5, *map(abs, told.values()))
        found = f"{len(told)} of {len(members)} tell the time, within {most:.1f} s of ours."
        return Finding("clocks", Severity.OK, found)
    return Finding("clocks", Severity.UNKNOWN, "Nobody who was heard tells the time.")


def _keep_alives(target: Target, members: Members) -> Finding:
    """Who speaks so seldom that amqp-fabric forgets them in between."""
    seldom = [
        f"{name.type}.{name.id} (every {one.said.interval:g} s)"
        for (name, _), one in sorted(members.items())
        if one.said is not None and (one.said.interval or 0.0) >= EXPIRY
    ]
    if target.interval is not None and target.interval >= EXPIRY:
        seldom.insert(0, f"this member (every {target.interval:g} s)")
    if not seldom:
        own = "none" if target.interval is None else f"one every {target.interval:g} s"
        return Finding("keep-alives", Severity.OK, f"This member sends {own}.")
    on_amqp_fabric = any(one.said is None for one in members.values())
    return Finding(
        "keep-alives",
        Severity.WARNING if on_amqp_fabric else Severity.OK,
        f"amqp-fabric forgets who was not heard for {EXPIRY:g} s, and so loses again and again:"
        f" {_some(seldom)}.",
        "Set keep_alive_seconds to 4 (%config FabricMagics.keep_alive_seconds), or raise"
        " discovery_cache_ttl of the members on amqp-fabric.",
    )


def _versions(members: Members) -> Finding:
    told: dict[ServiceName, set[str]] = defaultdict(set)
    for (name, _), one in members.items():
        if one.said is not None and one.said.version:
            told[name].add(one.said.version)
    mixed = [
        f"{name.type}.{name.id} ({', '.join(sorted(versions))})"
        for name, versions in sorted(told.items())
        if len(versions) > 1
    ]
    if not mixed:
        return Finding("versions", Severity.OK, "Members of one name have one version.")
    return Finding(
        "versions",
        Severity.WARNING,
        f"Members of one name have several versions: {_some(mixed)}.",
        "Calls go to either: update the older ones. A required version (--version) does not choose"
        " between members of one name.",
    )


def _name(target: Target, members: Members) -> Finding:
    namesakes = sum(name == target.name for name, _ in members)
    if not namesakes:
        return Finding("name", Severity.OK, f"Nobody else is {target.name.fqn}.")
    return Finding(
        "name",
        Severity.WARNING,
        f"{namesakes} other{'s are' if namesakes > 1 else ' is'} {target.name.fqn} too: what is"
        " served under that name is served by all of them in turn.",
        "That is right for a clique; otherwise connect with another --id.",
    )


def _unreadable(target: Target, heard: Heard) -> Finding:
    log = target.rejected
    count, reason = heard.unreadable
    if log.total:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(log.counts.items()))
        found = f"Messages could not be read: {kinds}; the last: {log.last[-1].reason}"
    elif count:
        found = f"{count} keep-alives could not be read; the last: {reason}"
    else:
        return Finding("unreadable messages", Severity.OK, "None.")
    return Finding(
        "unreadable messages",
        Severity.WARNING,
        printable(found),
        "fabric.rejected.last has them with their headers, which tell who sends them.",
    )


async def subscriptions(target: Target, connection: Connection) -> AsyncIterator[Finding]:
    """Whether several take messages from the queues that this member subscribes by."""
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
                "That is right for workers that share the work; otherwise give each a name of its"
                " own, or none.",
            )
        else:
            found = f"{queue!r} has {'one subscriber' if consumers else 'no subscriber'}."
            yield Finding("subscriber", Severity.OK, found)


def _some(names: Iterable[str]) -> str:
    """The first few, and how many more."""
    every = list(names)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more
