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
from types import TracebackType
from typing import Any, Self

from fabric_nb.errors import ConnectionLost, FabricError, MalformedMessage, NotSerializable
from fabric_nb.fabric import wire
from fabric_nb.fabric.amqp import Channel, Connection, Delivery, Message
from fabric_nb.fabric.malformed import MalformedLog
from fabric_nb.fabric.methods import Function, MethodStats, doc_of, signature_of
from fabric_nb.fabric.naming import DEAD_LETTER_EXCHANGE, ServiceName
from fabric_nb.fabric.suspension import suspendable
from fabric_nb.fabric.tasks import Background

log = logging.getLogger(__name__)

DESCRIBE = "_describe"
"""The method by which fabric_nb ends ask each other for signatures and docs; amqp-fabric peers
neither have nor see it."""

_QUEUE_ARGUMENTS = {"x-dead-letter-exchange": DEAD_LETTER_EXCHANGE}


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call to one of our methods that raised."""

    time: float
    method: str
    kwargs: Mapping[str, Any]
    error: BaseException
    traceback: str


@dataclass(eq=False, slots=True)
class _Method:
    name: str
    function: Function
    stats: MethodStats = field(default_factory=MethodStats)
    queue: asyncio.Queue[Delivery] = field(default_factory=asyncio.Queue)
    workers: set[_Worker] = field(default_factory=set)
    consumer_tag: str = ""
    generation: int = 0


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
        malformed: where requests go that cannot be read.
        on_failure: called with each call that raised.
        on_change: called when the functions were replaced and when it was closed.
    """

    def __init__(
        self,
        connection: Connection,
        name: ServiceName,
        *,
        malformed: MalformedLog,
        prefetch: int = 1,
        threads: bool = False,
        version: str = "",
        on_failure: Callable[[FailedCall], object] | None = None,
        on_change: Callable[[Server], object] = lambda _: None,
    ) -> None:
        self.name = name
        self.version = version
        self.changes = 0
        self.threads = threads
        self.prefetch = prefetch
        self._malformed = malformed
        self._on_failure = on_failure
        self._on_change = on_change
        self.closed = False
        self._ending = False
        self._methods: dict[str, _Method] = {}
        self._background = Background(f"server {name}")
        self._channel = connection.channel(self._set_up, prefetch=prefetch)

    # -- life

    async def open(self, functions: Mapping[str, Function]) -> Self:
        """Start to serve.

        Raises:
            BrokerRefused: the queues exist with other properties, or may not be made.
        """
        await self._background.open()
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

    async def close(self, grace: float = 0.0) -> None:
        """Take no more calls, let those at hand end within `grace` seconds, and leave.

        What was not answered goes to another member.
        """
        if self.closed:
            return
        try:
            async with asyncio.timeout(grace):
                for method in self._methods.values():
                    await self._channel.cancel(method.consumer_tag)
                await asyncio.gather(*(method.queue.join() for method in self._methods.values()))
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - closing goes on whatever the broker says
            log.debug("Closing %s: %s", self.name, error)
        self._ending = True
        await self._channel.close()
        await self._background.aclose()
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
        queue = self.name.method_queue(method.name)
        await channel.declare_shared_queue(queue, _QUEUE_ARGUMENTS)
        await channel.bind(queue, self.name.api_exchange, queue)
        method.consumer_tag = await channel.consume(queue, method.queue.put_nowait)

    def _add(self, name: str, function: Function) -> _Method:
        method = self._methods[name] = _Method(name, function)
        self._hire(method)
        return method

    async def _remove(self, name: str) -> None:
        method = self._methods.pop(name)
        with contextlib.suppress(ConnectionLost):
            await self._channel.cancel(method.consumer_tag)
        while not method.queue.empty():
            self._channel.reject(method.queue.get_nowait(), requeue=True)
        for worker in tuple(method.workers):
            worker.retire()

    def _hire(self, method: _Method) -> None:
        for number in range(self.prefetch):
            worker = _Worker()
            method.workers.add(worker)
            worker.task = self._background.spawn(
                self._work(method, worker), name=f"{method.name} {number}"
            )

    async def _work(self, method: _Method, worker: _Worker) -> None:
        try:
            while not worker.retired:
                delivery = await method.queue.get()
                worker.busy = True
                try:
                    await self._answer(method, delivery)
                finally:
                    worker.busy = False
                    method.queue.task_done()
        finally:
            method.workers.discard(worker)

    # -- one call

    async def _answer(self, method: _Method, delivery: Delivery) -> None:
        if delivery.generation != self._channel.generation:
            return  # of a connection that was lost: the broker delivers it again
        try:
            kwargs = wire.read_call(delivery)
        except MalformedMessage as unreadable:
            self._malformed.add("call", unreadable, delivery)
            await self._reply(delivery, wire.error_message(unreadable, delivery.correlation_id))
            return
        method.stats.running += 1
        began = time.perf_counter()
        result, error = await self._outcome(method.function, kwargs)
        reply = self._encode(result, error, delivery)
        if isinstance(reply, NotSerializable):
            error, reply = reply, wire.error_message(reply, delivery.correlation_id)
        method.stats.running -= 1
        method.stats.record(time.perf_counter() - began, error)
        self.changes += 1
        await self._reply(delivery, reply)
        if error is not None:
            self._report(method.name, kwargs, error)

    async def _outcome(
        self, function: Function, kwargs: Mapping[str, Any]
    ) -> tuple[Any, BaseException | None]:
        """What the function returned or raised, whatever it raised.

        Only a cancellation by `close` gets through.
        """
        try:
            if self.threads and not inspect.iscoroutinefunction(function):
                result, error = await asyncio.to_thread(_call, function, kwargs)
            else:
                result, error = await suspendable(_call, function, kwargs)
            if inspect.isawaitable(result):
                result = await result
            elif inspect.isasyncgen(result):
                result = [item async for item in result]
        except asyncio.CancelledError as cancelled:
            if self._ending:
                raise
            while (task := asyncio.current_task()) is not None and task.cancelling():
                task.uncancel()  # the function cancelled the task that it ran in
            return None, cancelled
        except BaseException as raised:  # noqa: BLE001 - nothing a function raises ends the service
            return None, raised
        return result, error

    def _encode(
        self, result: Any, error: BaseException | None, delivery: Delivery
    ) -> Message | NotSerializable:
        if error is not None:
            return wire.error_message(
                error, delivery.correlation_id, traceback=wire.format_traceback(_without_us(error))
            )
        try:
            return wire.result_message(result, delivery.correlation_id)
        except NotSerializable as refused:
            return refused

    async def _reply(self, delivery: Delivery, reply: Message) -> None:
        if delivery.generation != self._channel.generation:
            return
        try:
            if not self._channel.is_ready:
                await self._channel.ready()
            if delivery.reply_to:
                self._channel.send("", delivery.reply_to, reply)
            self._channel.ack(delivery)  # goes out in one write with the reply
        except FabricError as lost:  # the broker delivers the call again, here or elsewhere
            log.debug("A reply of %s was not sent: %s", self.name, lost)

    def _report(self, method: str, kwargs: Mapping[str, Any], error: BaseException) -> None:
        if self._on_failure is None:
            return
        traceback = wire.format_traceback(_without_us(error))
        try:
            self._on_failure(FailedCall(time.time(), method, kwargs, error, traceback))
        except Exception:
            log.exception("The listener for failed calls failed")


def _call(function: Function, kwargs: Mapping[str, Any]) -> tuple[Any, BaseException | None]:
    try:
        result = function(**kwargs)
        return (list(result) if inspect.isgenerator(result) else result), None
    except BaseException as error:  # noqa: BLE001 - it is the caller's to know, not the loop's
        return None, error


def _without_us(error: BaseException) -> BaseException:
    """The error with the frames of this package taken off the start of its traceback."""
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _OURS:
        traceback = traceback.tb_next
    return error.with_traceback(traceback)


_OURS = {__name__, "asyncio.threads", "concurrent.futures.thread"}
