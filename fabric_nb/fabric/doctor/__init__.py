"""The doctor: looks for what keeps a member of the fabric from working, and says what to do.

It connects by itself, as the member does, so that it works whether the member is connected or not,
and leaves nothing behind at the broker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from fabric_nb.errors import BrokerUnavailable, FabricError, printable
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.core.tasks import failures
from fabric_nb.fabric.doctor import broker, peers
from fabric_nb.fabric.doctor.findings import Diagnosis, Finding, Severity
from fabric_nb.fabric.doctor.rights import rights
from fabric_nb.fabric.doctor.target import Target

__all__ = ["LISTEN", "Diagnosis", "Finding", "Severity", "Target", "diagnose"]

LISTEN = 6.0
"""Seconds; a little more than the interval that amqp-fabric's documentation proposes."""


async def diagnose(target: Target, *, seconds: float = LISTEN, timeout: float) -> Diagnosis:
    """Look at everything.

    Args:
        target: whom to look at.
        seconds: how long to listen for others.
        timeout: seconds that connecting may take, and so many again what is tried then.
    """
    name = f"fabric_nb doctor of {target.name}"
    connection = Connection(target.uri, name=name, heartbeat=target.heartbeat)
    findings: list[Finding] = []
    stopped: list[Finding] = []
    try:
        async with asyncio.timeout(2 * timeout + seconds):
            await _examine(target, connection, findings, seconds=seconds, timeout=timeout)
    except (TimeoutError, FabricError) as error:
        stopped.append(_stopped(connection, error))
    finally:
        await connection.close()
    return Diagnosis([*findings, _background_work(), *stopped])


def _background_work() -> Finding:
    """Errors that no caller has received."""
    if not failures.total:
        return Finding("background work", Severity.OK, "No task has failed.")
    last = failures.last[-1]
    places = ", ".join(f"{where} ({count})" for where, count in failures.counts.most_common(5))
    return Finding(
        "background work",
        Severity.WARNING,
        printable(f"Work in the background failed: {places}; the last: {last.where}: {last.error}"),
        "What must go on was started again. fabric.failures.last has the errors; report them.",
    )


async def _examine(
    target: Target,
    connection: Connection,
    findings: list[Finding],
    *,
    seconds: float,
    timeout: float,
) -> None:
    """Look at everything; what was found before an error stays in `findings`."""

    async def keep(found: AsyncIterator[Finding]) -> None:
        async for finding in found:
            findings.append(finding)

    began = time.perf_counter()
    try:
        await connection.open(timeout)
    except BrokerUnavailable as error:
        findings += [broker.unreachable(error), broker.heartbeat(target)]
        findings += await broker.security(target, None)
        return
    await keep(broker.broker(connection, time.perf_counter() - began))
    findings += await broker.security(target, timeout)
    findings.append(broker.heartbeat(target))
    findings += broker.limits(target.capabilities)
    # First, as it may cost the connection, which comes back.
    findings.append(await broker.transient_queues(connection))
    async with peers.listening(target, connection) as heard:
        ends = time.monotonic() + seconds
        await keep(rights(target, connection))
        await asyncio.sleep(ends - time.monotonic())
        await peers.ask_time(connection, heard, target.name.domain)
    findings.extend(peers.peers(target, heard, seconds))
    await keep(peers.subscriptions(target, connection))


def _stopped(connection: Connection, error: Exception) -> Finding:
    """Why the examination ended before its end."""
    if connection.blocked is not None:
        return Finding(
            "alarm",
            Severity.ERROR,
            f"The broker takes no messages: {connection.blocked}.",
            "Have its operator free memory or disk; it goes on by itself then.",
        )
    why = str(error) or "the broker has stopped answering."
    return Finding(
        "broker",
        Severity.ERROR,
        f"The examination could not be ended: {why}",
        "Look into the broker's log, and run this again.",
    )
