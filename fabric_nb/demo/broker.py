"""The demo's broker: the one that is named, or the embedded one."""

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
    """Where the demo runs; `shown` may be printed."""

    uri: str
    shown: str


@contextmanager
def demo_broker() -> Iterator[DemoBroker]:
    """The broker at ``AMQP_URL``; without it the embedded one, held while this lasts.

    Raises:
        DemoFailed: the broker cannot be reached, or the embedded one did not start.
    """
    uri = os.environ.get("AMQP_URL")
    if uri:
        try:
            asyncio.run(_reach(uri))
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


async def _reach(uri: str) -> None:
    async with Connection(uri, name="fabric_nb demo"):
        pass
