"""Calls and messages at a constant rate, with the outcome of each."""

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

TICK, MAX_BACKLOG = 0.02, 0.1
"""Seconds."""
BACKLOG = 10.0
"""Seconds of calls that may be in flight: more would only be delayed on a slow machine."""


async def at_rate(rate: float, stop: asyncio.Event, action: Callable[[], object]) -> None:
    """Run an action `rate` times per second; on a slow machine runs are skipped, not delayed."""
    due, last = 0.0, time.monotonic()
    while not stop.is_set():
        now = time.monotonic()
        due, last = min(due + rate * (now - last), rate * MAX_BACKLOG), now
        while due >= 1:
            due -= 1
            action()
        await asyncio.sleep(TICK)


class Calls:
    """Calls a method that doubles its `x`, and counts the `outcomes`.

    An outcome is `answered` for the right result, `wrong` for others, or the error type's name.
    """

    def __init__(
        self, caller: AmqBrokerConnector, method: str, rate: float, **options: Any
    ) -> None:
        self.started = 0
        self.outcomes: Counter[str] = Counter()
        self._caller = caller
        self._method = method
        self._rate = rate
        self._options: Mapping[str, Any] = options
        self._in_flight: dict[int, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Call until `stop` is set, and wait for in-flight calls."""
        await at_rate(self._rate, stop, self._begin)
        if self._in_flight:
            await asyncio.wait(self._in_flight.values())

    def _begin(self) -> None:
        if len(self._in_flight) >= self._rate * BACKLOG:
            return
        self.started += 1
        self._in_flight[self.started] = asyncio.ensure_future(self._call(self.started))

    def all_completed(self, count: int) -> bool:
        """Return whether the first `count` calls have completed."""
        return next(iter(self._in_flight), self.started + 1) > count

    @property
    def summary(self) -> str:
        """Number of calls, and of each outcome."""
        outcomes = (f"{n} {outcome}" for outcome, n in self.outcomes.items())
        return f"{self.started} started, {', '.join(outcomes)}"

    async def _call(self, x: int) -> None:
        try:
            result = await self._caller.call(self._method, x=x, **self._options)
        except Exception as error:  # noqa: BLE001 - it is counted
            self.outcomes[type(error).__name__] += 1
        else:
            self.outcomes["answered" if result == 2 * x else "wrong"] += 1
        finally:
            del self._in_flight[x]


class Messages:
    """Publishes numbered rows, and records which were confirmed and which failed."""

    def __init__(self, publisher: AmqBrokerConnector, rate: float) -> None:
        self.published = 0
        self.confirmed: set[int] = set()
        self.failed: set[int] = set()
        self._publisher = publisher
        self._rate = rate

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set, and wait for all outcomes."""
        await at_rate(self._rate, stop, self._publish)
        await until(lambda: len(self.confirmed) + len(self.failed) == self.published, timeout=180)

    def _publish(self) -> None:
        number = self.published
        self.published += 1
        publishing = asyncio.ensure_future(self._publisher.publish_data({"n": number}))
        publishing.add_done_callback(lambda done: self._on_published(number, done))

    def _on_published(self, number: int, done: asyncio.Future[None]) -> None:
        (self.failed if done.cancelled() or done.exception() else self.confirmed).add(number)

    @property
    def summary(self) -> str:
        """Number of messages, and of each outcome."""
        outcomes = f"{len(self.confirmed)} confirmed, {len(self.failed)} failed"
        return f"{self.published} published, {outcomes}"

    def missing(self, stream: Stream) -> set[int]:
        """Return the numbers that the stream did not receive."""
        return set(range(self.published)) - set(stream.df["n"])

    def duplicates(self, stream: Stream) -> int:
        """Return the number of rows that the stream has received more than once."""
        return len(stream) - stream.df["n"].nunique()


def channels_of(member):
    """Return the numbers of open and of registered channels on both connections of a member."""
    connections = member.member.connection, member.member.consumer_connection
    opened = sum(connection.open_channels for connection in connections)
    return opened, sum(len(connection.channels) for connection in connections)
