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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from fabric_nb.errors import (
    ConnectionLost,
    FabricError,
    MalformedMessage,
    NotSerializable,
    ServiceLost,
)
from fabric_nb.fabric import wire
from fabric_nb.fabric.amqp import Channel, Connection, Delivery, Message
from fabric_nb.fabric.caller import STRAY, Admission, identify
from fabric_nb.fabric.history import CallLog, Outcome
from fabric_nb.fabric.malformed import MalformedLog
from fabric_nb.fabric.method_queues import DESCRIBE, LeaderQueue, MethodQueues
from fabric_nb.fabric.methods import Function, MethodStats, doc_of, signature_of
from fabric_nb.fabric.naming import ServiceName
from fabric_nb.fabric.running import Items, Ran, is_generator, listed, run, uncancel, without_us
from fabric_nb.fabric.stalls import StallGuard
from fabric_nb.fabric.streaming import GivenUp, Outgoing
from fabric_nb.fabric.tables import TABLES_HEADER
from fabric_nb.fabric.tasks import Background

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Method:
    name: str
    function: Function
    origin: bytes
    stats: MethodStats = field(default_factory=MethodStats)
    queue: asyncio.Queue[Delivery] = field(default_factory=asyncio.Queue)
    workers: set[_Worker] = field(default_factory=set)
    consumer_tag: str = ""
    generation: int = 0
    held_since: int = 0  # calls of openings before that have gone to other members


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
        prefetch: how many calls of one method run at once.
        threads: whether plain functions run in threads, off the loop.
        version: told to those who ask for a description.
        single_active: whether one member at a time takes all calls, and the others stand by.
        admission: whose calls are taken.
        malformed: where requests go that cannot be read.
        calls: where calls are recorded.
        on_change: called when the functions were replaced and when it was closed.
    """

    def __init__(
        self,
        connection: Connection,
        name: ServiceName,
        *,
        admission: Admission,
        malformed: MalformedLog,
        calls: CallLog,
        prefetch: int = 1,
        threads: bool = False,
        single_active: bool = False,
        version: str = "",
        on_change: Callable[[Server], object] = lambda _: None,
    ) -> None:
        self.name = name
        self._fqn = name.fqn
        self.version = version
        self.changes = 0
        self.threads = threads
        self.prefetch = prefetch
        self.admission = admission
        self._malformed = malformed
        self._calls = calls
        self._on_change = on_change
        self.closed = False
        self._ending = False
        self._methods: dict[str, _Method] = {}
        self._queues = (
            LeaderQueue(name, stray=self._refuse) if single_active else MethodQueues(name)
        )
        self._connection = connection
        self._outgoing = Outgoing(connection, malformed)
        self._background = Background(f"server {name}")
        self._channel = connection.channel(self._set_up, prefetch=prefetch)
        self._guard = StallGuard(self._channel)

    # -- life

    async def open(self, functions: Mapping[str, Function]) -> Self:
        """Start to serve.

        Raises:
            BrokerRefused: the queues exist with other properties, or may not be made.
        """
        await self._queues.check(self._connection, list(functions))
        await self._background.open()
        self._background.keep(self._guard.watch, name="watch")
        for name, function in {**functions, DESCRIBE: self._describe}.items():
            self._add(name, function)
        await self._channel.open()
        return self

    async def replace(
        self,
        functions: Mapping[str, Function],
        *,
        threads: bool | None = None,
        version: str | None = None,
    ) -> None:
        """Serve these functions from now on, without a moment of absence.

        Methods that stay keep their queue, their waiting calls and their statistics; calls
        at hand end with the function they began with.
        """
        self.threads = self.threads if threads is None else threads
        self.version = self.version if version is None else version
        wanted = {**functions, DESCRIBE: self._describe}
        for name in [name for name in self._methods if name not in wanted]:
            await self._remove(name)
        for name, function in wanted.items():
            method = self._methods.get(name)
            if method is None:
                method = self._add(name, function)
                with contextlib.suppress(ConnectionLost):  # then it starts with all the others
                    await self._start_consumer(self._channel, method)
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
        if self.closed:
            return
        try:
            async with asyncio.timeout(grace):
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
            "version": self.version,
            "methods": {
                name: {"signature": signature_of(function), "doc": doc_of(function)}
                for name, function in self.functions.items()
            },
        }

    # -- queues and workers

    async def _set_up(self, channel: Channel) -> None:
        await channel.declare_exchange(self.name.api_exchange, "direct", auto_delete=True)
        for method in tuple(self._methods.values()):
            await self._start_consumer(channel, method)

    async def _start_consumer(self, channel: Channel, method: _Method) -> None:
        if method.generation == channel.generation:
            return  # a replacement and a recovery met: one of them is at it
        method.generation = channel.generation
        take = self._guard.before(partial(self._take, method))
        method.consumer_tag, others = await self._queues.consume(channel, method.name, take)
        if others:
            method.held_since = channel.generation

    def _add(self, name: str, function: Function) -> _Method:
        method = self._methods[name] = _Method(name, function, self._queues.origin(name))
        self._hire(method)
        return method

    def _take(self, method: _Method, delivery: Delivery) -> None:
        refused = self.admission.refusal(delivery, method.origin)
        if refused is None:
            method.queue.put_nowait(delivery)
        else:
            self._refuse(delivery, refused)

    def _refuse(self, delivery: Delivery, reason: str = STRAY) -> None:
        # Neither answered nor dead-lettered: whoever waits for a reply has called another service.
        self._malformed.add("call", reason, delivery)
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
        for number in range(self.prefetch):
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
                    with self.admission.known(delivery):
                        await self._answer(method, delivery)
                except Exception as error:
                    log.exception("A call of %s.%s could not be answered", self._fqn, method.name)
                    await self._reply(
                        method, delivery, wire.error_message(error, delivery.correlation_id)
                    )
                finally:
                    worker.busy = False
                    method.queue.task_done()
        finally:
            method.workers.discard(worker)

    # -- one call

    async def _answer(self, method: _Method, delivery: Delivery) -> None:
        if not await self._holds(method, delivery):
            return  # of a connection that was lost: the broker delivers it again
        try:
            kwargs = wire.read_call(delivery)
        except MalformedMessage as unreadable:
            self._malformed.add("call", unreadable, delivery)
            told = wire.error_message(unreadable, delivery.correlation_id)
            await self._reply(method, delivery, told)
            return
        function = self.admission.admitted(method.function)
        if (credit := wire.wanted_credit(delivery)) and is_generator(function):
            # Not one of the `prefetch` calls: it may last, and those who wait may go elsewhere.
            self._channel.ack(delivery)  # what has begun is not begun again by another member
            streaming = self._stream(method, delivery, kwargs, credit)
            self._background.spawn(streaming, name=f"{method.name} stream")
            return
        method.stats.running += 1
        began = time.perf_counter()
        try:
            result, error = await self._outcome(function, kwargs)
            reply, error, traceback = self._encode(result, error, delivery)
        finally:
            method.stats.running -= 1
        self._record(method, delivery, time.perf_counter() - began, error, traceback)
        await self._reply(method, delivery, reply)

    async def _outcome(self, function: Function, kwargs: Mapping[str, Any]) -> Ran:
        """What the function returned or raised, whatever it raised.

        Only a cancellation by `close` gets through.
        """
        try:
            result, error = await run(function, kwargs, threads=self.threads)
            if inspect.isawaitable(result):
                result = await result
            if inspect.isgenerator(result) or inspect.isasyncgen(result):
                result = await listed(Items(result, threads=self.threads))
        except asyncio.CancelledError as cancelled:
            if self._ending:
                raise
            uncancel()
            return None, cancelled
        except BaseException as raised:  # noqa: BLE001 - nothing a function raises ends the service
            return None, raised
        return result, error

    async def _stream(
        self, method: _Method, request: Delivery, kwargs: Mapping[str, Any], credit: int
    ) -> None:
        method.stats.running += 1
        began = time.perf_counter()
        outcome: Outcome | None = None
        error, traceback = None, ""
        last = wire.end_message(request.correlation_id)
        try:
            items = Items(method.function(**kwargs), threads=self.threads)
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
            last, error, traceback = self._encode(None, error, request)
        method.stats.running -= 1
        self._record(method, request, time.perf_counter() - began, error, traceback, outcome)
        if outcome is None:
            await self._outgoing.finish(request, last)

    def _encode(
        self, result: Any, error: BaseException | None, delivery: Delivery
    ) -> tuple[Message, BaseException | None, str]:
        """The reply, and the error in it with its traceback; a result may be one that cannot go."""
        if error is None:
            try:
                return wire.result_message(result, delivery.correlation_id), None, ""
            except NotSerializable as refused:
                refused.__suppress_context__ = True
                error = refused.with_traceback(None)  # it is ours, and the message says it all
            except BaseException as raised:  # noqa: BLE001 - nor does anything in its result
                error = raised
        traceback = wire.format_traceback(without_us(error))
        message = wire.error_message(error, delivery.correlation_id, traceback=traceback)
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

    async def _reply(self, method: _Method, delivery: Delivery, reply: Message) -> None:
        if not await self._holds(method, delivery):
            return
        try:
            if delivery.reply_to:
                self._channel.send("", delivery.reply_to, reply)
            self._channel.ack(delivery)  # goes out in one write with the reply
        except FabricError as lost:  # the broker delivers the call again, here or elsewhere
            log.debug("A reply of %s was not sent: %s", self.name, lost)
