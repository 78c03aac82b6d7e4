"""The services that a member offers, and what is announced of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from fabric_nb.errors import InvalidName
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.rejected import RejectedMessages
from fabric_nb.fabric.core.tasks import watched
from fabric_nb.fabric.discovery.announcer import Announcer
from fabric_nb.fabric.discovery.registry import Registry
from fabric_nb.fabric.rpc.access import AccessControl
from fabric_nb.fabric.rpc.history import CallLog
from fabric_nb.fabric.rpc.methods import Function
from fabric_nb.fabric.rpc.server import Server
from fabric_nb.fabric.wire.keep_alives import Announcement, KeepAlive
from fabric_nb.fabric.wire.names import ServiceName


class ServiceHost:
    """The servers of one member, each announced while it is open.

    Args:
        connection: where to serve.
        name: the member's own address, which is announced whether it serves or not.
        version: told of it.
        instance: tells this process from others of the same address.
        presence: announces; None: nothing is announced.
        registry: where our own services are known at once; None: nobody listens.
        rejected: where requests go that cannot be read.
        calls: where calls are recorded.
    """

    def __init__(
        self,
        connection: Connection,
        name: ServiceName,
        *,
        version: str,
        instance: str,
        presence: Announcer | None,
        registry: Registry | None,
        rejected: RejectedMessages,
        calls: CallLog,
    ) -> None:
        self._connection = connection
        self._name = name
        self._version = version
        self._instance = instance
        self._presence = presence
        self._registry = registry
        self._rejected = rejected
        self._calls = calls
        self._servers: dict[ServiceName, Server] = {}
        self._retiring: dict[Server, asyncio.Task[None]] = {}
        """Servers that others have replaced, until their last calls are answered."""

    @property
    def servers(self) -> tuple[Server, ...]:
        """What is being served."""
        return tuple(self._servers.values())

    def server(self, name: ServiceName) -> Server | None:
        """What serves under this address."""
        return self._servers.get(name)

    async def serve(
        self,
        name: ServiceName,
        functions: Mapping[str, Function],
        *,
        allow: Collection[str] | None = None,
        exchanges: Collection[str] = (),
        reply_queues: Collection[str] = (),
        replacing: Server | None = None,
        **options: Any,
    ) -> Server:
        """Serve these functions; options as `AccessControl`'s and `Server`'s.

        With `replacing`, in place of that server: it takes no more calls once the new one takes
        them, and ends when those that it has are answered.

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
            admission=AccessControl(
                self._connection, allow, exchanges=exchanges, reply_queues=reply_queues
            ),
            rejected=self._rejected,
            calls=self._calls,
            on_change=self._on_change,
            **options,
        )
        try:
            await server.open(functions)
        except BaseException:
            self._servers.pop(name, None)
            if replacing is not None:
                self._servers[name] = replacing
            await server.close()
            raise
        self._announce(name, server.version)
        if replacing is not None:
            closing = asyncio.create_task(replacing.close(grace=None))
            self._retiring[replacing] = closing
            watched(closing, f"closing the replaced server of {name}")
        return server

    async def close(self, grace: float | None = 0.0) -> None:
        """Close all servers; calls at hand have `grace` seconds to end."""
        for task in self._retiring.values():
            task.cancel()
        await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        await asyncio.gather(*(one.close(grace) for one in (*self.servers, *self._retiring)))
        self._servers.clear()
        self._retiring.clear()

    def announce(self) -> None:
        """Announce the member itself."""
        self._announce(self._name, self._version)

    def _on_change(self, server: Server) -> None:
        if not server.closed:
            self._announce(server.name, server.version)
            return
        if self._retiring.pop(server, None) is not None:
            return
        self._servers.pop(server.name, None)
        if server.name == self._name:
            self.announce()
        elif self._presence is not None:
            self._presence.withdraw(server.name)

    def _announce(self, name: ServiceName, version: str) -> None:
        if self._presence is None:
            return
        server = self._servers.get(name)
        said = Announcement(
            version=version,
            instance=self._instance,
            interval=self._presence.interval,
            methods=server.signatures if server is not None else {},
        )
        self._presence.say(name, said)
        if self._registry is not None:  # what we serve can be called by its short name at once
            self._registry.heard(KeepAlive(name, said), own=True)
