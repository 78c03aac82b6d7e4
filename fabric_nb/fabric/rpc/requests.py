"""Calling: requests out, replies in."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial
from typing import Any, Self

from fabric_nb.errors import (
    BrokerRefused,
    CallTimeout,
    ConnectionLost,
    FabricError,
    MalformedMessage,
    NotConnected,
    RemoteError,
    ServiceLost,
)
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.amqp.fast_channel import OnOutcome
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.amqp.reply_codes import NOT_FOUND
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.core.tasks import Background, in_thread
from fabric_nb.fabric.rpc.access import CALLER_HEADER, is_reply_queue
from fabric_nb.fabric.rpc.item_streams import WINDOW, Incoming, probe
from fabric_nb.fabric.rpc.liveness import LivenessMonitor, NoInstanceLeft
from fabric_nb.fabric.wire.calls import (
    CALL,
    MAX_EXPIRATION,
    Expired,
    call_message,
    dead_lettered_from,
    read_reply,
)
from fabric_nb.fabric.wire.items import (
    BEGIN,
    END,
    ITEM,
    cancel_message,
    credit_message,
    probe_message,
)
from fabric_nb.fabric.wire.json_reading import PIECE
from fabric_nb.fabric.wire.names import DEAD_LETTER_EXCHANGE, ServiceName

_MARGIN = 50.0
"""Milliseconds."""
_NOT_TAKEN = ": no member of the service was free to take it"


class Requester:
    """Makes calls and finds the reply that belongs to each.

    Replies come to a queue of this connection alone, under correlation ids nobody can guess.
    Requests to each service go over a channel of their own: the exchange of a service that
    has left is gone, and publishing to it costs the channel.
    """

    def __init__(
        self,
        connection: Connection,
        rejected: RejectedMessages,
        background: Background,
        sender: str,
    ) -> None:
        self._sender = sender
        self._connection = connection
        self._rejected = rejected
        self._background = background
        self._vigil = LivenessMonitor(connection)
        self._pending: dict[str, asyncio.Future[Delivery]] = {}
        self._asked: dict[str, tuple[str, ...]] = {}
        """The queues in which each request that is under way may be."""
        self._reply_queue = ""
        self._replies = connection.channel(self._set_up_replies, on_lost=self._on_lost)
        self._requests: dict[ServiceName, Channel] = {}
        self._streams: dict[str, Incoming] = {}
        self._control: Channel | None = None

    async def open(self) -> Self:
        """Declare the reply queue and listen to it."""
        self._requests.clear()  # of the time before, when it was open already once
        self._control = None
        await self._replies.open()
        self._background.keep(self._vigil.keep, name="vigil")
        return self

    async def close(self) -> None:
        """Close; calls that are under way raise `ConnectionLost`."""
        control = [] if self._control is None else [self._control]
        for channel in (self._replies, *self._requests.values(), *control):
            await channel.close()
        self._on_lost()

    @property
    def pending(self) -> int:
        """How many calls are under way."""
        return len(self._pending) + len(self._streams)

    async def call(
        self,
        name: ServiceName,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        timeout: float | None,
        label: str,
        given: float | None = None,
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
            given: the seconds that errors name; `timeout` where it is not what is left of more.

        Raises:
            Unroutable: nobody serves the method.
            ServiceLost: all who served it left before they answered.
            CallTimeout: no reply in time.
            RemoteError: the method raised.
            ConnectionLost: the connection went away; whether it ran is not known.
            NotSerializable: an argument cannot be sent.
            MessageTooLarge: the arguments are larger than the broker takes.
        """
        correlation_id = secrets.token_hex(16)
        # Encoding comes first: what cannot be sent is told at once, connected or not.
        message = call_message(kwargs, correlation_id=correlation_id, reply_to="", timeout=timeout)
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = None if timeout is None else began + timeout
        reply: asyncio.Future[Delivery] = loop.create_future()
        timer = None if deadline is None else loop.call_at(deadline, _expire, reply)
        channel = self._channel_to(name)
        try:
            if not (self._replies.is_ready and channel.is_ready and channel.accepts(message)):
                async with asyncio.timeout_at(deadline):
                    channel = await self._ready_channel_to(name)
                    await channel.check_size(message, f"The request to {label}")
            if deadline is not None:  # waiting for the connection counts
                message.expiration = _expiration(deadline - loop.time())
            self._pending[correlation_id] = reply
            queue = name.method_queue(method)
            self._asked[correlation_id] = (queue, name.leader_queue)
            self._vigil.watch(reply, name, queue)
            self._request(channel, name.api_exchange, queue, message, partial(_fail, reply))
            delivery = await reply
        except TimeoutError:
            raise self._late(label, given or timeout) from None
        except NoInstanceLeft:
            raise _left(name, label) from None
        except BrokerRefused as error:
            if message.user_id and self._connection.drop_refused_user_id(error):
                return await self.call(
                    name, method, kwargs, timeout=timeout, label=label, given=given
                )
            raise await self._refused(name, channel, error) from None
        finally:
            self._pending.pop(correlation_id, None)
            self._asked.pop(correlation_id, None)
            self._vigil.leave(reply)
            if timer is not None:
                timer.cancel()
            reply.cancel()
        answer = await self._read(delivery, label)
        if isinstance(answer, RemoteError):
            raise answer
        if isinstance(answer, Expired):
            raise _timed_out(label, given or timeout, _NOT_TAKEN)
        return answer

    async def stream(
        self,
        name: ServiceName,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        timeout: float | None,
        label: str,
    ) -> AsyncGenerator[Any, None]:
        """Call a method and give the items of its generator as they come.

        The items of a list, or a single value, where the other end does not stream. When this is
        closed, the generator at the other end is closed too.

        Args, and what is raised, are those of `call`, with `timeout` for each item.
        """
        correlation_id = secrets.token_hex(16)
        message = call_message(
            kwargs, correlation_id=correlation_id, reply_to="", timeout=timeout, credit=WINDOW
        )
        channel, queue = self._channel_to(name), name.method_queue(method)
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        incoming = Incoming(on_begin=partial(self._vigil.leave, lost))
        lost.add_done_callback(partial(_fail_stream, incoming))
        probing = asyncio.ensure_future(
            probe(lambda: self._ask_after(incoming, correlation_id, _left(name, label)))
        )
        try:
            async with asyncio.timeout(timeout):
                channel = await self._ready_channel_to(name)
                await self._control_ready()
                await channel.check_size(message, f"The request to {label}")
            self._streams[correlation_id] = incoming
            self._asked[correlation_id] = (queue, name.leader_queue)
            self._vigil.watch(lost, name, queue)
            self._request(channel, name.api_exchange, queue, message, incoming.fail)
            while (delivery := await incoming.next(timeout)).type == ITEM:
                yield await self._read(delivery, label)
                if incoming.control and (more := incoming.credit()):
                    self._tell(incoming.control, credit_message(correlation_id, more))
            for item in await self._last(delivery, timeout, label):
                yield item
        except TimeoutError:
            raise self._late(label, timeout) from None
        except NoInstanceLeft:
            raise _left(name, label) from None
        except BrokerRefused as error:
            if not (message.user_id and self._connection.drop_refused_user_id(error)):
                raise await self._refused(name, channel, error) from None
            again = self.stream(name, method, kwargs, timeout=timeout, label=label)
            async with contextlib.aclosing(again):
                async for item in again:
                    yield item
        finally:
            probing.cancel()
            self._streams.pop(correlation_id, None)
            self._asked.pop(correlation_id, None)
            self._vigil.leave(lost)
            lost.cancel()
            if incoming.control:
                self._tell(incoming.control, cancel_message(correlation_id))

    async def _last(self, delivery: Delivery, timeout: float | None, label: str) -> Sequence[Any]:
        """The last message of a stream: its end, its error, or the reply of who does not stream."""
        if delivery.type == END:
            return ()
        answer = await self._read(delivery, label)
        if isinstance(answer, RemoteError):
            raise answer
        if isinstance(answer, Expired):
            raise _timed_out(label, timeout, _NOT_TAKEN)
        return answer if isinstance(answer, list) else [answer]

    def _late(self, label: str, timeout: float | None) -> CallTimeout:
        blocked = self._connection.blocked
        why = f": the broker takes no messages ({blocked})" if blocked else ""
        if self._connection.state is State.RECONNECTING:
            where = self._connection.masked_uri
            why = f": it was not sent, because the connection to {where} is lost and not back yet"
        return _timed_out(label, timeout, why)

    def _ask_after(self, incoming: Incoming, correlation_id: str, gone: ServiceLost) -> None:
        def on_outcome(error: FabricError | None) -> None:
            incoming.fail(gone if isinstance(error, Unroutable) else error)

        if incoming.control:
            self._tell(incoming.control, probe_message(correlation_id), on_outcome)

    def _tell(self, queue: str, message: Message, on_outcome: OnOutcome | None = None) -> None:
        if self._control is not None:
            with contextlib.suppress(ConnectionLost):  # with it the stream has ended
                self._control.send(
                    "", queue, message, mandatory=on_outcome is not None, on_outcome=on_outcome
                )

    async def _control_ready(self) -> None:
        if self._control is None:
            self._control = self._connection.channel(confirms=True).start()
        await self._control.ready()

    def _request(
        self, channel: Channel, exchange: str, queue: str, message: Message, on_outcome: OnOutcome
    ) -> None:
        message.reply_to = self._reply_queue
        message.user_id = self._connection.user_id
        message.headers = {
            **message.headers,
            "From": self._reply_queue,
            CALLER_HEADER: self._sender,
        }
        channel.send(exchange, queue, message, mandatory=True, on_outcome=on_outcome)

    async def _read(self, delivery: Delivery, label: str) -> Any:
        try:
            if len(delivery.body) <= PIECE:
                return read_reply(delivery, label)
            return await in_thread(read_reply, delivery, label)
        except MalformedMessage as error:
            self._rejected.add("reply", error, delivery)
            raise MalformedMessage(f"{label} sent a reply that cannot be read: {error}") from None

    def _channel_to(self, name: ServiceName) -> Channel:
        channel = self._requests.get(name)
        if channel is None:
            # Opened apart from this call, which may be given up, while others share the channel.
            # Confirms tell, if the channel is lost, which requests the broker had taken before.
            channel = self._requests[name] = self._connection.channel(confirms=True).start()
        return channel

    async def _ready_channel_to(self, name: ServiceName) -> Channel:
        while True:
            channel = self._channel_to(name)
            if self._replies.is_ready and channel.is_ready:
                return channel
            await self._replies.ready()
            try:
                await channel.ready()
            except NotConnected:
                if self._requests.get(name) is channel:
                    raise
                # Another call found no exchange, and the channel was given up with it.

    async def _refused(
        self, name: ServiceName, channel: Channel, error: BrokerRefused
    ) -> FabricError:
        """What a refusal means; a missing exchange has cost the channel."""
        if error.code != NOT_FOUND:
            return error
        if self._requests.get(name) is channel:
            del self._requests[name]
        await channel.close()
        return Unroutable(f"There is no exchange {name.api_exchange}.", exchange_missing=True)

    # -- replies

    async def _set_up_replies(self, channel: Channel) -> None:
        queue = await channel.topology.declare_exclusive_queue()
        await channel.topology.declare_exchange(DEAD_LETTER_EXCHANGE, "headers", auto_delete=True)
        await channel.topology.bind(
            queue, DEAD_LETTER_EXCHANGE, arguments={"From": queue, "x-match": "any"}
        )
        await channel.consume(queue, self._on_reply, no_ack=True, exclusive=True)
        self._reply_queue = queue

    def _on_reply(self, delivery: Delivery) -> None:
        if delivery.type == CALL and not self._came_back(delivery):
            self._rejected.add("reply", "A request in place of its reply.", delivery)
            return
        reply = self._pending.get(delivery.correlation_id or "")
        if reply is None:
            self._on_stream(delivery)
        elif not reply.done():  # else: late, or answered twice
            reply.set_result(delivery)

    def _came_back(self, delivery: Delivery) -> bool:
        """Return whether this is one of our requests that expired in its queue.

        Anybody may bind a queue to the service's exchange, and let a copy of it die there.
        """
        asked = self._asked.get(delivery.correlation_id or "", ())
        return dead_lettered_from(delivery) in asked

    def _on_stream(self, delivery: Delivery) -> None:
        incoming = self._streams.get(delivery.correlation_id or "")
        if incoming is not None:
            incoming.take_in(delivery)
        elif delivery.type == BEGIN and is_reply_queue(delivery.reply_to or ""):
            # Of a stream that was given up before it began.
            self._tell(delivery.reply_to or "", cancel_message(delivery.correlation_id))

    def _on_lost(self) -> None:
        lost = (
            f"The connection to {self._connection.masked_uri} was lost before the"
            " answer came; whether the call was run is not known."
        )
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(ConnectionLost(lost))
        for incoming in self._streams.values():
            incoming.fail(ConnectionLost(lost))


def _expire(reply: asyncio.Future[Delivery]) -> None:
    if not reply.done():
        reply.set_exception(TimeoutError())


def _fail(reply: asyncio.Future[Delivery], error: FabricError | None) -> None:
    """What becomes of a request: no error means that the broker has it, and an answer may come."""
    if error is not None and not reply.done():
        reply.set_exception(error)


def _fail_stream(incoming: Incoming, lost: asyncio.Future[None]) -> None:
    if not lost.cancelled():
        incoming.fail(lost.exception())


def _left(name: ServiceName, label: str) -> ServiceLost:
    return ServiceLost(
        f"{name} left during the call, and nobody else serves {label}; whether it was run"
        " is not known.",
        call=label,
    )


def _expiration(seconds: float) -> int:
    """Milliseconds that a request may wait at the broker, for a caller who waits so long.

    A little less, so that no member takes a request whose caller has just given up.
    """
    milliseconds = seconds * 1000
    left = int(milliseconds - min(_MARGIN, milliseconds / 10))
    return min(max(1, left), MAX_EXPIRATION)


def _timed_out(label: str, timeout: float | None, why: str) -> CallTimeout:
    seconds = timeout or 0.0
    return CallTimeout(
        f"{label} gave no answer within {seconds:g} s{why}.", call=label, seconds=seconds
    )
