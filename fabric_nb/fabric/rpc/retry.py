"""Calls that are made again: those that nobody can have run, and those that may run twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fabric_nb.errors import ConnectionLost, FabricError, ServiceLost
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.core.backoff import backoff

PATIENCE = 30.0
"""Seconds that an idempotent call without a timeout waits for a service that was lost."""
RETURNING = 8.0
"""Seconds after the connection came back during which services may not yet be back; amqp-fabric's
try every five."""


async def until_answered(
    call: Callable[[float | None], Awaitable[Any]],
    timeout: float | None,
    connection: Connection,
    *,
    idempotent: bool,
) -> Any:
    """Make a call, and make it again if it got lost and that does no harm.

    A call that found nobody was not run: it is made again when the connection has only just come
    back, or when the same call had found somebody before. One that may have been run is made
    again only if it is idempotent.

    Args:
        call: makes the call once, with the seconds that are left for it.
        timeout: seconds for everything; None to wait as long as it takes.
        connection: what the call goes over.
        idempotent: whether running it twice does no harm.

    Raises:
        ConnectionLost, ServiceLost, Unroutable: it is not made again, or the time is over.
    """
    clock = asyncio.get_running_loop().time
    ends = None if timeout is None else clock() + timeout
    try:
        return await call(timeout)
    except (ConnectionLost, ServiceLost, Unroutable) as error:
        failed: FabricError = error
    patient_until = float("-inf")
    for pause in backoff():
        if isinstance(failed, Unroutable):
            patient_until = max(patient_until, connection.reconnected_at + RETURNING)
        elif idempotent:
            patient_until = clock() + PATIENCE if ends is None else ends
        else:
            break
        if clock() + pause >= (patient_until if ends is None else min(patient_until, ends)):
            break
        await asyncio.sleep(pause)
        try:
            return await call(None if ends is None else ends - clock())
        except (ConnectionLost, ServiceLost, Unroutable) as error:
            failed = error
    raise failed
