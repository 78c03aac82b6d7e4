"""Calling: requests out, replies in."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from functools import partial
from typing import Any, Self

from fabric_nb.errors import (
    BrokerRefused,
    CallTimeout,
    ConnectionLost,
    FabricError,
    MalformedMessage,
    RemoteError,
)
from fabric_nb.fabric import wire
from fabric_nb.fabric.amqp import Channel, Connection, Delivery, Unroutable
from fabric_nb.fabric.malformed import MalformedLog
from fabric_nb.fabric.naming import DEAD_LETTER_EXCHANGE, ServiceName

_NOT_FOUND = 404
_MARGIN = 50.0
"""Milliseconds."""


class Caller:
    """Makes calls and finds the reply that belongs to each.

    Replies come to a queue of this connection alone, under correlation ids nobody can guess.
    Requests to each service go over a channel of their own: the exchange of a service that
    has left is gone, and publishing to it costs the channel.
    """

    def __init__(self, connection: Connection, malformed: MalformedLog) -> None:
        self._connection = connection
        self._malformed = malformed
        self._pending: dict[str, asyncio.Future[Delivery]] = {}
        self._reply_queue = ""
        self._replies = connection.channel(self._set_up_replies, on_lost=self._on_lost)
        self._requests: dict[ServiceName, Channel] = {}

    async def open(self) -> Self:
        """Declare the reply queue and listen to it."""
        self._requests.clear()  # of the time before, when it was open already once
        await self._replies.open()
        return self

    async def close(self) -> None:
        """Close; calls that are under way raise `ConnectionLost`."""
        for channel in (self._replies, *self._requests.values()):
            await channel.close()
        self._on_lost()

    @property
    def pending(self) -> int:
        """How many calls are under way."""
        return len(self._pending)

    async def call(
        self,
        name: ServiceName,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        timeout: float | None,
        label: str,
    ) -> Any:
        """Call a method and return its result.

        The request expires on the broker when no member takes it in time, so that nobody
        runs a call whose caller has given up.

        Args:
            name: the service.
            method: the method's name.
            kwargs: its keyword arguments.
            timeout: seconds for the whole call, None to wait as long as it takes.
            label: how the call is named in errors.

        Raises:
            Unroutable: nobody serves the method.
            CallTimeout: no reply in time.
            RemoteError: the method raised.
            ConnectionLost: the connection went away; whether it ran is not known.
            NotSerializable: an argument cannot be sent.
        """
        correlation_id = secrets.token_hex(16)
        # Encoding comes first: what cannot be sent is told at once, connected or not.
        message = wire.call_message(
            kwargs, correlation_id=correlation_id, reply_to="", timeout=timeout
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = None if timeout is None else began + timeout
        reply: asyncio.Future[Delivery] = loop.create_future()
        timer = None if deadline is None else loop.call_at(deadline, _expire, reply)
        channel = self._channel_to(name)
        try:
            if not (self._replies.is_ready and channel.is_ready):
                async with asyncio.timeout_at(deadline):
                    await self._until_ready(channel)
            if deadline is not None:  # waiting for the connection counts
                message.expiration = _expiration(deadline - loop.time())
            message.reply_to = self._reply_queue
            message.headers = {**message.headers, "From": self._reply_queue}
            self._pending[correlation_id] = reply
            channel.send(
                name.api_exchange,
                name.method_queue(method),
                message,
                mandatory=True,
                fate=partial(_fail, reply),
            )
            delivery = await reply
        except TimeoutError:
            raise _timed_out(label, timeout, taken=True) from None
        except BrokerRefused as error:
            if error.code != _NOT_FOUND:
                raise
            await self._forget(name, channel)
            raise Unroutable(
                f"There is no exchange {name.api_exchange}.", exchange_missing=True
            ) from None
        finally:
            self._pending.pop(correlation_id, None)
            if timer is not None:
                timer.cancel()
            reply.cancel()
        answer = self._read(delivery, label)
        if isinstance(answer, RemoteError):
            raise answer
        if isinstance(answer, wire.Expired):
            raise _timed_out(label, timeout, taken=False)
        return answer

    def _read(self, delivery: Delivery, label: str) -> Any:
        try:
            return wire.read_reply(delivery, label)
        except MalformedMessage as error:
            self._malformed.add("reply", error, delivery)
            raise MalformedMessage(f"{label} sent a reply that cannot be read: {error}") from None

    def _channel_to(self, name: ServiceName) -> Channel:
        channel = self._requests.get(name)
        if channel is None:
            # Opened apart from this call, which may be given up, while others share the channel.
            # Confirms tell, if the channel is lost, which requests the broker had taken before.
            channel = self._requests[name] = self._connection.channel(confirms=True).start()
        return channel

    async def _until_ready(self, channel: Channel) -> None:
        while not (self._replies.is_ready and channel.is_ready):
            await self._replies.ready()
            await channel.ready()

    async def _forget(self, name: ServiceName, channel: Channel) -> None:
        if self._requests.get(name) is channel:
            del self._requests[name]
        await channel.close()

    # -- replies

    async def _set_up_replies(self, channel: Channel) -> None:
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        await channel.declare_exchange(DEAD_LETTER_EXCHANGE, "headers", auto_delete=True)
        await channel.bind(queue, DEAD_LETTER_EXCHANGE, arguments={"From": queue, "x-match": "any"})
        await channel.consume(queue, self._on_reply, no_ack=True, exclusive=True)
        self._reply_queue = queue

    def _on_reply(self, delivery: Delivery) -> None:
        reply = self._pending.get(delivery.correlation_id or "")
        if reply is not None and not reply.done():  # else: late, or answered twice
            reply.set_result(delivery)

    def _on_lost(self) -> None:
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(
                    ConnectionLost(
                        f"The connection to {self._connection.masked_uri} was lost before the"
                        " answer came; whether the call was run is not known."
                    )
                )


def _expire(reply: asyncio.Future[Delivery]) -> None:
    if not reply.done():
        reply.set_exception(TimeoutError())


def _fail(reply: asyncio.Future[Delivery], error: FabricError | None) -> None:
    """What becomes of a request: no error means that the broker has it, and an answer may come."""
    if error is not None and not reply.done():
        reply.set_exception(error)


def _expiration(seconds: float) -> int:
    """Milliseconds that a request may wait at the broker, for a caller who waits so long.

    A little less, so that no member takes a request whose caller has just given up.
    """
    milliseconds = seconds * 1000
    return max(1, int(milliseconds - min(_MARGIN, milliseconds / 10)))


def _timed_out(label: str, timeout: float | None, *, taken: bool) -> CallTimeout:
    seconds = timeout or 0.0
    why = "" if taken else ": no member of the service was free to take it"
    return CallTimeout(
        f"{label} gave no answer within {seconds:g} s{why}.", call=label, seconds=seconds
    )
