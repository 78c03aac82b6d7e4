"""Keep-alives in: from the discovery exchange to the registry and to whoever subscribed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fabric_nb.errors import BrokerRefused, FabricError, MalformedMessage
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.discovery.clock import PULSE
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

LOOK_EVERY = 1.0
"""Seconds between two looks at who was not heard for long."""
MAX_ASKED = 20
"""Services that the broker is asked for in one look."""

_HEARD = (KEEP_ALIVE, GOODBYE, KEEP_ALIVE_REQUEST)


class Listener:
    """Declares the discovery exchange and, where wanted, listens to it.

    Args:
        connection: where to listen.
        name: who asks the others to announce themselves.
        exchange: the discovery exchange.
        registry: takes in what is heard.
        rejected: takes what cannot be read.
        background: runs the subscribers' callbacks.
        listening: whether to listen, or only to declare.
        on_request: called when somebody asks for announcements.
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
        on_request: Callable[[], object],
    ) -> None:
        self.listening = listening
        self._name = name
        self._exchange = exchange
        self._registry = registry
        self._rejected = rejected
        self._background = background
        self._on_request = on_request
        self._callbacks: list[tuple[KeepAliveCallback, Mapping[str, str]]] = []
        self._connection = connection
        self._channel = connection.channel(self._set_up, on_lost=registry.stop_hearing)
        connection.on_silence.append(self._on_silence)

    async def open(self) -> None:
        """Declare the exchange; when listening, also ask everybody to announce themselves."""
        await self._channel.open()
        if self.listening:
            self._background.keep(self._pulse, name="pulse")
            self._background.keep(self._look_after_the_silent, name="look after the silent")

    def _on_silence(self, seconds: float | None) -> None:
        if seconds is not None:
            self._registry.stop_hearing(time.monotonic() - seconds)
        elif self.listening and self._channel.is_ready:
            self._registry.hear_again()

    async def _pulse(self) -> None:
        while True:
            self._registry.pulse()
            await asyncio.sleep(PULSE)

    async def _look_after_the_silent(self) -> None:
        """Ask the broker for services that are not heard: one whose loop is blocked is there."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            silent = [] if self._registry.deaf else self._registry.silent(MAX_ASKED)
            if silent:
                with contextlib.suppress(FabricError):  # it is asked again at its next silence
                    async with self._connection.channel() as channel:
                        for service in silent:
                            name = service.name.api_exchange
                            if await channel.topology.has_exchange(name, default=False):
                                self._registry.hold(service)

    def subscribe(self, callback: KeepAliveCallback, headers: Mapping[str, str]) -> None:
        """Await `callback` with the headers of each keep-alive that has these `headers`."""
        self._callbacks.append((callback, headers))

    async def _set_up(self, channel: Channel) -> None:
        await channel.topology.declare_exchange(self._exchange, "headers", durable=True)
        if not self.listening:
            return
        queue = await channel.topology.declare_exclusive_queue()
        for kind in _HEARD:
            arguments = {"x-match": "all", MSG_TYPE: kind}
            await channel.topology.bind(queue, self._exchange, arguments=arguments)
        await channel.consume(queue, self._on_keep_alive, no_ack=True)
        self._registry.hear_again()
        await self._ask()

    async def _ask(self) -> None:
        request = keep_alive_request(self._name)
        try:  # a refusal costs the channel, so it has one of its own
            async with self._connection.channel(confirms=True) as channel:
                await channel.publish(self._exchange, "", request)
        except BrokerRefused as refused:
            log.debug("Nobody was asked to announce themselves: %s", refused)

    def _on_keep_alive(self, delivery: Delivery) -> None:
        try:
            sign = read_keep_alive(delivery)
        except MalformedMessage as error:
            self._rejected.add("keep-alive", error, delivery)
            return
        if sign.asking:
            self._on_request()
            return
        self._registry.heard(sign)
        if not sign.leaving:
            self._tell(dict(delivery.headers))

    def _tell(self, headers: dict[str, Any]) -> None:
        for callback, wanted in self._callbacks:
            if all(headers.get(header) == value for header, value in wanted.items()):
                self._background.spawn(_awaited(callback, headers), name="keep-alive callback")


async def _awaited(callback: KeepAliveCallback, headers: dict[str, Any]) -> None:
    await callback(headers)
