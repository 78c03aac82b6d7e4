"""Calls and messages at a steady rate, of which each is accounted for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.support.fabric import until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fabric_nb import AmqBrokerConnector
    from fabric_nb.fabric.data.stream import Stream

TICK, MOST = 0.02, 0.1
"""Seconds."""
BACKLOG = 10.0
"""Seconds of calls that may wait for their answers: more would only be late on a slow machine."""


async def at_rate(rate: float, stop: asyncio.Event, once: Callable[[], object]) -> None:
    """Do it so often a second; what a slow machine cannot do is left out, not made up for."""
    owed, last = 0.0, time.monotonic()
    while not stop.is_set():
        now = time.monotonic()
        owed, last = min(owed + rate * (now - last), rate * MOST), now
        while owed >= 1:
            owed -= 1
            once()
        await asyncio.sleep(TICK)


class Calls:
    """Calls a method that returns twice its `x`; `ended` counts how the calls ended.

    `answered` is a right answer, `wrong` any other; else it is the name of the error's type.
    """

    def __init__(
        self, caller: AmqBrokerConnector, method: str, rate: float, **options: Any
    ) -> None:
        self.made = 0
        self.ended: Counter[str] = Counter()
        self._caller = caller
        self._method = method
        self._rate = rate
        self._options: Mapping[str, Any] = options
        self._under_way: dict[int, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Call until told to stop, and wait for the last answers."""
        await at_rate(self._rate, stop, self._begin)
        if self._under_way:
            await asyncio.wait(self._under_way.values())

    def _begin(self) -> None:
        if len(self._under_way) >= self._rate * BACKLOG:
            return
        self.made += 1
        self._under_way[self.made] = asyncio.ensure_future(self._call(self.made))

    def all_ended(self, first: int) -> bool:
        """Whether that many that were made first have ended."""
        return next(iter(self._under_way), self.made + 1) > first

    @property
    def outcome(self) -> str:
        """How many were made, and how they ended."""
        return f"{self.made} made, {', '.join(f'{n} {how}' for how, n in self.ended.items())}"

    async def _call(self, x: int) -> None:
        try:
            answer = await self._caller.call(self._method, x=x, **self._options)
        except Exception as error:  # noqa: BLE001 - it is counted
            self.ended[type(error).__name__] += 1
        else:
            self.ended["answered" if answer == 2 * x else "wrong"] += 1
        finally:
            del self._under_way[x]


class Messages:
    """Publishes numbered rows; each ends as confirmed or as failed, and came to a stream or not."""

    def __init__(self, publisher: AmqBrokerConnector, rate: float) -> None:
        self.made = 0
        self.confirmed: set[int] = set()
        self.failed: set[int] = set()
        self._publisher = publisher
        self._rate = rate

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until told to stop, and wait until each has ended."""
        await at_rate(self._rate, stop, self._publish)
        await until(lambda: len(self.confirmed) + len(self.failed) == self.made, timeout=60)

    def _publish(self) -> None:
        number = self.made
        self.made += 1
        taken = asyncio.ensure_future(self._publisher.publish_data({"n": number}))
        taken.add_done_callback(lambda done: self._ended(number, done))

    def _ended(self, number: int, done: asyncio.Future[None]) -> None:
        (self.failed if done.cancelled() or done.exception() else self.confirmed).add(number)

    @property
    def outcome(self) -> str:
        """How many there are of each kind."""
        return f"{self.made} made, {len(self.confirmed)} confirmed, {len(self.failed)} failed"

    def missing(self, stream: Stream) -> set[int]:
        """The numbers that did not come to the stream."""
        return set(range(self.made)) - set(stream.df["n"])

    def twice(self, stream: Stream) -> int:
        """How many came more than once."""
        return len(stream) - stream.df["n"].nunique()


def channels_of(member):
    """How many channels a member has open, and how many it remembers, on both its connections."""
    connections = member._connection, member._reading
    opened = (one._amqp.channels for one in connections if one._amqp is not None)
    return sum(map(len, opened)), sum(len(one._channels) for one in connections)
