"""Socket of a connection, and explanations of its failures."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import weakref
from collections.abc import Mapping
from typing import Any

from aiormq import exceptions as amqp_errors
from aiormq.connection import TransportFactory
from yarl import URL

from fabric_nb.errors import (
    BrokerUnavailable,
    FabricError,
    LoginRefused,
    TlsFailed,
    VirtualHostRefused,
)
from fabric_nb.fabric.amqp.demultiplexer import BatchingWriter, FrameDemultiplexer
from fabric_nb.fabric.amqp.tls import (
    UnusableFile,
    closed_after_handshake,
    tls_arguments,
    tls_reason,
)

# A vanished peer is detected when keep-alive probes of an idle connection, or sent bytes, stay
# unacknowledged for the user timeout; the kernel does it, also while the loop is blocked (tcp(7)).
# Bytes sent just before the probes give up start a new timeout: twice seven is below 15 s.
# It would also give up a broker that reads nothing during an alarm (see `expect_reading`).
_USER_TIMEOUT = 7_000
_TCP_OPTIONS = {
    "TCP_KEEPIDLE": 3,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": _USER_TIMEOUT,
}


class SocketTransport(TransportFactory):
    """Factory of TCP or TLS sockets that detect a dead peer.

    Attributes:
        writer: writer of the last socket, with its `FrameDemultiplexer`.
    """

    def __init__(self) -> None:
        self.writer: BatchingWriter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the URI's host and port, as `asyncio.open_connection` does."""
        del kwargs["ssl_context_provider"]  # aiormq's, whose errors do not name the reason
        tls = await tls_arguments(url)
        loop = asyncio.get_running_loop()
        demultiplexer = FrameDemultiplexer(loop)
        protocol = asyncio.StreamReaderProtocol(demultiplexer, loop=loop)
        transport, _ = await loop.create_connection(
            lambda: protocol, url.host or "", url.port or 0, **tls, **kwargs
        )
        _set_tcp_options(transport.get_extra_info("socket"), _TCP_OPTIONS)
        self.writer = BatchingWriter(transport, protocol, demultiplexer, loop)
        _WRITERS.add(self.writer)
        return demultiplexer, self.writer

    def expect_reading(self, expected: bool) -> None:
        """Set whether a peer that reads nothing, so that sent bytes stay in the socket, is dead."""
        if self.writer is not None:
            sock = self.writer.get_extra_info("socket")
            _set_tcp_options(sock, {"TCP_USER_TIMEOUT": _USER_TIMEOUT if expected else 0})


_WRITERS: weakref.WeakSet[BatchingWriter] = weakref.WeakSet()


def _close_forked_sockets() -> None:
    """Close a forked child's copies of the sockets, which would outlive its parent's connections.

    The descriptors stay in use, because the child has copies of the objects that refer to them.
    """
    sockets = [writer.get_extra_info("socket") for writer in _WRITERS]
    descriptors = [descriptor for sock in sockets if (descriptor := sock.fileno()) >= 0]
    if descriptors:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in descriptors:
            os.dup2(null, descriptor, inheritable=False)
        os.close(null)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_close_forked_sockets)


def _set_tcp_options(sock: socket.socket | None, options: Mapping[str, int]) -> None:
    if sock is None or sock.fileno() < 0 or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in options.items():
        option = getattr(socket, name, None)  # some platforms lack some of them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def read_certificate(url: URL, masked: str, timeout: float) -> Mapping[str, Any]:
    """Return the certificate of the broker at an ``amqps://`` URI, by a separate handshake.

    Args:
        url: URI of the broker.
        masked: the same without the password, for errors.
        timeout: seconds for the handshake.

    Returns:
        Result of `ssl.SSLSocket.getpeercert`; empty if the certificate is not verified.

    Raises:
        BrokerUnavailable: the broker cannot be reached, or its certificate is not accepted.
    """
    try:
        async with asyncio.timeout(timeout):
            tls = await tls_arguments(url)
            _, writer = await asyncio.open_connection(url.host, url.port, **tls)
    except (OSError, UnusableFile) as error:
        raise explain_failure(error, url, masked, timeout) from None
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return certificate or {}


def explain_failure(error: Exception, url: URL, masked: str, timeout: float) -> FabricError:
    """Return the error that explains in one sentence why connecting failed.

    Args:
        error: exception of aiormq or the socket.
        url: URI that was tried.
        masked: the same without the password.
        timeout: seconds that were allowed.
    """
    tls = _find_tls(error)
    if tls is not None:
        return TlsFailed(f"TLS with {masked} failed: {tls_reason(tls, url)}")
    if url.scheme == "amqps" and type(error) is amqp_errors.AMQPConnectionError:
        return TlsFailed(f"TLS with {masked} failed: {closed_after_handshake(url)}")
    text = " ".join(str(part) for part in error.args) or repr(error)
    if isinstance(error, amqp_errors.ProbableAuthenticationError):
        return LoginRefused(
            f"{masked} refuses the login: user {url.user or 'guest'!r} or its password is wrong,"
            " or the user may only log in from the broker's own host."
        )
    if isinstance(error, amqp_errors.AuthenticationError):
        offered = ", ".join(str(error.args[0]).lower().split())
        return LoginRefused(
            f"{masked} does not offer the login auth={url.query.get('auth', 'plain')}; it offers"
            f" {offered}."
        )
    if isinstance(error, (amqp_errors.ConnectionNotAllowed, amqp_errors.InvalidFrameError)) and (
        "NOT_ALLOWED" in text or "vhost" in text or "Connection.OpenOk" in text
    ):
        vhost = url.path[1:] or "/"
        return VirtualHostRefused(
            f"{masked} has no virtual host {vhost!r} for this user: check the part after the"
            " host, and the user's permissions."
        )
    return BrokerUnavailable(f"{masked} cannot be reached: {_network_reason(error, url, timeout)}")


def _find_tls(error: BaseException | None) -> ssl.SSLError | UnusableFile | None:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # asyncio builds circular chains
        if isinstance(error, (ssl.SSLError, UnusableFile)):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _network_reason(error: BaseException, url: URL, timeout: float) -> str:
    where = f"{url.host}:{url.port}"
    if isinstance(error, TimeoutError):
        return (
            f"{where} gave no answer within {round(timeout, 2):g} s; check host, port and firewall."
        )
    if isinstance(error, socket.gaierror):
        return f"the host {url.host!r} is not known; check its name."
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on {where}; is the broker running?"
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"{error.strerror} ({where})."
    if isinstance(error, (amqp_errors.ProtocolSyntaxError, amqp_errors.AMQPConnectionError)):
        return (
            f"{where} closed the connection without speaking AMQP 0-9-1; check the port, and use"
            " amqps:// if it is the TLS one."
        )
    return f"{type(error).__name__}: {error}"
