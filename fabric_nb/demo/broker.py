"""The demo's broker: that of ``AMQP_URL``, or the embedded one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fabric_nb.broker.launch import BrokerStartError, ensure_broker, release_broker
from fabric_nb.errors import DemoFailed, FabricError
from fabric_nb.fabric.amqp.connection import Connection
from fabric_nb.fabric.amqp.uri import mask


@dataclass(frozen=True)
class DemoBroker:
    """Broker of the demo.

    Attributes:
        uri: URI with credentials.
        shown: Text to display, without a password.
    """

    uri: str
    shown: str


@contextmanager
def demo_broker() -> Iterator[DemoBroker]:
    """Yield the broker at ``AMQP_URL``, or the embedded one with a lease on it.

    Raises:
        DemoFailed: The broker is not reachable, or the embedded one did not start.
    """
    uri = os.environ.get("AMQP_URL")
    if uri:
        try:
            asyncio.run(_check_reachable(uri))
        except FabricError as error:
            raise DemoFailed(str(error)) from None
        yield DemoBroker(uri, mask(uri))
        return
    try:
        address = ensure_broker()
    except BrokerStartError as error:
        raise DemoFailed(str(error)) from None
    try:
        yield DemoBroker(address.uri, f"{address.masked_uri} (embedded)")
    finally:
        release_broker()


async def _check_reachable(uri: str) -> None:
    async with Connection(uri, name="fabric_nb demo"):
        pass
