"""Nodes that a connection can use: one broker, or those of a cluster, which are tried in turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import aiormq
from yarl import URL

from fabric_nb.errors import BrokerUnavailable, FabricError
from fabric_nb.fabric.amqp.transport import SocketTransport, explain_failure
from fabric_nb.fabric.amqp.uri import mask, parse_uri, split_uris

CLOSE_TIMEOUT = 1.0
"""Seconds to wait for the broker's answer when a connection is closed."""


class Nodes:
    """Nodes to connect to, and the one that was connected last.

    Args:
        uris: one URI, which may name several hosts, or a list of them.
        name: name of the connection in the broker's own tools.
        heartbeat: seconds between AMQP heartbeats; ``heartbeat=`` in a URI wins.

    Raises:
        InvalidUri: one of them cannot be used.
    """

    def __init__(self, uris: str | Sequence[str], *, name: str, heartbeat: int) -> None:
        given = split_uris(uris)
        self._masked = [mask(uri) for uri in given]
        self._urls = [_with_heartbeat(parse_uri(uri), heartbeat) for uri in given]
        self._name = name
        self._current = 0
        self._tried = False

    @property
    def url(self) -> URL:
        """URL of the node in use, or of the one that is tried first."""
        return self._urls[self._current]

    @property
    def masked(self) -> str:
        """URI of the same node, without the password."""
        return self._masked[self._current]

    async def connect(self, transport: SocketTransport, timeout: float) -> aiormq.Connection:
        """Connect to the next available node, within `timeout` seconds.

        Raises:
            BrokerUnavailable: no node can be reached, or accepts this user.
        """
        loop = asyncio.get_running_loop()
        deadline, failures = loop.time() + timeout, []
        count = len(self._urls)
        # Not first to the one that was just lost: it may accept connections and not respond.
        first = self._current + 1 if self._tried else self._current
        self._tried = True
        for number in range(count):
            node = (first + number) % count
            share = (deadline - loop.time()) / (count - number)
            try:
                amqp = await self._connect(node, transport, share)
            except FabricError as failure:
                failures.append(failure)
            else:
                self._current = node
                return amqp
        raise _combined(failures)

    async def _connect(
        self, node: int, transport: SocketTransport, timeout: float
    ) -> aiormq.Connection:
        url = self._urls[node]
        amqp = aiormq.Connection(
            url, client_properties={"connection_name": self._name}, transport_factory=transport
        )
        try:
            async with asyncio.timeout(timeout):
                await amqp.connect()
        except BaseException as error:
            await abort(amqp)
            if not isinstance(error, Exception):
                raise
            raise explain_failure(error, url, self._masked[node], timeout) from None
        return amqp


def _with_heartbeat(url: URL, heartbeat: int) -> URL:
    return url if "heartbeat" in url.query else url.update_query(heartbeat=str(heartbeat))


def _combined(failures: Sequence[FabricError]) -> FabricError:
    """Return one error for all nodes, of the same type if all failed with one type."""
    first = failures[0]
    if len(failures) == 1:
        return first
    kind = type(first) if len({type(each) for each in failures}) == 1 else BrokerUnavailable
    return kind(f"None of {len(failures)} brokers: {' '.join(map(str, failures))}")


async def abort(amqp: aiormq.Connection) -> None:
    """Close a connection within `CLOSE_TIMEOUT`, whatever its state."""
    with contextlib.suppress(Exception, asyncio.CancelledError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await amqp.close()
