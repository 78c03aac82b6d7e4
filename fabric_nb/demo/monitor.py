"""A service on fabric_nb that monitors this machine: streams its load, serves calls and logs.

AMQP_URL=... SERVICE_DOMAIN=... python -m fabric_nb.demo.monitor
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import psutil

from fabric_nb import AbstractServiceApi, AmqBrokerConnector, AmqpHandler
from fabric_nb.fabric.core.signals import on_signals

SAMPLES_PER_SECOND = 5
LOG_EVERY = 25

log = logging.getLogger("monitor")


class Monitor(AbstractServiceApi):
    """API of the monitor."""

    def top(self, n: int = 5, like: str = "") -> pd.DataFrame:
        """Return the `n` processes with `like` in their name that use the most memory, in MB."""
        rows = []
        for process in psutil.process_iter(["pid", "name", "memory_info", "num_threads"]):
            facts = process.info
            if facts["memory_info"] is not None and like in facts["name"]:
                megabytes = facts["memory_info"].rss / 1e6
                rows.append((facts["pid"], facts["name"], megabytes, facts["num_threads"]))
        frame = pd.DataFrame(rows, columns=["pid", "name", "memory_mb", "threads"])
        return frame.nlargest(n, "memory_mb").round(1).reset_index(drop=True)

    def disks(self) -> pd.DataFrame:
        """Return the mounted disks, in GB."""
        rows = []
        for mount in {part.mountpoint for part in psutil.disk_partitions()} | {"/"}:
            usage = psutil.disk_usage(mount)
            rows.append((mount, usage.total / 1e9, usage.used / 1e9, usage.percent))
        frame = pd.DataFrame(rows, columns=["mount", "total_gb", "used_gb", "used_percent"])
        return frame.sort_values("mount").round(1).reset_index(drop=True)

    async def samples(self, n: int = 10) -> AsyncIterator[dict[str, Any]]:
        """Yield `n` samples of the machine's load."""
        for number in range(1, n + 1):
            await asyncio.sleep(1 / SAMPLES_PER_SECOND)
            yield {"number": number, **current_load()}

    def complain(self, text: str) -> bool:
        """Write a warning to the fabric's logs."""
        log.warning("%s", text)
        return True


def current_load() -> dict[str, float]:
    """Return the machine's load; CPU usage is since the previous call."""
    return {
        "cpu_percent": psutil.cpu_percent(),
        "memory_percent": psutil.virtual_memory().percent,
        "processes": len(psutil.pids()),
    }


async def publish_load(connector: AmqBrokerConnector) -> None:
    """Publish samples of the machine's load, several times a second."""
    psutil.cpu_percent()  # the first value is meaningless
    sample = 0
    while True:
        await asyncio.sleep(1 / SAMPLES_PER_SECOND)
        sample += 1
        load = {"time": datetime.now(UTC).isoformat(), **current_load()}
        await connector.publish_data(load, headers={"msg_type": "LOAD"})
        if sample % LOG_EVERY == 0:
            log.info("%d samples sent, cpu at %.0f %%", sample, load["cpu_percent"])


async def main(uri: str, domain: str) -> None:
    """Serve and stream until SIGTERM."""
    stopped = asyncio.Event()
    on_signals(stopped.set, signal.SIGTERM)
    async with AmqBrokerConnector(
        amqp_uri=uri,
        service_domain=domain,
        service_type="host",
        service_id="monitor",
        service_version="1.0",
        keep_alive_seconds=1,
    ) as connector:
        handler = AmqpHandler()
        await connector.init_logging_handler(handler)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        await connector.rpc_register(Monitor())
        streaming = asyncio.create_task(publish_load(connector))
        print("ready", flush=True)
        await stopped.wait()
        streaming.cancel()


if __name__ == "__main__":
    asyncio.run(main(os.environ["AMQP_URL"], os.environ["SERVICE_DOMAIN"]))
