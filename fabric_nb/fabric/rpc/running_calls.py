"""Calls that a server runs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.rpc.served_methods import ServedMethod

CallKey = tuple[str | None, str | None]
"""Reply queue and correlation id."""


@dataclass(eq=False, slots=True)
class RunningCall:
    """A running call.

    Attributes:
        method: method that it calls.
        delivery: its request; the newest one, if the broker has delivered it again.
        acknowledged: True once the broker does not deliver it again.
        since: start of the call, in seconds of `time.monotonic`.
        task: task that runs it.
    """

    method: ServedMethod
    delivery: Delivery
    acknowledged: bool = False
    since: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None

    @property
    def key(self) -> CallKey:
        """Reply queue and correlation id, which identify the call."""
        return self.delivery.reply_to, self.delivery.correlation_id
