"""Where a connection may go: one broker, or the nodes of a cluster, which are tried in turn."""

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
"""Seconds."""


class Nodes:
    """The nodes that a connection is made to, and the one that it was last made to.

    Args:
        uris: one URI, which may name several hosts, or a list of them.
        name: what the broker's own tools show for a connection.
        heartbeat: seconds between AMQP heartbeats; ``heartbeat=`` in a URI wins.

    Raises:
        InvalidUri: one of them cannot be used.
    """

    def __init__(self, uris: str | Sequence[str], *, name: str, heartbeat: int) -> None:
        given = split_uris(uris)
        self._shown = [mask(uri) for uri in given]
        self._urls = [_with_heartbeat(parse_uri(uri), heartbeat) for uri in given]
        self._name = name
        self._at = 0
        self._tried = False

    @property
    def url(self) -> URL:
        """The node in use, or the one that is tried first."""
        return self._urls[self._at]

    @property
    def shown(self) -> str:
        """The same, as it may be shown."""
        return self._shown[self._at]

    async def connect(self, transport: SocketTransport, timeout: float) -> aiormq.Connection:
        """Connect to the next node that is there, within `timeout` seconds.

        Raises:
            BrokerUnavailable: no node can be reached, or lets this user in.
        """
        loop = asyncio.get_running_loop()
        ends, failures = loop.time() + timeout, []
        count = len(self._urls)
        # Not first to the one that was just lost: it may be there and silent.
        first = self._at + 1 if self._tried else self._at
        self._tried = True
        for number in range(count):
            at = (first + number) % count
            share = (ends - loop.time()) / (count - number)
            try:
                amqp = await self._connect(at, transport, share)
            except FabricError as failure:
                failures.append(failure)
            else:
                self._at = at
                return amqp
        raise _all_of(failures)

    async def _connect(
        self, at: int, transport: SocketTransport, timeout: float
    ) -> aiormq.Connection:
        url = self._urls[at]
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
            raise explain_failure(error, url, self._shown[at], timeout) from None
        return amqp


def _with_heartbeat(url: URL, heartbeat: int) -> URL:
    return url if "heartbeat" in url.query else url.update_query(heartbeat=str(heartbeat))


def _all_of(failures: Sequence[FabricError]) -> FabricError:
    """One error for all nodes; of their own kind, where they agree."""
    first = failures[0]
    if len(failures) == 1:
        return first
    kind = type(first) if len({type(one) for one in failures}) == 1 else BrokerUnavailable
    return kind(f"None of {len(failures)} brokers: {' '.join(str(one) for one in failures)}")


async def abort(amqp: aiormq.Connection) -> None:
    """Close a connection, within a second, whatever its state."""
    with contextlib.suppress(Exception, asyncio.CancelledError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await amqp.close()
