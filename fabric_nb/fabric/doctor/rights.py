"""What this user may do at the broker: each thing that a member does is tried.

Nothing that others see is left behind or sent. A right to make what is not there is asked for by
deleting it, and a right to write by a message that no broker takes, for its expiration: the right
is looked at first (403), then whether the exchange is there (404), then the message (406).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fabric_nb.errors import BrokerRefused
from fabric_nb.fabric.amqp.channel import Channel, Setup
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.amqp.reply_codes import NOT_FOUND, PRECONDITION_FAILED
from fabric_nb.fabric.doctor.broker import probe_name
from fabric_nb.fabric.doctor.findings import Finding, Severity
from fabric_nb.fabric.doctor.target import Target, refusal
from fabric_nb.fabric.wire.names import (
    DEAD_LETTER_EXCHANGE,
    MSG_TYPE,
    ServiceName,
    data_exchange,
    log_exchange,
)

_UNTAKEN = Message(b"", expiration=-1)
_METHOD_QUEUE = {"x-dead-letter-exchange": DEAD_LETTER_EXCHANGE, "x-expires": 60_000}

ASK = "Ask the broker's operator for the right: fabric_nb's page on security tells the patterns."


MAKE = "Have the broker's operator make it once: durable, of the type headers."


@dataclass(frozen=True, slots=True)
class Use:
    """Something that a member does with a durable exchange that all share.

    Attributes:
        check: what it is.
        exchange: with which.
        writes: whether it writes to it, or reads.
        without: how bad it is when it may not.
    """

    check: str
    exchange: str
    writes: bool
    without: Severity = Severity.WARNING


def uses(target: Target) -> list[Use]:
    """What members do besides calling and serving."""
    discovery, domain = target.discovery_exchange, target.name.domain
    data, logs = data_exchange(domain), log_exchange(domain)
    return [
        Use("hear services", discovery, writes=False, without=Severity.ERROR),
        Use("be announced", discovery, writes=True),
        Use("see data", data, writes=False),
        Use("publish data", data, writes=True),
        Use("see logs", logs, writes=False),
        Use("send logs", logs, writes=True),
    ]


async def rights(target: Target, connection: Connection) -> AsyncIterator[Finding]:
    """Calling, serving, and each of `uses`."""
    yield await _calling(target.name, connection)
    yield await _serving(target.name, connection)
    for use in uses(target):
        yield await _using(use, connection)


async def _using(use: Use, connection: Connection) -> Finding:
    if not await _is_there(connection, use.exchange):
        # It is made when it is first needed, by whoever may.
        refused = await refusal(
            connection, lambda channel: channel.topology.delete_exchange(use.exchange)
        )
        if refused is not None:
            found = f"The exchange {use.exchange!r} is not there, and this user may not make it."
            return Finding(use.check, use.without, found, MAKE)
    else:
        refused = await refusal(connection, partial(_make, use.exchange))
        if refused is not None and refused.code == PRECONDITION_FAILED:
            return Finding(
                use.check,
                use.without,
                f"The exchange {use.exchange!r} is of another kind than a durable headers"
                f" exchange: {refused}",
                "Delete it (rabbitmqadmin delete exchange name=...): it is made again as it is to"
                " be. Or use another broker or virtual host.",
            )
    if use.writes:
        return await _may_write(use.check, connection, use.exchange, use.without)
    return await _may_read(use, connection)


async def _is_there(connection: Connection, exchange: str) -> bool:
    async with connection.channel() as channel:
        return await channel.topology.has_exchange(exchange)


async def _make(exchange: str, channel: Channel) -> None:
    await channel.topology.declare_exchange(exchange, "headers", durable=True)


async def _may_read(use: Use, connection: Connection) -> Finding:
    what = {"x-match": "all", MSG_TYPE: probe_name()}

    async def read(channel: Channel) -> None:
        queue = await channel.topology.declare_queue(exclusive=True)  # it goes with the connection
        await channel.topology.bind(queue, use.exchange, arguments=what)

    refused = await refusal(connection, read)
    if refused is not None and refused.code != NOT_FOUND:
        return _refused(use.check, use.without, refused)
    return Finding(use.check, Severity.OK, f"May read from {use.exchange!r}.")


async def _may_write(
    check: str, connection: Connection, exchange: str, without: Severity
) -> Finding:
    if not connection.verifies_users:  # not known to look at things in that order
        return Finding(check, Severity.UNKNOWN, f"{connection.broker} cannot be asked for rights.")
    refused = await refusal(connection, lambda channel: channel.publish(exchange, "", _UNTAKEN))
    if refused is not None and refused.code not in (NOT_FOUND, PRECONDITION_FAILED):
        return _refused(check, without, refused)
    return Finding(check, Severity.OK, f"May write to {exchange!r}.")


def _refused(check: str, without: Severity, refused: BrokerRefused) -> Finding:
    said = str(refused).removeprefix("The broker refused: ")
    return Finding(check, without, said[:1].upper() + said[1:], ASK)


# -- calling and serving


async def _calling(name: ServiceName, connection: Connection) -> Finding:
    """A queue for replies, the dead letters of calls, and requests to services of the domain."""
    check = "call"

    async def replies(channel: Channel) -> None:
        await channel.topology.declare_exchange(DEAD_LETTER_EXCHANGE, "headers", auto_delete=True)
        queue = await channel.topology.declare_queue(exclusive=True, auto_delete=True)
        await channel.topology.bind(
            queue, DEAD_LETTER_EXCHANGE, arguments={"From": queue, "x-match": "any"}
        )
        await channel.consume(queue, lambda _: None, no_ack=True, exclusive=True)

    async with _unless_there(connection, DEAD_LETTER_EXCHANGE):
        refused = await _set_up(connection, replies)
    if refused is not None:
        return _refused(check, Severity.ERROR, refused)
    # The service itself need not be there: its exchange has a name like those of all others.
    return await _may_write(check, connection, name.api_exchange, Severity.WARNING)


async def _serving(name: ServiceName, connection: Connection) -> Finding:
    """A method of our own, which nobody knows of, and replies."""
    check, queue = "serve", name.method_queue(probe_name())

    async def serve(channel: Channel) -> None:
        await channel.topology.declare_exchange(name.api_exchange, "direct", auto_delete=True)
        await channel.topology.declare_shared_queue(queue, _METHOD_QUEUE)
        await channel.topology.bind(queue, name.api_exchange, queue)
        await channel.consume(queue, lambda _: None)

    async with _unless_there(connection, name.api_exchange):
        refused = await _set_up(connection, serve)
        await refusal(connection, lambda channel: channel.topology.delete_queue(queue))
    if refused is None:
        refused = await refusal(connection, _reply)
    if refused is not None:
        return _refused(check, Severity.WARNING, refused)
    return Finding(check, Severity.OK, f"May serve as {name.fqn}.")


async def _reply(channel: Channel) -> None:
    queue = await channel.topology.declare_queue(exclusive=True)
    await channel.publish("", queue, Message(b""))


async def _set_up(connection: Connection, work: Setup) -> BrokerRefused | None:
    """As `refusal`, but as a member does it: what it may not make need only be there."""
    try:
        async with connection.channel(work):
            return None
    except BrokerRefused as refused:
        return refused


@asynccontextmanager
async def _unless_there(connection: Connection, exchange: str) -> AsyncIterator[None]:
    """Delete an exchange afterwards that was not there before, unless somebody uses it now."""
    was_there = await _is_there(connection, exchange)
    try:
        yield
    finally:
        if not was_there:
            await refusal(connection, lambda channel: channel.topology.delete_exchange(exchange))
