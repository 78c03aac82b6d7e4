"""One process on the fabric: its connections, and the parts that use them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Self

from fabric_nb.errors import NotConnected
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.amqp.consumer_connection import ConsumerConnection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import Background
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.data.publisher import Publisher
from fabric_nb.fabric.data.streams import Streams
from fabric_nb.fabric.discovery.announcer import Announcer, Presence
from fabric_nb.fabric.discovery.listener import Listener
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.discovery.resolver import Resolver
from fabric_nb.fabric.doctor.target import Target
from fabric_nb.fabric.logs.feeds import Logs
from fabric_nb.fabric.rpc.bench import Benchmarks
from fabric_nb.fabric.rpc.client import RpcClient
from fabric_nb.fabric.rpc.history import CallLog
from fabric_nb.fabric.rpc.instances import Instances
from fabric_nb.fabric.rpc.mapping import Maps
from fabric_nb.fabric.rpc.requester import Requester
from fabric_nb.fabric.rpc.server import Server
from fabric_nb.fabric.rpc.service_host import ServiceHost
from fabric_nb.fabric.tracing.publisher import SpanPublisher
from fabric_nb.fabric.tracing.tracer import Tracer
from fabric_nb.fabric.tracing.traces import Traces
from fabric_nb.fabric.wire.names import ServiceName, check_version

OPEN_TIMEOUT = 10.0
"""Seconds that connecting may take, unless another number is given."""


class FabricMember:
    """One process on the fabric, composed of its parts; `AmqBrokerConnector` is its API.

    Args:
        uri: URI of the broker, or of each node of a cluster; see `Connection`.
        name: address of the member's own service.
        version: version of that service, which its keep-alives carry.
        keep_alive: seconds between two keep-alives; None: the member is not announced.
        listen: receive the keep-alives of other members.
        discovery_exchange: exchange of keep-alives.
        timeout: default timeout of a call, in seconds; None: no limit.
        heartbeat: seconds between AMQP heartbeats.
        presence: where keep-alives are sent from.
        connection_name: connection name at the broker.
        connection: connection of the same loop to share. It is neither opened nor closed here, and
            channels of this member end with it. Left out: a connection of its own.

    Attributes:
        instance: id of this process among the instances of one service.
        connection: connection for everything but consumers that acknowledge.
        consumer_connection: connection for consumers that acknowledge.
        registry: services that the member knows.
        calls: record of the calls that it made and served.
        rejected: record of messages that could not be read.
        rpc: client of other services.
        instances: operations on single instances of services.
        maps: maps of its calls over rows.
        benchmarks: benchmarks of methods.
        host: services that it offers.
        traces: traces that it collects.
        tracer: tracer of the calls that it makes and serves.
        publisher: publisher of data.
        streams: data streams, subscriptions and playbacks.
        logs: log feeds, and handlers whose records are published.
        announcer: sender of keep-alives; None: the member is not announced.
        listener: receiver of keep-alives.
    """

    def __init__(
        self,
        uri: str | Sequence[str],
        name: ServiceName,
        *,
        version: str,
        keep_alive: float | None,
        listen: bool,
        discovery_exchange: str,
        timeout: float | None,
        heartbeat: int,
        presence: Presence,
        connection_name: str | None,
        connection: Connection | None = None,
    ) -> None:
        self.name = name
        self.version = check_version(version)
        self.instance = secrets.token_hex(4)
        self.registry = Registry()
        self.calls = CallLog()
        self.rejected = RejectedMessages()
        self._uri = uri
        self._heartbeat = heartbeat
        self._connection_name = connection_name or f"fabric_nb {name} {self.instance}"
        self._discovery_exchange = discovery_exchange
        self._background = Background(f"member {name}")
        self._opening = asyncio.Lock()
        self._opener: asyncio.Task[None] | None = None
        self._shares = connection is not None
        self._is_open = False
        self.connection = connection = connection or self._connect(self._connection_name)
        self.consumer_connection = ConsumerConnection(
            uri, name=f"{self._connection_name} streams", heartbeat=heartbeat, primary=connection
        )
        self.publisher = Publisher(connection, name.domain, self._background)
        self.streams = Streams(self.consumer_connection, name.domain, self.publisher, self.rejected)
        self.logs = Logs(
            connection,
            name,
            self.instance,
            rejected=self.rejected,
            background=self._background,
        )
        collector = f"{name.fqn}.{self.instance}"
        self.traces = Traces(
            connection, name, collector, rejected=self.rejected, background=self._background
        )
        self._spans = SpanPublisher(connection, name.domain)
        self.tracer = Tracer(collector, self.traces, self._spans)
        resolver = Resolver(self.registry, listening=listen, own=name)
        self.rpc = RpcClient(
            connection,
            Requester(
                connection, self.rejected, self._background, collector, resolver.answering_instances
            ),
            resolver=resolver,
            registry=self.registry,
            history=self.calls,
            tracer=self.tracer,
            traces=self.traces,
            timeout=timeout,
        )
        self.instances = Instances(connection, self.rpc, resolver, self.registry)
        self.maps = Maps(self.rpc)
        self.benchmarks = Benchmarks(connection, self.rpc)
        self.announcer: Announcer | None = None
        if keep_alive is not None:
            connect = self._announcing_connection(presence)
            self.announcer = Announcer(connect, discovery_exchange, keep_alive, presence)
        self.listener = Listener(
            connection,
            name,
            discovery_exchange,
            registry=self.registry,
            rejected=self.rejected,
            background=self._background,
            listening=listen,
            on_request=self.announcer.announce_now if self.announcer else None,
        )
        self.host = ServiceHost(
            connection,
            name,
            version=version,
            instance=self.instance,
            announcer=self.announcer,
            registry=self.registry if listen else None,
            rejected=self.rejected,
            calls=self.calls,
            tracer=self.tracer,
        )

    def _announcing_connection(self, presence: Presence) -> Callable[[], Connection]:
        if presence == "loop":
            return lambda: self.connection
        return lambda: self._connect(f"{self._connection_name} keep-alives")

    def _connect(self, name: str) -> Connection:
        return Connection(self._uri, name=name, heartbeat=self._heartbeat)

    # -- life

    async def open(self, timeout: float | EllipsisType | None = ..., *, retry: bool = True) -> Self:
        """Connect, and open the parts; see `AmqBrokerConnector.open`."""
        self.connection.check_loop()
        async with self._opening:
            if self.state is State.CLOSED or (self._shares and not self._is_open):
                if timeout is ...:
                    timeout, retry = OPEN_TIMEOUT, False
                self._opener = asyncio.ensure_future(self._open(timeout, retry=retry))
                await self._opened_by(self._opener)
        return self

    async def _opened_by(self, opener: asyncio.Task[None]) -> None:
        try:
            await opener
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise NotConnected(f"{self.name.fqn} was closed while it was being opened.") from None
        finally:
            self._opener = None

    async def _open(self, timeout: float | None, *, retry: bool) -> None:
        if not self._shares:
            await self.connection.open(timeout, retry=retry)
        try:
            await self._background.open()
            await self.listener.open()
            await self.rpc.open()
            await self.publisher.open()
            if self.announcer is not None:
                await self.announcer.open()
                self.host.announce()
            self._is_open = True
        except BaseException:
            await self.close()
            raise

    async def close(self, grace: float | None = 0.0) -> None:
        """Withdraw the services and close the parts; see `AmqBrokerConnector.close`."""
        limit = time_limit(grace, "grace")
        if self.connection.in_other_loop:
            await self.connection.run_in_own_loop(self.close(grace))
            return
        await self._stop_opening()
        if self.state is State.CONNECTED:
            await self.logs.flush()
        self._is_open = False
        if self.announcer is not None:
            await self.announcer.close()
        await self.host.close(limit)
        await self._spans.close()
        await self.traces.close()
        await self.streams.close()
        await self.logs.close()
        await self.publisher.close()
        await self._background.aclose()
        await self.consumer_connection.close()
        if not self._shares:
            await self.connection.close()

    async def _stop_opening(self) -> None:
        opener = self._opener
        if opener is not None and opener is not asyncio.current_task():
            opener.cancel()
            await asyncio.wait([opener])

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # -- state

    @property
    def domain(self) -> str:
        """Domain of the member's own service."""
        return self.name.domain

    @property
    def uri(self) -> str:
        """URI of the broker, of a cluster that of the node in use; the password is masked."""
        return self.connection.masked_uri

    @property
    def broker(self) -> str:
        """Product and version of the broker."""
        return self.connection.broker

    @property
    def embedded(self) -> bool:
        """True if the broker is the embedded one."""
        return self.connection.embedded

    @property
    def servers(self) -> tuple[Server, ...]:
        """Servers that are open."""
        return self.host.servers

    @property
    def transient_queues_refused(self) -> bool:
        """True if the broker has refused the transient queues that amqp-fabric peers need."""
        return self.connection.capabilities.transient_queues_refused

    @property
    def state(self) -> State:
        """State of the connection; of both, while there is one for consumers."""
        own, consumers = self.connection.state, self.consumer_connection.state
        return consumers if own is State.CONNECTED and consumers is not State.CLOSED else own

    def on_state(self, listener: Callable[[State], object]) -> None:
        """Call `listener` with `state` whenever it changes."""
        last = self.state

        def compare(_: State) -> None:
            nonlocal last
            if last is not (state := self.state):
                last = state
                listener(state)

        for connection in (self.connection, self.consumer_connection):
            connection.on_state.append(compare)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} at {self.uri}: {self.state}>"

    # -- members and targets made of this one

    def observer(self) -> FabricMember:
        """Return a member that receives and calls but is not announced; not yet open.

        It is for the companion thread, where it shares the connection of the keep-alives; without
        keep-alives it has a connection of its own. Its listener is paused, because this member
        receives the same keep-alives.
        """
        observer = FabricMember(
            self._uri,
            self.name,
            version="",
            keep_alive=None,
            listen=True,
            discovery_exchange=self._discovery_exchange,
            timeout=self.rpc.timeout,
            heartbeat=self._heartbeat,
            presence="loop",
            connection_name=f"{self._connection_name} observer",
            connection=self.announcer.companion_connection if self.announcer else None,
        )
        observer.listener.paused = True
        return observer

    def target(self, subscriptions: Sequence[str] = ()) -> Target:
        """Return this member as the doctor's target; `subscriptions` are further shared names."""
        return Target(
            uri=self._uri,
            name=self.name,
            instance=self.instance,
            discovery_exchange=self._discovery_exchange,
            heartbeat=self._heartbeat,
            interval=self.announcer.interval if self.announcer is not None else None,
            subscriptions=sorted({*self.streams.names, *subscriptions}),
            rejected=self.rejected,
            capabilities=self.connection.capabilities,
        )
