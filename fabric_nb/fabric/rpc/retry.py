"""Retry of calls that no instance can have run, and of calls that are safe to run twice."""

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
"""Seconds after a reconnect during which services may still be reconnecting; those of amqp-fabric
try every five seconds."""


async def retry(
    failed: FabricError,
    call: Callable[[float | None], Awaitable[Any]],
    timeout: float | None,
    connection: Connection,
    *,
    idempotent: bool,
) -> Any:
    """Retry a call that has failed, where that is safe.

    A call that was not routed to any instance has not run: it is retried shortly after a reconnect,
    or if an instance was lost during an earlier try. A call that may have run is retried only if it
    is idempotent.

    Args:
        failed: error of the first try.
        call: makes the call once, with the seconds that are left for it.
        timeout: seconds for all further tries; None: no limit.
        connection: connection that the call is made on.
        idempotent: safe to run twice.

    Raises:
        ConnectionLost, ServiceLost, Unroutable: it is not retried, or the time is over.
    """
    clock = asyncio.get_running_loop().time
    ends = None if timeout is None else clock() + timeout
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
