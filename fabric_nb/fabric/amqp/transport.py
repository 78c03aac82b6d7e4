"""The socket under a connection, and what its failures mean in words."""

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
from fabric_nb.fabric.amqp.tls import UnusableFile, broken_off, tls_arguments, tls_reason

# A peer that vanished without a word is noticed when probes of an idle connection, or bytes that
# were sent, stay unanswered for the user timeout; the kernel does it, also while the loop stands
# still (tcp(7)). Bytes sent just before the probes give up start anew: twice seven is below 15 s.
_TCP_OPTIONS = {
    "TCP_KEEPIDLE": 3,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 7_000,
}


class SocketTransport(TransportFactory):
    """Opens TCP or TLS sockets that notice a dead peer, with our own two ends (see `tap`)."""

    def __init__(self) -> None:
        self.line: BatchingWriter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the URI's host and port, as `asyncio.open_connection` does."""
        del kwargs["ssl_context_provider"]  # aiormq's: it gives no reasons
        tls = await tls_arguments(url)
        loop = asyncio.get_running_loop()
        tap = FrameDemultiplexer(loop)
        protocol = asyncio.StreamReaderProtocol(tap, loop=loop)
        transport, _ = await loop.create_connection(
            lambda: protocol, url.host or "", url.port or 0, **tls, **kwargs
        )
        _notice_dead_peers(transport.get_extra_info("socket"))
        self.line = BatchingWriter(transport, protocol, tap, loop)
        _LINES.add(self.line)
        return tap, self.line


_LINES: weakref.WeakSet[BatchingWriter] = weakref.WeakSet()


def _let_go_of_sockets() -> None:
    """Close a forked child's copies of the sockets, which would outlive its parent's connections.

    The numbers stay taken, because the parent's objects, of which the child has copies, use them.
    """
    sockets = [line.get_extra_info("socket") for line in _LINES]
    numbers = [number for sock in sockets if (number := sock.fileno()) >= 0]
    if numbers:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in numbers:
            os.dup2(nothing, number, inheritable=False)
        os.close(nothing)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_let_go_of_sockets)


def _notice_dead_peers(sock: socket.socket | None) -> None:
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS.items():
        option = getattr(socket, name, None)  # not every platform has all of them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def read_certificate(url: URL, shown: str, timeout: float) -> Mapping[str, Any]:
    """The certificate of the broker at an ``amqps://`` URI, by a handshake of its own.

    Args:
        url: where it is.
        shown: the same, as it may be shown.
        timeout: seconds that it may take.

    Returns:
        What `ssl.SSLSocket.getpeercert` tells of it; nothing where it is not verified.

    Raises:
        BrokerUnavailable: nobody is there, or the certificate is not accepted.
    """
    try:
        async with asyncio.timeout(timeout):
            tls = await tls_arguments(url)
            _, writer = await asyncio.open_connection(url.host, url.port, **tls)
    except (OSError, UnusableFile) as error:
        raise explain_failure(error, url, shown, timeout) from None
    told = writer.get_extra_info("peercert")
    writer.close()
    return told or {}


def explain_failure(error: Exception, url: URL, shown: str, timeout: float) -> FabricError:
    """Say in one sentence why connecting failed.

    Args:
        error: what aiormq or the socket raised.
        url: where it was tried.
        shown: the same, as it may be shown.
        timeout: the seconds that were allowed.
    """
    tls = _find_tls(error)
    if tls is not None:
        return TlsFailed(f"TLS with {shown} failed: {tls_reason(tls, url)}")
    if url.scheme == "amqps" and type(error) is amqp_errors.AMQPConnectionError:
        return TlsFailed(f"TLS with {shown} failed: {broken_off(url)}")
    text = " ".join(str(part) for part in error.args) or repr(error)
    if isinstance(error, amqp_errors.ProbableAuthenticationError):
        return LoginRefused(
            f"{shown} refuses the login: user {url.user or 'guest'!r} or its password is wrong,"
            " or the user may only log in from the broker's own host."
        )
    if isinstance(error, amqp_errors.AuthenticationError):
        offered = ", ".join(str(error.args[0]).lower().split())
        return LoginRefused(
            f"{shown} does not offer the login auth={url.query.get('auth', 'plain')}; it offers"
            f" {offered}."
        )
    if isinstance(error, (amqp_errors.ConnectionNotAllowed, amqp_errors.InvalidFrameError)) and (
        "NOT_ALLOWED" in text or "vhost" in text or "Connection.OpenOk" in text
    ):
        vhost = url.path[1:] or "/"
        return VirtualHostRefused(
            f"{shown} has no virtual host {vhost!r} for this user: check the part after the"
            " host, and the user's permissions."
        )
    return BrokerUnavailable(f"{shown} cannot be reached: {_network_reason(error, url, timeout)}")


def _find_tls(error: BaseException | None) -> ssl.SSLError | UnusableFile | None:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # asyncio makes chains that are rings
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
