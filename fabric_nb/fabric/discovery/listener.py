"""Listener for keep-alives, which passes them to the registry and to subscribers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from fabric_nb.errors import BrokerRefused, FabricError, MalformedMessage
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.discovery.clock import TICK_PERIOD
from fabric_nb.fabric.discovery.queue_counts import QueueCounter
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.wire.keep_alives import keep_alive_request, read_keep_alive
from fabric_nb.fabric.wire.names import (
    GOODBYE,
    KEEP_ALIVE,
    KEEP_ALIVE_REQUEST,
    MSG_TYPE,
    ServiceName,
)

log = logging.getLogger(__name__)

KeepAliveCallback = Callable[[dict[str, Any]], Awaitable[object]]

CHECK_PERIOD = 1.0
"""Seconds between two checks of services without keep-alives."""
MAX_CHECKED = 20
"""Maximum number of services whose exchanges are looked up in one check."""

_MESSAGE_TYPES = (KEEP_ALIVE, GOODBYE, KEEP_ALIVE_REQUEST)


class Listener:
    """Declares the discovery exchange, and consumes keep-alives and requests for them.

    Args:
        connection: connection to consume on.
        name: sender of requests for keep-alives.
        exchange: discovery exchange.
        registry: receives the keep-alives.
        rejected: record of keep-alives that cannot be read.
        background: task group for the subscribers' callbacks.
        listening: False to consume no keep-alives.
        on_request: called when a member requests keep-alives; None if this one sends none.

    Attributes:
        paused: True if nothing is received until `resume`.
    """

    def __init__(
        self,
        connection: Connection,
        name: ServiceName,
        exchange: str,
        *,
        registry: Registry,
        rejected: RejectedMessages,
        background: Background,
        listening: bool,
        on_request: Callable[[], object] | None,
    ) -> None:
        self.listening = listening
        self.paused = False
        self._name = name
        self.exchange = exchange
        self._registry = registry
        self._rejected = rejected
        self._background = background
        self._on_request = on_request
        self._callbacks: list[tuple[KeepAliveCallback, Mapping[str, str]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._connection = connection
        self._channel = connection.channel(self._set_up, on_lost=registry.connection_lost)
        self._requests = connection.channel(self._set_up_requests)
        self._queue_counter = QueueCounter(connection, registry)
        connection.on_silence.append(self._on_silence)

    async def open(self) -> None:
        """Declare the exchange; if listening, also consume and request keep-alives."""
        if self.paused:
            return
        await self._channel.open()
        if self.listening:
            keep = self._background.keep
            self._tasks = [
                keep(self._tick, name="tick"),
                keep(self._check_silent_services, name="check silent services"),
                keep(self._queue_counter.run, name="count queues"),
            ]
        elif self._on_request is not None:
            await self._receive_requests()

    async def pause(self) -> None:
        """Receive nothing until `resume`; the registry keeps the services that it has."""
        self.paused = True
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        await self._channel.close()
        self._registry.connection_lost()

    async def resume(self) -> None:
        """Receive keep-alives again, and request them.

        Raises:
            BrokerRefused: the broker refused to deliver them.
            NotConnected: the connection is closed.
        """
        self.paused = False
        self._registry.connection_lost()  # its clock has to grant the time of the pause
        try:
            await self.open()
        except BaseException:
            self.paused = True
            raise

    async def _receive_requests(self) -> None:
        try:  # a member that only announces itself needs no permission to receive
            await self._requests.open()
        except BrokerRefused as refused:
            log.debug("Requests for keep-alives are not received: %s", refused)

    def _on_silence(self, seconds: float | None) -> None:
        if seconds is not None:
            self._registry.connection_lost(time.monotonic() - seconds)
        elif self.listening and self._channel.is_ready:
            self._registry.connection_made()

    async def _tick(self) -> None:
        while True:
            self._registry.tick()
            await asyncio.sleep(TICK_PERIOD)

    async def _check_silent_services(self) -> None:
        """Look up the exchanges of silent services: a service with a blocked loop still has one."""
        while True:
            await asyncio.sleep(CHECK_PERIOD)
            silent = [] if self._registry.stale else self._registry.newly_silent(MAX_CHECKED)
            if silent:
                with contextlib.suppress(FabricError):  # it is checked again at its next silence
                    async with self._connection.channel() as channel:
                        for service in silent:
                            name = service.name.api_exchange
                            if await channel.topology.has_exchange(name, default=False):
                                self._registry.confirm_exchange(service)

    def subscribe(self, callback: KeepAliveCallback, headers: Mapping[str, str]) -> None:
        """Await `callback` with the headers of each keep-alive that has these `headers`."""
        self._callbacks.append((callback, headers))

    async def _set_up(self, channel: Channel) -> None:
        await channel.topology.declare_exchange(self.exchange, "headers", durable=True)
        if not self.listening:
            return
        await self._consume(channel, _MESSAGE_TYPES)
        self._registry.connection_made()
        await self.request_keep_alives()

    async def _set_up_requests(self, channel: Channel) -> None:
        await channel.topology.declare_exchange(self.exchange, "headers", durable=True)
        await self._consume(channel, (KEEP_ALIVE_REQUEST,))

    async def _consume(self, channel: Channel, message_types: Iterable[str]) -> None:
        queue = await channel.topology.declare_exclusive_queue()
        for message_type in message_types:
            arguments = {"x-match": "all", MSG_TYPE: message_type}
            await channel.topology.bind(queue, self.exchange, arguments=arguments)
        await channel.consumers.start(queue, self._on_keep_alive, no_ack=True)

    async def request_keep_alives(self) -> None:
        """Request keep-alives of all fabric_nb members now, if this user may."""
        request = keep_alive_request(self._name)
        try:  # on a separate channel, because a refusal closes it
            async with self._connection.channel(confirms=True) as channel:
                await channel.publish(self.exchange, "", request)
        except BrokerRefused as refused:
            log.debug("Keep-alives could not be requested: %s", refused)

    def _on_keep_alive(self, delivery: Delivery) -> None:
        try:
            keep_alive = read_keep_alive(delivery)
        except MalformedMessage as error:
            self._rejected.add("keep-alive", error, delivery)
            return
        if keep_alive.asking:
            if self._on_request is not None:
                self._on_request()
            return
        if keep_alive.flaw:
            self._rejected.add("keep-alive", keep_alive.flaw, delivery)
        self._registry.receive(keep_alive)
        if not keep_alive.leaving:
            self._dispatch(dict(delivery.headers))

    def _dispatch(self, headers: dict[str, Any]) -> None:
        for callback, required in self._callbacks:
            if all(headers.get(header) == value for header, value in required.items()):
                self._background.spawn(_awaited(callback, headers), name="keep-alive callback")


async def _awaited(callback: KeepAliveCallback, headers: dict[str, Any]) -> None:
    await callback(headers)
