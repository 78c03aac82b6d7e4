"""The server: a listening socket on the loopback interface, and state shared by connections."""

import asyncio
import logging
from dataclasses import dataclass, field

from fabric_nb.broker.control import CONTROL_HEADER, ControlProtocol
from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.framing import PROTOCOL_HEADER
from fabric_nb.broker.handshake import Credentials
from fabric_nb.broker.lifetime import Lifetime
from fabric_nb.broker.memory import MemoryPool
from fabric_nb.broker.options import MAX_MESSAGE_SIZE
from fabric_nb.broker.session import HANDSHAKE_TIMEOUT, Session
from fabric_nb.broker.unauthenticated import UnauthenticatedConnections
from fabric_nb.broker.vhost import VirtualHost

LOGGER = logging.getLogger(__name__)

HOST = "127.0.0.1"
_STOP_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a broker.

    Attributes:
        credentials: Credentials of the only user.
        port: Port on the loopback interface; 0 for a free port.
        denied: Deprecated features of RabbitMQ that are refused.
        memory_limit: Maximum size of all messages in bytes; publishers block before it is reached.
        max_message_size: Maximum message size in bytes.
        max_connections: Maximum number of authenticated connections.
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
        """Start listening.

        Raises:
            OSError: The port is in use.
        """
        self._listener = await self._loop.create_server(
            lambda: ProtocolSelector(self, self._loop), HOST, self.port
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and close all connections with Connection.Close."""
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
        """Create the session of a client that has sent the protocol header."""
        session = Session(self, self._loop, transport)
        self._sessions.add(session)
        return session

    def register_login(self, session: Session) -> None:
        """Register a session as authenticated.

        Raises:
            AMQPError: NOT_ALLOWED if the connection limit is reached.
        """
        if len(self._logged_in) >= self._max_connections:
            raise AMQPError(
                ReplyCode.NOT_ALLOWED, f"connection limit ({self._max_connections}) is reached"
            )
        self._logged_in.add(session)

    def remove_session(self, session: Session) -> None:
        """Remove a session whose connection was lost."""
        self._sessions.discard(session)
        self._logged_in.discard(session)
        if not self._sessions:
            self._all_closed.set()


class ProtocolSelector(asyncio.Protocol):
    """Selects the protocol of a new connection by its first bytes.

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
        """Start the timeout of a new connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP server
        self._transport = transport
        self._server.unauthenticated.add(transport)
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Receive bytes from the client."""
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
            # Another protocol: send the supported header and close (AMQP 0-9-1, section 2.2.4).
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
        """Release the connection."""
        self._timer.cancel()
        self._server.unauthenticated.remove(self._transport)
