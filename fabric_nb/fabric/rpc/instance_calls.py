"""Calls that are sent to one instance of a service, and its built-in methods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fabric_nb.fabric.amqp.frames import origin
from fabric_nb.fabric.amqp.message import NO_ACK, Delivery
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import watched
from fabric_nb.fabric.rpc.access import AccessControl
from fabric_nb.fabric.rpc.instance_statistics import (
    CallerCounts,
    InstanceStatistics,
    MethodStatistics,
)
from fabric_nb.fabric.rpc.queues import DESCRIBE, DRAIN, STATS
from fabric_nb.fabric.rpc.running_calls import RunningCall
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.rpc.served_methods import ServedMethod
from fabric_nb.fabric.wire.calls import called_method
from fabric_nb.fabric.wire.names import ServiceName

MAX_WAITING = 1000
"""Calls of one method to this instance that wait for a worker; more are refused."""


class InstanceCalls:
    """Accepts the calls that are sent to one instance, and to no other one.

    The broker has no queue of its own for these calls: it delivers all of them at once, and none of
    them again.

    Args:
        name: address of the service.
        instance: id of the instance.
        access: access control of the service.
        rejected: record of requests that cannot be read.
        methods: served methods by name.
        options: returns the options of the service.
        answer: answers a call beside those of the workers.
        close: leaves when all calls are answered.

    Attributes:
        leaving: True once no more calls are accepted.
        drained: True once a caller has asked the instance to leave.
        callers: counts of the calls by caller.
        began: time at which the instance began to serve, in seconds of `time.monotonic`.
    """

    def __init__(
        self,
        name: ServiceName,
        instance: str,
        *,
        access: AccessControl,
        rejected: RejectedMessages,
        methods: Mapping[str, ServedMethod],
        options: Callable[[], ServeOptions],
        answer: Callable[[RunningCall], object],
        close: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._name = name
        self._origin = origin(name.api_exchange, name.instance_key(instance))
        self._access = access
        self._rejected = rejected
        self._methods = methods
        self._options = options
        self._answer = answer
        self._close = close
        self._built_in = {
            method: ServedMethod(method, function, b"")
            for method, function in {STATS: self._statistics, DRAIN: self._drain}.items()
        }
        self.leaving = False
        self.drained = False
        self.callers = CallerCounts()
        self.began = time.monotonic()

    def receive(self, delivery: Delivery) -> None:
        """Queue a call for a worker of its method, or answer it apart."""
        delivery.generation = NO_ACK
        name = called_method(delivery)
        if (reason := self._access.refusal(delivery, self._origin)) is not None:
            self._rejected.add("call", reason, delivery)
        elif (built_in := self._built_in.get(name)) is not None:
            self._answer(RunningCall(built_in, delivery))
        elif (error := self._refusal(name)) is not None:
            self._refuse(delivery, error)
        else:
            self._methods[name].queue.put(delivery)

    def _refusal(self, name: str) -> Exception | None:
        """Return the error with which a call of a method is refused."""
        method = self._methods.get(name)
        if method is None:
            known = ", ".join(each for each in self._methods if each != DESCRIBE) or "none"
            return AttributeError(f"It has no method {name!r}: it has {known}.")
        if self.leaving:
            return RuntimeError("It is leaving, and takes no more calls.")
        if self._options().single_active:
            return RuntimeError("One instance at a time serves all calls: call it without @.")
        if len(method.queue) >= MAX_WAITING:
            return RuntimeError(f"{MAX_WAITING:,} calls wait for it already.")
        return None

    def _refuse(self, delivery: Delivery, error: Exception) -> None:
        def refuse(**_: object) -> None:
            raise error

        self._answer(RunningCall(ServedMethod("_refused", refuse, b""), delivery))

    def _statistics(self) -> dict[str, Any]:
        methods = (
            MethodStatistics.of(method.name, method.stats, len(method.queue))
            for method in self._methods.values()
            if method.name != DESCRIBE
        )
        up = time.monotonic() - self.began
        return InstanceStatistics.of(up, methods, self.callers).as_reply()

    def _drain(self) -> bool:
        """Leave once the calls of now are answered; return False if it leaves already."""
        if not self._options().remote_drain:
            raise PermissionError(
                f"{self._name} is not to be drained by others: serve it with remote_drain=True."
            )
        if self.leaving:
            return False
        self.leaving = self.drained = True
        watched(asyncio.create_task(self._close()), f"draining {self._name}")
        return True
