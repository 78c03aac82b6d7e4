"""Calls that came while the loop stood still, as it does while a cell computes.

A call that waits in its queue expires there when its caller gives up. One that was delivered
already cannot, and nothing in it tells how long it was on its way. So it is given back once: the
broker keeps the time at which it expires, and delivers it again or tells its caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.message import Delivery

STALL = 1.0
"""Seconds for which the loop must have stood still; a call that waited less is not worth asking."""
_TICK = 0.5


class ExpiredCallFilter:
    """Gives back what was delivered on a channel during a stall, while `watch` runs.

    Args:
        channel: where it is delivered.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._ticked = float("inf")

    async def watch(self) -> None:
        """Notice when the loop stands still, until cancelled."""
        while True:
            self._ticked = monotonic()
            await asyncio.sleep(_TICK)

    def before(self, take: Callable[[Delivery], object]) -> Callable[[Delivery], None]:
        """What to call with each delivery in place of `take`, which gets those that may run."""

        def on_delivery(delivery: Delivery) -> None:
            # What comes again has waited for us before: giving it back for ever helps nobody.
            if self._stood_still and not delivery.redelivered:
                self._channel.reject(delivery, requeue=True)
            else:
                take(delivery)

        return on_delivery

    @property
    def _stood_still(self) -> bool:
        """Whether a stall has just ended: the socket is read before `watch` comes to its turn."""
        return monotonic() - self._ticked > _TICK + STALL
