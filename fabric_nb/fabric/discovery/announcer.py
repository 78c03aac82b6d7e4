"""Periodic keep-alive announcements of this member's services.

A notebook sends them from the companion thread, over a connection of that thread, so that a cell
that computes does not look like a dead service. They carry `busy_since` while the notebook's loop
is blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from fabric_nb.errors import BrokerRefused, FabricError
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.amqp.reply_codes import ACCESS_REFUSED
from fabric_nb.fabric.core.companion import BUSY_AFTER, Companion
from fabric_nb.fabric.core.tasks import RESTART_AFTER, Background, failures
from fabric_nb.fabric.wire.keep_alives import Announcement, goodbye_message, keep_alive_message
from fabric_nb.fabric.wire.names import ServiceName

log = logging.getLogger(__name__)

Where = Literal["loop", "thread"]

MIN_GAP = 0.25
"""Seconds between two announcements, however many ask for one."""
ANSWERED_WITHIN = MIN_GAP + 0.1
"""Seconds in which members have answered a newcomer that asks who is there."""
_STOP_TIMEOUT = 0.7


class Announcer:
    """Announces services until `close`.

    Args:
        connect: makes a connection; in a thread it is called and used there.
        exchange: the discovery exchange.
        interval: seconds between keep-alives.
        where: on the loop that opens it, or in a companion thread.
    """

    def __init__(
        self, connect: Callable[[], Connection], exchange: str, interval: float, where: Where
    ) -> None:
        self._connect = connect
        self._exchange = exchange
        self._interval = interval
        self._where = where
        self._said: dict[ServiceName, Announcement] = {}
        self._leaving: list[tuple[ServiceName, Announcement]] = []
        self._beat: _Beat | None = None
        self._background = Background("presence")
        self._companion: Companion | None = None
        self.companion_connection: Connection | None = None
        """The connection in the companion thread, to be used there; None on the member's loop."""
        self._ended = asyncio.Event()

    async def open(self) -> None:
        """Start to announce the services that `say` is given.

        Raises:
            BrokerUnavailable: the connection of the thread cannot be made.
        """
        if self._where == "loop":
            self._beat = _Beat(self, companion=None)
            await self._background.open()
            self._background.keep(self._beat.run, name="beat")
            return
        loop = asyncio.get_running_loop()
        started: asyncio.Future[None] = loop.create_future()
        self._ended.clear()

        def ended() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._ended.set)

        companion = self._companion = Companion.join(loop)
        self._beat = _Beat(self, companion)
        companion.start(self._beat.run_beside(companion, started, ended))
        await started

    async def close(self) -> None:
        """Send a goodbye for each service, and stop."""
        for name in list(self._said):
            self.withdraw(name)
        if self._beat is not None:
            self._beat.stop()
        if self._companion is not None:
            # It is not joined in another thread: when the interpreter ends it starts none.
            await _wait(self._ended, _STOP_TIMEOUT)
            if self._beat is not None and not self._ended.is_set():
                self._beat.abort()  # it waits for a broker that is away
                await _wait(self._ended, _STOP_TIMEOUT)
            if self._ended.is_set():
                self._companion.wait_for_end(_STOP_TIMEOUT)
        elif self._beat is not None:
            await self._beat.stopped(_STOP_TIMEOUT)
        await self._background.aclose()

    def say(self, name: ServiceName, announcement: Announcement) -> None:
        """Announce `name`, at once and then at every interval."""
        self._said[name] = dataclasses.replace(announcement, interval=self._interval)
        self.now()

    def withdraw(self, name: ServiceName) -> None:
        """Send a goodbye for `name` and stop announcing it."""
        said = self._said.pop(name, None)
        if said is not None:
            self._leaving.append((name, said))
            self.now()

    def now(self) -> None:
        """Announce everything now; may be called often, and from the loop's thread."""
        if self._beat is not None:
            self._beat.wake()

    def due(self, busy_since: float | None) -> list[Message]:
        """Return the messages of one round; each goodbye is in one round only."""
        goodbyes, self._leaving = self._leaving, []
        keep_alives = [
            (name, dataclasses.replace(said, busy_since=busy_since))
            for name, said in list(self._said.items())
        ]
        messages = []
        for message, announcements in (
            (goodbye_message, goodbyes),
            (keep_alive_message, keep_alives),
        ):
            for name, said in announcements:
                try:
                    messages.append(message(name, said))
                except Exception as error:  # noqa: BLE001 - the other services are announced
                    failures.add(f"announcing {name}", error)
        return messages

    @property
    def interval(self) -> float:
        """Seconds between keep-alives."""
        return self._interval

    def connect(self) -> Connection:
        """A connection to announce over."""
        return self._connect()

    @property
    def exchange(self) -> str:
        """Where announcements go."""
        return self._exchange


class _Beat:
    """The loop that announces, wherever it runs."""

    def __init__(self, presence: Announcer, companion: Companion | None) -> None:
        self._presence = presence
        self._companion = companion
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._done = asyncio.Event()
        self._refused = False

    def wake(self) -> None:
        """Announce at the next moment; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    def stop(self) -> None:
        """End after one last round; from any thread."""
        if self._loop is None:
            self._stopping.set()  # before it has begun
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    def abort(self) -> None:
        """End now; from any thread."""
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed in this moment
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def stopped(self, timeout: float) -> None:
        """Wait for the end."""
        try:
            async with asyncio.timeout(timeout):
                await self._done.wait()
        except TimeoutError:
            log.debug("The last keep-alive was not sent in time")

    async def run_beside(
        self, companion: Companion, started: asyncio.Future[None], ended: Callable[[], None]
    ) -> None:
        """Announce in the companion thread, over a connection of its own."""
        try:
            await self._run_connected(started)
        except asyncio.CancelledError:
            log.debug("The last keep-alive was not sent in time")
        except Exception as error:  # noqa: BLE001 - a thread has no caller
            failures.add("the thread of keep-alives", error)
        finally:
            companion.leave(ended)

    async def _run_connected(self, started: asyncio.Future[None]) -> None:
        connection = self._presence.connect()
        waiting = started.get_loop()
        try:
            await connection.open()
        except FabricError as error:
            waiting.call_soon_threadsafe(_settle, started, error)
            return
        self._presence.companion_connection = connection
        waiting.call_soon_threadsafe(_settle, started, None)
        try:
            while not await self._announced(connection):
                await _wait(self._stopping, RESTART_AFTER)
        finally:
            self._presence.companion_connection = None
            await connection.close()

    async def _announced(self, connection: Connection) -> bool:
        """Announce until told to stop; False when that failed."""
        try:
            await self._announce(connection)
        except Exception as error:  # noqa: BLE001 - it is counted, and announcing starts again
            failures.add("keep-alives", error)
            return False
        return True

    async def run(self) -> None:
        """Announce over the connection that is there."""
        await self._announce(self._presence.connect())

    async def _announce(self, connection: Connection) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._done.clear()
        channel = connection.channel(confirms=True).start()  # so that a refusal is heard of
        last_round = float("-inf")
        busy_since = None
        try:
            while True:
                now = time.monotonic()
                was_busy = busy_since
                busy_since = self._companion.busy_since() if self._companion else None
                turned = (was_busy is None) != (busy_since is None)
                stopping = self._stopping.is_set()
                due = turned or now - last_round >= self._presence.interval
                if due or stopping or self._woken.is_set():
                    self._woken.clear()
                    last_round = now
                    await self._round(channel, busy_since)
                if stopping:
                    return
                await _wait(self._stopping, MIN_GAP)
                await self._wait(self._presence.interval - (time.monotonic() - last_round))
        finally:
            self._done.set()
            await channel.close()

    async def _round(self, channel: Channel, busy_since: float | None) -> None:
        if self._refused:
            return
        try:
            for message in self._presence.due(busy_since):
                await channel.publish(self._presence.exchange, "", message)
        except BrokerRefused as refused:
            # Without the right, again and again would only fill the broker's log; an exchange
            # that somebody deleted comes back.
            self._refused = refused.code == ACCESS_REFUSED
            level = logging.WARNING if self._refused else logging.DEBUG
            log.log(level, "Nobody will hear of this service: %s", refused)
        except FabricError as error:  # the next round says it again
            log.debug("A keep-alive was not sent: %s", error)

    async def _wait(self, seconds: float) -> None:
        longest = seconds if self._companion is None else min(seconds, BUSY_AFTER)
        if not self._stopping.is_set():
            await _wait(self._woken, longest)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
