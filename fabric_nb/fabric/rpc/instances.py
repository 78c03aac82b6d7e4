"""Single instances of services: pings, statistics, draining, and who calls whom."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fabric_nb.errors import FabricError, InstanceNotFound
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.core.values import error_text
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.discovery.resolver import Resolver
from fabric_nb.fabric.rpc.client import RpcClient
from fabric_nb.fabric.rpc.instance_statistics import (
    Edge,
    InstanceStatistics,
    MethodStatistics,
    edges,
)
from fabric_nb.fabric.rpc.pings import Answer, Answers
from fabric_nb.fabric.rpc.queues import DRAIN, STATS
from fabric_nb.fabric.wire.names import ALL_INSTANCES, ServiceName, ServicePattern, check_part
from fabric_nb.libraries import importing

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

STATS_TIME = 5.0
"""Seconds in which an instance answers with its statistics."""
CONCURRENT = 16
"""Services that are asked for their statistics at the same time."""


class PingedInstance(NamedTuple):
    """An instance that was pinged; without an answer, all but its id is empty.

    Attributes:
        rtt_ms: milliseconds from the ping to its answer.
        clock_ms: milliseconds by which its clock is ahead, within half of `rtt_ms`.
        up: seconds since it began to serve.
    """

    instance: str
    host: str = ""
    pid: int | None = None
    version: str = ""
    rtt_ms: float | None = None
    clock_ms: float | None = None
    up: float | None = None

    @classmethod
    def of(cls, answers: Answers, answer: Answer) -> PingedInstance:
        """Return what an answer says."""
        status, there = answer.status, answers.sent_at + answer.after / 2
        return cls(
            status.instance,
            status.host,
            status.pid,
            status.version,
            answer.after * 1000,
            None if status.time is None else (status.time - there) * 1000,
            status.up,
        )


@dataclass(frozen=True, slots=True)
class CallGraph:
    """Calls between services, as the called ones have counted them.

    Attributes:
        edges: an edge for each caller, service and method.
        unanswered: services that have not told their callers, and why.
    """

    edges: list[Edge]
    unanswered: Mapping[ServiceName, str]


class Instances:
    """Operations on the single instances of services.

    Args:
        connection: connection that the pings are sent on.
        rpc: client that calls the instances.
        resolver: resolver of names.
        registry: known services.
    """

    def __init__(
        self, connection: Connection, rpc: RpcClient, resolver: Resolver, registry: Registry
    ) -> None:
        self._connection = connection
        self._rpc = rpc
        self._resolver = resolver
        self._registry = registry

    async def ping(self, pattern: ServicePattern) -> list[PingedInstance]:
        """Ping the instances of a service; see `AmqBrokerConnector.ping`."""
        return await self._in_own_loop(self._ping(pattern))

    async def statistics(self, pattern: ServicePattern) -> dict[str, InstanceStatistics]:
        """Return the statistics of the instances of a service; see `AmqBrokerConnector.stats`."""
        found: dict[str, InstanceStatistics] = {}
        replies = await self._call(pattern, STATS, timeout=STATS_TIME)
        for instance, reply in replies.items():
            try:
                if isinstance(reply, Exception):
                    raise reply
                found[instance] = InstanceStatistics.read(reply)
            except InstanceNotFound:
                continue  # it has just left
            except FabricError as error:
                failed = MethodStatistics("", last_error=error_text(error))
                found[instance] = InstanceStatistics(None, (failed,))
        return found

    async def drain(self, pattern: ServicePattern) -> list[str]:
        """Ask instances to finish and leave; see `AmqBrokerConnector.drain`."""
        replies = await self._call(pattern, DRAIN)
        for reply in replies.values():
            if isinstance(reply, BaseException):
                raise reply
        return [instance for instance, began in replies.items() if began]

    async def graph(self, domain: str) -> CallGraph:
        """Return who calls the services of a domain; see `AmqBrokerConnector.graph`."""
        check_part(domain, "domain")
        limit = asyncio.Semaphore(CONCURRENT)
        unanswered: dict[ServiceName, str] = {}

        async def called(name: ServiceName) -> list[Edge]:
            async with limit:
                try:
                    statistics = await self.statistics(_every_instance(name))
                except FabricError as error:
                    unanswered[name] = str(error)
                    return []
            silent = [one.methods[0].last_error for one in statistics.values() if one.up is None]
            if silent:
                unanswered[name] = silent[0]
            return edges(name.fqn, statistics.values())

        now = self._registry.now
        services = [
            service
            for service in self._registry.services(domain=domain)
            if service.methods or not all(each.id for each in service.present(now))
        ]  # others serve nothing
        found = await asyncio.gather(*(called(service.name) for service in services))
        return CallGraph([edge for some in found for edge in some], unanswered)

    async def _call(self, pattern: ServicePattern, method: str, **options: Any) -> dict[str, Any]:
        """Call a built-in method of an instance, or of all; return replies or errors."""
        if pattern.instance in ("", ALL_INSTANCES):
            every = replace(pattern, instance=ALL_INSTANCES)
            replies: dict[str, Any] = await self._rpc.call(every, method, {}, **options)
            return replies
        name = await self._resolver.resolve(pattern, timeout=self._rpc.timeout)
        instance = self._resolver.resolve_instance(name, pattern.instance)
        one = replace(_every_instance(name), instance=instance)
        return {instance: await self._rpc.call(one, method, {}, **options)}

    async def _ping(self, pattern: ServicePattern) -> list[PingedInstance]:
        name = await self._resolver.resolve(pattern, timeout=self._rpc.timeout)
        answers = await self._rpc.ping(name)
        found = {
            instance: PingedInstance.of(answers, answer)
            for instance, answer in answers.by_instance.items()
        }
        for instance in self._resolver.instances(name):
            found.setdefault(instance, PingedInstance(instance))
        chosen = pattern.instance if pattern.instance != ALL_INSTANCES else ""
        return [one for one in found.values() if one.instance.startswith(chosen)]

    async def _in_own_loop(self, work: Coroutine[Any, Any, T]) -> T:
        if self._connection.in_other_loop:
            result: T = await self._connection.run_in_own_loop(work)
            return result
        return await work


def _every_instance(name: ServiceName) -> ServicePattern:
    return ServicePattern(name.domain, name.type, name.id, ALL_INSTANCES)


def ping_frame(pinged: list[PingedInstance]) -> pd.DataFrame:
    """Return pinged instances as a DataFrame, a row for each; `up_since` is UTC."""
    with importing("pandas"):
        import pandas as pd
    frame = pd.DataFrame(pinged, columns=list(PingedInstance._fields))
    texts = dict.fromkeys(("instance", "host", "version"), "str")
    numbers = dict.fromkeys(("rtt_ms", "clock_ms", "up"), "float64")
    frame = frame.astype({**texts, **numbers, "pid": "Int64"})
    now = pd.Timestamp.now("UTC").floor("s")
    frame["up_since"] = now - pd.to_timedelta(frame.pop("up"), unit="s").dt.floor("s")
    return frame
