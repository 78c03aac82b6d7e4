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
from functools import partial
from typing import Any, Literal, NamedTuple

from fabric_nb.errors import BrokerRefused, FabricError
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.amqp.reply_codes import ACCESS_REFUSED
from fabric_nb.fabric.core.companion import BUSY_AFTER, Companion
from fabric_nb.fabric.core.tasks import RESTART_AFTER, Background, failures
from fabric_nb.fabric.wire.keep_alives import Announcement, goodbye_message, keep_alive_message
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.statistics import Statistics

log = logging.getLogger(__name__)

Presence = Literal["loop", "thread"]
"""Sender of keep-alives: the member's own loop, or the companion thread."""

MIN_GAP = 0.25
"""Minimum seconds between two rounds of announcements, however many are requested."""
REPLY_WITHIN = MIN_GAP + 0.1
"""Seconds within which members announce themselves after a request for keep-alives."""
_STOP_TIMEOUT = 0.7
"""Seconds that the last round of announcements may take."""


class _Announced(NamedTuple):
    """An announced service, and the function that reads its statistics, if it serves calls."""

    announcement: Announcement
    read_statistics: Callable[[], Statistics] | None


class Announcer:
    """Sends keep-alives of services until `close`.

    Args:
        connect: returns the connection to announce over; in a thread it is called and used there.
        exchange: discovery exchange.
        interval: seconds between keep-alives.
        presence: sender of the keep-alives.

    Attributes:
        companion_connection: connection in the companion thread, to be used there; None if the
            loop sends the keep-alives.
    """

    def __init__(
        self, connect: Callable[[], Connection], exchange: str, interval: float, presence: Presence
    ) -> None:
        self.connect = connect
        self.exchange = exchange
        self.interval = interval
        self._presence = presence
        self._announced: dict[ServiceName, _Announced] = {}
        self._withdrawn: list[tuple[ServiceName, Announcement]] = []
        self._sender: _Sender | None = None
        self._background = Background("announcer")
        self._companion: Companion | None = None
        self.companion_connection: Connection | None = None
        self._ended = asyncio.Event()

    async def open(self) -> None:
        """Start to send keep-alives.

        Raises:
            BrokerUnavailable: the connection of the thread cannot be opened.
        """
        if self._presence == "loop":
            self._sender = _Sender(self, companion=None)
            await self._background.open()
            self._background.keep(self._sender.run, name="keep-alives")
            return
        loop = asyncio.get_running_loop()
        started: asyncio.Future[None] = loop.create_future()
        self._ended.clear()

        def ended() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._ended.set)

        companion = self._companion = Companion.join(loop)
        self._sender = _Sender(self, companion)
        companion.start(self._sender.run_in_companion(companion, started, ended))
        await started

    async def close(self) -> None:
        """Send a goodbye for each service, and stop."""
        for name in list(self._announced):
            self.withdraw(name)
        if self._sender is not None:
            self._sender.stop()
        if self._companion is not None:
            # Not joined in another thread, which cannot be started when the interpreter ends.
            await _wait(self._ended, _STOP_TIMEOUT)
            if self._sender is not None and not self._ended.is_set():
                self._sender.abort()  # it waits for an unreachable broker
                await _wait(self._ended, _STOP_TIMEOUT)
            if self._ended.is_set():
                self._companion.wait_for_end(_STOP_TIMEOUT)
        elif self._sender is not None:
            await self._sender.wait_until_done(_STOP_TIMEOUT)
        await self._background.aclose()

    def announce(
        self,
        name: ServiceName,
        announcement: Announcement,
        read_statistics: Callable[[], Statistics] | None = None,
    ) -> None:
        """Announce a service now, and then at every interval.

        Args:
            name: address of the service.
            announcement: its description.
            read_statistics: returns its statistics for the next keep-alive; called in the thread
                that sends it. None: it serves no calls.
        """
        announcement = dataclasses.replace(announcement, interval=self.interval)
        self._announced[name] = _Announced(announcement, read_statistics)
        self.announce_now()

    def withdraw(self, name: ServiceName) -> None:
        """Send a goodbye for a service, and stop announcing it."""
        announced = self._announced.pop(name, None)
        if announced is not None:
            self._withdrawn.append((name, announced.announcement))
            self.announce_now()

    def announce_now(self) -> None:
        """Announce all services now, or after `MIN_GAP`; from the thread of the loop."""
        if self._sender is not None:
            self._sender.wake()

    def next_messages(self, busy_since: float | None) -> list[Message]:
        """Return the messages of the next round; each goodbye is in one round only.

        Args:
            busy_since: time (epoch seconds) since when the loop is blocked; None if it is not.
        """
        goodbyes, self._withdrawn = self._withdrawn, []
        makers: list[tuple[ServiceName, Callable[[], Message]]] = [
            (name, partial(goodbye_message, name, announcement)) for name, announcement in goodbyes
        ]
        makers += [
            (name, partial(_keep_alive, name, announced, busy_since))
            for name, announced in self._announced.copy().items()
        ]
        messages = []
        for name, make in makers:
            try:
                messages.append(make())
            except Exception as error:  # noqa: BLE001 - the other services are announced
                failures.add(f"announcing {name}", error)
        return messages


def _keep_alive(name: ServiceName, announced: _Announced, busy_since: float | None) -> Message:
    announcement, read_statistics = announced
    return keep_alive_message(
        name,
        dataclasses.replace(announcement, busy_since=busy_since),
        read_statistics() if read_statistics is not None else None,
    )


class _Sender:
    """Sends the messages of an announcer, on the member's loop or in the companion thread."""

    def __init__(self, announcer: Announcer, companion: Companion | None) -> None:
        self._announcer = announcer
        self._companion = companion
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._wakeup = asyncio.Event()
        self._stopping = asyncio.Event()
        self._done = asyncio.Event()
        self._refused = False

    def wake(self) -> None:
        """Send the next round early; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wakeup.set)

    def stop(self) -> None:
        """Stop after one last round; from any thread."""
        if self._loop is None:
            self._stopping.set()  # not started yet
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    def abort(self) -> None:
        """Stop now; from any thread."""
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def wait_until_done(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for the last round."""
        try:
            async with asyncio.timeout(timeout):
                await self._done.wait()
        except TimeoutError:
            log.debug("The last keep-alive was not sent in time")

    async def run_in_companion(
        self, companion: Companion, started: asyncio.Future[None], ended: Callable[[], None]
    ) -> None:
        """Send in the companion thread, over a connection of its own, until stopped.

        Args:
            companion: companion thread; it is left at the end.
            started: future of the member's loop, for the result of connecting.
            ended: called in the companion thread at the end.
        """
        try:
            await self._run_connected(started)
        except asyncio.CancelledError:
            log.debug("The last keep-alive was not sent in time")
        except Exception as error:  # noqa: BLE001 - a thread has no caller
            failures.add("keep-alive thread", error)
        finally:
            companion.leave(ended)

    async def _run_connected(self, started: asyncio.Future[None]) -> None:
        connection = self._announcer.connect()
        member_loop = started.get_loop()
        try:
            await connection.open()
        except FabricError as error:
            member_loop.call_soon_threadsafe(_settle, started, error)
            return
        self._announcer.companion_connection = connection
        member_loop.call_soon_threadsafe(_settle, started, None)
        try:
            while not await self._succeeds(connection):
                await _wait(self._stopping, RESTART_AFTER)
        finally:
            self._announcer.companion_connection = None
            await connection.close()

    async def _succeeds(self, connection: Connection) -> bool:
        """Send until stopped; return False after an error."""
        try:
            await self._send(connection)
        except Exception as error:  # noqa: BLE001 - it is counted, and sending restarts
            failures.add("keep-alives", error)
            return False
        return True

    async def run(self) -> None:
        """Send over the member's connection, on its loop, until stopped."""
        await self._send(self._announcer.connect())

    async def _send(self, connection: Connection) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._done.clear()
        channel = connection.channel(confirms=True).start()  # confirms report a refusal
        last_round = float("-inf")
        busy_since = None
        try:
            while True:
                now = time.monotonic()
                was_busy = busy_since is not None
                busy_since = self._companion.busy_since() if self._companion else None
                changed = was_busy != (busy_since is not None)
                stopping = self._stopping.is_set()
                due = changed or now - last_round >= self._announcer.interval
                if due or stopping or self._wakeup.is_set():
                    self._wakeup.clear()
                    last_round = now
                    await self._send_round(channel, busy_since)
                if stopping:
                    return
                await _wait(self._stopping, MIN_GAP)
                await self._wait(self._announcer.interval - (time.monotonic() - last_round))
        finally:
            self._done.set()
            await channel.close()

    async def _send_round(self, channel: Channel, busy_since: float | None) -> None:
        if self._refused:
            return
        try:
            for message in self._announcer.next_messages(busy_since):
                await channel.publish(self._announcer.exchange, "", message)
        except BrokerRefused as refused:
            # Without permission, retries would only fill the broker's log. A deleted exchange is
            # declared again.
            self._refused = refused.code == ACCESS_REFUSED
            level = logging.WARNING if self._refused else logging.DEBUG
            log.log(level, "This service cannot be announced: %s", refused)
        except FabricError as error:  # the next round repeats it
            log.debug("A keep-alive was not sent: %s", error)

    async def _wait(self, seconds: float) -> None:
        longest = seconds if self._companion is None else min(seconds, BUSY_AFTER)
        if not self._stopping.is_set():
            await _wait(self._wakeup, longest)


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
