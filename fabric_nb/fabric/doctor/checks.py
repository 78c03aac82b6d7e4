"""All checks.

They open a connection of their own, with the member's settings, so that they work whether the
member is connected or not, and they leave nothing behind at the broker.
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
from fabric_nb.fabric.doctor.permissions import permissions
from fabric_nb.fabric.doctor.target import LISTEN, Target
from fabric_nb.libraries import unsupported


async def diagnose(target: Target, *, seconds: float = LISTEN, timeout: float) -> Diagnosis:
    """Run all checks.

    Args:
        target: the member to check.
        seconds: seconds to listen for keep-alives of other members.
        timeout: seconds for connecting, and again for all checks after that.
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
    return Diagnosis([*findings, _libraries(), _background_work(), *stopped])


def _libraries() -> Finding:
    """Check that the installed versions of the dependencies are supported."""
    problem = unsupported()
    if not problem:
        return Finding("libraries", Severity.OK, "The versions of all libraries are supported.")
    found, _, advice = problem.partition(": ")
    return Finding("libraries", Severity.WARNING, f"{found}.", advice[:1].upper() + advice[1:])


def _background_work() -> Finding:
    """Report errors that no caller has received."""
    if not failures.total:
        return Finding("background work", Severity.OK, "No task has failed.")
    last = failures.last[-1]
    places = ", ".join(f"{where} ({count})" for where, count in failures.counts.most_common(5))
    return Finding(
        "background work",
        Severity.WARNING,
        printable(f"Work in the background failed: {places}; the last: {last.where}: {last.error}"),
        "Work that must keep running was restarted. fabric.failures.last has the errors; report"
        " them.",
    )


async def _examine(
    target: Target,
    connection: Connection,
    findings: list[Finding],
    *,
    seconds: float,
    timeout: float,
) -> None:
    """Run all checks; those that ended before an error stay in `findings`."""

    async def collect(found: AsyncIterator[Finding]) -> None:
        async for finding in found:
            findings.append(finding)

    began = time.perf_counter()
    try:
        await connection.open(timeout)
    except BrokerUnavailable as error:
        findings += [broker.unreachable(error), broker.heartbeat(target)]
        findings += await broker.security(target, None)
        return
    await collect(broker.broker(connection, time.perf_counter() - began))
    findings += await broker.security(target, timeout)
    findings.append(broker.heartbeat(target))
    findings += broker.limits(target.capabilities)
    # Before the others, because it may cost the connection, which then reconnects.
    findings.append(await broker.transient_queues(connection))
    async with peers.listening(target, connection) as received:
        deadline = time.monotonic() + seconds
        await collect(permissions(target, connection))
        await asyncio.sleep(deadline - time.monotonic())
        await peers.query_clocks(connection, received, target.name.domain)
    findings.extend(peers.peers(target, received, seconds))
    await collect(peers.subscriptions(target, connection))


def _stopped(connection: Connection, error: Exception) -> Finding:
    """Return the finding for checks that were interrupted."""
    if connection.blocked is not None:
        return Finding(
            "alarm",
            Severity.ERROR,
            f"The broker accepts no messages: {connection.blocked}.",
            "Have its operator free memory or disk; it then resumes by itself.",
        )
    why = str(error) or "the broker has stopped answering."
    return Finding(
        "broker",
        Severity.ERROR,
        f"The checks could not be completed: {why}",
        "Read the broker's log, and run this again.",
    )
