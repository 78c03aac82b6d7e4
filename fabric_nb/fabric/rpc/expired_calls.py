"""Filter for calls that were delivered while the loop was blocked, as by a computing cell.

A call that waits in its queue expires there when its caller gives up. A call that was delivered
does not, and carries no time of delivery. So it is requeued once: the broker still knows when it
expires, and either delivers it again or returns it to its caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.message import Delivery

STALL = 1.0
"""Seconds for which the loop must have been blocked; shorter waits are ignored."""
_TICK = 0.5
"""Seconds between two ticks of the loop."""


class ExpiredCallFilter:
    """Requeues calls that were delivered on a channel during a stall, while `watch` runs.

    Args:
        channel: channel of the deliveries.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._ticked = float("inf")

    async def watch(self) -> None:
        """Record ticks of the loop, until cancelled."""
        while True:
            self._ticked = monotonic()
            await asyncio.sleep(_TICK)

    def before(self, on_delivery: Callable[[Delivery], object]) -> Callable[[Delivery], None]:
        """Return a callback that passes on the deliveries that have not expired."""

        def filtered(delivery: Delivery) -> None:
            # A redelivered call was requeued before; it is not requeued again and again.
            # The socket is read before `watch` runs again after a stall.
            blocked = monotonic() - self._ticked > _TICK + STALL
            if blocked and not delivery.redelivered:
                self._channel.reject(delivery, requeue=True)
            else:
                on_delivery(delivery)

        return filtered
