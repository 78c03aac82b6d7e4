"""Runner of the calls of one server, from the request to the reply."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from fabric_nb.errors import (
    ConnectionLost,
    FabricError,
    MalformedMessage,
    ServiceLost,
    UnusableLibrary,
)
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.message import Message
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import Background, in_thread
from fabric_nb.fabric.rpc.access import AccessControl
from fabric_nb.fabric.rpc.acknowledgement import AcknowledgementInTime
from fabric_nb.fabric.rpc.call_contents import CallContents
from fabric_nb.fabric.rpc.call_reporter import CallReporter
from fabric_nb.fabric.rpc.control_channel import ControlChannel
from fabric_nb.fabric.rpc.current_call import current_call
from fabric_nb.fabric.rpc.history import CallLog, Outcome
from fabric_nb.fabric.rpc.instance_statistics import CallerCounts
from fabric_nb.fabric.rpc.invocation import (
    Items,
    RunOutcome,
    collect,
    ignore_cancellation,
    is_generator,
    run,
    runs_in_thread,
    settable,
    uncancel,
)
from fabric_nb.fabric.rpc.item_streams import Cancelled, Outgoing
from fabric_nb.fabric.rpc.methods import Function, invoke
from fabric_nb.fabric.rpc.output_capture import output_capture
from fabric_nb.fabric.rpc.replies import Replies, encode_reply
from fabric_nb.fabric.rpc.running_calls import RunningCall, RunningCalls
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.rpc.served_spans import ServedSpans
from fabric_nb.fabric.tracing.tracer import ActiveSpan
from fabric_nb.fabric.wire.calls import INSTANCE, OUTPUT, error_message, read_call
from fabric_nb.fabric.wire.formats import TABLES_HEADER
from fabric_nb.fabric.wire.json_reading import PIECE
from fabric_nb.fabric.wire.running_calls import (
    BEGIN_AFTER,
    begin_message,
    end_message,
    wanted_credit,
)

LONG_CALL = 1.0
"""Seconds after which the channel is checked before a call is answered."""

_VALUES = frozenset((type(None), bool, int, float, str, list, tuple, dict))
"""Types of results that are neither awaited nor collected."""

REDELIVERED = (
    "{call} was delivered before, to an instance that has not answered and may have run it; it is"
    " not run again, because its service refuses that (redelivered='refuse')."
)


class CallRunner:
    """Runs the calls of one server, and answers them.

    Args:
        service: full name of the service.
        instance: id of the instance.
        options: options of the service.
        channel: channel that the calls are consumed on.
        control: channel for other messages about them.
        access: access control of the service.
        rejected: record of requests that cannot be read.
        running: calls that are running.
        replies: replies of the server.
        outgoing: item streams that are being sent.
        acknowledgement: acknowledgement of long calls.
        spans: spans of the calls.
        log: record of the calls.
        callers: counts of the calls by caller.
        background: tasks of the server.

    Attributes:
        options: options of the service.
        around: context manager factory that is entered for each call.
        recorded: number of calls that were recorded, with those that were refused.
        closing: True once the calls are cancelled because the server closes.
    """

    def __init__(
        self,
        service: str,
        instance: str,
        options: ServeOptions,
        *,
        channel: Channel,
        control: ControlChannel,
        access: AccessControl,
        rejected: RejectedMessages,
        running: RunningCalls,
        replies: Replies,
        outgoing: Outgoing,
        acknowledgement: AcknowledgementInTime,
        spans: ServedSpans,
        log: CallLog,
        callers: CallerCounts,
        background: Background,
    ) -> None:
        self._service = service
        self._instance = instance
        self.options = options
        self._channel = channel
        self._control = control
        self._access = access
        self._rejected = rejected
        self._running = running
        self._replies = replies
        self._outgoing = outgoing
        self._acknowledgement = acknowledgement
        self._spans = spans
        self._log = log
        self._callers = callers
        self._background = background
        self.around: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        self.recorded = 0
        self.closing = False

    async def answer(self, running: RunningCall) -> None:
        """Run a call and send its reply, if this instance still owns it."""
        method, delivery = running.method, running.delivery
        running.caller = self._access.identify(delivery)
        kwargs: dict[str, Any] = {}
        unreadable: FabricError | None = None
        try:
            if len(delivery.body) <= PIECE:
                kwargs = read_call(delivery)
            else:
                kwargs = await in_thread(read_call, delivery)
        except (MalformedMessage, UnusableLibrary) as refused:
            unreadable = refused
        if not (self._replies.is_current(delivery) or await self._replies.owns(method, delivery)):
            return  # of a lost connection: the broker delivers it again
        if unreadable is not None:
            self._rejected.add("call", unreadable, delivery)
            await self._replies.send(running, error_message(unreadable, delivery.correlation_id))
            return
        if delivery.redelivered and self.options.redelivered == "refuse":
            lost = ServiceLost(REDELIVERED.format(call=f"{self._service}.{method.name}"))
            reply, error, traceback = encode_reply(None, lost, delivery)
            self._record(running, 0.0, error, traceback)
            await self._replies.send(running, reply)
            return
        if self._running.is_refused(delivery.correlation_id):
            self._record(running, 0.0, None, outcome="cancelled")
            self._replies.acknowledge(running)
            return
        await self._begin(running, kwargs)

    async def _begin(self, running: RunningCall, kwargs: Mapping[str, Any]) -> None:
        method, delivery = running.method, running.delivery
        function = self._access.authorized(method.function, running.caller)
        self._spans.begin(running)
        current_call.set(running)
        if (credit := wanted_credit(delivery)) and is_generator(function):
            # Not one of the `prefetch` calls, because it may last. Acknowledged at once, so that no
            # other instance begins it too.
            self._replies.acknowledge(running)
            running.worker = None
            streaming = self._stream(running, kwargs, credit)
            self._background.spawn(streaming, name=f"{method.name} stream")
            return
        if self.options.ack == "begin" or method.blocks_too_long:
            self._replies.acknowledge(running, at_once=True)
        if running.report and running.report != INSTANCE:
            running.reporter = self._reporter(running)
            if method.may_take_long:
                running.reporter.begin()
        self._running.add(running)
        try:
            await self._run(running, function, kwargs)
        finally:
            self._running.discard(running)
            if running.reporter is not None:
                running.reporter.close()

    def _entered(self, span: ActiveSpan | None) -> AbstractContextManager[None]:
        """Return a context manager in which a function is called."""
        return self.around() if span is None else _both(self.around(), span.attached())

    def _reporter(self, running: RunningCall) -> CallReporter:
        reply_to, correlation_id = running.key

        def begin() -> Message:
            return begin_message(correlation_id, self._control.queue, self._instance)

        def send(report: Message, at_once: bool) -> None:
            with contextlib.suppress(ConnectionLost):  # the caller pings the instances later
                self._channel.send("", reply_to or "", report, at_once=at_once)

        if running.report == OUTPUT:
            output_capture.start(self)
        return CallReporter(running.report, correlation_id, begin, send)

    async def _run(
        self, running: RunningCall, function: Function, kwargs: Mapping[str, Any]
    ) -> None:
        method, request = running.method, running.delivery
        method.stats.running += 1
        began = time.perf_counter()
        try:
            with self._entered(running.span):
                result, error = await self._outcome(running, function, kwargs)
            if running.cancelled:
                await ignore_cancellation(lambda: self.closing)
                self._record(running, time.perf_counter() - began, None, outcome="cancelled")
                return
            encoded = encode_reply(result, error, request)
            if running.is_cancelling:
                await ignore_cancellation(lambda: self.closing)
            if not self._replies.surely_fits(encoded[0]):
                encoded = await self._replies.fitting(encoded, request)
                await ignore_cancellation(lambda: self.closing)
            reply, error, traceback = encoded
        finally:
            method.stats.running -= 1
        seconds = time.perf_counter() - began
        self._record(running, seconds, error, traceback, reply=reply)
        if seconds > LONG_CALL:  # the broker may have closed the channel while the loop was blocked
            with contextlib.suppress(FabricError):
                await self._channel.check()
            self._acknowledgement.check_limit(running)
        await self._replies.send(running, reply)

    async def _outcome(
        self, running: RunningCall, function: Function, kwargs: Mapping[str, Any]
    ) -> RunOutcome:
        """Return the function's result or any exception it raised.

        Only a cancellation by `close` is raised here.
        """
        if running.worker is not None and not runs_in_thread(
            function, threads=self.options.threads
        ):
            running.task = running.worker.task
        try:
            result, error = await run(function, kwargs, threads=self.options.threads)
            if type(result) not in _VALUES:
                if inspect.isawaitable(result):
                    result = await result
                if inspect.isgenerator(result) or inspect.isasyncgen(result):
                    result = await collect(Items(result, threads=self.options.threads))
        except asyncio.CancelledError as cancelled:
            if self.closing:
                raise
            uncancel()
            return None, cancelled
        except BaseException as raised:  # noqa: BLE001 - nothing a function raises ends the service
            error = raised
        finally:
            running.task = None
            running.ended = True
        return (result, None) if error is None else (None, settable(error))

    async def _stream(self, running: RunningCall, kwargs: Mapping[str, Any], credit: int) -> None:
        method, request = running.method, running.delivery
        method.stats.running += 1
        began = time.perf_counter()
        outcome: Outcome | None = None
        error, traceback = None, ""
        last = end_message(request.correlation_id)
        running.task = asyncio.current_task()
        self._running.add(running)
        try:
            with self._entered(running.span):
                items = Items(invoke(method.function, kwargs), threads=self.options.threads)
                try:
                    await self._outgoing.send(running, items, credit)
                finally:
                    running.task = None
                    await items.close()
                    running.ended = True
        except Cancelled:
            outcome = "cancelled"
        except BaseException as raised:  # noqa: BLE001 - nothing a function raises ends the service
            uncancel()
            error = raised
            if self.closing:
                error = ServiceLost(f"{self._service} has stopped while it sent items.")
            encoded = encode_reply(None, error, request)
            last, error, traceback = await self._replies.fitting(encoded, request)
        method.stats.running -= 1
        self._record(running, time.perf_counter() - began, error, traceback, outcome)
        if outcome is None:
            await self._outgoing.finish(request, last)
        self._running.discard(running)

    def _record(
        self,
        running: RunningCall,
        seconds: float,
        error: BaseException | None,
        traceback: str = "",
        outcome: Outcome | None = None,
        *,
        reply: Message | None = None,
    ) -> None:
        method, delivery = running.method, running.delivery
        method.stats.record(seconds, error, cancelled=outcome == "cancelled")
        if seconds > BEGIN_AFTER:
            method.takes_long = True
        self.recorded += 1
        if running.span is not None:
            self._spans.end(running, seconds, error, traceback, outcome)
        if method.name.startswith("_"):  # built in
            return
        self._callers.record(running.caller.service, method.name, failed=error is not None)
        contents = CallContents()
        contents.request, contents.reply = delivery, reply
        record = self._log.record_served(
            self._service,
            method.name,
            seconds,
            error,
            traceback,
            outcome=outcome,
            caller=running.caller.service,
            call=running.id,
            contents=contents,
        )
        if error is not None:
            tables = delivery.headers.get(TABLES_HEADER)
            self._log.keep_failed(record, delivery.body, tables)


@contextlib.contextmanager
def _both(
    first: AbstractContextManager[None], second: AbstractContextManager[None]
) -> Iterator[None]:
    with first, second:
        yield
