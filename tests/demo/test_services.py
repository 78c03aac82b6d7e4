"""The demo's services, as others on the fabric see them."""

from __future__ import annotations

import asyncio

import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.demo.services import DOMAIN, demo_services
from tests.broker.process import BrokerProcess


@pytest.mark.timeout(90)
async def test_the_monitor_streams_and_answers() -> None:
    """The monitor tells this machine's load five times a second, its processes and its disks."""
    with BrokerProcess() as broker:
        services = demo_services(broker.uri)
        await asyncio.to_thread(services.__enter__)
        try:
            async with AmqBrokerConnector(
                broker.uri, DOMAIN, "test", "watcher", keep_alive_listen=True
            ) as fabric:
                async with await fabric.stream(msg_type="LOAD", arrival=True) as load:
                    await load.wait(12, timeout=20)
                    came = load.df["arrival"]
                disks = await fabric.call("host.monitor.disks")
                top = await fabric.call("host.monitor.top", n=3)
        finally:
            await asyncio.to_thread(services.__exit__, None, None, None)
    assert 1 < (came.iloc[11] - came.iloc[1]).total_seconds() < 4
    assert len(disks) > 0
    assert len(top) == 3
