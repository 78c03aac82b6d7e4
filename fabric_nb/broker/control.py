"""The control connection: processes that use the broker hold it, and one of them may stop it.

It comes in on the port of AMQP, with a protocol header of its own. Both sides prove with an HMAC
over fresh random bytes that they know the password, and neither sends it: a stale discovery file
may name a port that is somebody else's by now.

    client   CONTROL_HEADER, 32 random bytes
    server   32 random bytes, proof
    client   operation (1 byte), proof over the operation too
    server   DONE; the end of the stream means that the broker is gone
"""

import asyncio
import enum
import hmac
import secrets
import socket
from typing import Protocol

from fabric_nb.broker.unauthenticated import Entrance

CONTROL_HEADER = b"FNBC\x00\x00\x00\x01"
DONE = b"\x01"
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
        _ask(connection, password, operation)
    except BaseException:
        connection.close()
        raise
    return connection


def _ask(connection: socket.socket, password: str, operation: Operation) -> None:
    nonce = secrets.token_bytes(_NONCE_SIZE)
    connection.sendall(CONTROL_HEADER + nonce)
    theirs = _receive(connection, _NONCE_SIZE)
    proof = _receive(connection, _PROOF_SIZE)
    if not hmac.compare_digest(proof, _proof(password, b"server", nonce, theirs)):
        raise ControlError("it does not know the password")
    ours = _proof(password, b"client", operation.value, nonce, theirs)
    connection.sendall(operation.value + ours)
    _receive(connection, len(DONE))


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ControlError("it has closed the connection")
        data += piece
    return data


class Holder(Protocol):
    """The lifetime of a broker, as its control connections see it."""

    def take_lease(self, lease: object) -> bool:
        """Stay as long as this lease is held; False when the end has begun."""

    def end_lease(self, lease: object) -> None:
        """Learn that a lease has ended."""

    def stop(self) -> None:
        """End now."""


class ControlProtocol(asyncio.Protocol):
    """The server's side of a control connection, from behind the header on.

    Args:
        transport: The client's socket.
        password: What the client must know.
        holder: Whom the operations are for.
        entrance: Where the connection is kept until the client has proved that it knows it.
        timeout: Seconds that the client has for that.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        password: str,
        holder: Holder,
        entrance: Entrance,
        timeout: float,
    ) -> None:
        self._entrance = entrance
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(timeout, transport.abort)
        self._transport = transport
        self._password = password
        self._holder = holder
        self._received = b""
        self._nonces: tuple[bytes, bytes] | None = None
        self._done = False

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._done:
            return
        self._received += data
        if self._nonces is None and len(self._received) >= _NONCE_SIZE:
            theirs, self._received = self._received[:_NONCE_SIZE], self._received[_NONCE_SIZE:]
            ours = secrets.token_bytes(_NONCE_SIZE)
            self._nonces = (theirs, ours)
            self._transport.write(ours + _proof(self._password, b"server", theirs, ours))
        if self._nonces is not None and len(self._received) > _PROOF_SIZE:
            self._done = True
            self._on_request(self._received[:1], self._received[1:], *self._nonces)

    def _on_request(self, operation: bytes, proof: bytes, theirs: bytes, ours: bytes) -> None:
        expected = _proof(self._password, b"client", operation, theirs, ours)
        self._timer.cancel()
        if not hmac.compare_digest(proof, expected):
            # Not read meanwhile: what else it sends is of no interest.
            self._transport.pause_reading()
            self._loop.call_later(self._entrance.refusal_delay(), self._transport.abort)
            return
        self._entrance.leave(self._transport)
        if operation == Operation.LEASE.value and not self._holder.take_lease(self):
            self._transport.abort()
            return
        self._transport.write(DONE)
        if operation == Operation.STOP.value:
            self._holder.stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the client is gone; however it ended, its lease ends too."""
        self._timer.cancel()
        self._entrance.leave(self._transport)
        self._holder.end_lease(self)
