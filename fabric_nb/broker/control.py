"""The control connection: processes that use the broker hold it, and one of them may stop it.

It comes in on the port of AMQP, with a protocol header of its own. Both sides prove with an HMAC
over fresh random bytes that they know the password, and neither sends it: a stale discovery file
may name a port that is somebody else's by now.

    client   CONTROL_HEADER, 32 random bytes
    server   32 random bytes, proof
    client   operation (1 byte), proof over the operation too
    server   ACCEPTED; the end of the stream means that the broker is gone
"""

import asyncio
import enum
import hmac
import secrets
import socket
from typing import Protocol

from fabric_nb.broker.unauthenticated import UnauthenticatedConnections

CONTROL_HEADER = b"FNBC\x00\x00\x00\x01"
ACCEPTED = b"\x01"
_NONCE_SIZE = 32
_PROOF_SIZE = 32


class Operation(enum.Enum):
    """What a client wants."""

    PING = b"P"
    LEASE = b"L"
    STOP = b"S"


class ControlError(Exception):
    """Who answers at the broker's port is not the broker that was looked for."""


def _proof(password: str, side: bytes, *parts: bytes) -> bytes:
    return hmac.digest(password.encode(), side + b"".join(parts), "sha256")


def connect(
    address: tuple[str, int], password: str, operation: Operation, timeout: float
) -> socket.socket:
    """Ask a broker for something; its answer is the open connection.

    Args:
        address: Where it listens.
        password: The password from its record.
        operation: What to ask for.
        timeout: Seconds for each step of the exchange.

    Raises:
        OSError: nobody answers, or not in time.
        ControlError: somebody else answers, or the broker is about to end.
    """
    connection = socket.create_connection(address, timeout)
    try:
        _request(connection, password, operation)
    except BaseException:
        connection.close()
        raise
    return connection


def _request(connection: socket.socket, password: str, operation: Operation) -> None:
    nonce = secrets.token_bytes(_NONCE_SIZE)
    connection.sendall(CONTROL_HEADER + nonce)
    server_nonce = _receive(connection, _NONCE_SIZE)
    proof = _receive(connection, _PROOF_SIZE)
    if not hmac.compare_digest(proof, _proof(password, b"server", nonce, server_nonce)):
        raise ControlError("it does not know the password")
    client_proof = _proof(password, b"client", operation.value, nonce, server_nonce)
    connection.sendall(operation.value + client_proof)
    _receive(connection, len(ACCEPTED))


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ControlError("it has closed the connection")
        data += chunk
    return data


class BrokerLifetime(Protocol):
    """The lifetime of a broker, as its control connections see it."""

    def add_lease(self, lease: object) -> bool:
        """Stay as long as this lease is held; False when the end has begun."""

    def remove_lease(self, lease: object) -> None:
        """Learn that a lease has ended."""

    def stop(self) -> None:
        """End now."""


class ControlProtocol(asyncio.Protocol):
    """The server's side of a control connection, from behind the header on.

    Args:
        transport: The client's socket.
        password: What the client must know.
        holder: Whom the operations are for.
        unauthenticated: Where the connection is kept until the client has proved that it knows it.
        timeout: Seconds that the client has for that.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        password: str,
        holder: BrokerLifetime,
        unauthenticated: UnauthenticatedConnections,
        timeout: float,
    ) -> None:
        self._unauthenticated = unauthenticated
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(timeout, transport.abort)
        self._transport = transport
        self._password = password
        self._lifetime = holder
        self._received = b""
        self._nonces: tuple[bytes, bytes] | None = None
        self._done = False

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._done:
            return
        self._received += data
        if self._nonces is None and len(self._received) >= _NONCE_SIZE:
            client_nonce, self._received = (
                self._received[:_NONCE_SIZE],
                self._received[_NONCE_SIZE:],
            )
            server_nonce = secrets.token_bytes(_NONCE_SIZE)
            self._nonces = (client_nonce, server_nonce)
            self._transport.write(
                server_nonce + _proof(self._password, b"server", client_nonce, server_nonce)
            )
        if self._nonces is not None and len(self._received) > _PROOF_SIZE:
            self._done = True
            self._on_request(self._received[:1], self._received[1:], *self._nonces)

    def _on_request(
        self, operation: bytes, proof: bytes, client_nonce: bytes, server_nonce: bytes
    ) -> None:
        expected = _proof(self._password, b"client", operation, client_nonce, server_nonce)
        self._timer.cancel()
        if not hmac.compare_digest(proof, expected):
            # Not read meanwhile: what else it sends is of no interest.
            self._transport.pause_reading()
            self._loop.call_later(self._unauthenticated.refusal_delay(), self._transport.abort)
            return
        self._unauthenticated.remove(self._transport)
        if operation == Operation.LEASE.value and not self._lifetime.add_lease(self):
            self._transport.abort()
            return
        self._transport.write(ACCEPTED)
        if operation == Operation.STOP.value:
            self._lifetime.stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the client is gone; however it ended, its lease ends too."""
        self._timer.cancel()
        self._unauthenticated.remove(self._transport)
        self._lifetime.remove_lease(self)
