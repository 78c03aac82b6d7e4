"""Server of one service: its queues at the broker, and the workers that answer their calls.

Each method has its queue at the broker and `prefetch` workers here. A worker runs one call at a
time in the context in which the functions were given, so that in a notebook their output belongs
to the cell that defined them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Self

from fabric_nb.errors import BrokerRefused, ConnectionLost
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import NO_ACK, Delivery
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.rpc.access import STRAY, AccessControl
from fabric_nb.fabric.rpc.acknowledgement import AcknowledgementInTime
from fabric_nb.fabric.rpc.call_runner import CallRunner
from fabric_nb.fabric.rpc.call_threads import call_threads
from fabric_nb.fabric.rpc.control_channel import ControlChannel
from fabric_nb.fabric.rpc.control_messages import ControlMessages
from fabric_nb.fabric.rpc.expired_calls import ExpiredCallFilter
from fabric_nb.fabric.rpc.history import CallLog
from fabric_nb.fabric.rpc.instance_calls import InstanceCalls
from fabric_nb.fabric.rpc.item_streams import Outgoing, keep_probing
from fabric_nb.fabric.rpc.methods import Function, MethodStats, doc_of, signature_of
from fabric_nb.fabric.rpc.output_capture import output_capture
from fabric_nb.fabric.rpc.queues import DESCRIBE, LeaderQueue, MethodQueues
from fabric_nb.fabric.rpc.replies import Replies
from fabric_nb.fabric.rpc.running_calls import RunningCall, RunningCalls
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.rpc.served_methods import ServedMethod, Worker
from fabric_nb.fabric.rpc.served_spans import ServedSpans
from fabric_nb.fabric.rpc.served_statistics import ServedStatistics
from fabric_nb.fabric.tracing.tracer import Tracer
from fabric_nb.fabric.wire.calls import error_message
from fabric_nb.fabric.wire.names import ServiceName

log = logging.getLogger(__name__)


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
        self._updates = 0
        self._instance = instance
        self._fqn = name.fqn
        self._rejected = rejected
        self._spans = ServedSpans(tracer, name.fqn)
        self._spans.slow = options.trace_slow
        self._on_change = on_change
        self.closed = False
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
        self._runner = CallRunner(
            self._fqn,
            instance,
            options,
            channel=self.channel,
            control=self.control,
            access=self.access,
            rejected=rejected,
            running=self.running,
            replies=self._replies,
            outgoing=self._outgoing,
            acknowledgement=self._acknowledgement,
            spans=self._spans,
            log=calls,
            callers=self._instance_calls.callers,
            background=self._background,
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
            self.options = self._runner.options = options
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
        self._updates += 1
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
                    await self.channel.consumers.cancel(consumer_tag)

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
        self._runner.closing = True
        await self.channel.close()
        await self._background.aclose()
        await self.control.close()
        output_capture.stop(self._runner)
        call_threads.stop(self)
        self.closed = True
        self._updates += 1
        self._on_change(self)

    # -- state

    @property
    def around(self) -> Callable[[], AbstractContextManager[None]]:
        """Context manager factory, entered for each call in the context of the functions."""
        return self._runner.around

    @around.setter
    def around(self, around: Callable[[], AbstractContextManager[None]]) -> None:
        self._runner.around = around

    @property
    def changes(self) -> int:
        """Number that grows when a call ends, when functions are replaced, and at the end."""
        return self._updates + self._runner.recorded

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
                    await self._runner.answer(RunningCall(method, delivery, worker))
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
        self._background.spawn(self._runner.answer(running), name=name)
