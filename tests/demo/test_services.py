"""The demo's services."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fabric_nb import AmqBrokerConnector
from fabric_nb.demo.services import DOMAIN, SERVICES, demo_services
from tests.broker.process import BrokerProcess


async def test_the_monitor_streams_and_serves_calls() -> None:
    """The monitor streams the load at most five times a second, and returns processes and disks."""
    with BrokerProcess() as broker:
        services = demo_services(broker.uri)
        await asyncio.to_thread(services.__enter__)
        try:
            async with AmqBrokerConnector(
                broker.uri, DOMAIN, "test", "watcher", keep_alive_listen=True
            ) as fabric:
                async with await fabric.stream(msg_type="LOAD", arrival=True) as load:
                    await load.wait(12, timeout=60)
                    arrivals = load.df["arrival"]
                disks = await fabric.call("host.monitor.disks")
                top = await fabric.call("host.monitor.top", n=3)
        finally:
            await asyncio.to_thread(services.__exit__, None, None, None)
    assert (arrivals.iloc[11] - arrivals.iloc[1]).total_seconds() > 1
    assert len(disks) > 0
    assert len(top) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_no_service_outlives_the_demo(number: signal.Signals, tmp_path: Path) -> None:
    """On each signal the demo stops its services first; a repeated signal has no effect."""
    command = [sys.executable, "-m", "fabric_nb.demo", "services", "--domain", "ending"]
    with BrokerProcess() as broker:
        env = {**os.environ, "AMQP_URL": broker.uri}
        demo = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            # Ignored signals, as under `nohup`, are inherited.
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        )
        assert demo.stdout is not None
        services: list[psutil.Process] = []
        try:
            while "Running" not in (line := demo.stdout.readline()):
                assert line, "the demo has ended"
            services = psutil.Process(demo.pid).children()
            assert len(services) == len(SERVICES)
            demo.send_signal(number)
            demo.send_signal(number)
            assert demo.wait(20) == 0
            assert not [service for service in services if service.is_running()]
        finally:
            demo.kill()
            for service in services:
                if service.is_running():
                    service.kill()
            demo.stdout.close()
