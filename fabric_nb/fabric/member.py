"""A member of the fabric: composes calls, serving, registry, presence, streams and logs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any, Self

from fabric_nb.errors import NotConnected
from fabric_nb.fabric.amqp.connection import Connection, State
from fabric_nb.fabric.amqp.consumer_connection import ConsumerConnection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import Background, Failures, failures
from fabric_nb.fabric.core.timeouts import time_limit
from fabric_nb.fabric.data.publisher import Publisher
from fabric_nb.fabric.data.queues import Start
from fabric_nb.fabric.data.recording import Replay
from fabric_nb.fabric.data.stream import DEFAULT_MAX_ROWS, DEFAULT_PREFETCH, Stream, StreamOptions
from fabric_nb.fabric.data.streams import Streams
from fabric_nb.fabric.discovery.announcer import Announcer, Where
from fabric_nb.fabric.discovery.listener import Listener
from fabric_nb.fabric.discovery.registry import Registry, Service
from fabric_nb.fabric.discovery.resolver import Resolver
from fabric_nb.fabric.logs.feeds import Logs
from fabric_nb.fabric.rpc.access import caller_header
from fabric_nb.fabric.rpc.client import RpcClient
from fabric_nb.fabric.rpc.history import CallLog
from fabric_nb.fabric.rpc.methods import public_functions
from fabric_nb.fabric.rpc.proxy import ServiceProxy
from fabric_nb.fabric.rpc.requests import Requester
from fabric_nb.fabric.rpc.server import Redelivered, Server
from fabric_nb.fabric.rpc.service_host import ServiceHost
from fabric_nb.fabric.wire.names import ServiceName, ServicePattern, check_version, parse_call
from fabric_nb.frames import Unit

DEFAULT_TIMEOUT = 30.0
OPEN_TIMEOUT = 10.0
"""Seconds."""


class FabricMember:
    """A service on the fabric, without regard to amqp-fabric's API; see `AmqBrokerConnector`.

    Args:
        uri: where the broker is; of a cluster, `Connection` says how.
        name: the address.
        version: told in keep-alives.
        keep_alive: announce this service so often, in seconds; None: never.
        listen: whether to hear the keep-alives of others.
        discovery_exchange: where keep-alives travel.
        timeout: seconds for a call that gives none of its own; None: no limit.
        heartbeat: seconds between AMQP heartbeats.
        presence: where keep-alives are sent from.
        connection_name: what the broker's own tools show.
        connection: one of the same loop to share, which is neither opened nor closed here, and
            with which channels of this member end; left out: one of its own.
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
        presence: Where,
        connection_name: str | None,
        connection: Connection | None = None,
    ) -> None:
        self.name = name
        self.version = check_version(version)
        self.instance = secrets.token_hex(4)
        self.registry = Registry()
        self.calls = CallLog()
        self._uri = uri
        self._heartbeat = heartbeat
        self._connection_name = connection_name or f"fabric_nb {name} {self.instance}"
        self._background = Background(f"member {name}")
        self._opening = asyncio.Lock()
        self._opener: asyncio.Task[None] | None = None
        self._shares = connection is not None
        self._is_open = False
        self.rejected = RejectedMessages()
        self._connection = connection = connection or self._connect(self._connection_name)
        self._reading = ConsumerConnection(
            uri, name=f"{self._connection_name} streams", heartbeat=heartbeat, primary=connection
        )
        self.publisher = Publisher(connection, name.domain, self._background)
        self._streams = Streams(self._reading, name.domain, self.publisher, self.rejected)
        self.logs = Logs(connection, name.domain, self.rejected)
        self._caller = Requester(
            self._connection,
            self.rejected,
            self._background,
            caller_header(name, self.instance),
        )
        self._client = RpcClient(
            self._connection,
            self._caller,
            resolver=Resolver(self.registry, listening=listen, own=name),
            registry=self.registry,
            history=self.calls,
            timeout=timeout,
        )
        self._presence: Announcer | None = None
        if keep_alive is not None:
            connect = self._connection_for_presence(presence)
            self._presence = Announcer(connect, discovery_exchange, keep_alive, presence)
        self._listener = Listener(
            self._connection,
            name,
            discovery_exchange,
            registry=self.registry,
            rejected=self.rejected,
            background=self._background,
            listening=listen,
            on_request=self._presence.now if self._presence else lambda: None,
        )
        self._host = ServiceHost(
            self._connection,
            name,
            version=version,
            instance=self.instance,
            presence=self._presence,
            registry=self.registry if listen else None,
            rejected=self.rejected,
            calls=self.calls,
        )

    def _connection_for_presence(self, where: Where) -> Callable[[], Connection]:
        if where == "loop":
            return lambda: self._connection
        return lambda: self._connect(f"{self._connection_name} presence")

    def _connect(self, name: str) -> Connection:
        return Connection(self._uri, name=name, heartbeat=self._heartbeat)

    # -- life

    @property
    def timeout(self) -> float | None:
        """Seconds for a call that gives none of its own; None: no limit."""
        return self._client.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._client.timeout = seconds

    async def open(
        self, timeout: float | EllipsisType | None = ..., *, retry: bool = True, **_: Any
    ) -> Self:
        """Connect, and start to announce and to listen; does nothing when already open.

        Args:
            timeout: seconds within which a broker that is not there yet is tried again and again,
                None for no limit; left out: it is tried once, for 10 seconds.
            retry: False to try it once, for `timeout` seconds.

        Raises:
            InvalidTimeout: `timeout` is negative, NaN or no number.
            BrokerUnavailable: the broker cannot be reached or refuses the login; subclasses
                say which, in words.
            BrokerRefused: the broker refuses an exchange or a queue.
            NotConnected: it was closed meanwhile.
        """
        self._connection.check_loop()
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
            await self._connection.open(timeout, retry=retry)
        try:
            await self._background.open()
            await self._listener.open()
            await self._caller.open()
            await self.publisher.open()
            if self._presence is not None:
                await self._presence.open()
                self._host.announce()
            self._is_open = True
        except BaseException:
            await self.close()
            raise

    async def close(self, grace: float | None = 0.0) -> None:
        """Say goodbye and close.

        In-flight calls may end within `grace` seconds (None: all of them); then they are left to
        other members.

        Raises:
            InvalidTimeout: `grace` is negative, NaN or no number.
        """
        limit = time_limit(grace, "grace")
        if self._connection.in_other_loop:
            await self._connection.run_in_own_loop(self.close(grace))
            return
        await self._stop_opening()
        self._is_open = False
        if self._presence is not None:
            await self._presence.close()
        await self._host.close(limit)
        await self._streams.close()
        await self.logs.close()
        await self.publisher.close()
        await self._background.aclose()
        await self._reading.close()
        if not self._shares:
            await self._connection.close()

    async def _stop_opening(self) -> None:
        opener = self._opener
        if opener is not None and opener is not asyncio.current_task():
            opener.cancel()
            await asyncio.wait([opener])

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # -- who we are

    @property
    def domain(self) -> str:
        """The service's domain."""
        return self.name.domain

    @property
    def uri(self) -> str:
        """The URI of the broker, of a cluster the node in use; with its password masked."""
        return self._connection.masked_uri

    @property
    def broker(self) -> str:
        """The broker's product and version."""
        return self._connection.broker

    @property
    def state(self) -> State:
        """Whether there is a connection now, and the broker takes messages."""
        own, reading = self._connection.state, self._reading.state
        return reading if own is State.CONNECTED and reading is not State.CLOSED else own

    @property
    def failures(self) -> Failures:
        """Errors in background work of this process, which no caller receives."""
        return failures

    @property
    def transient_queues_refused(self) -> bool:
        """Whether the broker has refused the queues that amqp-fabric peers need."""
        return self._connection.capabilities.transient_queues_refused

    def on_state(self, listener: Callable[[State], object]) -> None:
        """Call `listener` whenever `state` changes."""
        told = self.state

        def tell(_: State) -> None:
            nonlocal told
            if told is not (state := self.state):
                told = state
                listener(state)

        for connection in (self._connection, self._reading):
            connection.on_state.append(tell)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} at {self.uri}: {self.state}>"

    # -- calling

    async def call(
        self,
        call: str,
        /,
        *,
        timeout: float | None = None,
        version: str | None = None,
        idempotent: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Call a remote method and return its result.

        Example::

            await fabric.call("my_app.multiply", x=5, y=7)

        Args:
            call: ``id.method``, ``type.id.method`` or ``domain.type.id.method``.
            timeout: seconds; None for the connector's own, infinity for no limit.
            version: what version the service must have, as in ``>=1.2,<2``.
            idempotent: running it twice does no harm: make it again, within `timeout`, when the
                connection or the service is lost during the call.
            kwargs: the method's arguments; use `call_service` for any of the names above.

        Raises:
            CallError: one of its subclasses says what went wrong.
            ConnectionLost: the connection went away; whether it ran is not known.
            NotSerializable: an argument cannot be sent.
            InvalidTimeout: `timeout` is negative, NaN or no number.
            InvalidName: the call is not written as above.
        """
        pattern, method = parse_call(call, domain=self.domain)
        return await self._client.call_service(
            pattern, method, kwargs, timeout=timeout, version=version, idempotent=idempotent
        )

    def call_stream(
        self,
        call: str,
        /,
        *,
        timeout: float | None = None,
        version: str | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[Any, None]:
        """Call a remote generator and give its items as they come.

        Example::

            async for row in fabric.call_stream("reports.rows", day="2026-11-24"):
                ...

        The generator runs ahead by a few items only, and is closed when this is: by ``break``, by
        its ``aclose``, or because we are gone. The reply of a method that is no generator, or of
        an amqp-fabric service, is given at once: the items of a list, or a single value.

        Args, and what is raised, are those of `call`; but `timeout` is for each item.
        """
        pattern, method = parse_call(call, domain=self.domain)
        time_limit(timeout)  # refuses an invalid one at once, not with the first item
        return self._client.stream_service(
            pattern, method, kwargs, timeout=timeout, version=version
        )

    def service(
        self,
        service: str,
        *,
        version: str | None = None,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> ServiceProxy:
        """A remote service as an object, by ``id``, ``type.id`` or ``domain.type.id``."""
        pattern = ServicePattern.parse(service, domain=self.domain)
        return ServiceProxy(
            self._client, pattern, version=version, timeout=timeout, idempotent=idempotent
        )

    async def call_service(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        version: str | None = None,
        idempotent: bool = False,
    ) -> Any:
        """As `call`, with the name in parts and the arguments in a mapping."""
        return await self._client.call_service(
            pattern, method, kwargs, timeout=timeout, version=version, idempotent=idempotent
        )

    def stream_service(
        self,
        pattern: ServicePattern,
        method: str,
        kwargs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        version: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        """As `call_stream`, with the name in parts and the arguments in a mapping."""
        return self._client.stream_service(
            pattern, method, kwargs, timeout=timeout, version=version
        )

    def known(self, pattern: ServicePattern) -> Service | None:
        """Return the one service in the registry that a name means, or None."""
        return self._client.known(pattern)

    async def describe(self, pattern: ServicePattern) -> Mapping[str, Mapping[str, str]]:
        """Return signature and doc of each method; empty for an amqp-fabric service."""
        return await self._client.describe(pattern)

    # -- serving

    async def serve(
        self,
        api: object,
        *,
        type: str | None = None,  # noqa: A002 - the field's word for it
        id: str | None = None,  # noqa: A002
        version: str = "",
        prefetch: int = 1,
        threads: bool = False,
        single_active: bool = False,
        redelivered: Redelivered = "run",
        allow: Collection[str] | None = None,
        exchanges: Collection[str] = (),
        reply_queues: Collection[str] = (),
        replacing: Server | None = None,
    ) -> Server:
        """Serve an API, under a name of its own if one is given.

        Example::

            server = await fabric.serve({"double": lambda x: 2 * x}, type="math", id="m1")
            await server.replace({"double": better_double})

        Args:
            api: an object with public methods, or a mapping from names to functions.
            type: the service's type; this connector's when not given.
            id: its id; this connector's when not given.
            version: told in keep-alives.
            prefetch: how many calls of one method run at once, up to 10,000.
            threads: run plain functions in threads, off the loop.
            single_active: of all members that serve it so, one takes all calls and the others
                stand by; `prefetch` then holds for all methods together.
            redelivered: what to do with a call that the broker delivers again, because the member
                that had it died or lost its connection: ``run`` it, as amqp-fabric does, or
                ``refuse`` it with an error, so that no call is run twice, and one that kills its
                process kills one member and not all.
            allow: take only the calls of these users of the broker; None: everybody's.
            exchanges: take also messages that were published to these exchanges and not to the
                service's own; ``""`` is the default one, ``"*"`` stands for all, dead letters too.
            reply_queues: reply also to queues of these names (shell patterns, ``rpc.reply-*``),
                beside those that the broker or aio-pika names.
            replacing: what serves it until then; no call is lost, and those at hand end there.

        Raises:
            InvalidName: type or id cannot be part of an address, or it is served already.
            InvalidArgument: `redelivered` is neither of the two.
            BrokerRefused: a queue exists with other properties, or may not be made; or callers
                cannot be told apart, because the broker does not verify users.
        """
        name = ServiceName(self.domain, type or self.name.type, id or self.name.id)
        return await self._host.serve(
            name,
            public_functions(api),
            version=check_version(version),
            allow=allow,
            exchanges=exchanges,
            reply_queues=reply_queues,
            replacing=replacing,
            prefetch=prefetch,
            threads=threads,
            single_active=single_active,
            redelivered=redelivered,
        )

    @property
    def servers(self) -> tuple[Server, ...]:
        """What is being served."""
        return self._host.servers

    # -- data

    async def stream(
        self,
        headers: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        durable: bool = False,
        replay_from: Start | None = None,
        domain: str | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        max_rows: int | None = DEFAULT_MAX_ROWS,
        max_bytes: int | None = None,
        index: str | None = None,
        unit: Mapping[str, Unit] | None = None,
        with_headers: bool | Sequence[str] = False,
        arrival: bool | str = False,
        paused: bool = False,
        **more_headers: Any,
    ) -> Stream:
        """Open a data stream, whose rows accumulate into a DataFrame.

        Example::

            orders = await fabric.stream(msg_type="CUSTOMER_TRANSACTIONS", currency="USD")
            orders.df

        See `StreamOptions` for the arguments; further keywords are headers too.
        """
        options = StreamOptions(
            name=name,
            durable=durable,
            replay_from=replay_from,
            prefetch=prefetch,
            max_rows=max_rows,
            max_bytes=max_bytes,
            index=index,
            unit=unit,
            with_headers=with_headers,
            arrival=arrival,
            paused=paused,
        )
        wanted = {**(headers or {}), **more_headers}
        return await self._streams.open(wanted, options, domain=domain)

    async def replay(
        self,
        path: str | Path,
        *,
        speed: float = 1.0,
        headers: Mapping[str, Any] | None = None,
    ) -> Replay:
        """Publish a recording again, to this domain, with its headers and at its pace.

        Example::

            replay = await fabric.replay("orders.parquet", speed=10)
            await replay

        Args:
            path: what `Stream.record` wrote.
            speed: how many times as fast as it was recorded; 0: as fast as it goes.
            headers: headers that each message gets besides, or instead of its own.

        Raises:
            RecordingError: the file is no recording, or `speed` is no factor.
        """
        return await self._streams.play(path, speed=speed, headers=headers)
