"""A service to run in several instances, which share the calls.

AMQP_URL=... SERVICE_DOMAIN=... python -m fabric_nb.demo.worker
"""

from __future__ import annotations

import asyncio
import os
import signal

from fabric_nb import AbstractServiceApi, AmqBrokerConnector
from fabric_nb.fabric.core.signals import on_signals


class Worker(AbstractServiceApi):
    """API of an instance of the clique."""

    async def square(self, x: int, seconds: float = 0.01) -> dict[str, int]:
        """Return the square of `x`, and the process that has computed it."""
        await asyncio.sleep(seconds)
        return {"x": x, "square": x * x, "instance": os.getpid()}


async def main(uri: str, domain: str) -> None:
    """Serve until SIGTERM, then finish in-flight calls."""
    stopped = asyncio.Event()
    on_signals(stopped.set, signal.SIGTERM)
    connector = AmqBrokerConnector(
        amqp_uri=uri,
        service_domain=domain,
        service_type="math",
        service_id="worker",
        keep_alive_seconds=1,
    )
    await connector.open(timeout=10)
    await connector.rpc_register(Worker())
    print("ready", flush=True)
    await stopped.wait()
    await connector.close(grace=5)


if __name__ == "__main__":
    asyncio.run(main(os.environ["AMQP_URL"], os.environ["SERVICE_DOMAIN"]))
