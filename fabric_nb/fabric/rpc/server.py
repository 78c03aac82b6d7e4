"""Serving: requests in, replies out.

Each method has its queue on the broker and `prefetch` workers here. A worker runs one call
at a time in the context in which the functions were given, so that in a notebook their
output lands in the cell they came from.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from fabric_nb.errors import (
    ConnectionLost,
    FabricError,
    MalformedMessage,
    MessageTooLarge,
    NotSerializable,
    ServiceLost,
    UnusableHeader,
)
from fabric_nb.fabric.amqp.channel import Channel
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.message import Delivery, Message
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import Background, in_thread
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.rpc.access import STRAY, AccessControl, identify
from fabric_nb.fabric.rpc.expired_calls import ExpiredCallFilter
from fabric_nb.fabric.rpc.history import CallLog, Outcome
from fabric_nb.fabric.rpc.invocation import (
    Items,
    Ran,
    forget_cancellation,
    holdable,
    is_generator,
    listed,
    run,
    uncancel,
    without_us,
)
from fabric_nb.fabric.rpc.item_streams import GivenUp, Outgoing
from fabric_nb.fabric.rpc.methods import Function, MethodStats, doc_of, invoke, signature_of
from fabric_nb.fabric.rpc.queues import DESCRIBE, LeaderQueue, MethodQueues
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.wire.calls import error_message, format_traceback, read_call, result_message
from fabric_nb.fabric.wire.items import end_message, wanted_credit
from fabric_nb.fabric.wire.json_reading import PIECE
from fabric_nb.fabric.wire.names import ServiceName
from fabric_nb.fabric.wire.tables import TABLES_HEADER

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.25
"""Seconds between two looks at the calls that run."""
_WAITS = 1.0
"""Seconds that a call waits here behind one that was acknowledged before its end."""
_LONG = 1.0
"""Seconds after which a call is answered only once the broker was seen to have kept the channel."""
_ANSWERED = 1000
"""Calls that were answered after the broker had taken them back."""

CallKey = tuple[str | None, str | None]
"""Reply queue and correlation id."""


AGAIN = (
    "{call} was delivered before, to a member that has not answered and may have run it; it is not"
    " run again, because its service refuses that (redelivered='refuse')."
)


@dataclass(eq=False, slots=True)
class _Running:
    """A call that is being run.

    Attributes:
        method: of whose calls it is one.
        delivery: its request; when the broker took that back and delivered it again, the later one.
        acknowledged: True once the broker is not to deliver it again.
        since: when it began, in seconds of `time.monotonic`.
    """

    method: _Method
    delivery: Delivery
    acknowledged: bool = False
    since: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> CallKey:
        """Reply queue and correlation id, which identify the call."""
        return self.delivery.reply_to, self.delivery.correlation_id


@dataclass(eq=False, slots=True)
class _Method:
    name: str
    function: Function
    origin: bytes
    stats: MethodStats = field(default_factory=MethodStats)
    queue: asyncio.Queue[Delivery] = field(default_factory=asyncio.Queue)
    workers: set[_Worker] = field(default_factory=set)
    consumer_tag: str = ""
    stood: bool = False  # once all that its channel needs was there
    generation: int = 0
    held_since: int = 0  # calls of openings before that have gone to other members
    crowded_since: float | None = None  # when calls began to wait behind one acknowledged early


@dataclass(eq=False, slots=True)
class _Worker:
    task: asyncio.Task[None] | None = None
    busy: bool = False
    retired: bool = False

    def retire(self) -> None:
        """Leave, after the call at hand if there is one."""
        self.retired = True
        if not self.busy and self.task is not None:
            self.task.cancel()


class Server:
    """The methods of one service, served until `close`.

    Args:
        connection: where to serve.
        name: the address; members with the same one share the calls.
        options: version, concurrency and access.
        rejected: where requests go that cannot be read.
        calls: where calls are recorded.
        on_change: called when the functions were replaced and when it was closed.
    """

    def __init__(
        self,
        connection: Connection,
        name: ServiceName,
        options: ServeOptions,
        *,
        rejected: RejectedMessages,
        calls: CallLog,
        on_change: Callable[[Server], object] = lambda _: None,
    ) -> None:
        self.name = name
        self.options = options
        self.access = AccessControl(connection, options)
        self.changes = 0
        self._fqn = name.fqn
        self._rejected = rejected
        self._calls = calls
        self._on_change = on_change
        self.around: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        """Entered for each call, in the context in which the functions were given."""
        self.closed = False
        self._ending = False
        self._methods: dict[str, _Method] = {}
        self._queues = (
            LeaderQueue(name, stray=self._refuse) if options.single_active else MethodQueues(name)
        )
        self._running: set[_Running] = set()
        self._answered: OrderedDict[CallKey, None] = OrderedDict()
        self._connection = connection
        self._reconnects = connection.reconnects
        self._lost_queues = 0
        self._connected_since = 0  # the channel's first opening on the connection of now
        self._outgoing = Outgoing(connection, rejected)
        self._background = Background(f"server {name}")
        self._channel = connection.channel(self._set_up, prefetch=options.prefetch)
        self._guard = ExpiredCallFilter(self._channel)

    # -- life

    async def open(self, functions: Mapping[str, Function]) -> Self:
        """Start to serve.

        Raises:
            BrokerRefused: the queues exist with other properties, or may not be made.
        """
        await self._queues.check(self._connection, list(functions))
        await self._background.open()
        self._background.keep(self._guard.watch, name="watch")
        self._background.keep(self._acknowledge_in_time, name="acknowledge in time")
        for name, function in {**functions, DESCRIBE: self._describe}.items():
            self._add(name, function)
        await self._channel.open()
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
        wanted = {**functions, DESCRIBE: self._describe}
        for name in [name for name in self._methods if name not in wanted]:
            await self._remove(name)
        for name, function in wanted.items():
            method = self._methods.get(name)
            if method is None:
                method = self._add(name, function)
                await self._channel.amend(partial(self._start_consumer, method=method))
                method.stood = method.generation == self._channel.generation
            else:
                method.function = function
                for worker in tuple(method.workers):
                    worker.retire()
                self._hire(method)
        self.changes += 1
        self._on_change(self)

    async def close(self, grace: float | None = 0.0) -> None:
        """Take no more calls, let those at hand end within `grace` seconds (None: all), and leave.

        What was not answered goes to another member.
        """
        limit = time_limit(grace, "grace")
        if self.closed:
            return
        try:
            async with asyncio.timeout(limit):
                for method in self._methods.values():
                    if method.name != DESCRIBE:  # it shows that somebody is there until the end
                        await self._channel.cancel(method.consumer_tag)
                await asyncio.gather(*(method.queue.join() for method in self._methods.values()))
                await self._outgoing.idle()
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - closing goes on whatever the broker says
            log.debug("Closing %s: %s", self.name, error)
        self._ending = True
        await self._channel.close()
        await self._background.aclose()
        await self._outgoing.close()
        self.closed = True
        self.changes += 1
        self._on_change(self)

    # -- what can be seen

    @property
    def functions(self) -> dict[str, Function]:
        """The functions that are served."""
        return {name: one.function for name, one in self._methods.items() if name != DESCRIBE}

    @property
    def signatures(self) -> dict[str, str]:
        """The methods that are served, with their signatures."""
        return {name: signature_of(function) for name, function in self.functions.items()}

    @property
    def stats(self) -> dict[str, MethodStats]:
        """How each method is doing."""
        return {name: method.stats for name, method in self._methods.items() if name != DESCRIBE}

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
        if self._reconnects != self._connection.reconnects:
            self._reconnects = self._connection.reconnects
            self._connected_since = channel.generation
            self._answered.clear()  # those replies may have been lost with the connection
        await channel.topology.declare_exchange(self.name.api_exchange, "direct", auto_delete=True)
        self._lost_queues = 0
        for method in tuple(self._methods.values()):
            await self._start_consumer(channel, method)
        for method in self._methods.values():
            method.stood = method.generation == channel.generation
        if self._lost_queues:
            log.warning(
                "%s has declared %d queues again: they had gone with their last consumer, and calls"
                " that waited in them are lost",
                self._fqn,
                self._lost_queues,
            )

    async def _start_consumer(self, channel: Channel, method: _Method) -> None:
        if method.generation == channel.generation:
            return  # a replacement and a recovery met: one of them is at it
        method.generation = channel.generation
        take: Callable[[Delivery], object] = partial(self._take, method)
        if self.options.redelivered == "run":  # what is given back is delivered again
            take = self._guard.before(take)
        method.consumer_tag, others = await self._queues.consume(channel, method.name, take)
        if others:
            method.held_since = channel.generation
        elif method.stood:
            self._lost_queues += 1

    def _add(self, name: str, function: Function) -> _Method:
        method = self._methods[name] = _Method(name, function, self._queues.origin(name))
        self._hire(method)
        return method

    def _take(self, method: _Method, delivery: Delivery) -> None:
        refused = self.access.refusal(delivery, method.origin)
        if refused is None:
            self._accept(method, delivery)
        else:
            self._refuse(delivery, refused)

    def _refuse(self, delivery: Delivery, reason: str = STRAY) -> None:
        # Neither answered nor dead-lettered: whoever waits for a reply has called another service.
        self._rejected.add("call", reason, delivery)
        self._channel.ack(delivery)

    async def _remove(self, name: str) -> None:
        method = self._methods.pop(name)
        with contextlib.suppress(ConnectionLost):
            await self._queues.release(self._channel, name, method.consumer_tag)
        while not method.queue.empty():
            self._channel.reject(method.queue.get_nowait(), requeue=True)
        for worker in tuple(method.workers):
            worker.retire()

    def _hire(self, method: _Method) -> None:
        for number in range(self.options.prefetch):
            worker = _Worker()
            method.workers.add(worker)
            working = self._work(method, worker)
            worker.task = self._background.spawn(working, name=f"{method.name} {number}")

    async def _work(self, method: _Method, worker: _Worker) -> None:
        try:
            while not worker.retired:
                delivery = await method.queue.get()
                worker.busy = True
                try:
                    with self.access.known(delivery):
                        await self._answer(method, delivery)
                except Exception as error:
                    log.exception("A call of %s.%s could not be answered", self._fqn, method.name)
                    failed = error_message(error, delivery.correlation_id)
                    await self._reply(_Running(method, delivery), failed)
                finally:
                    worker.busy = False
                    method.queue.task_done()
        finally:
            method.workers.discard(worker)

    # -- calls that the broker delivers again

    def _accept(self, method: _Method, delivery: Delivery) -> None:
        """Let a worker have the call, unless it is one that runs here or was answered here.

        The broker takes back what is not acknowledged in time, and delivers it again.
        """
        if delivery.redelivered:
            again = _Running(method, delivery)
            running = next((one for one in self._running if one.key == again.key), None)
            if running is not None:
                running.delivery = delivery
            if again.key in self._answered or (running is not None and running.acknowledged):
                self._channel.ack(delivery)
            elif running is None:
                method.queue.put_nowait(delivery)
            return
        method.queue.put_nowait(delivery)

    async def _acknowledge_in_time(self) -> None:
        """Acknowledge calls that run for long before the broker takes them back, until cancelled.

        The next call then comes; it is not begun before a worker is free, and other members may
        have it meanwhile.
        """
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = time.monotonic()
            for running in self._running:
                if now - running.since > self._channel.acknowledge_within - _LOOK_EVERY:
                    self._acknowledge(running)
            if self.options.redelivered == "refuse":
                continue
            for method in {running.method for running in self._running if running.acknowledged}:
                self._give_back_waiting(method, now)

    def _acknowledge(self, running: _Running) -> None:
        if not running.acknowledged:
            running.acknowledged = True
            self._channel.ack(running.delivery)

    def _give_back_waiting(self, method: _Method, now: float) -> None:
        if method.queue.empty() or method.crowded_since is None:
            method.crowded_since = now
        elif now - method.crowded_since >= _WAITS:
            while not method.queue.empty():
                self._channel.reject(method.queue.get_nowait(), requeue=True)
                method.queue.task_done()

    # -- one call

    async def _answer(self, method: _Method, delivery: Delivery) -> None:
        kwargs: dict[str, Any] = {}
        unreadable: MalformedMessage | None = None
        try:
            if len(delivery.body) <= PIECE:
                kwargs = read_call(delivery)
            else:
                kwargs = await in_thread(read_call, delivery)
        except MalformedMessage as refused:
            unreadable = refused
        if not await self._holds(method, delivery):
            return  # of a connection that was lost: the broker delivers it again
        if unreadable is not None:
            self._rejected.add("call", unreadable, delivery)
            told = error_message(unreadable, delivery.correlation_id)
            await self._reply(_Running(method, delivery), told)
            return
        if delivery.redelivered and self.options.redelivered == "refuse":
            lost = ServiceLost(AGAIN.format(call=f"{self._fqn}.{method.name}"))
            told, error, traceback = self._encode(None, lost, delivery)
            self._record(method, delivery, 0.0, error, traceback)
            await self._reply(_Running(method, delivery), told)
            return
        function = self.access.admitted(method.function)
        if (credit := wanted_credit(delivery)) and is_generator(function):
            # Not one of the `prefetch` calls: it may last, and those who wait may go elsewhere.
            self._channel.ack(delivery)  # what has begun is not begun again by another member
            streaming = self._stream(method, delivery, kwargs, credit)
            self._background.spawn(streaming, name=f"{method.name} stream")
            return
        running = _Running(method, delivery)
        self._running.add(running)
        try:
            await self._run(running, function, kwargs)
        finally:
            self._running.discard(running)

    async def _run(self, running: _Running, function: Function, kwargs: Mapping[str, Any]) -> None:
        method, request = running.method, running.delivery
        method.stats.running += 1
        began = time.perf_counter()
        try:
            with self.around():
                result, error = await self._outcome(function, kwargs)
            await forget_cancellation(lambda: self._ending)
            reply, error, traceback = await self._encode_fitting(result, error, request)
            await forget_cancellation(lambda: self._ending)
        finally:
            method.stats.running -= 1
        seconds = time.perf_counter() - began
        self._record(method, request, seconds, error, traceback)
        if seconds > _LONG:  # the broker may have closed the channel, unseen by a busy loop
            with contextlib.suppress(FabricError):
                await self._channel.check()
        await self._reply(running, reply)

    async def _outcome(self, function: Function, kwargs: Mapping[str, Any]) -> Ran:
        """What the function returned or raised, whatever it raised.

        Only a cancellation by `close` gets through.
        """
        try:
            result, error = await run(function, kwargs, threads=self.options.threads)
            if inspect.isawaitable(result):
                result = await result
            if inspect.isgenerator(result) or inspect.isasyncgen(result):
                result = await listed(Items(result, threads=self.options.threads))
        except asyncio.CancelledError as cancelled:
            if self._ending:
                raise
            uncancel()
            return None, cancelled
        except BaseException as raised:  # noqa: BLE001 - nothing a function raises ends the service
            error = raised
        return (result, None) if error is None else (None, holdable(error))

    async def _stream(
        self, method: _Method, request: Delivery, kwargs: Mapping[str, Any], credit: int
    ) -> None:
        method.stats.running += 1
        began = time.perf_counter()
        outcome: Outcome | None = None
        error, traceback = None, ""
        last = end_message(request.correlation_id)
        try:
            with self.around():
                items = Items(invoke(method.function, kwargs), threads=self.options.threads)
                try:
                    await self._outgoing.send(request, items, credit)
                finally:
                    await items.close()
        except GivenUp:
            outcome = "cancelled"
        except BaseException as raised:  # noqa: BLE001 - nothing a function raises ends the service
            uncancel()
            error = raised
            if self._ending:
                error = ServiceLost(f"{self._fqn} has stopped while it sent items.")
            last, error, traceback = await self._encode_fitting(None, error, request)
        method.stats.running -= 1
        self._record(method, request, time.perf_counter() - began, error, traceback, outcome)
        if outcome is None:
            await self._outgoing.finish(request, last)

    async def _encode_fitting(
        self, result: Any, error: BaseException | None, request: Delivery
    ) -> tuple[Message, BaseException | None, str]:
        """As `_encode`, in a size that the broker takes.

        A result that is too large becomes an error, an error a shorter one of its type.
        """
        encoded = self._encode(result, error, request)
        _, error, traceback = encoded
        try:
            await self._channel.check_size(encoded[0], "The result")
        except (MessageTooLarge, UnusableHeader) as refused:
            if error is None:
                return self._encode(None, refused.with_traceback(None), request)
            brief = error_message(error, request.correlation_id, traceback=traceback, brief=True)
            return brief, error, traceback
        except FabricError as lost:  # seen again when the reply is sent
            log.debug("A reply of %s was not measured: %s", self.name, lost)
        return encoded

    def _encode(
        self, result: Any, error: BaseException | None, delivery: Delivery
    ) -> tuple[Message, BaseException | None, str]:
        """The reply, and the error in it with its traceback; a result may be one that cannot go."""
        if error is None:
            try:
                return result_message(result, delivery.correlation_id), None, ""
            except NotSerializable as refused:
                refused.__suppress_context__ = True
                error = refused.with_traceback(None)  # it is ours, and the message says it all
            except BaseException as raised:  # noqa: BLE001 - nor does anything in its result
                error = raised
        traceback = format_traceback(without_us(error))
        message = error_message(error, delivery.correlation_id, traceback=traceback)
        return message, error, traceback

    def _record(
        self,
        method: _Method,
        delivery: Delivery,
        seconds: float,
        error: BaseException | None,
        traceback: str,
        outcome: Outcome | None = None,
    ) -> None:
        method.stats.record(seconds, error)
        self.changes += 1
        if method.name == DESCRIBE:
            return
        caller = identify(delivery, verified=False).service
        record = self._calls.served(
            self._fqn, method.name, seconds, error, traceback, outcome=outcome, caller=caller
        )
        if error is not None:
            tables = delivery.headers.get(TABLES_HEADER)
            self._calls.failed(record, delivery.body, tables)

    async def _holds(self, method: _Method, delivery: Delivery) -> bool:
        """Whether the call is ours to answer.

        When the channel was lost, the broker gives the call to another member. Where there was
        none, the queue went too, and with it the call: then it is nowhere but here.
        """
        channel = self._channel
        if not channel.is_ready or delivery.generation != channel.generation:
            try:
                await channel.ready()
            except FabricError:  # closed
                return False
        return delivery.generation >= method.held_since

    async def _reply(self, running: _Running, reply: Message) -> None:
        request = running.delivery
        if not (await self._holds(running.method, request) or self._only_taken_back(running)):
            return
        try:
            if request.reply_to:
                self._channel.send("", request.reply_to, reply)
            self._acknowledge(running)  # goes out in one write with the reply
            if running.delivery.generation != self._channel.generation:
                self._remember_answered(running.key)
        except FabricError as lost:  # the broker delivers the call again, here or elsewhere
            log.debug("A reply of %s was not sent: %s", self.name, lost)

    def _only_taken_back(self, running: _Running) -> bool:
        """Return whether the broker took the call back on a connection that still stands.

        Another member may have begun it: the caller takes the first reply.
        """
        return running.acknowledged or running.delivery.generation >= self._connected_since

    def _remember_answered(self, key: CallKey) -> None:
        self._answered[key] = None
        if len(self._answered) > _ANSWERED:
            self._answered.popitem(last=False)
