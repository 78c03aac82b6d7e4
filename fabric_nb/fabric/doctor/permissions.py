"""Checks of the user's permissions at the broker, by trying each operation of a member.

Nothing that other members see is left behind or sent. The permission to declare an exchange that
does not exist is tested by deleting it, and the permission to write by a message that brokers
refuse for its expiration: they check the permission first (403), then that the exchange exists
(404), then the message (406).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fabric_nb.errors import BrokerRefused
from fabric_nb.fabric.amqp.channel import Channel, Setup
from fabric_nb.fabric.amqp.connection import Connection
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
from fabric_nb.fabric.wire.probes import empty_message, refused_message

_METHOD_QUEUE = {"x-dead-letter-exchange": DEAD_LETTER_EXCHANGE, "x-expires": 60_000}

ASK = "Ask the broker's operator for the permission: fabric_nb's page on security has the patterns."
MAKE = "Have the broker's operator make it once: durable, of the type headers."


@dataclass(frozen=True, slots=True)
class Use:
    """Use of a durable exchange that all members share.

    Attributes:
        check: name of the check.
        exchange: name of the exchange.
        writes: True if a member writes to it; False if it reads.
        severity: severity of the lack of that permission.
    """

    check: str
    exchange: str
    writes: bool
    severity: Severity = Severity.WARNING


def uses(target: Target) -> list[Use]:
    """Return the uses of exchanges by members, besides calling and serving."""
    discovery, domain = target.discovery_exchange, target.name.domain
    data, logs = data_exchange(domain), log_exchange(domain)
    return [
        Use("receive keep-alives", discovery, writes=False, severity=Severity.ERROR),
        Use("send keep-alives", discovery, writes=True),
        Use("receive data", data, writes=False),
        Use("publish data", data, writes=True),
        Use("receive logs", logs, writes=False),
        Use("send logs", logs, writes=True),
    ]


async def permissions(target: Target, connection: Connection) -> AsyncIterator[Finding]:
    """Check calling, serving, and each of `uses`."""
    yield await _calling(target.name, connection)
    yield await _serving(target.name, connection)
    for use in uses(target):
        yield await _using(use, connection)


async def _using(use: Use, connection: Connection) -> Finding:
    if not await _exists(connection, use.exchange):
        # It is declared on first use, by any member with the permission.
        refused = await refusal(
            connection, lambda channel: channel.topology.delete_exchange(use.exchange)
        )
        if refused is not None:
            found = f"The exchange {use.exchange!r} is not there, and this user may not make it."
            return Finding(use.check, use.severity, found, MAKE)
    else:
        refused = await refusal(connection, partial(_declare, use.exchange))
        if refused is not None and refused.code == PRECONDITION_FAILED:
            return Finding(
                use.check,
                use.severity,
                f"The exchange {use.exchange!r} is not a durable headers exchange: {refused}",
                "Delete it (rabbitmqadmin delete exchange name=...): it is then declared correctly."
                " Or use another broker or virtual host.",
            )
    if use.writes:
        return await _may_write(use.check, connection, use.exchange, use.severity)
    return await _may_read(use, connection)


async def _exists(connection: Connection, exchange: str) -> bool:
    async with connection.channel() as channel:
        return await channel.topology.has_exchange(exchange)


async def _declare(exchange: str, channel: Channel) -> None:
    await channel.topology.declare_exchange(exchange, "headers", durable=True)


async def _may_read(use: Use, connection: Connection) -> Finding:
    no_message = {"x-match": "all", MSG_TYPE: probe_name()}

    async def read(channel: Channel) -> None:
        queue = await channel.topology.declare_queue(exclusive=True)  # deleted with the connection
        await channel.topology.bind(queue, use.exchange, arguments=no_message)

    refused = await refusal(connection, read)
    if refused is not None and refused.code != NOT_FOUND:
        return _refused(use.check, use.severity, refused)
    return Finding(use.check, Severity.OK, f"May read from {use.exchange!r}.")


async def _may_write(
    check: str, connection: Connection, exchange: str, severity: Severity
) -> Finding:
    if not connection.verifies_users:  # a product that may check in another order
        found = f"Permissions on {connection.broker} cannot be checked."
        return Finding(check, Severity.UNKNOWN, found)
    refused = await refusal(
        connection, lambda channel: channel.publish(exchange, "", refused_message())
    )
    if refused is not None and refused.code not in (NOT_FOUND, PRECONDITION_FAILED):
        return _refused(check, severity, refused)
    return Finding(check, Severity.OK, f"May write to {exchange!r}.")


def _refused(check: str, severity: Severity, refused: BrokerRefused) -> Finding:
    reason = str(refused).removeprefix("The broker refused: ")
    return Finding(check, severity, reason[:1].upper() + reason[1:], ASK)


# -- calling and serving


async def _calling(name: ServiceName, connection: Connection) -> Finding:
    """Check the reply queue, the dead letters of calls, and requests to services of the domain."""
    check = "call"

    async def replies(channel: Channel) -> None:
        await channel.topology.declare_exchange(DEAD_LETTER_EXCHANGE, "headers", auto_delete=True)
        queue = await channel.topology.declare_queue(exclusive=True, auto_delete=True)
        await channel.topology.bind(
            queue, DEAD_LETTER_EXCHANGE, arguments={"From": queue, "x-match": "any"}
        )
        await channel.consumers.start(queue, lambda _: None, no_ack=True, exclusive=True)

    async with _restored(connection, DEAD_LETTER_EXCHANGE):
        refused = await _set_up(connection, replies)
    if refused is not None:
        return _refused(check, Severity.ERROR, refused)
    # The service need not exist: permissions depend on the pattern of the exchange's name.
    return await _may_write(check, connection, name.api_exchange, Severity.WARNING)


async def _serving(name: ServiceName, connection: Connection) -> Finding:
    """Check a service with an unannounced method, and replies."""
    check, queue = "serve", name.method_queue(probe_name())

    async def serve(channel: Channel) -> None:
        await channel.topology.declare_exchange(name.api_exchange, "direct", auto_delete=True)
        await channel.topology.declare_shared_queue(queue, _METHOD_QUEUE)
        await channel.topology.bind(queue, name.api_exchange, queue)
        await channel.consumers.start(queue, lambda _: None)

    async with _restored(connection, name.api_exchange):
        refused = await _set_up(connection, serve)
        await refusal(connection, lambda channel: channel.topology.delete_queue(queue))
    if refused is None:
        refused = await refusal(connection, _reply)
    if refused is not None:
        return _refused(check, Severity.WARNING, refused)
    return Finding(check, Severity.OK, f"May serve as {name.fqn}.")


async def _reply(channel: Channel) -> None:
    queue = await channel.topology.declare_queue(exclusive=True)
    await channel.publish("", queue, empty_message())


async def _set_up(connection: Connection, work: Setup) -> BrokerRefused | None:
    """Run a setup; unlike `refusal`, exchanges that the user may not declare only have to exist."""
    try:
        async with connection.channel(work):
            return None
    except BrokerRefused as refused:
        return refused


@asynccontextmanager
async def _restored(connection: Connection, exchange: str) -> AsyncIterator[None]:
    """Delete an exchange afterwards if it did not exist before, unless it is in use now."""
    existed = await _exists(connection, exchange)
    try:
        yield
    finally:
        if not existed:
            await refusal(connection, lambda channel: channel.topology.delete_exchange(exchange))
