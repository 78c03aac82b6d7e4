"""Sends requests and receives their replies, for single results and for item streams."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

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
from fabric_nb.fabric.amqp.message import Delivery, Headers, Message
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.amqp.reply_codes import NOT_FOUND
from fabric_nb.fabric.amqp.translation import Unroutable
from fabric_nb.fabric.core.tasks import Background, in_thread
from fabric_nb.fabric.core.waiting import can_wait
from fabric_nb.fabric.rpc.access import is_reply_queue
from fabric_nb.fabric.rpc.call_contents import CallContents
from fabric_nb.fabric.rpc.call_report import CallReport
from fabric_nb.fabric.rpc.cancellation import cancellation, explain_cancellation
from fabric_nb.fabric.rpc.in_flight import InFlightCall, InFlightCalls
from fabric_nb.fabric.rpc.item_streams import WINDOW, Incoming, keep_probing
from fabric_nb.fabric.rpc.liveness import LivenessMonitor, NoInstanceLeft
from fabric_nb.fabric.rpc.pings import Pings
from fabric_nb.fabric.tracing.tracer import ActiveSpan
from fabric_nb.fabric.wire.calls import (
    CALL,
    ITEM,
    OUTPUT,
    PROGRESS,
    Expired,
    Request,
    call_id,
    dead_lettered_from,
    read_reply,
    running_instance,
)
from fabric_nb.fabric.wire.instances import PONG
from fabric_nb.fabric.wire.json_reading import PIECE
from fabric_nb.fabric.wire.names import DEAD_LETTER_EXCHANGE, ServiceName
from fabric_nb.fabric.wire.running_calls import (
    BEGIN,
    CANCELLED,
    END,
    cancel_message,
    credit_message,
    expire_message,
    probe_message,
)

MAX_ABANDONED = 1000
"""Calls that are not awaited any more, and of which a last message is expected."""
_EXPIRED = ": no instance of the service was free to run it"


class Requester:
    """Sends requests and correlates their replies.

    Replies arrive at a queue of this connection, under random correlation ids.
    Requests to each service have a channel of their own, because the exchange of a service that
    is gone is deleted, and publishing to it closes the channel.

    Args:
        connection: connection that requests are sent on.
        rejected: record of replies that cannot be read.
        background: tasks of the member, which monitor the called services.
        caller: full name and instance of the member, which requests carry.
        instances: returns the ids of all instances of a service, if all of them answer pings.

    Attributes:
        reply_queue: queue that replies arrive in; empty before `open`.
    """

    def __init__(
        self,
        connection: Connection,
        rejected: RejectedMessages,
        background: Background,
        caller: str,
        instances: Callable[[ServiceName], Collection[str]],
    ) -> None:
        self._caller = caller
        self._connection = connection
        self._rejected = rejected
        self._background = background
        self._calls = InFlightCalls()
        self.reply_queue = ""
        self.pings = Pings(connection, lambda: self.reply_queue)
        self.liveness = LivenessMonitor(connection, self._calls, self.pings, instances)
        self._replies = connection.channel(self._set_up_replies, on_lost=self._on_lost)
        self._requests: dict[ServiceName, Channel] = {}
        self._streams: dict[str, Incoming] = {}
        self._abandoned: OrderedDict[str, CallReport] = OrderedDict()
        """Reports of calls that were cancelled, or continue after their timeout, until the last
        message about them."""
        self._control: Channel | None = None

    async def open(self) -> None:
        """Declare the reply queue and consume it."""
        self._requests.clear()  # channels of an earlier opening
        self._calls.reset()
        self._control = None
        await self._replies.open()
        self._background.keep(self.liveness.run, name="liveness")

    @property
    def pending(self) -> int:
        """Number of in-flight calls."""
        return len(self._calls)

    async def call(
        self,
        name: ServiceName,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        timeout: float | None,
        given: float | None = None,
        cancel_on_timeout: bool = True,
        report: CallReport | None = None,
        correlation_id: str = "",
        instance: str = "",
        span: ActiveSpan | None = None,
        contents: CallContents | None = None,
    ) -> Any:
        """Call a method and return its result.

        The request expires at the broker if no instance receives it in time, so that no instance
        runs a call whose caller has given up.

        Args:
            name: the service.
            method: the method's name.
            kwargs: its keyword arguments.
            timeout: seconds for the whole call; None: no limit.
            given: seconds that errors name, if `timeout` is only what is left of them.
            cancel_on_timeout: cancel the call at its timeout; otherwise it continues if it has
                begun, and its error names the instance.
            report: is filled in while the call is queued and runs.
            correlation_id: id of the call, from `new_correlation_id`; empty for any.
            instance: id of the instance to call; empty for any.
            span: span of the call, if it is sampled.
            contents: receives the arguments and the result, as they are sent.

        Raises:
            Unroutable: no instance serves the method, or the instance is not there.
            ServiceLost: all instances that served it were lost before they replied.
            CallTimeout: no reply arrived in time.
            RemoteError: the method raised.
            ConnectionLost: the connection was lost; whether the method ran is not known.
            NotSerializable: an argument cannot be sent.
            MessageTooLarge: the broker does not accept arguments of this size.
        """
        request = Request.of(kwargs)  # first, so that it raises whether connected or not
        contents = contents or CallContents()
        contents.request = request
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = math.inf if timeout is None else now + timeout
        key = name.instance_key(instance) if instance else name.method_queue(method)
        call = InFlightCall(loop.create_future(), name, key, now, deadline, report)
        call.instance, call.acknowledged = instance, instance != ""
        named = method if instance else ""
        correlation_id = correlation_id or new_correlation_id()
        channel = self._channel_to(name)
        level = "" if report is None else report.level
        call.continues = continues = not cancel_on_timeout
        if continues:
            call.report, level = _with_beginning(report)
        trace = None if span is None else _trace(span, request, correlation_id)
        message = self._message(
            request,
            correlation_id,
            timeout,
            report=level,
            method=named,
            continues=continues,
            trace=trace,
        )
        try:
            if not (self._replies.is_open and channel.is_ready and channel.accepts(message)):
                async with asyncio.timeout(timeout):
                    channel = await self._ready_channel_to(name)
                    await channel.check_size(message, f"The request to {name.fqn}.{method}")
                call.since = loop.time()
                left = None if timeout is None else deadline - call.since
                message = self._message(
                    request,
                    correlation_id,
                    left,
                    report=level,
                    method=named,
                    continues=continues,
                    trace=trace,
                )
            self._calls.add(correlation_id, call)
            channel.send(
                name.api_exchange,
                key,
                message,
                mandatory=True,
                on_outcome=call.fail,
                at_once=len(self._calls) == 1,
            )
            if report is not None:
                report.sent = True
            delivery = await call.reply
        except asyncio.CancelledError as cancelled:
            outcome = self._cancel(call, channel, correlation_id)
            _explain(cancelled, name, method, report, outcome)
            raise
        except TimeoutError:
            self._end_at_timeout(call, channel, correlation_id)
            raise self._timed_out(f"{name.fqn}.{method}", given or timeout, call) from None
        except NoInstanceLeft:
            raise _service_lost(name, f"{name.fqn}.{method}", instance) from None
        except BrokerRefused as error:
            if message.user_id and self._connection.drop_refused_user_id(error):
                return await self.call(
                    name,
                    method,
                    kwargs,
                    timeout=timeout,
                    given=given,
                    cancel_on_timeout=cancel_on_timeout,
                    report=report,
                    correlation_id=correlation_id,
                    instance=instance,
                    span=span,
                    contents=contents,
                )
            raise await self._refused(name, channel, error) from None
        finally:
            self._calls.pop(correlation_id, None)
            call.reply.cancel()
        contents.reply = delivery
        if report is not None or span is not None:
            _note_reply(delivery, report, span)
        return await self._result(delivery, given or timeout, f"{name.fqn}.{method}")

    async def stream(
        self,
        name: ServiceName,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        timeout: float | None,
        correlation_id: str = "",
        instance: str = "",
        span: ActiveSpan | None = None,
        contents: CallContents | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Call a method and yield the items of its generator as they arrive.

        If the service does not stream, yield the items of its list, or its single value. Closing
        this generator also closes the remote one.

        Arguments and errors are those of `call`, with `timeout` for each item.
        """
        request = Request.of(kwargs)
        contents = contents or CallContents()
        contents.request = request
        correlation_id = correlation_id or new_correlation_id()
        label = f"{name.fqn}.{method}"
        channel, loop = self._channel_to(name), asyncio.get_running_loop()
        now = loop.time()
        key = name.instance_key(instance) if instance else name.method_queue(method)
        call = InFlightCall(loop.create_future(), name, key, now)
        named = method if instance else ""
        call.instance, call.acknowledged = instance, instance != ""
        lost = _service_lost(name, label, instance)
        incoming = Incoming(on_begin=call.begin_items)
        call.reply.add_done_callback(partial(_fail_stream, incoming))
        probing = asyncio.ensure_future(
            keep_probing(lambda: self._probe(incoming, correlation_id, lost))
        )
        trace = None if span is None else _trace(span, request, correlation_id)
        message = self._message(
            request, correlation_id, timeout, credit=WINDOW, method=named, trace=trace
        )
        try:
            async with asyncio.timeout(timeout):
                channel = await self._ready_channel_to(name)
                await self._control_ready()
                await channel.check_size(message, f"The request to {label}")
            left = None if timeout is None else now + timeout - loop.time()
            message = self._message(
                request, correlation_id, left, credit=WINDOW, method=named, trace=trace
            )
            self._streams[correlation_id] = incoming
            self._calls.add(correlation_id, call)
            channel.send(name.api_exchange, key, message, mandatory=True, on_outcome=incoming.fail)
            while (delivery := await incoming.next(timeout)).type == ITEM:
                yield await self._read(delivery, label)
                if incoming.control and (credit := incoming.credit()):
                    self._send_control(incoming.control, credit_message(correlation_id, credit))
            for item in await self._read_last(delivery, timeout, label):
                yield item
        except TimeoutError:
            raise self._timed_out(label, timeout, call) from None
        except NoInstanceLeft:
            raise lost from None
        except BrokerRefused as error:
            if not (message.user_id and self._connection.drop_refused_user_id(error)):
                raise await self._refused(name, channel, error) from None
            again = self.stream(
                name,
                method,
                kwargs,
                timeout=timeout,
                correlation_id=correlation_id,
                instance=instance,
                span=span,
                contents=contents,
            )
            async with contextlib.aclosing(again):
                async for item in again:
                    yield item
        finally:
            probing.cancel()
            self._streams.pop(correlation_id, None)
            self._calls.pop(correlation_id, None)
            call.reply.cancel()
            if incoming.control:
                self._send_control(incoming.control, cancel_message(correlation_id))

    def _message(
        self,
        request: Request,
        correlation_id: str,
        seconds: float | None,
        *,
        credit: int = 0,
        report: str = "",
        method: str = "",
        continues: bool = False,
        trace: Headers | None = None,
    ) -> Message:
        """Return a request's message as it is sent now, to the current reply queue."""
        return request.message(
            correlation_id=correlation_id,
            reply_to=self.reply_queue,
            seconds=seconds,
            caller=self._caller,
            user_id=self._connection.user_id,
            credit=credit,
            report=report,
            method=method,
            continues=continues,
            trace=trace,
        )

    def _cancel(
        self, call: InFlightCall, channel: Channel, correlation_id: str
    ) -> CallReport | None:
        """Cancel a call at the instance that has it, if it was sent.

        Return the report that receives the outcome: that of the call, or in a notebook, where any
        cancellation may be that of a cell, a new one.
        """
        if correlation_id not in self._calls:
            return None
        report = call.report
        if report is None and can_wait():
            report = CallReport(PROGRESS)
            report.sent, report.instance, report.ahead = True, call.instance, call.ahead
        if report is not None:
            report.silence = call.silence
            self._abandon(correlation_id, report)
        message = cancel_message(correlation_id, None if report is None else self.reply_queue)
        self._send_to_instances(call.service, channel, message)
        return report

    def _end_at_timeout(self, call: InFlightCall, channel: Channel, correlation_id: str) -> None:
        """Cancel a call, or let it continue if it has begun, and not begin later."""
        if not call.continues:
            self._cancel(call, channel, correlation_id)
        elif correlation_id in self._calls:
            # Not into its own report, which may be that of another call by then.
            self._abandon(correlation_id, CallReport(PROGRESS))
            self._send_to_instances(call.service, channel, expire_message(correlation_id))

    def _abandon(self, correlation_id: str, report: CallReport) -> None:
        """Keep the report of a call that is not awaited any more, for further messages about it."""
        self._abandoned[correlation_id] = report
        if len(self._abandoned) > MAX_ABANDONED:
            self._abandoned.popitem(last=False)

    def _send_to_instances(self, service: ServiceName, channel: Channel, message: Message) -> None:
        with contextlib.suppress(ConnectionLost):  # nor does a reply arrive
            channel.send(service.api_exchange, service.instances_key, message)

    async def _read_last(
        self, delivery: Delivery, timeout: float | None, label: str
    ) -> Sequence[Any]:
        """Return the items of the last message: of an end, or of a reply that is no stream."""
        if delivery.type == END:
            return ()
        result = await self._result(delivery, timeout, label)
        return result if isinstance(result, list) else [result]

    async def _result(self, delivery: Delivery, timeout: float | None, label: str) -> Any:
        """Return the result in a reply.

        Raises:
            RemoteError: the method raised.
            CallTimeout: the request expired before an instance received it.
            MalformedMessage: the reply cannot be read.
        """
        answer = await self._read(delivery, label)
        if isinstance(answer, RemoteError):
            raise answer
        if isinstance(answer, Expired):
            raise _call_timeout(label, timeout, _EXPIRED)
        return answer

    def _timed_out(self, label: str, timeout: float | None, call: InFlightCall) -> CallTimeout:
        reason = call.continuation
        if blocked := self._connection.blocked:
            reason = f": the broker takes no messages ({blocked})"
        if self._connection.state is State.RECONNECTING:
            where = self._connection.masked_uri
            reason = f": it was not sent, because the connection to {where} is lost"
        return _call_timeout(label, timeout, reason)

    def _probe(self, incoming: Incoming, correlation_id: str, gone: ServiceLost) -> None:
        def on_outcome(error: FabricError | None) -> None:
            incoming.fail(gone if isinstance(error, Unroutable) else error)

        if incoming.control:
            self._send_control(incoming.control, probe_message(correlation_id), on_outcome)

    def _send_control(
        self, queue: str, message: Message, on_outcome: OnOutcome | None = None
    ) -> None:
        if self._control is not None:
            with contextlib.suppress(ConnectionLost):  # the stream has ended with the connection
                self._control.send(
                    "", queue, message, mandatory=on_outcome is not None, on_outcome=on_outcome
                )

    async def _control_ready(self) -> None:
        if self._control is None:
            self._control = self._connection.channel(confirms=True).start()
        await self._control.ready()

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
            # Opened apart from this call, which may be cancelled while others share the channel.
            # Confirms tell which requests the broker had accepted when the channel is lost.
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
                # Another call found no exchange, which closed the channel.

    async def _refused(
        self, name: ServiceName, channel: Channel, error: BrokerRefused
    ) -> FabricError:
        """Return the error of a refusal; a missing exchange has closed the channel."""
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
        await channel.consumers.start(queue, self._on_reply, no_ack=True, exclusive=True)
        self.reply_queue = queue

    def _on_reply(self, delivery: Delivery) -> None:
        if delivery.type == CALL and not self._is_expired_request(delivery):
            self._rejected.add("reply", "A request in place of its reply.", delivery)
            return
        correlation_id = delivery.correlation_id or ""
        call = self._calls.get(correlation_id)
        if call is None:
            self._receive_other(delivery)
        elif (incoming := self._streams.get(correlation_id)) is not None:
            incoming.receive(delivery)
        elif call.report is not None and self._is_report(call.report, delivery):
            pass
        elif not call.reply.done():  # else it is late, or a second one
            call.reply.set_result(delivery)

    def _is_expired_request(self, delivery: Delivery) -> bool:
        """Return whether this is a request of this member that expired in its queue.

        Any client may bind a queue to the service's exchange, and let a copy expire there.
        """
        call = self._calls.get(delivery.correlation_id or "")
        return call is not None and call.may_be_in(dead_lettered_from(delivery))

    def _is_report(self, report: CallReport, delivery: Delivery) -> bool:
        """Accept a message about a call; return False for its reply."""
        try:
            return report.receive(delivery)
        except MalformedMessage as error:
            self._rejected.add("reply", error, delivery)
            return True

    def _receive_other(self, delivery: Delivery) -> None:
        """Accept a message that is about no in-flight call.

        A stream that has begun after the caller gave it up is cancelled.
        """
        correlation_id = delivery.correlation_id or ""
        report = self._abandoned.get(correlation_id)
        if report is not None:  # reports that were sent before the cancellation may precede it
            if not self._is_report(report, delivery) or delivery.type == CANCELLED:
                del self._abandoned[correlation_id]
        elif delivery.type == PONG:
            try:
                self.pings.receive(delivery)
            except MalformedMessage as error:
                self._rejected.add("reply", error, delivery)
        elif delivery.type == BEGIN and is_reply_queue(delivery.reply_to or ""):
            self._send_control(delivery.reply_to or "", cancel_message(delivery.correlation_id))

    def _on_lost(self) -> None:
        text = (
            f"The connection to {self._connection.masked_uri} was lost before the"
            " answer came; whether the call was run is not known."
        )
        for call in tuple(self._calls.values()):
            call.fail(ConnectionLost(text))
        for incoming in tuple(self._streams.values()):
            incoming.fail(ConnectionLost(text))


def new_correlation_id() -> str:
    """Return a correlation id that no peer can guess."""
    return os.urandom(16).hex()


def _fail_stream(incoming: Incoming, lost: asyncio.Future[None]) -> None:
    if not lost.cancelled():
        incoming.fail(lost.exception())


def _trace(span: ActiveSpan, request: Request, correlation_id: str) -> Headers:
    """Return the headers of a sampled request, and record it in its span."""
    span.request, span.call = len(request.body), call_id(correlation_id)
    return span.headers()


def _explain(
    error: asyncio.CancelledError,
    name: ServiceName,
    method: str,
    report: CallReport | None,
    outcome: CallReport | None,
) -> None:
    """Make IPython show the outcome of a cancellation, unless the caller has a report to show."""
    if report is None and outcome is not None:
        sentence = partial(cancellation, f"{name.fqn}.{method}", name.id, outcome)
        explain_cancellation(error, [outcome], sentence)


def _with_beginning(report: CallReport | None) -> tuple[CallReport, str]:
    """Return a report that receives the beginning of its call, and the level to request for it."""
    report = CallReport(PROGRESS) if report is None else report
    return report, OUTPUT if report.level == OUTPUT else PROGRESS


def _note_reply(delivery: Delivery, report: CallReport | None, span: ActiveSpan | None) -> None:
    if report is not None:
        report.instance = running_instance(delivery)
    if span is not None:
        span.reply = len(delivery.body)


def _service_lost(name: ServiceName, label: str, instance: str = "") -> ServiceLost:
    if instance:
        text = f"Instance {instance} of {name} left during the call of {label}; whether it was run"
        return ServiceLost(f"{text} is not known.", call=label)
    return ServiceLost(
        f"{name} left during the call, and no other instance serves {label}; whether it was run"
        " is not known.",
        call=label,
    )


def _call_timeout(label: str, timeout: float | None, reason: str) -> CallTimeout:
    seconds = timeout or 0.0
    return CallTimeout(
        f"{label} gave no answer within {seconds:g} s{reason}.", call=label, seconds=seconds
    )
