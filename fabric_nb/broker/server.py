"""The server: one socket on the loopback interface, and what all its connections share."""

import asyncio
import logging
from dataclasses import dataclass, field

from fabric_nb.broker.control import CONTROL_HEADER, ControlProtocol
from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.framing import PROTOCOL_HEADER
from fabric_nb.broker.handshake import Credentials
from fabric_nb.broker.lifetime import Lifetime
from fabric_nb.broker.memory import MemoryPool
from fabric_nb.broker.session import HANDSHAKE_TIMEOUT, Session
from fabric_nb.broker.unauthenticated import UnauthenticatedConnections
from fabric_nb.broker.vhost import VirtualHost

LOGGER = logging.getLogger(__name__)

HOST = "127.0.0.1"
MAX_MESSAGE_SIZE = 64 * 1024 * 1024
"""Bytes."""
_STOP_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a broker runs.

    Attributes:
        credentials: The one user.
        port: Where it listens on the loopback interface; 0 for a free port.
        denied: Deprecated features of RabbitMQ that are refused.
        memory_limit: Bytes that messages may take; publishers wait before it is reached.
        max_message_size: The largest message, in bytes.
        max_connections: How many clients may be logged in.
    """

    credentials: Credentials = field(repr=False)
    port: int = 0
    denied: frozenset[str] = frozenset()
    memory_limit: int = 256 * 1024 * 1024
    max_message_size: int = MAX_MESSAGE_SIZE
    max_connections: int = 500


class Server:
    """A running broker.

    Example:
        ```python
        loop = asyncio.get_running_loop()
        server = Server(Settings(Credentials("guest", "guest")), loop, Lifetime(loop))
        await server.start()
        print(server.port)
        await server.stop()
        ```
    """

    def __init__(
        self, settings: Settings, loop: asyncio.AbstractEventLoop, lifetime: Lifetime
    ) -> None:
        self.lifetime = lifetime
        self.vhost = VirtualHost(loop, settings.denied)
        self.pool = MemoryPool(settings.memory_limit)
        self.credentials = settings.credentials
        self.max_message_size = settings.max_message_size
        self.unauthenticated = UnauthenticatedConnections(loop, HANDSHAKE_TIMEOUT)
        self.port = settings.port
        self._max_connections = settings.max_connections
        self._loop = loop
        self._sessions: set[Session] = set()
        self._logged_in: set[Session] = set()
        self._listener: asyncio.Server | None = None
        self._all_closed = asyncio.Event()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        self._listener = await self._loop.create_server(
            lambda: ProtocolSelector(self, self._loop), HOST, self.port
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close all connections, telling the clients, and listen no more."""
        if self._listener is not None:
            self._listener.close()
        for session in list(self._sessions):
            session.shut_down()
        if self._sessions:
            self._all_closed.clear()
            try:
                await asyncio.wait_for(self._all_closed.wait(), _STOP_TIMEOUT)
            except TimeoutError:
                LOGGER.warning("%d connections did not close in time", len(self._sessions))

    def create_session(self, transport: asyncio.Transport) -> Session:
        """Make the session of a client that has sent the protocol header."""
        session = Session(self, self._loop, transport)
        self._sessions.add(session)
        return session

    def register_login(self, session: Session) -> None:
        """Count a session whose client knows the password.

        Raises:
            AMQPError: NOT_ALLOWED when there are too many.
        """
        if len(self._logged_in) >= self._max_connections:
            raise AMQPError(
                ReplyCode.NOT_ALLOWED, f"connection limit ({self._max_connections}) is reached"
            )
        self._logged_in.add(session)

    def remove_session(self, session: Session) -> None:
        """Drop a session whose connection is gone."""
        self._sessions.discard(session)
        self._logged_in.discard(session)
        if not self._sessions:
            self._all_closed.set()


class ProtocolSelector(asyncio.Protocol):
    """The first bytes of a connection, which say what the client speaks.

    Args:
        server: The server.
        loop: The running event loop.
    """

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._received = b""
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn of a new connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a TCP server makes
        self._transport = transport
        self._server.unauthenticated.add(transport)
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        self._received += data
        size = len(PROTOCOL_HEADER)
        if len(self._received) < size:
            return
        self._timer.cancel()
        header, remaining = self._received[:size], self._received[size:]
        if header == PROTOCOL_HEADER:
            self._start_session(remaining)
        elif header == CONTROL_HEADER:
            self._start_control(remaining)
        else:
            # The server says what it speaks, and goes (AMQP 0-9-1, section 2.2.4).
            self._transport.write(PROTOCOL_HEADER)
            self._transport.close()

    def _start_session(self, remaining: bytes) -> None:
        session = self._server.create_session(self._transport)
        self._transport.set_protocol(session)
        session.start()
        if remaining:
            session.data_received(remaining)

    def _start_control(self, remaining: bytes) -> None:
        server = self._server
        control = ControlProtocol(
            self._transport,
            server.credentials.password,
            server.lifetime,
            server.unauthenticated,
            HANDSHAKE_TIMEOUT,
        )
        self._transport.set_protocol(control)
        control.data_received(remaining)

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the connection is gone."""
        self._timer.cancel()
        self._server.unauthenticated.remove(self._transport)
