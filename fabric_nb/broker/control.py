"""Control protocol of the broker: ping, lease and stop.

A control connection uses the AMQP port with a different protocol header. Both sides prove with an
HMAC over fresh random bytes that they know the password, without sending it, because a stale
discovery file may name a port that another process uses by now.

    client   CONTROL_HEADER, 32 random bytes
    server   32 random bytes, proof
    client   operation (1 byte), proof over the operation too
    server   ACCEPTED; the end of the stream means that the broker has stopped
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
    """Operations of a client."""

    PING = b"P"
    LEASE = b"L"
    STOP = b"S"


class ControlError(Exception):
    """The process at the broker's port is not the expected broker, or refuses the operation."""


def _proof(password: str, side: bytes, *parts: bytes) -> bytes:
    return hmac.digest(password.encode(), side + b"".join(parts), "sha256")


def connect(
    address: tuple[str, int], password: str, operation: Operation, timeout: float
) -> socket.socket:
    """Request an operation from a broker, and return the open connection.

    Args:
        address: Host and port of the broker.
        password: Password from its discovery record.
        operation: The operation.
        timeout: Seconds for each step of the exchange.

    Raises:
        OSError: The address refuses connections, or does not answer in time.
        ControlError: Another process answers, or the broker is stopping.
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
        raise ControlError("it has not proved that it knows the password")
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
    """The part of `Lifetime` that control connections use."""

    def add_lease(self, lease: object) -> bool:
        """Keep the broker running until the lease is removed; return False if it is stopping."""

    def remove_lease(self, lease: object) -> None:
        """End a lease."""

    def stop(self) -> None:
        """Stop the broker."""


class ControlProtocol(asyncio.Protocol):
    """Server side of a control connection, after the protocol header.

    Args:
        transport: Transport of the client.
        password: Password of the broker.
        lifetime: Lifetime that the operations act on.
        unauthenticated: Registry that contains the connection until the client has proved that it
            knows the password.
        timeout: Seconds that the client has for the proof.
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
        """Receive bytes from the client."""
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
            # Further bytes are not needed, so reading stops.
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
        """End the lease of the client, whatever the reason for the disconnection."""
        self._timer.cancel()
        self._unauthenticated.remove(self._transport)
        self._lifetime.remove_lease(self)
