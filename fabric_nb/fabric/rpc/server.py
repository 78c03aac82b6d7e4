"""Server of one service: receives requests, runs the functions, sends replies.

Each method has its queue at the broker and `prefetch` workers here. A worker runs one call at a
time in the context in which the functions were given, so that in a notebook their output belongs
to the cell that defined them.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Self

from fabric_nb.errors import (
    BrokerRefused,
    ConnectionLost,
    FabricError,
    MalformedMessage,
    ServiceLost,
    UnusableLibrary,
)
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import NO_ACK, Delivery, Message
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import Background, in_thread
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.rpc.access import STRAY, AccessControl
from fabric_nb.fabric.rpc.acknowledgement import AcknowledgementInTime
from fabric_nb.fabric.rpc.call_contents import CallContents
from fabric_nb.fabric.rpc.call_reporter import CallReporter
from fabric_nb.fabric.rpc.call_threads import call_threads
from fabric_nb.fabric.rpc.control_channel import ControlChannel
from fabric_nb.fabric.rpc.control_messages import ControlMessages
from fabric_nb.fabric.rpc.current_call import current_call
from fabric_nb.fabric.rpc.expired_calls import ExpiredCallFilter
from fabric_nb.fabric.rpc.history import CallLog, Outcome
from fabric_nb.fabric.rpc.instance_calls import InstanceCalls
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
from fabric_nb.fabric.rpc.item_streams import Cancelled, Outgoing, keep_probing
from fabric_nb.fabric.rpc.methods import Function, MethodStats, doc_of, invoke, signature_of
from fabric_nb.fabric.rpc.output_capture import output_capture
from fabric_nb.fabric.rpc.queues import DESCRIBE, LeaderQueue, MethodQueues
from fabric_nb.fabric.rpc.replies import Replies, encode_reply
from fabric_nb.fabric.rpc.running_calls import RunningCall, RunningCalls
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.rpc.served_methods import ServedMethod, Worker
from fabric_nb.fabric.rpc.served_spans import ServedSpans
from fabric_nb.fabric.rpc.served_statistics import ServedStatistics
from fabric_nb.fabric.tracing.tracer import ActiveSpan, Tracer
from fabric_nb.fabric.wire.calls import (
    INSTANCE,
    OUTPUT,
    error_message,
    read_call,
)
from fabric_nb.fabric.wire.formats import TABLES_HEADER
from fabric_nb.fabric.wire.json_reading import PIECE
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.running_calls import (
    BEGIN_AFTER,
    begin_message,
    end_message,
    wanted_credit,
)

log = logging.getLogger(__name__)

LONG_CALL = 1.0
"""Seconds after which the channel is checked before a call is answered."""

_VALUES = frozenset((type(None), bool, int, float, str, list, tuple, dict))
"""Types of results that are neither awaited nor collected."""

REDELIVERED = (
    "{call} was delivered before, to an instance that has not answered and may have run it; it is"
    " not run again, because its service refuses that (redelivered='refuse')."
)


class Server:
    """Serves the methods of one service, until `close`.

    Args:
        connection: connection that the service is served on.
        name: address of the service; instances with the same address share the calls.
        options: version, concurrency and access.
        instance: id of this process among the instances of the service.
        rejected: record of requests that cannot be read.
        calls: record of the calls.
        tracer: tracer of the calls.
        on_change: called when the functions were replaced and when it was closed.

    Attributes:
        name: address of the service.
        options: version, concurrency and access.
        access: access control.
        channel: channel that the calls are consumed on.
        control: channel for other messages about them.
        running: calls that are running.
        statistics: statistics of its calls for keep-alives.
        around: context manager factory that is entered for each call, in the context in which the
            functions were given.
        changes: change counter.
        closed: True once it serves nothing more.
    """

    def __init__(
        self,
        connection: Connection,
        name: ServiceName,
        options: ServeOptions,
        *,
        instance: str,
        rejected: RejectedMessages,
        calls: CallLog,
        tracer: Tracer,
        on_change: Callable[[Server], object] = lambda _: None,
    ) -> None:
        self.name = name
        self.options = options
        self.access = AccessControl(connection, options)
        self.changes = 0
        self._instance = instance
        self._fqn = name.fqn
        self._rejected = rejected
        self._calls = calls
        self._spans = ServedSpans(tracer, name.fqn)
        self._spans.slow = options.trace_slow
        self._on_change = on_change
        self.around: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        self.closed = False
        self._ending = False
        self._methods: dict[str, ServedMethod] = {}
        self._queues = (
            LeaderQueue(name, stray=self._refuse) if options.single_active else MethodQueues(name)
        )
        self._instance_calls = InstanceCalls(
            name,
            instance,
            access=self.access,
            rejected=rejected,
            methods=self._methods,
            options=lambda: self.options,
            answer=self._answer_apart,
            close=partial(self.close, grace=None),
        )
        self.control = ControlChannel(
            connection,
            name,
            instance,
            lambda message: self._messages.receive(message),
            on_lost=lambda: self._outgoing.cancel_all(),
        )
        self.running = RunningCalls()
        self.statistics = ServedStatistics(lambda: self.stats)
        self._connection = connection
        self._lost_queues = 0
        self._outgoing = Outgoing(self.control, instance)
        self._background = Background(f"server {name}")
        self.channel = connection.channel(self._set_up, prefetch=options.prefetch)
        self._replies = Replies(connection, self.channel, self.running, instance)
        self._expired = ExpiredCallFilter(self.channel)
        self._acknowledgement = AcknowledgementInTime(
            self._fqn,
            connection,
            self.channel,
            running=self.running,
            replies=self._replies,
            requeues=options.redelivered == "run",
        )
        self._messages = ControlMessages(
            name,
            instance,
            self.control,
            access=self.access,
            rejected=rejected,
            methods=self._methods,
            running=self.running,
            replies=self._replies,
            outgoing=self._outgoing,
            instance_calls=self._instance_calls,
            version=options.version,
        )

    # -- life

    async def open(self, functions: Mapping[str, Function]) -> Self:
        """Declare the queues and start to serve.

        Raises:
            BrokerRefused: the queues exist with other properties, or may not be made.
        """
        await self._queues.check(self._connection, list(functions))
        call_threads.start(self)
        await self._background.open()
        self._background.keep(self._expired.watch, name="watch")
        self._background.keep(self._acknowledgement.run, name="acknowledge in time")
        probing = partial(keep_probing, self._messages.probe_callers)
        self._background.keep(probing, name="probe callers")
        for name, function in {**functions, DESCRIBE: self._describe}.items():
            self._add(name, function)
        await self.channel.open()
        await self.control.open()
        return self

    async def replace(
        self, functions: Mapping[str, Function], options: ServeOptions | None = None
    ) -> None:
        """Serve these functions from now on, without an interruption.

        Methods that stay keep their queue, their waiting calls and their statistics; in-flight
        calls end with the function that they began with.

        Args:
            functions: the functions to serve, in place of all earlier ones.
            options: options that replace those of now; `prefetch`, `single_active` and
                `redelivered` must be the same (see `ServeOptions.needs_new_server`).

        Raises:
            BrokerRefused: the broker does not verify users, so that `allow` cannot be enforced.
        """
        self.name.check_servable(functions)
        if options is not None:
            self.access.restrict(options)
            self.options = options
            self._spans.slow = options.trace_slow
            self._messages.version = options.version
        wanted = {**functions, DESCRIBE: self._describe}
        for name in [name for name in self._methods if name not in wanted]:
            await self._remove(name)
        for name, function in wanted.items():
            method = self._methods.get(name)
            if method is None:
                method = self._add(name, function)
                await self.channel.amend(partial(self._start_consumer, method=method))
                method.consumed = method.generation == self.channel.generation
            else:
                method.function = function
                for worker in tuple(method.workers):
                    worker.retire()
                self._start_workers(method)
        self.changes += 1
        self._on_change(self)

    async def stop_consuming(self) -> None:
        """Receive no further calls; calls that were received are still answered.

        No error is raised, because consumers of a lost connection do not begin again either.
        """
        self._instance_calls.leaving = True
        for method in self._methods.values():
            consumer_tag, method.consumer_tag = method.consumer_tag, ""
            if consumer_tag:
                with contextlib.suppress(ConnectionLost, BrokerRefused):
                    await self.channel.cancel(consumer_tag)

    async def close(self, grace: float | None = 0.0) -> None:
        """Stop consuming, wait `grace` seconds for in-flight calls (None: no limit), and close.

        The broker delivers calls that were not answered to another instance.
        """
        limit = time_limit(grace, "grace")
        if self.closed:
            return
        try:
            async with asyncio.timeout(limit):
                await self.stop_consuming()
                await asyncio.gather(*(method.queue.join() for method in self._methods.values()))
                await self._outgoing.idle()
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - closing continues
            log.debug("Closing %s: %s", self.name, error)
        self._ending = True
        await self.channel.close()
        await self._background.aclose()
        await self.control.close()
        output_capture.stop(self)
        call_threads.stop(self)
        self.closed = True
        self.changes += 1
        self._on_change(self)

    # -- state

    @property
    def functions(self) -> dict[str, Function]:
        """The functions by name."""
        return {name: one.function for name, one in self._methods.items() if name != DESCRIBE}

    @property
    def signatures(self) -> dict[str, str]:
        """The signatures by name."""
        return {name: signature_of(function) for name, function in self.functions.items()}

    @property
    def stats(self) -> dict[str, MethodStats]:
        """Statistics of the calls by name; read from any thread."""
        methods = self._methods.copy()  # at once, because the loop may add a method meanwhile
        return {name: method.stats for name, method in methods.items() if name != DESCRIBE}

    @property
    def drained(self) -> bool:
        """True once a caller has asked it to leave."""
        return self._instance_calls.drained

    @property
    def waiting(self) -> int:
        """Number of calls that were received and wait for a worker."""
        return sum(len(method.queue) for method in self._methods.values())

    @property
    def item_streams(self) -> int:
        """Number of item streams that are being sent."""
        return len(self._outgoing)

    def _describe(self) -> dict[str, Any]:
        return {
            "version": self.options.version,
            "methods": {
                name: {"signature": signature_of(function), "doc": doc_of(function)}
                for name, function in self.functions.items()
            },
        }

    # -- queues and workers

    async def _set_up(self, channel: Channel) -> None:
        self._replies.on_opened()
        await channel.topology.declare_exchange(self.name.api_exchange, "direct", auto_delete=True)
        self._lost_queues = 0
        for method in tuple(self._methods.values()):
            await self._start_consumer(channel, method)
        for method in self._methods.values():
            method.consumed = method.generation == channel.generation
        if self._lost_queues:
            log.warning(
                "%s has declared %d queues again: they were deleted with their last consumer, and"
                " calls that waited in them are lost",
                self._fqn,
                self._lost_queues,
            )

    async def _start_consumer(self, channel: Channel, method: ServedMethod) -> None:
        if method.generation == channel.generation:
            return  # a replacement and a recovery run at the same time, and the other one does it
        method.generation = channel.generation
        asked = time.monotonic()
        on_delivery: Callable[[Delivery], object] = partial(self._receive, method)
        if self.options.redelivered == "run":  # a requeued call is delivered again
            on_delivery = self._expired.before(on_delivery)
        method.consumer_tag, others = await self._queues.consume(channel, method.name, on_delivery)
        method.created = None if others else asked
        if others:
            method.shared_since = channel.generation
        elif method.consumed:
            self._lost_queues += 1

    def _add(self, name: str, function: Function) -> ServedMethod:
        method = self._methods[name] = ServedMethod(name, function, self._queues.origin(name))
        self._start_workers(method)
        return method

    def _receive(self, method: ServedMethod, delivery: Delivery) -> None:
        refused = self.access.refusal(delivery, method.origin)
        if refused is None:
            self._accept(method, delivery)
        else:
            self._refuse(delivery, refused)

    def _refuse(self, delivery: Delivery, reason: str = STRAY) -> None:
        # Neither answered nor dead-lettered, because a caller may wait for the reply of another
        # service.
        self._rejected.add("call", reason, delivery)
        self.channel.ack(delivery)

    async def _remove(self, name: str) -> None:
        method = self._methods.pop(name)
        with contextlib.suppress(ConnectionLost):
            await self._queues.release(self.channel, name, method.consumer_tag)
        while method.queue:
            delivery = method.queue.get_nowait()
            if delivery.generation == NO_ACK:
                self._instance_calls.receive(delivery)  # which refuses it
            else:
                self.channel.reject(delivery, requeue=True)
        for worker in tuple(method.workers):
            worker.retire()

    def _start_workers(self, method: ServedMethod) -> None:
        for number in range(self.options.prefetch):
            worker = Worker()
            method.workers.add(worker)
            working = self._work(method, worker)
            worker.task = self._background.spawn(working, name=f"{method.name} {number}")

    async def _work(self, method: ServedMethod, worker: Worker) -> None:
        try:
            while not worker.retired:
                delivery = await method.queue.get()
                worker.busy = True
                try:
                    await self._answer(RunningCall(method, delivery, worker))
                except Exception as error:
                    log.exception("A call of %s.%s could not be answered", self._fqn, method.name)
                    failed = error_message(error, delivery.correlation_id)
                    await self._replies.send(RunningCall(method, delivery), failed)
                finally:
                    worker.busy = False
                    method.queue.task_done()
        finally:
            method.workers.discard(worker)

    # -- calls that the broker delivers again

    def _accept(self, method: ServedMethod, delivery: Delivery) -> None:
        """Queue the call for a worker, unless it is running or was answered here.

        The broker requeues calls that are not acknowledged in time, and delivers them again.
        """
        if delivery.redelivered:
            again = RunningCall(method, delivery)
            running = next((one for one in self.running if one.key == again.key), None)
            if running is not None:
                running.delivery = delivery
            if self._replies.has_answered(again.key) or (
                running is not None and running.acknowledged
            ):
                self.channel.ack(delivery)
            elif running is None:
                method.queue.put(delivery)
            return
        method.queue.put(delivery)

    def _answer_apart(self, running: RunningCall) -> None:
        """Answer a call beside those of the workers."""
        name = f"{running.method.name} of {self._instance}"
        self._background.spawn(self._answer(running), name=name)

    # -- one call

    async def _answer(self, running: RunningCall) -> None:
        method, delivery = running.method, running.delivery
        running.caller = self.access.identify(delivery)
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
            lost = ServiceLost(REDELIVERED.format(call=f"{self._fqn}.{method.name}"))
            reply, error, traceback = encode_reply(None, lost, delivery)
            self._record(running, 0.0, error, traceback)
            await self._replies.send(running, reply)
            return
        if self.running.is_refused(delivery.correlation_id):
            self._record(running, 0.0, None, outcome="cancelled")
            self._replies.acknowledge(running)
            return
        await self._begin(running, kwargs)

    async def _begin(self, running: RunningCall, kwargs: Mapping[str, Any]) -> None:
        method, delivery = running.method, running.delivery
        function = self.access.authorized(method.function, running.caller)
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
        self.running.add(running)
        try:
            await self._run(running, function, kwargs)
        finally:
            self.running.discard(running)
            if running.reporter is not None:
                running.reporter.close()

    def _entered(self, span: ActiveSpan | None) -> AbstractContextManager[None]:
        """Return a context manager in which a function is called."""
        return self.around() if span is None else _both(self.around(), span.attached())

    def _reporter(self, running: RunningCall) -> CallReporter:
        reply_to, correlation_id = running.key

        def begin() -> Message:
            return begin_message(correlation_id, self.control.queue, self._instance)

        def send(report: Message, at_once: bool) -> None:
            with contextlib.suppress(ConnectionLost):  # the caller pings the instances later
                self.channel.send("", reply_to or "", report, at_once=at_once)

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
                await ignore_cancellation(lambda: self._ending)
                self._record(running, time.perf_counter() - began, None, outcome="cancelled")
                return
            encoded = encode_reply(result, error, request)
            if running.is_cancelling:
                await ignore_cancellation(lambda: self._ending)
            if not self._replies.surely_fits(encoded[0]):
                encoded = await self._replies.fitting(encoded, request)
                await ignore_cancellation(lambda: self._ending)
            reply, error, traceback = encoded
        finally:
            method.stats.running -= 1
        seconds = time.perf_counter() - began
        self._record(running, seconds, error, traceback, reply=reply)
        if seconds > LONG_CALL:  # the broker may have closed the channel while the loop was blocked
            with contextlib.suppress(FabricError):
                await self.channel.check()
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
            if self._ending:
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
        self.running.add(running)
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
            if self._ending:
                error = ServiceLost(f"{self._fqn} has stopped while it sent items.")
            encoded = encode_reply(None, error, request)
            last, error, traceback = await self._replies.fitting(encoded, request)
        method.stats.running -= 1
        self._record(running, time.perf_counter() - began, error, traceback, outcome)
        if outcome is None:
            await self._outgoing.finish(request, last)
        self.running.discard(running)

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
        self.changes += 1
        if running.span is not None:
            self._spans.end(running, seconds, error, traceback, outcome)
        if method.name.startswith("_"):  # built in
            return
        callers = self._instance_calls.callers
        callers.record(running.caller.service, method.name, failed=error is not None)
        contents = CallContents()
        tables = delivery.headers.get(TABLES_HEADER)
        contents.keep_request(delivery.body, tables)
        if reply is not None:
            contents.keep_reply(reply)
        record = self._calls.record_served(
            self._fqn,
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
            self._calls.keep_failed(record, delivery.body, tables)


@contextlib.contextmanager
def _both(
    first: AbstractContextManager[None], second: AbstractContextManager[None]
) -> Iterator[None]:
    with first, second:
        yield
