"""Services that one member offers, and their announcements."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fabric_nb.errors import InvalidName
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import watched
from fabric_nb.fabric.discovery.announcer import Announcer
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.rpc.history import CallLog
from fabric_nb.fabric.rpc.methods import Function
from fabric_nb.fabric.rpc.serve_options import ServeOptions
from fabric_nb.fabric.rpc.server import Server
from fabric_nb.fabric.tracing.tracer import Tracer
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName


class ServiceHost:
    """Servers of one member, each announced while it is open.

    Args:
        connection: connection that the services are served on.
        name: the member's own address, which is announced even when it serves nothing.
        version: version of the member's own service.
        instance: id of this process among the instances of one service.
        announcer: sender of keep-alives; None: nothing is announced.
        registry: registry that receives the member's own services without a keep-alive; None: the
            member does not listen.
        rejected: record of requests that cannot be read.
        calls: record of the calls.
        tracer: tracer of the calls.
    """

    def __init__(
        self,
        connection: Connection,
        name: ServiceName,
        *,
        version: str,
        instance: str,
        announcer: Announcer | None,
        registry: Registry | None,
        rejected: RejectedMessages,
        calls: CallLog,
        tracer: Tracer,
    ) -> None:
        self._connection = connection
        self._name = name
        self._version = version
        self._instance = instance
        self._announcer = announcer
        self._registry = registry
        self._rejected = rejected
        self._calls = calls
        self._tracer = tracer
        self._servers: dict[ServiceName, Server] = {}
        self._retiring: dict[Server, asyncio.Task[None]] = {}
        """Servers that were replaced, until their last calls are answered."""

    @property
    def servers(self) -> tuple[Server, ...]:
        """Servers that are open."""
        return tuple(self._servers.values())

    def server(self, name: ServiceName) -> Server | None:
        """Return the server of this address."""
        return self._servers.get(name)

    async def serve(
        self,
        name: ServiceName,
        functions: Mapping[str, Function],
        options: ServeOptions,
        *,
        replacing: Server | None = None,
    ) -> Server:
        """Serve functions under an address.

        A server that is `replacing` another receives all new calls from when this returns; the
        other one ends when its in-flight calls are answered.

        Raises:
            InvalidName: it is served already, or its names are too long.
            BrokerRefused: a queue exists with other properties, or may not be made, or the
                broker does not verify users.
        """
        if self._servers.get(name) is not replacing:
            raise InvalidName(
                f"{name} is served already: replace its functions, or close it first."
            )
        name.check_servable(functions)
        server = self._servers[name] = Server(
            self._connection,
            name,
            options,
            instance=self._instance,
            rejected=self._rejected,
            calls=self._calls,
            tracer=self._tracer,
            on_change=self._on_change,
        )
        try:
            await server.open(functions)
        except BaseException:
            self._servers.pop(name, None)
            if replacing is not None:
                self._servers[name] = replacing
            await server.close()
            raise
        self._announce(name, options.version)
        if replacing is not None:
            try:  # before this returns, else the calls of both would exceed the new `prefetch`
                await replacing.stop_consuming()
            finally:
                closing = asyncio.create_task(replacing.close(grace=None))
                self._retiring[replacing] = closing
                watched(closing, f"closing the replaced server of {name}")
        return server

    async def serve_or_replace(
        self, name: ServiceName, functions: Mapping[str, Function], options: ServeOptions
    ) -> Server:
        """Serve functions; where the address is served already, in place of all earlier ones.

        No call is lost. Errors are those of `serve`.
        """
        server = self._servers.get(name)
        if server is None or options.needs_new_server(server.options):
            return await self.serve(name, functions, options, replacing=server)
        await server.replace(functions, options)
        return server

    async def close(self, grace: float | None = 0.0) -> None:
        """Close all servers; in-flight calls may end within `grace` seconds."""
        for task in self._retiring.values():
            task.cancel()
        await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        await asyncio.gather(*(one.close(grace) for one in (*self.servers, *self._retiring)))
        self._servers.clear()
        self._retiring.clear()

    def announce(self) -> None:
        """Announce the member's own service."""
        self._announce(self._name, self._version)

    def _on_change(self, server: Server) -> None:
        if not server.closed:
            self._announce(server.name, server.options.version)
            return
        if self._retiring.pop(server, None) is not None:
            return
        self._servers.pop(server.name, None)
        if server.name == self._name and not server.drained:
            self.announce()
        elif self._announcer is not None:
            self._announcer.withdraw(server.name)

    def _announce(self, name: ServiceName, version: str) -> None:
        if self._announcer is None:
            return
        server = self._servers.get(name)
        announcement = Announcement(
            version=version,
            instance=self._instance,
            interval=self._announcer.interval,
            methods=server.signatures if server is not None else {},
            drains=server is not None and server.options.remote_drain,
        )
        statistics = server.statistics.read if server is not None else None
        self._announcer.announce(name, announcement, statistics)
        if self._registry is not None:  # own services can be called by their short names at once
            self._registry.receive(KeepAlive(name, announcement), own=True)
